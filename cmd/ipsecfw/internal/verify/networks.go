package verify

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/rules"
)

// tunnelled is a filter whose packets go through a tunnel.
type tunnelled struct {
	entry         *filter.Entry
	peer          netip.Addr // at the other end
	local, remote filter.Side
}

// tunnels returns the filters of tunnels, those with the lowest remote addresses
// first and of these the widest.
func (p *Policy) tunnels() []tunnelled {
	peers := map[string]netip.Addr{} // by rule
	for _, f := range p.Files {
		for _, n := range p.negotiations(f) {
			if n.Mode == ipsec.Tunnel && n.Rule != rules.DefaultResponseRule {
				peers[n.Rule] = n.TunnelPeer
			}
		}
	}
	if len(peers) == 0 {
		return nil
	}
	var out []tunnelled
	for _, e := range p.SPD.Entries() {
		peer, ok := peers[e.Name]
		if !ok {
			continue
		}
		t := tunnelled{entry: e, peer: peer, local: e.Selector.From, remote: e.Selector.To}
		if !e.Forward && t.remote.Kind() == filter.SideMe {
			t.local, t.remote = t.remote, t.local
		}
		if t.remote.Kind() == filter.SideAddresses {
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b tunnelled) int {
		return cmp.Or(a.remote.First().Compare(b.remote.First()), b.remote.Last().Compare(a.remote.Last()))
	})
	return out
}

// networks returns why the networks of tunnels do not fit together, and what of
// them is hardly meant. That two filters of the same weight lead to different
// peers is one of the contradictions.
func (p *Policy) networks() (doubtful []string, refused error) {
	var errs []error
	told := map[[2]string]bool{} // pairs of rules
	var open []tunnelled         // that the next may overlap
	for _, t := range p.tunnels() {
		if err := t.withItself(); err != nil {
			errs = append(errs, err)
		}
		open = slices.DeleteFunc(open, func(o tunnelled) bool { return o.remote.Last().Less(t.remote.First()) })
		for _, o := range open {
			k := [2]string{o.entry.Name, t.entry.Name}
			same := o.peer == t.peer || o.entry.Forward != t.entry.Forward || !overlap(o.local, t.local)
			if same || told[k] || o.entry.Weight() == t.entry.Weight() {
				continue
			}
			told[k] = true
			if !covers(o.remote, t.remote) {
				errs = append(errs, fmt.Errorf("%s: the remote network %s of rule %q overlaps %s of rule %q at %s, whose tunnel leads to %s and not to %s: write networks that do not overlap",
					t.entry.Position, t.remote, t.entry.Name, o.remote, o.entry.Name, o.entry.Position, o.peer, t.peer))
				continue
			}
			doubtful = append(doubtful, warning(t.entry.Position, "the remote network %s of rule %q is a part of %s of rule %q at %s, whose tunnel leads to %s and not to %s: the more specific filter decides, and what comes from the other peer with such an address is dropped",
				t.remote, t.entry.Name, o.remote, o.entry.Name, o.entry.Position, o.peer, t.peer))
		}
		open = append(open, t)
	}
	return append(doubtful, p.enclosed()...), errors.Join(errs...)
}

// withItself refuses a tunnel whose remote network is a part of the local one.
func (t *tunnelled) withItself() error {
	if !t.entry.Forward || t.local.Kind() != filter.SideAddresses || !overlap(t.local, t.remote) || covers(t.remote, t.local) && t.remote != t.local {
		return nil
	}
	what := "overlap"
	switch {
	case t.local == t.remote:
		what = "are the same"
	case covers(t.local, t.remote):
		what = "overlap: the second is a part of the first"
	}
	return fmt.Errorf("%s: the networks %s and %s at the two ends of the tunnel of rule %q %s, so that hosts look for an address of both in their own network and never send it to this gateway: give one of the networks other addresses",
		t.entry.Position, t.local, t.remote, t.entry.Name, what)
}

// enclosed warns of remote networks that contain the local one: what this host
// passes on between two local networks goes through the tunnel too, unless a more
// specific filter is for that.
func (p *Policy) enclosed() []string {
	var out []string
	for _, t := range p.tunnels() {
		everything, _ := t.remote.Prefix()
		if !t.entry.Forward || t.local.Kind() != filter.SideAddresses || t.local == t.remote || !covers(t.remote, t.local) || everything.Bits() == 0 {
			continue
		}
		if !slices.ContainsFunc(p.SPD.Entries(), func(e *filter.Entry) bool {
			return e.Forward && e.Name != t.entry.Name && covers(e.Selector.From, t.local) && covers(e.Selector.To, t.local) && e.Weight() > t.entry.Weight()
		}) {
			out = append(out, warning(t.entry.Position, "the remote network %s of rule %q contains the local one, %s: what this host passes on within that goes through the tunnel too; write a filter for path: forward from %s to %s if it should not",
				t.remote, t.entry.Name, t.local, t.local, t.local))
		}
	}
	return out
}

// overlap reports whether two sides have an address in common. Those of this host
// and "any" have one with everything.
func overlap(a, b filter.Side) bool {
	if a.Kind() != filter.SideAddresses || b.Kind() != filter.SideAddresses {
		return true
	}
	return a.First().Is6() == b.First().Is6() && !a.Last().Less(b.First()) && !b.Last().Less(a.First())
}

// covers reports whether a side has all addresses of another.
func covers(a, b filter.Side) bool {
	switch {
	case a.Kind() == filter.SideAny:
		return true
	case a.Kind() != filter.SideAddresses || b.Kind() != filter.SideAddresses:
		return a == b
	}
	return overlap(a, b) && !b.First().Less(a.First()) && !a.Last().Less(b.Last())
}
