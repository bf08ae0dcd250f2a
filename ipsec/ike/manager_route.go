package ike

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// route brings a datagram to its machine.
func (m *Manager) route(d Datagram) {
	if linkLocal(d.Local.Addr()) || linkLocal(d.Remote.Addr()) {
		if m.limits.warnings.allow(d.Remote.Addr().WithZone(""), m.cfg.Now()) {
			m.cfg.Log.Warn("IKE message dropped", "peer", d.Remote, "error", errLinkLocal)
		}
		return
	}
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

// maxInit is the largest IKE_SA_INIT request that is looked at, in bytes: it is
// kept until the peer has authenticated. The largest keys that fit are those of
// ML-KEM-1024, with 1568 bytes.
const maxInit = 8192

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
	if len(d.Data) > maxInit {
		m.cfg.Log.Debug("IKE_SA_INIT is too large", "peer", d.Remote, "bytes", len(d.Data))
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
	m.load.begun.add(now)
	from := d.Remote.Addr()
	wanted := m.load.wantCookies(now, m.halfOpen, m.cfg.CookiesFrom, m.cfg.HalfOpen) || m.near.suspect(from, m.cfg.HalfOpen) || costlyInit(d)
	if wanted && !m.returnsCookie(d) {
		return
	}
	if m.near.full(from, m.cfg.HalfOpen) {
		m.cfg.Log.Debug("too many half-open IKE SAs of one peer or its neighbours", "peer", d.Remote)
		return
	}
	if m.halfOpen >= m.cfg.HalfOpen {
		m.makeRoom()
	}
	m.respond(d, key, policy, wanted)
}

// costlyInit reports whether the key exchange of an IKE_SA_INIT request takes
// so long that nobody gets it who may have made up his address.
func costlyInit(d Datagram) bool {
	_, ps, err := wire.Decode(d.Data)
	if err != nil {
		return false
	}
	ke, ok := wire.Find[*wire.KE](ps)
	return ok && Costly(ke.Group)
}

// respond makes the machine that answers a peer's first message. Proven says
// that the peer has returned its cookie.
func (m *Manager) respond(d Datagram, key initKey, policy Policy, proven bool) {
	e := m.newEntry(d.Local.Addr(), d.Remote.Addr(), policy)
	e.init, e.proven = key, proven
	m.byInit[key] = e
	m.count(e, 1)
	e.machine = m.cfg.Responder(m.machineConfig(e, d.Local, d.Remote, policy))
	took := m.feed(e, d)
	if _, alive := m.entries[e]; !alive {
		return
	}
	switch {
	case !took:
		m.forget(e) // it was no IKE_SA_INIT, and the machine would wait for one
	case e.throttled: // the answer is too long for somebody who may have made up an address
		m.forget(e)
		if m.returnsCookie(d) {
			m.respond(d, key, policy, true)
		}
	}
}

// returnsCookie reports whether a peer has returned its cookie, and asks for
// it if it has not.
func (m *Manager) returnsCookie(d Datagram) bool {
	ok, answer, err := m.cookies.Check(m.cfg.Now(), d.Remote, d.Data)
	switch {
	case err != nil:
		m.cfg.Log.Debug("IKE_SA_INIT dropped", "peer", d.Remote, "error", err)
		return false
	case !ok:
		m.send(d.Local, d.Remote, answer)
	}
	return ok
}

// errLinkLocal is why there is no IKE SA between link-local addresses of IPv6.
// Different hosts on different links may have the same one, and rules and SAs
// name no link: packets to one host would be sealed for another.
var errLinkLocal = errors.New("IPv6 link-local addresses are not unique on this host, so no SA can belong to one: use other addresses")

func linkLocal(a netip.Addr) bool { return a.Is6() && (a.IsLinkLocalUnicast() || a.Zone() != "") }

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
	if linkLocal(u.local.Addr()) || linkLocal(u.remote.Addr()) {
		return
	}
	if _, ok := m.cfg.Policies.Peer(u.local.Addr(), u.remote.Addr()); !ok || !m.limits.unknown.allow(u.remote.Addr(), m.cfg.Now()) {
		return
	}
	if u.remote.Port() == 0 {
		u.local = netip.AddrPortFrom(u.local.Addr(), PortIKE)
		u.remote = netip.AddrPortFrom(u.remote.Addr(), PortIKE)
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
	for _, e := range m.byPeer[pair{d.Local.Addr(), d.Remote.Addr()}] {
		for _, c := range e.children {
			if c.Out == spi {
				m.feed(e, Probe{})
				return
			}
		}
	}
}
