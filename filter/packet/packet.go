package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Why Parse refuses a packet. None of them can be forwarded, protected or
// judged by its ports, so whoever holds such a packet drops it.
var (
	ErrTruncated   = errors.New("packet is shorter than its headers say")
	ErrVersion     = errors.New("packet is neither IPv4 nor IPv6")
	ErrMalformed   = errors.New("packet has a malformed header")
	ErrJumbogram   = errors.New("packet is an IPv6 jumbogram or has no length")
	ErrSourceRoute = errors.New("packet is source-routed: its destination address is not where it ends")
)

// maxExtensions bounds the IPv6 extension headers of a packet. RFC 8504
// section 5.3 lets a host set such a limit; real packets have one or two.
const maxExtensions = 16

// Packet is what Parse found in an IP packet. The zero value describes
// nothing.
type Packet struct {
	Src, Dst netip.Addr // the header's addresses; an IPv6 address is never unmapped

	// Protocol is the number of the upper-layer protocol: the first header
	// that is not an IPv6 extension header. AH and ESP count as upper-layer
	// protocols. In a fragment that is not the first it is what the fragment
	// header names, which may be an extension header.
	Protocol uint8

	HasPorts         bool // the two ports are present
	SrcPort, DstPort uint16

	HasICMP            bool // the message type and code of ICMP or ICMPv6 are present
	ICMPType, ICMPCode uint8

	Fragment       bool   // the packet is one of several fragments
	MoreFragments  bool   // more fragments follow this one
	FragmentOffset uint16 // where the fragment's payload belongs, in bytes

	HeaderLen    int // bytes before the upper-layer header, extension headers included
	NextHeaderAt int // offset of the byte that holds Protocol
	Len          int // bytes of the whole packet, from its header; what follows in the buffer is padding

	TrafficClass uint8 // DSCP and ECN
	HopLimit     uint8 // IPv4: time to live
}

// Is4 reports whether the packet is IPv4.
func (p *Packet) Is4() bool { return p.Src.Is4() }

// Parse reads the headers of the IPv4 or IPv6 packet at the start of b into
// p. It keeps no reference to b and allocates nothing. After an error p is
// undefined.
//
// It fails closed: a packet whose ports are cut off, whose extension headers
// do not fit, or whose last destination is not in its header is an error
// rather than a packet without ports. A fragment that is not the first has no
// ports.
func Parse(b []byte, p *Packet) error {
	if len(b) == 0 {
		return ErrTruncated
	}
	var err error
	switch b[0] >> 4 {
	case 4:
		err = parse4(b, p)
	case 6:
		err = parse6(b, p)
	default:
		return ErrVersion
	}
	if err != nil {
		return err
	}
	icmp := p.Protocol == ICMP && p.Is4() || p.Protocol == ICMPv6 && !p.Is4()
	if p.FragmentOffset != 0 || !icmp && !HasPorts(p.Protocol) {
		return nil
	}
	if p.Len-p.HeaderLen < 4 {
		return ErrTruncated
	}
	if icmp {
		p.HasICMP, p.ICMPType, p.ICMPCode = true, b[p.HeaderLen], b[p.HeaderLen+1]
	} else {
		p.HasPorts = true
		p.SrcPort = binary.BigEndian.Uint16(b[p.HeaderLen:])
		p.DstPort = binary.BigEndian.Uint16(b[p.HeaderLen+2:])
	}
	return nil
}

// parse4 reads an IPv4 header (RFC 791 section 3.1).
func parse4(b []byte, p *Packet) error {
	if len(b) < 20 {
		return ErrTruncated
	}
	hlen, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case total == 0: // "BIG TCP", which has no length in the header
		return ErrJumbogram
	case hlen < 20:
		return ErrMalformed
	case total < hlen || total > len(b):
		return ErrTruncated
	}
	if hlen > 20 {
		if err := checkOptions4(b[20:hlen]); err != nil {
			return err
		}
	}
	frag := binary.BigEndian.Uint16(b[6:])
	*p = Packet{
		Src:            netip.AddrFrom4([4]byte(b[12:16])),
		Dst:            netip.AddrFrom4([4]byte(b[16:20])),
		Protocol:       b[9],
		MoreFragments:  frag&0x2000 != 0,
		FragmentOffset: frag << 3,
		HeaderLen:      hlen,
		NextHeaderAt:   9,
		Len:            total,
		TrafficClass:   b[1],
		HopLimit:       b[8],
	}
	p.Fragment = p.MoreFragments || p.FragmentOffset != 0
	return nil
}

// checkOptions4 refuses IPv4 options that do not fit, and a loose or strict
// source route (RFC 791 section 3.1) that has not reached its end.
func checkOptions4(opts []byte) error {
	const end, nop, looseRoute, strictRoute = 0, 1, 131, 137
	for len(opts) > 0 && opts[0] != end {
		if opts[0] == nop {
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return ErrMalformed
		}
		opt := opts[:opts[1]]
		if opt[0] == looseRoute || opt[0] == strictRoute {
			if len(opt) < 3 {
				return ErrMalformed
			}
			if opt[2] <= opt[1] { // the pointer is not past the last address
				return ErrSourceRoute
			}
		}
		opts = opts[len(opt):]
	}
	return nil
}

// parse6 reads an IPv6 header and the extension headers behind it (RFC 8200
// sections 3 and 4).
func parse6(b []byte, p *Packet) error {
	if len(b) < 40 {
		return ErrTruncated
	}
	payload := int(binary.BigEndian.Uint16(b[4:]))
	next, at, pos := b[6], 6, 40
	if payload == 0 && next != 59 {
		return ErrJumbogram // RFC 2675 section 3, or "BIG TCP"
	}
	total := 40 + payload
	if total > len(b) {
		return ErrTruncated
	}
	*p = Packet{
		Src:          netip.AddrFrom16([16]byte(b[8:24])),
		Dst:          netip.AddrFrom16([16]byte(b[24:40])),
		TrafficClass: b[0]<<4 | b[1]>>4,
		HopLimit:     b[7],
		Len:          total,
	}
	for n := 0; p.FragmentOffset == 0 && isExtension(next); n++ {
		if n == maxExtensions || next == hopByHop && n > 0 || next == fragment && p.Fragment {
			return ErrMalformed
		}
		if total-pos < 8 {
			return ErrTruncated
		}
		h, size := b[pos:total], 8
		switch next {
		case fragment:
			off := binary.BigEndian.Uint16(h[2:])
			p.FragmentOffset, p.MoreFragments = off&^7, off&1 != 0
			p.Fragment = off&^6 != 0 // an atomic fragment is a whole packet, RFC 6946
		case routing:
			if h[3] != 0 { // segments left
				return ErrSourceRoute
			}
			fallthrough
		default:
			size = 8 + int(h[1])*8
		}
		if size > len(h) {
			return ErrTruncated
		}
		next, at, pos = h[0], pos, pos+size
	}
	p.Protocol, p.NextHeaderAt, p.HeaderLen = next, at, pos
	return nil
}

func isExtension(next uint8) bool {
	switch next {
	case hopByHop, routing, fragment, destOptions:
		return true
	}
	return false
}
