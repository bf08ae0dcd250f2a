package ike

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// route brings a datagram to its machine.
func (m *Manager) route(d Datagram) {
	h, err := wire.ParseHeader(d.Data)
	if err != nil {
		m.cfg.Log.Debug("IKE message dropped", "peer", d.Remote, "error", err)
		return
	}
	if h.Major() != wire.Version2>>4 {
		m.otherVersion(d, h)
		return
	}
	if h.Exchange == wire.IKESAInit && !h.Response && h.Initiator && h.SPIr == 0 && h.SPIi != 0 {
		m.routeInit(d, h)
		return
	}
	ours := h.SPIi
	if h.Initiator {
		ours = h.SPIr
	}
	if e := m.bySPI[ours]; e != nil {
		m.feed(e, d)
		return
	}
	switch {
	case h.Response:
		m.cfg.Log.Debug("IKE response for an SA that is gone", "peer", d.Remote)
	case h.FirstPayload == wire.TypeEncrypted:
		m.invalidIKESPI(d, h)
	default:
		m.heardInvalidSPI(d)
	}
}

// perAddress is how many half-open IKE SAs one address may have, or one
// subnet of IPv6, all of whose addresses one host can take.
const perAddress = 16

// routeInit gives a peer's first message to a new machine, or to the one that
// an earlier copy has made.
func (m *Manager) routeInit(d Datagram, h wire.Header) {
	key := initKey{d.Remote, h.SPIi}
	if e := m.byInit[key]; e != nil {
		m.feed(e, d)
		return
	}
	if m.ending {
		m.cfg.Log.Debug("IKE_SA_INIT while this host ends its SAs", "peer", d.Remote)
		return
	}
	if m.bySPI[h.SPIi] != nil {
		// Somebody reflects our own request: with a key that both ends share
		// we would authenticate to ourselves.
		m.cfg.Log.Debug("IKE_SA_INIT of our own came back", "peer", d.Remote)
		return
	}
	now := m.cfg.Now()
	policy, ok := m.cfg.Policies.Peer(d.Local.Addr(), d.Remote.Addr())
	if !ok {
		if m.limits.warnings.allow(d.Remote.Addr(), now) {
			m.cfg.Log.Warn("a peer that no rule concerns wants an IKE SA and gets no answer", "peer", d.Remote)
		}
		return
	}
	if m.halfOpen >= m.cfg.HalfOpen {
		if m.limits.warnings.allow(netip.Addr{}, now) {
			m.cfg.Log.Warn("too many half-open IKE SAs, a new one is refused", "peer", d.Remote, "limit", m.cfg.HalfOpen)
		}
		return
	}
	if m.halfOpen >= m.cfg.CookiesFrom {
		ok, answer, err := m.cookies.Check(now, d.Remote, d.Data)
		if err != nil {
			m.cfg.Log.Debug("IKE_SA_INIT dropped", "peer", d.Remote, "error", err)
			return
		}
		if !ok {
			m.send(d.Local, d.Remote, answer)
			return
		}
	}
	if m.halfOpenOf(d.Remote.Addr()) >= perAddress {
		m.cfg.Log.Debug("too many half-open IKE SAs of one peer", "peer", d.Remote)
		return
	}
	e := m.newEntry(d.Local.Addr(), d.Remote.Addr(), policy)
	e.init = key
	m.byInit[key] = e
	m.halfOpen++
	e.machine = m.cfg.Responder(m.machineConfig(e, d.Local, d.Remote, policy))
	if !m.feed(e, d) {
		m.forget(e) // it was no IKE_SA_INIT, and the machine would wait for one
	}
}

func (m *Manager) halfOpenOf(a netip.Addr) (n int) {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	near := netip.PrefixFrom(a.WithZone(""), bits)
	for k, e := range m.byInit {
		if !e.established && near.Contains(k.remote.Addr().WithZone("")) {
			n++
		}
	}
	return n
}

// otherVersion answers a newer version, once a second for each address, with
// what we speak (RFC 7296 section 2.5). Older ones get no answer.
func (m *Manager) otherVersion(d Datagram, h wire.Header) {
	if h.Major() < wire.Version2>>4 || h.Response || !m.limits.answers.allow(d.Remote.Addr(), m.cfg.Now()) {
		return
	}
	h.Version, h.Response, h.Initiator, h.HigherMinor = wire.Version2, true, !h.Initiator, false
	m.sendNotify(d, h, &wire.Notify{Kind: wire.InvalidMajorVersion})
}

// invalidIKESPI tells a peer that we do not have its IKE SA, at most once a
// second for each address and only if some rule concerns it
// (RFC 7296 section 2.21.4).
func (m *Manager) invalidIKESPI(d Datagram, h wire.Header) {
	now := m.cfg.Now()
	if _, ok := m.cfg.Policies.Peer(d.Local.Addr(), d.Remote.Addr()); !ok || !m.limits.answers.allow(d.Remote.Addr(), now) {
		return
	}
	h.Response, h.Initiator, h.HigherMinor = true, !h.Initiator, false
	m.sendNotify(d, h, &wire.Notify{Kind: wire.InvalidIKESPI})
}

func (m *Manager) sendNotify(d Datagram, h wire.Header, n *wire.Notify) {
	data, err := wire.Encode(h, []wire.Payload{n})
	if err != nil {
		m.cfg.Log.Debug("notification not sent", "peer", d.Remote, "error", err)
		return
	}
	m.send(d.Local, d.Remote, data)
}

// unknownSPI sends INVALID_SPI outside of any IKE SA (RFC 7296 section 1.5).
func (m *Manager) unknownSPI(u unknown) {
	if _, ok := m.cfg.Policies.Peer(u.local.Addr(), u.remote.Addr()); !ok || !m.limits.unknown.allow(u.remote.Addr(), m.cfg.Now()) {
		return
	}
	if u.remote.Port() == 0 {
		u.local = netip.AddrPortFrom(u.local.Addr(), portIKE)
		u.remote = netip.AddrPortFrom(u.remote.Addr(), portIKE)
	}
	h := wire.Header{Version: wire.Version2, Exchange: wire.Informational, Initiator: true}
	n := &wire.Notify{Kind: wire.InvalidSPI, Data: binary.BigEndian.AppendUint32(nil, uint32(u.spi))}
	m.sendNotify(Datagram{Local: u.local, Remote: u.remote}, h, n)
}

// heardInvalidSPI makes the machine whose Child SA a peer does not know ask
// the peer whether it lives.
func (m *Manager) heardInvalidSPI(d Datagram) {
	_, ps, err := wire.Decode(d.Data)
	if err != nil {
		return
	}
	n, ok := wire.FindNotify(ps, wire.InvalidSPI)
	if !ok || len(n.Data) != 4 {
		return
	}
	spi := ipsec.SPI(binary.BigEndian.Uint32(n.Data))
	for e := range m.entries {
		if e.remote != d.Remote.Addr() {
			continue
		}
		for _, c := range e.children {
			if c.Out == spi {
				m.feed(e, Probe{})
				return
			}
		}
	}
}

// limits keep strangers from making us talk, or write logs, too much.
type limits struct {
	answers, unknown, warnings limiter
}

func newLimits() limits {
	return limits{answers: newLimiter(time.Second), unknown: newLimiter(time.Second), warnings: newLimiter(10 * time.Second)}
}

// limiter allows one thing for each address in each interval.
type limiter struct {
	every time.Duration
	last  map[netip.Addr]time.Time
}

const maxLimited = 1024 // addresses that are remembered

func newLimiter(every time.Duration) limiter {
	return limiter{every, make(map[netip.Addr]time.Time)}
}

func (l limiter) allow(a netip.Addr, now time.Time) bool {
	if t, ok := l.last[a]; ok && now.Sub(t) < l.every {
		return false
	}
	if len(l.last) >= maxLimited {
		for x, t := range l.last {
			if now.Sub(t) >= l.every {
				delete(l.last, x)
			}
		}
		if len(l.last) >= maxLimited {
			return false
		}
	}
	l.last[a] = now
	return true
}
