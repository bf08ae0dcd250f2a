package nfq

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Transport mode through a NAT. What is opened bears the addresses of the outer
// header, and the checksum of those that the peer knows: it is made right (RFC
// 3948 section 3.1.2). Several peers behind one NAT have one address: their
// flows are told apart by the SA under which they come (natFlows).

// sumOf adds addresses to a one's-complement sum.
func sumOf(addrs ...netip.Addr) uint64 {
	var sum uint64
	for _, a := range addrs {
		if a.Is4() {
			b := a.As4()
			sum = packet.Sum(sum, b[:])
		} else {
			b := a.As16()
			sum = packet.Sum(sum, b[:])
		}
	}
	return sum
}

// readdressed reports whether packets under an SA have other addresses here than
// at the peer.
func readdressed(sa *SA) bool {
	return sa.Translated() && (sa.OriginalLocal != sa.LocalAddr.Addr() || sa.OriginalRemote != sa.RemoteAddr.Addr())
}

// shares reports whether the peer of an SA is behind a NAT, where there may be
// others.
func shares(sa *SA) bool {
	return sa.Translated() && sa.OriginalRemote != sa.RemoteAddr.Addr()
}

// peerOf says which of the peers at an address an SA is with.
func peerOf(sa *SA) natPeerKey {
	k := natPeerKey{outer: sa.RemoteAddr.Addr(), own: sa.RemoteAddr.Addr(), name: sa.PeerID, port: sa.RemoteAddr.Port()}
	if sa.Translated() {
		k.own = sa.OriginalRemote
	}
	return k
}

// portAt is where the remote port of a flow stands in its packet, or 0 where it
// cannot be changed.
type portAt int

func (at portAt) read(b []byte) uint16     { return binary.BigEndian.Uint16(b[at:]) }
func (at portAt) write(b []byte, v uint16) { binary.BigEndian.PutUint16(b[at:], v) }

// natFlowOf reads the flow of a packet, which has come from the peer or goes there.
// ok is false for what belongs to no flow: fragments, and ICMP but for echoes.
func natFlowOf(b []byte, p *packet.Packet, in bool) (t natTuple, at portAt, ok bool) {
	t = natTuple{local: p.Src, remote: p.Dst, protocol: p.Protocol}
	if in {
		t.local, t.remote = p.Dst, p.Src
	}
	switch {
	case p.Fragment:
		return t, 0, false
	case p.HasPorts:
		t.localPort, t.remotePort, at = p.SrcPort, p.DstPort, portAt(p.HeaderLen+2)
		if in {
			t.localPort, t.remotePort, at = p.DstPort, p.SrcPort, portAt(p.HeaderLen)
		}
	case p.HasICMP:
		asks, answers := isEcho(p)
		if !asks && !answers || p.Len-p.HeaderLen < 8 {
			return t, 0, false
		}
		t.echo = wePing
		if asks == in {
			t.echo = theyPing
		}
		at = portAt(p.HeaderLen + 4)
		t.remotePort = at.read(b)
	}
	return t, at, true
}

// isEcho reports whether an ICMP message is an echo request or its answer (RFC
// 792, RFC 4443 section 4).
func isEcho(p *packet.Packet) (asks, answers bool) {
	if p.Is4() {
		return p.ICMPType == 8, p.ICMPType == 0
	}
	return p.ICMPType == 128, p.ICMPType == 129
}

// tcpFlags returns the flags of a TCP packet, and 0 for others.
func tcpFlags(b []byte, p *packet.Packet) uint8 {
	const at = 13
	if p.Protocol != packet.TCP || p.Len-p.HeaderLen <= at {
		return 0
	}
	return b[p.HeaderLen+at]
}

// untranslate makes a packet that was opened, and that its SA and the SPD allow,
// what the stack is to see. moved says that it has another port now, by which
// the SPD has to judge it once more. ok is false if it must not be seen.
func (d *SAD) untranslate(b []byte, p *packet.Packet, sa *SA) (moved, ok bool) {
	if sa.Mode != ipsec.Transport {
		return false, true
	}
	fixes, shared := readdressed(sa), d.shared(p.Src)
	switch {
	case !fixes && !shared:
		return false, true
	case p.Fragment: // of which the others have no checksum, and no port
		return false, false
	case isError(p):
		return false, d.untranslateError(b, p, sa, shared)
	case fixes && !packet.UpdatePseudo(b, p, sumOf(sa.OriginalLocal, sa.OriginalRemote), sumOf(p.Src, p.Dst)):
		return false, false
	case !shared:
		return false, true
	}
	t, at, ok := natFlowOf(b, p, true)
	if !ok { // ICMP that does not answer anything and has no answer
		return false, true
	}
	port, ok := d.flows.inbound(sa.peer, t, tcpFlags(b, p), d.now())
	if !ok || port == t.remotePort {
		return false, ok
	}
	packet.UpdateChecksum(b, p, uint64(t.remotePort), uint64(port))
	at.write(b, port)
	if p.HasPorts {
		p.SrcPort = port
	}
	return true, true
}

// choose finds the SA for a packet that goes to an address where there may be
// several peers: one of the peer whose flow it is. What begins a flow goes to the
// host that has the address, or else by the first SA that covers it, whose peer
// the flow belongs to from then on: sas are in the order of preference, the newest
// of any peer behind the NAT first.
func (d *SAD) choose(sas []*SA, p *packet.Packet, b []byte) *SA {
	now := d.now()
	if isError(p) {
		return d.chooseForError(sas, p, b)
	}
	t, _, ok := natFlowOf(b, p, false)
	if !ok {
		if p.Fragment {
			return nil // of whose flow it is nobody knows
		}
		return firstThat(sas, func(sa *SA) bool { return sa.covers(p) })
	}
	flags := tcpFlags(b, p)
	if peer, port := d.flows.outbound(t, flags, now); peer != nil {
		real := *p
		if real.HasPorts {
			real.DstPort = port
		}
		return firstThat(sas, func(sa *SA) bool { return sa.peer == peer && sa.covers(&real) })
	}
	if p.Protocol == packet.TCP && flags&tcpSYN == 0 && several(sas) {
		return nil // of a connection with one of them: with which is forgotten
	}
	sa := firstThat(sas, func(sa *SA) bool { return sa.covers(p) && !shares(sa) })
	if sa == nil {
		sa = firstThat(sas, func(sa *SA) bool { return sa.covers(p) })
	}
	if sa != nil && b != nil {
		d.flows.begin(sa.peer, t, flags, now)
	}
	return sa
}

// several reports whether some SAs are with more than one peer.
func several(sas []*SA) bool {
	return slices.ContainsFunc(sas, func(sa *SA) bool { return sa.peer != sas[0].peer })
}

func firstThat(sas []*SA, f func(*SA) bool) *SA {
	for _, sa := range sas {
		if f(sa) {
			return sa
		}
	}
	return nil
}

// translate gives a packet that goes out under an SA the port back that the
// peer knows. With pending, its checksum is that of the pseudo-header only, which
// has no ports.
func (d *SAD) translate(b []byte, p *packet.Packet, sa *SA, pending bool) {
	if sa.Mode != ipsec.Transport || !d.shared(p.Dst) {
		return
	}
	if isError(p) {
		d.translateError(b, p)
		return
	}
	t, at, ok := natFlowOf(b, p, false)
	if !ok {
		return
	}
	peer, port := d.flows.outbound(t, tcpFlags(b, p), d.now())
	if peer == nil || port == t.remotePort {
		return
	}
	if !pending {
		packet.UpdateChecksum(b, p, uint64(t.remotePort), uint64(port))
	}
	at.write(b, port)
	if p.HasPorts {
		p.DstPort = port
	}
}
