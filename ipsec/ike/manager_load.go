package ike

import (
	"math"
	"net/netip"
	"time"
)

// load is how busy strangers keep this host. Cookies cost an honest peer a
// round trip, and a flood everything: they are asked for when there are many
// half-open IKE SAs, of many beginnings that lead to nothing sooner, and of
// peers that all authenticate, as after a power cut, later.
type load struct {
	begun, proved rate // IKE_SA_INIT requests, and IKE SAs that they led to
	cookies       bool // asked of everybody
	calm          time.Time
}

// flood is how many beginnings in a second, most of which lead to nothing, are
// answered with cookies alone.
const flood = 50

// calmTime is how long it must be calm before no cookies are asked for.
const calmTime = 5 * time.Second

// threshold is the number of half-open IKE SAs from which on cookies are asked
// for, where few is that for a load about which nothing is known, and most how
// many there may be.
func (l *load) threshold(now time.Time, few, most int) int {
	begun, proved := l.begun.perSecond(now), l.proved.perSecond(now)
	switch {
	case begun < 1:
		return few
	case proved > begun*3/4:
		return max(few, most/2)
	case proved < begun/4:
		return max(1, few/2)
	}
	return few
}

// wantCookies reports whether everybody has to return a cookie.
func (l *load) wantCookies(now time.Time, halfOpen, few, most int) bool {
	t := l.threshold(now, few, most)
	idle := l.begun.perSecond(now) - 2*l.proved.perSecond(now)
	switch {
	case halfOpen >= t || idle >= flood:
		l.cookies, l.calm = true, time.Time{}
	case !l.cookies:
	case halfOpen >= t/2+1 || idle >= flood/2:
		l.calm = time.Time{}
	case l.calm.IsZero():
		l.calm = now.Add(calmTime)
	case !now.Before(l.calm):
		l.cookies = false
	}
	return l.cookies
}

// rate counts events, of which it forgets half in seven seconds.
type rate struct {
	n    float64
	last time.Time
}

const rateTime = 10 * time.Second

func (r *rate) perSecond(now time.Time) float64 {
	if d := now.Sub(r.last); d > 0 {
		r.n *= math.Exp(-d.Seconds() / rateTime.Seconds())
		r.last = now
	}
	return r.n / rateTime.Seconds()
}

func (r *rate) add(now time.Time) {
	r.perSecond(now)
	r.n++
}

// Bounds of the half-open IKE SAs of one peer, and of one block of addresses.
// From unproven of them on, the next has to return a cookie: who makes up the
// addresses of others can take no more from them.
const (
	perAddress = 16
	unproven   = 4
)

// near returns what counts as one peer with an address: all addresses of a
// subnet of IPv6 can be those of one host.
func near(a netip.Addr) netip.Prefix { return prefix(a, 32, 64) }

// block returns what an address is counted with beyond that: what one site, or
// one customer of a provider, usually has.
func block(a netip.Addr) netip.Prefix { return prefix(a, 24, 48) }

func prefix(a netip.Addr, bits4, bits6 int) netip.Prefix {
	bits := bits4
	if a.Is6() {
		bits = bits6
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// counted is how many half-open IKE SAs there are, by what counts as one.
type counted map[netip.Prefix]int

// add counts more or fewer of an address.
func (c counted) add(a netip.Addr, by int) {
	for _, p := range []netip.Prefix{near(a), block(a)} {
		if c[p] += by; c[p] == 0 {
			delete(c, p)
		}
	}
}

// perBlock is how many a block may have, where there may be most in all.
func perBlock(most int) int { return max(perAddress, most/4) }

// full reports whether an address has as many as it may have.
func (c counted) full(a netip.Addr, most int) bool {
	return c[near(a)] >= perAddress || c[block(a)] >= perBlock(most)
}

// makeRoom drops the oldest half-open IKE SA of the blocks that have most, so
// that a few hosts cannot keep all others out.
func (m *Manager) makeRoom() {
	var oldest *entry
	most := 0
	for key, e := range m.byInit {
		n := m.near[block(key.remote.Addr())]
		if !e.established && (n > most || n == most && e.born < oldest.born) {
			oldest, most = e, n
		}
	}
	if oldest == nil {
		return
	}
	if m.limits.full.take(m.cfg.Now()) {
		m.cfg.Log.Warn("too many half-open IKE SAs, the oldest of those whose neighbours have most are dropped", "peer", oldest.remote, "limit", m.cfg.HalfOpen)
	}
	m.close(oldest, Close{Reason: "too many half-open IKE SAs", Silent: true})
}

// suspect reports whether the next of an address has to return a cookie.
func (c counted) suspect(a netip.Addr, most int) bool {
	return c[near(a)] >= unproven || c[block(a)] >= perBlock(most)/2
}
