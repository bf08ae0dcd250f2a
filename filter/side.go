package filter

import (
	"math/bits"
	"net/netip"
)

// SideKind says what a Side consists of. The zero value is invalid.
type SideKind uint8

// The kinds of sides.
const (
	SideAny       SideKind = iota + 1 // every address of both families
	SideMe                            // every address of the host
	SideAddresses                     // the addresses from First to Last
)

// Side is one end of a selector: a set of addresses. Make it with Any, Me,
// Address, Subnet or Range. Sides are comparable with ==, and two sides of
// the same addresses are equal however they were written.
type Side struct {
	kind        SideKind
	first, last netip.Addr // of one family, both inclusive
}

// Any is the side of every address.
func Any() Side { return Side{kind: SideAny} }

// Me is the side of every address of the host, whatever it is at the time.
func Me() Side { return Side{kind: SideMe} }

// Address is the side of one address.
func Address(a netip.Addr) Side { return Range(a, a) }

// Subnet is the side of every address in p; host bits of p are ignored.
func Subnet(p netip.Prefix) Side {
	p = p.Masked()
	return Range(p.Addr(), lastOf(p))
}

// Range is the side of the addresses from first to last, both inclusive. New
// refuses one whose ends are of two families or in the wrong order.
func Range(first, last netip.Addr) Side {
	return Side{kind: SideAddresses, first: first, last: last}
}

// Kind returns what the side consists of.
func (s Side) Kind() SideKind { return s.kind }

// First returns the lowest address of a side of addresses, and the invalid
// address for any other.
func (s Side) First() netip.Addr { return s.first }

// Last returns the highest address of a side of addresses, and the invalid
// address for any other.
func (s Side) Last() netip.Addr { return s.last }

// Contains reports whether a is one of the addresses of the side. Any
// contains every address, and Me none, because a Side does not know the
// host's.
func (s Side) Contains(a netip.Addr) bool {
	switch s.kind {
	case SideAny:
		return true
	case SideAddresses:
		return a.BitLen() == s.first.BitLen() && a.Compare(s.first) >= 0 && a.Compare(s.last) <= 0
	}
	return false
}

// Prefix returns the side as a subnet; ok is false when it is not exactly one.
func (s Side) Prefix() (p netip.Prefix, ok bool) {
	if s.kind != SideAddresses || s.first.BitLen() != s.last.BitLen() {
		return netip.Prefix{}, false
	}
	p = netip.PrefixFrom(s.first, s.first.BitLen()-sizeBits(s.first, s.last))
	return p, p.Masked() == p && lastOf(p) == s.last
}

// String writes the side as the rule file does: any, me, an address, a
// subnet, or FIRST-LAST.
func (s Side) String() string {
	switch s.kind {
	case SideAny:
		return "any"
	case SideMe:
		return "me"
	case SideAddresses:
		if p, ok := s.Prefix(); ok {
			if p.IsSingleIP() {
				return s.first.String()
			}
			return p.String()
		}
		return s.first.String() + "-" + s.last.String()
	}
	return "invalid side"
}

// fixedBits is the side's share of the weight, 0 to 128.
func (s Side) fixedBits() uint32 {
	switch s.kind {
	case SideMe:
		return 128
	case SideAddresses:
		return uint32(128 - sizeBits(s.first, s.last))
	}
	return 0
}

// is reports whether the side can hold addresses of a family.
func (s Side) is(v6 bool) bool { return s.kind != SideAddresses || s.first.Is6() == v6 }

// prefixes returns the fewest subnets of one family that make up the side.
// Any and Me are the whole family.
func (s Side) prefixes(v6 bool) []netip.Prefix {
	if s.kind != SideAddresses {
		if v6 {
			return []netip.Prefix{netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
		}
		return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	}
	if p, ok := s.Prefix(); ok {
		return []netip.Prefix{p}
	}
	var out []netip.Prefix
	for a := s.first; a.IsValid() && a.Compare(s.last) <= 0; {
		p := netip.PrefixFrom(a, a.BitLen())
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(a, p.Bits()-1)
			if wider.Masked() != wider || lastOf(wider).Compare(s.last) > 0 {
				break
			}
			p = wider
		}
		out = append(out, p)
		a = lastOf(p).Next()
	}
	return out
}

// pieces returns how many prefixes make up the side.
func (s Side) pieces(v6 bool) int {
	if s.kind != SideAddresses || s.first == s.last {
		return 1
	}
	if _, ok := s.Prefix(); ok {
		return 1
	}
	return len(s.prefixes(v6))
}

// lastOf returns the highest address of p.
func lastOf(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		setTail(b[:], p.Bits())
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	setTail(b[:], p.Bits())
	return netip.AddrFrom16(b)
}

// setTail sets every bit of b from the bit at n on.
func setTail(b []byte, n int) {
	for i := range b {
		b[i] |= byte(0xff >> min(max(n-i*8, 0), 8))
	}
}

// sizeBits returns how many bits it takes to number the addresses from first
// to last: the logarithm to base 2 of their count, rounded up.
func sizeBits(first, last netip.Addr) int {
	fhi, flo := words(first)
	lhi, llo := words(last)
	lo, borrow := bits.Sub64(llo, flo, 0)
	hi, _ := bits.Sub64(lhi, fhi, borrow)
	if hi != 0 {
		return 64 + bits.Len64(hi)
	}
	return bits.Len64(lo)
}
