package surroundings

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// maxAddress is how many addresses a name may have: each of them is a filter.
const maxAddress = 64

// resolved is what a lookup found.
type resolved struct {
	name  string
	found found
}

// name is what is known about one name.
type name struct {
	last     [2][]netip.Addr // by family, each the last that was heard
	due      time.Time       // when to ask again; zero for never
	failures int             // in a row
	asking   bool            // a lookup is under way
	outdated bool            // and its servers are no longer those to ask
	many     bool            // it has been said that it has too many addresses
}

// remember begins with addresses that the name had before.
func (n *name) remember(addrs []netip.Addr) {
	n.last = [2][]netip.Addr{}
	for _, a := range addrs {
		family := 0
		if a.Is6() {
			family = 1
		}
		n.last[family] = append(n.last[family], a)
	}
}

// know sets the addresses for as long as nothing else is said: those in a
// file.
func (n *name) know(addrs []netip.Addr) {
	n.remember(addrs)
	n.due, n.failures = time.Time{}, 0
}

// learn takes in what a lookup found, and says when to ask again. A family
// that failed keeps its addresses; so do both when none would be left. The
// error says that a family failed, or that there is no address.
func (n *name) learn(f found, now time.Time, t tempo) error {
	next, ttl := n.last, t.maxTTL
	var failed error
	for i, a := range f {
		switch {
		case a.err == nil:
			next[i], ttl = a.addrs, min(ttl, a.ttl)
		case failed == nil:
			failed = a.err
		}
	}
	if failed == nil && len(next[0])+len(next[1]) == 0 {
		next, failed = n.last, ErrNoAddress
	}
	n.last = next
	wait := max(ttl, t.minTTL)
	if failed == nil {
		n.failures = 0
	} else {
		wait = min(wait, backoff(n.failures, t)) // the family that did not fail may be due first
		n.failures++
	}
	n.due = now.Add(wait)
	return failed
}

// backoff is how long to wait after so many failures before this one.
func backoff(failures int, t tempo) time.Duration {
	wait := t.firstRetry
	for range failures {
		if wait *= 2; wait >= t.lastRetry {
			return t.lastRetry
		}
	}
	return wait
}

// addresses returns what the name stands for: the first 64, if it has more,
// which is logged once.
func (n *name) addresses(called string, log *slog.Logger) []netip.Addr {
	all := set(slices.Concat(n.last[0], n.last[1]))
	if len(all) > maxAddress {
		if !n.many {
			log.Warn("a name has too many addresses: the first ones stand for it", "name", called, "addresses", len(all), "kept", maxAddress)
		}
		n.many = true
		all = slices.Clip(all[:maxAddress])
	}
	return all
}
