package filter

import (
	"cmp"
	"encoding/binary"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Shape says which leading bits of a packet's fields a Tuple fixes. Packets
// are compared with all tuples of one shape by a single exact lookup.
type Shape struct {
	V6                       bool
	SrcBits, DstBits         uint8 // 0 to 32, or to 128 with V6
	Protocol                 bool
	SrcPortBits, DstPortBits uint8 // 0 to 16
	Connection               Connection
	Stage                    Stage
}

// Ports reports whether the shape fixes a port, or an ICMP type, so that it
// matches only packets that have them.
func (s Shape) Ports() bool { return s.SrcPortBits|s.DstPortBits != 0 }

// compare orders shapes: IPv4 first, then those that fix more.
func (s Shape) compare(t Shape) int {
	return cmp.Or(
		compareBool(s.V6, t.V6),
		cmp.Compare(t.SrcBits, s.SrcBits),
		cmp.Compare(t.DstBits, s.DstBits),
		compareBool(t.Protocol, s.Protocol),
		cmp.Compare(t.SrcPortBits, s.SrcPortBits),
		cmp.Compare(t.DstPortBits, s.DstPortBits),
		cmp.Compare(t.Connection.Kind, s.Connection.Kind),
		cmp.Compare(s.Connection.Name, t.Connection.Name),
		cmp.Compare(t.Stage, s.Stage),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Tuple is a set of packets: those whose fields have the leading bits that a
// shape fixes. What the shape leaves open is zero. In ICMP the type and code
// stand for a source port, as they stand in its place in the header.
//
// It is plain words, hashed, masked and compared without regard to what they
// mean; a packet's fields are one too. An IPv4 address stands in the low half
// of its second word.
type Tuple struct {
	srcHi, srcLo, dstHi, dstLo uint64
	rest                       uint64 // family, protocol, source port, destination port
}

// V6 reports whether the addresses are of IPv6.
func (t *Tuple) V6() bool { return t.rest>>40 != 0 }

// Src returns the source address.
func (t *Tuple) Src() netip.Addr { return t.address(t.srcHi, t.srcLo) }

// Dst returns the destination address.
func (t *Tuple) Dst() netip.Addr { return t.address(t.dstHi, t.dstLo) }

// Protocol returns the upper-layer protocol.
func (t *Tuple) Protocol() uint8 { return uint8(t.rest >> 32) }

// SrcPort returns the source port, or the ICMP type and code.
func (t *Tuple) SrcPort() uint16 { return uint16(t.rest >> 16) }

// DstPort returns the destination port.
func (t *Tuple) DstPort() uint16 { return uint16(t.rest) }

func (t *Tuple) address(hi, lo uint64) netip.Addr {
	if !t.V6() {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(lo))))
	}
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, hi), lo)))
}

func (t *Tuple) and(mask *Tuple) Tuple {
	return Tuple{t.srcHi & mask.srcHi, t.srcLo & mask.srcLo, t.dstHi & mask.dstHi, t.dstLo & mask.dstLo, t.rest & mask.rest}
}

func packRest(v6 bool, protocol uint8, srcPort, dstPort uint16) uint64 {
	rest := uint64(protocol)<<32 | uint64(srcPort)<<16 | uint64(dstPort)
	if v6 {
		rest |= 1 << 40
	}
	return rest
}

// tupleOf returns all that filters compare of a packet's headers.
func tupleOf(p *packet.Packet) Tuple {
	var t Tuple
	t.srcHi, t.srcLo = words(p.Src)
	t.dstHi, t.dstLo = words(p.Dst)
	t.rest = packRest(!p.Is4(), p.Protocol, p.SrcPort, p.DstPort)
	if p.HasICMP {
		t.rest = packRest(!p.Is4(), p.Protocol, uint16(p.ICMPType)<<8|uint16(p.ICMPCode), 0)
	}
	return t
}

// mask returns the tuple with all bits set that the shape fixes.
func (s Shape) mask() Tuple {
	var t Tuple
	t.srcHi, t.srcLo = addrMask(s.V6, s.SrcBits)
	t.dstHi, t.dstLo = addrMask(s.V6, s.DstBits)
	var protocol uint8
	if s.Protocol {
		protocol = 0xff
	}
	t.rest = packRest(true, protocol, portMask(s.SrcPortBits), portMask(s.DstPortBits))
	return t
}

// shaped is a tuple with its shape.
type shaped struct {
	shape Shape
	Tuple
}

// maxTuples bounds the tuples of a selector in one direction and family. A
// range of addresses needs at most 62 prefixes in IPv4 and 254 in IPv6, a
// range of ports 30: only several awkward ranges together come near.
const maxTuples = 1 << 14

// tuples returns how many tuples of one family the selector is cut into.
func (s *Selector) tuples() int {
	v6 := s.From.first.Is6() || s.To.first.Is6()
	return s.From.pieces(v6) * s.To.pieces(v6) * s.FromPort.pieces() * s.ToPort.pieces()
}

func portMask(bits uint8) uint16 { return ^uint16(0) << (16 - bits) }

// words returns an address as the two words that a Tuple has of it.
func words(a netip.Addr) (hi, lo uint64) {
	if a.Is4() {
		b := a.As4()
		return 0, uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

func addrMask(v6 bool, bits uint8) (hi, lo uint64) {
	if !v6 {
		return 0, uint64(^uint32(0) << (32 - bits))
	}
	return ^uint64(0) << (64 - min(bits, 64)), ^uint64(0) << (64 - (max(bits, 64) - 64))
}
