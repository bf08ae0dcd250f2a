package ipsec

import (
	"fmt"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter"
)

// TrafficSelector is what IKE negotiates (RFC 7296 section 3.13.1): a range
// of addresses of one family, a protocol and a range of ports.
type TrafficSelector struct {
	Protocol           uint8 // IP protocol number; 0 means any
	StartPort, EndPort uint16
	Start, End         netip.Addr // both ends inclusive
}

// SelectPrefix returns the selector of every packet whose address is in p,
// which must be valid.
func SelectPrefix(p netip.Prefix, protocol uint8, lo, hi uint16) TrafficSelector {
	p = p.Masked()
	last := p.Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	end, _ := netip.AddrFromSlice(last)
	return TrafficSelector{Protocol: protocol, StartPort: lo, EndPort: hi, Start: p.Addr(), End: end}
}

// AnyPort reports whether the selector covers every port, including the
// case of a protocol or fragment that has none.
func (t TrafficSelector) AnyPort() bool { return t.StartPort == 0 && t.EndPort == 0xffff }

// Contains reports whether every packet of u is in t.
func (t TrafficSelector) Contains(u TrafficSelector) bool {
	x, ok := t.Intersect(u)
	return ok && x == u
}

// Intersect returns the packets that both selectors cover; ok is false when
// there are none.
func (t TrafficSelector) Intersect(u TrafficSelector) (out TrafficSelector, ok bool) {
	if t.Start.BitLen() != u.Start.BitLen() {
		return out, false
	}
	out = t
	if out.Protocol == 0 {
		out.Protocol = u.Protocol
	} else if u.Protocol != 0 && u.Protocol != t.Protocol {
		return out, false
	}
	out.StartPort, out.EndPort = max(t.StartPort, u.StartPort), min(t.EndPort, u.EndPort)
	if u.Start.Compare(out.Start) > 0 {
		out.Start = u.Start
	}
	if u.End.Compare(out.End) < 0 {
		out.End = u.End
	}
	if out.StartPort > out.EndPort || out.Start.Compare(out.End) > 0 {
		return out, false
	}
	return out, true
}

// Match reports whether a packet's address, protocol and port are covered.
// hasPort is false for protocols without ports, which match only a selector
// that covers every port.
func (t TrafficSelector) Match(a netip.Addr, protocol uint8, port uint16, hasPort bool) bool {
	if t.Protocol != 0 && t.Protocol != protocol {
		return false
	}
	if !a.IsValid() || a.BitLen() != t.Start.BitLen() || a.Compare(t.Start) < 0 || a.Compare(t.End) > 0 {
		return false
	}
	if !hasPort {
		return t.AnyPort()
	}
	return port >= t.StartPort && port <= t.EndPort
}

// String writes the selector as "10.1.0.0/16 tcp 8443"; a range that is no
// subnet is written with both its ends.
func (t TrafficSelector) String() string {
	s := t.Start.String()
	if t.Start != t.End {
		s += "-" + t.End.String()
		for bits := 0; bits < t.Start.BitLen(); bits++ {
			p := netip.PrefixFrom(t.Start, bits)
			if p.Masked() == p && SelectPrefix(p, 0, 0, 0).End == t.End {
				s = p.String()
				break
			}
		}
	}
	if t.Protocol != 0 {
		s += " " + filter.ProtocolName(t.Protocol)
	}
	switch {
	case t.AnyPort():
	case t.StartPort == t.EndPort:
		s += fmt.Sprintf(" %d", t.StartPort)
	default:
		s += fmt.Sprintf(" %d-%d", t.StartPort, t.EndPort)
	}
	return s
}
