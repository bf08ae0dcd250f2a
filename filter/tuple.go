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

// Tuple is a set of packets: those whose fields have the leading bits that
// its shape fixes. What the shape leaves open is zero. In ICMP the type and
// code stand for a source port, as they stand in its place in the header.
type Tuple struct {
	Shape
	Src, Dst         netip.Addr
	Proto            uint8
	SrcPort, DstPort uint16
}

// SrcPrefix returns the source addresses of the tuple.
func (t Tuple) SrcPrefix() netip.Prefix { return netip.PrefixFrom(t.Src, int(t.SrcBits)) }

// DstPrefix returns the destination addresses of the tuple.
func (t Tuple) DstPrefix() netip.Prefix { return netip.PrefixFrom(t.Dst, int(t.DstBits)) }

// maxTuples bounds the tuples of a selector in one direction and family. A
// range of addresses needs at most 62 prefixes in IPv4 and 254 in IPv6, a
// range of ports 30: only several awkward ranges together come near.
const maxTuples = 1 << 14

// tuples returns how many tuples of one family the selector is cut into.
func (s *Selector) tuples() int {
	v6 := s.From.first.Is6() || s.To.first.Is6()
	return s.From.pieces(v6) * s.To.pieces(v6) * s.FromPort.pieces() * s.ToPort.pieces()
}

// key is a packet's fields, or a tuple's, as plain words: hashed and masked
// without regard to what they mean.
type key struct {
	srcHi, srcLo, dstHi, dstLo uint64
	rest                       uint64 // protocol, source port, destination port
}

func (k *key) and(mask *key) key {
	return key{k.srcHi & mask.srcHi, k.srcLo & mask.srcLo, k.dstHi & mask.dstHi, k.dstLo & mask.dstLo, k.rest & mask.rest}
}

func packRest(protocol uint8, srcPort, dstPort uint16) uint64 {
	return uint64(protocol)<<32 | uint64(srcPort)<<16 | uint64(dstPort)
}

func packetKey(p *packet.Packet) key {
	var k key
	k.srcHi, k.srcLo = words(p.Src)
	k.dstHi, k.dstLo = words(p.Dst)
	k.rest = packRest(p.Protocol, p.SrcPort, p.DstPort)
	if p.HasICMP {
		k.rest = packRest(p.Protocol, uint16(p.ICMPType)<<8|uint16(p.ICMPCode), 0)
	}
	return k
}

func (t *Tuple) key() key {
	var k key
	k.srcHi, k.srcLo = words(t.Src)
	k.dstHi, k.dstLo = words(t.Dst)
	k.rest = packRest(t.Proto, t.SrcPort, t.DstPort)
	return k
}

// mask returns the key with all bits set that the shape fixes.
func (s Shape) mask() key {
	var k key
	k.srcHi, k.srcLo = addrMask(s.V6, s.SrcBits)
	k.dstHi, k.dstLo = addrMask(s.V6, s.DstBits)
	var protocol uint8
	if s.Protocol {
		protocol = 0xff
	}
	k.rest = packRest(protocol, portMask(s.SrcPortBits), portMask(s.DstPortBits))
	return k
}

func portMask(bits uint8) uint16 { return ^uint16(0) << (16 - bits) }

// words returns an address as two words. An IPv4 address stands in the low
// half of the second: families are never compared with each other.
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
