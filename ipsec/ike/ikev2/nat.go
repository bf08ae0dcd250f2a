package ikev2

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// natHash is the data of a NAT detection notification (RFC 7296 section 2.23).
func natHash(spiI, spiR uint64, a netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint64(nil, spiI)
	b = binary.BigEndian.AppendUint64(b, spiR)
	b = append(b, a.Addr().Unmap().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	h := sha1.Sum(b)
	return h[:]
}

// natNotifies returns our two NAT detection notifications. With forced set,
// the source matches no address, so that the peer believes in a NAT and both
// ends encapsulate.
func natNotifies(spiI, spiR uint64, local, remote netip.AddrPort, forced bool) []wire.Payload {
	source := natHash(spiI, spiR, local)
	if forced {
		source = natHash(spiI, spiR, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	}
	return []wire.Payload{
		&wire.Notify{Kind: wire.NATDetectionSourceIP, Data: source},
		&wire.Notify{Kind: wire.NATDetectionDestinationIP, Data: natHash(spiI, spiR, remote)},
	}
}

// detectNAT compares the peer's notifications with the addresses that its
// message bore. A peer without them cannot traverse a NAT: known is false.
func detectNAT(ps []wire.Payload, spiI, spiR uint64, local, remote netip.AddrPort) (natLocal, natRemote, known bool) {
	var sources, destinations int
	natLocal, natRemote = true, true
	for _, p := range ps {
		n, ok := p.(*wire.Notify)
		switch {
		case !ok:
		case n.Kind == wire.NATDetectionSourceIP:
			sources++
			natRemote = natRemote && !bytes.Equal(n.Data, natHash(spiI, spiR, remote))
		case n.Kind == wire.NATDetectionDestinationIP:
			destinations++
			natLocal = natLocal && !bytes.Equal(n.Data, natHash(spiI, spiR, local))
		}
	}
	if sources == 0 || destinations == 0 {
		return false, false, false
	}
	return natLocal, natRemote, true
}

// noteNAT records what was found, or pretended. Both ends come to the same
// conclusion about encapsulation.
func (s *SA) noteNAT(ps []wire.Payload, ses *session, local, remote netip.AddrPort) {
	natLocal, natRemote, known := detectNAT(ps, ses.spiI, ses.spiR, local, remote)
	s.peer.NATLocal, s.peer.NATRemote = natLocal, natRemote
	s.udp = known && (natLocal || natRemote || s.start.forced)
	s.keepalive = s.udp && (natLocal || s.start.forced)
}

// float moves the initiator to port 4500 when ESP will travel in UDP. Ports
// that are not the usual ones stay.
func (s *SA) float() {
	if !s.udp {
		return
	}
	if s.local.Port() == ike.PortIKE {
		s.local = netip.AddrPortFrom(s.local.Addr(), ike.PortNATT)
	}
	if s.remote.Port() == ike.PortIKE {
		s.remote = netip.AddrPortFrom(s.remote.Addr(), ike.PortNATT)
	}
}

// outer returns the addresses of ESP packets.
func (s *SA) outer() (local, remote netip.AddrPort) {
	if s.udp {
		return s.local, s.remote
	}
	return netip.AddrPortFrom(s.local.Addr(), 0), netip.AddrPortFrom(s.remote.Addr(), 0)
}
