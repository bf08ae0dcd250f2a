package nfq

import (
	"encoding/binary"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// ICMP errors through a NAT bear the beginning of the packet that they are
// about, with the addresses and ports of whoever sends them. Here that becomes
// what this host has sent, and the other way round (RFC 5508 section 4).

// isError reports whether a packet is an ICMP error (RFC 1122 section 3.2.2, RFC
// 4443 section 2.1).
func isError(p *packet.Packet) bool {
	if !p.HasICMP {
		return false
	}
	if !p.Is4() {
		return p.ICMPType < 128
	}
	switch p.ICMPType {
	case 3, 4, 5, 11, 12:
		return true
	}
	return false
}

// quoted is the packet that an ICMP error is about, as far as it is there.
type quoted struct {
	b    []byte // from its IP header
	src  int    // where its source address stands,
	size int    // the bytes of that and of the destination, which follows,
	at   int    // and where its ports stand; 0 where there are none
	p    uint8  // its protocol
}

// quote finds the packet that an ICMP error is about. What is behind extension
// headers has no ports here.
func quote(b []byte, p *packet.Packet) (q quoted, ok bool) {
	const icmpHeader = 8
	if p.Len-p.HeaderLen < icmpHeader {
		return q, false
	}
	q.b = b[p.HeaderLen+icmpHeader : p.Len]
	header := packet.IPv6HeaderLen
	if p.Is4() {
		if len(q.b) < packet.IPv4HeaderLen || q.b[0]>>4 != 4 {
			return q, false
		}
		q.src, q.size, q.p, header = 12, 4, q.b[9], int(q.b[0]&0xf)*4
		if header < packet.IPv4HeaderLen || header > len(q.b) {
			return q, false
		}
		if binary.BigEndian.Uint16(q.b[6:])&0x1fff != 0 { // a later fragment
			return q, true
		}
	} else {
		if len(q.b) < packet.IPv6HeaderLen || q.b[0]>>4 != 6 {
			return q, false
		}
		q.src, q.size, q.p = 8, 16, q.b[6]
	}
	if packet.HasPorts(q.p) && len(q.b) >= header+4 {
		q.at = header
	}
	return q, true
}

// untranslateError makes an ICMP error of a peer one about what this host sent.
// Its own checksum must be right, or nothing is let through.
func (d *SAD) untranslateError(b []byte, p *packet.Packet, sa *SA, shared bool) bool {
	if !p.Is4() && readdressed(sa) && !packet.UpdatePseudo(b, p, sumOf(sa.OriginalLocal, sa.OriginalRemote), sumOf(p.Src, p.Dst)) {
		return false
	}
	q, ok := quote(b, p)
	if !ok || !packet.VerifyChecksum(b, p) {
		return false
	}
	src, dst := q.b[q.src:q.src+q.size], q.b[q.src+q.size:q.src+2*q.size]
	if sa.Translated() && string(src) == string(sa.OriginalLocal.AsSlice()) && string(dst) == string(sa.OriginalRemote.AsSlice()) {
		copy(src, p.Dst.AsSlice())
		copy(dst, p.Src.AsSlice())
		if p.Is4() {
			packet.FinishHeaderChecksum(q.b)
		}
	}
	if shared {
		if q.at == 0 {
			return false // of whose flow it is nobody knows
		}
		t := natTuple{
			local: p.Dst, remote: p.Src, protocol: q.p,
			localPort: binary.BigEndian.Uint16(q.b[q.at:]), remotePort: binary.BigEndian.Uint16(q.b[q.at+2:]),
		}
		port, ok := d.flows.known(sa.peer, t, d.now())
		if !ok {
			return false // none of this peer's
		}
		binary.BigEndian.PutUint16(q.b[q.at+2:], port)
	}
	return packet.FinishChecksum(b, p)
}

// theirs finds the flow of the packet that an ICMP error of this host is about,
// which came from a peer. q.at is 0 if there is none.
func (d *SAD) theirs(b []byte, p *packet.Packet) (q quoted, peer *natPeer, port uint16) {
	q, ok := quote(b, p)
	if !ok || q.at == 0 {
		return quoted{}, nil, 0
	}
	t := natTuple{
		local: p.Src, remote: p.Dst, protocol: q.p,
		localPort: binary.BigEndian.Uint16(q.b[q.at+2:]), remotePort: binary.BigEndian.Uint16(q.b[q.at:]),
	}
	peer, port = d.flows.whose(t, d.now())
	return q, peer, port
}

// chooseForError finds the SA for an ICMP error: it goes to whoever sent what it
// is about, and to nobody if that may have been one of several.
func (d *SAD) chooseForError(sas []*SA, p *packet.Packet, b []byte) *SA {
	_, peer, _ := d.theirs(b, p)
	if peer == nil && several(sas) {
		return nil
	}
	return firstThat(sas, func(sa *SA) bool { return (peer == nil || sa.peer == peer) && sa.covers(p) })
}

// translateError makes an ICMP error of this host one about what its peer sent.
func (d *SAD) translateError(b []byte, p *packet.Packet) {
	q, peer, port := d.theirs(b, p)
	if peer == nil || port == binary.BigEndian.Uint16(q.b[q.at:]) {
		return
	}
	binary.BigEndian.PutUint16(q.b[q.at:], port)
	packet.FinishChecksum(b, p)
}
