package packet

import (
	"encoding/binary"
	"net/netip"
)

// How much of a packet an ICMP error quotes: as much as fits into the packet
// that every host must take (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4).
const (
	maxError4 = 576
	maxError6 = 1280
)

// icmpHeaderLen is the length in bytes of ICMP and ICMPv6 errors before what
// they quote.
const icmpHeaderLen = 8

// Types and code of the errors that tell of an MTU (RFC 1191 section 4, RFC
// 4443 section 3.2).
const (
	unreachable4        = 3
	fragmentationNeeded = 4 // a code of unreachable4
	packetTooBig6       = 2
)

// AppendTooBig appends a whole IP packet that tells the source of pkt, which
// Parse read into p, that packets of at most mtu bytes get through: "fragmentation
// needed", or "packet too big". From is who says it.
func AppendTooBig(dst []byte, from netip.Addr, pkt []byte, p *Packet, mtu int) []byte {
	const hops = 64
	start := len(dst)
	quoted := pkt[:p.Len]
	if p.Is4() {
		quoted = quoted[:min(len(quoted), maxError4-IPv4HeaderLen-icmpHeaderLen)]
		dst = AppendIPv4Header(dst, from, p.Src, ICMP, 0, hops, icmpHeaderLen+len(quoted), true)
		dst = append(dst, unreachable4, fragmentationNeeded, 0, 0, 0, 0)
		dst = binary.BigEndian.AppendUint16(dst, uint16(mtu))
	} else {
		quoted = quoted[:min(len(quoted), maxError6-IPv6HeaderLen-icmpHeaderLen)]
		dst = AppendIPv6Header(dst, from, p.Src, ICMPv6, 0, hops, icmpHeaderLen+len(quoted))
		dst = append(dst, packetTooBig6, 0, 0, 0)
		dst = binary.BigEndian.AppendUint32(dst, uint32(mtu))
	}
	dst = append(dst, quoted...)
	b := dst[start:]
	var e Packet
	if Parse(b, &e) == nil {
		FinishChecksum(b, &e)
	}
	return dst
}

// TooBig is what an ICMP error says of an MTU, and of which packet.
type TooBig struct {
	MTU    int // bytes; 0 for a router that does not tell (RFC 1191 section 5)
	Length int // of the packet that was too big, in bytes

	Src, Dst netip.Addr
	Protocol uint8
	// Quoted is what the error quotes behind the IP header and extension headers.
	Quoted []byte
}

// ParseTooBig reads an ICMP error that tells of an MTU, the packet b, which Parse
// read into p. Its checksum is looked at. It keeps a reference to b.
func ParseTooBig(b []byte, p *Packet, e *TooBig) bool {
	if !p.HasICMP || p.Fragment || p.Len-p.HeaderLen < icmpHeaderLen || !VerifyChecksum(b, p) {
		return false
	}
	m := b[p.HeaderLen:p.Len]
	q := m[icmpHeaderLen:]
	*e = TooBig{}
	switch {
	case p.Protocol == ICMP && p.ICMPType == unreachable4 && p.ICMPCode == fragmentationNeeded:
		e.MTU = int(binary.BigEndian.Uint16(m[6:]))
		if len(q) < IPv4HeaderLen || q[0]>>4 != 4 {
			return false
		}
		n := int(q[0]&15) * 4
		if n < IPv4HeaderLen || n > len(q) || binary.BigEndian.Uint16(q[6:])&0x1fff != 0 {
			return false // without the first bytes of its payload it is nobody's
		}
		e.Length, e.Protocol = int(binary.BigEndian.Uint16(q[2:])), q[9]
		e.Src, e.Dst = netip.AddrFrom4([4]byte(q[12:16])), netip.AddrFrom4([4]byte(q[16:20]))
		e.Quoted = q[n:]
	case p.Protocol == ICMPv6 && p.ICMPType == packetTooBig6:
		e.MTU = int(min(binary.BigEndian.Uint32(m[4:]), 0xffff))
		if len(q) < IPv6HeaderLen || q[0]>>4 != 6 {
			return false
		}
		e.Length = IPv6HeaderLen + int(binary.BigEndian.Uint16(q[4:]))
		e.Src, e.Dst = netip.AddrFrom16([16]byte(q[8:24])), netip.AddrFrom16([16]byte(q[24:40]))
		next, pos := q[6], IPv6HeaderLen
		for n := 0; isExtension(next); n++ {
			if n == maxExtensions || len(q)-pos < 8 {
				return false
			}
			size := 8 + int(q[pos+1])*8
			if next == fragment {
				if binary.BigEndian.Uint16(q[pos+2:])&^7 != 0 {
					return false
				}
				size = 8
			}
			if size > len(q)-pos {
				return false
			}
			next, pos = q[pos], pos+size
		}
		e.Protocol, e.Quoted = next, q[pos:]
	default:
		return false
	}
	return true
}
