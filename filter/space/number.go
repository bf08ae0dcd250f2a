package space

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// number is an address as an integer. Those of IPv4 are below 1<<32: families
// are never compared with each other.
type number struct{ hi, lo uint64 }

func numberOf(a netip.Addr) number {
	if a.Is4() {
		b := a.As4()
		return number{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// addr returns the address of a family that n stands for.
func (n number) addr(v6 bool) netip.Addr {
	if !v6 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], n.hi)
	binary.BigEndian.PutUint64(b[8:], n.lo)
	return netip.AddrFrom16(b)
}

func (n number) less(m number) bool { return n.hi < m.hi || n.hi == m.hi && n.lo < m.lo }

func (n number) compare(m number) int {
	switch {
	case n == m:
		return 0
	case n.less(m):
		return -1
	}
	return 1
}

func (n number) next() number {
	lo, carry := bits.Add64(n.lo, 1, 0)
	return number{n.hi + carry, lo}
}

func (n number) previous() number {
	lo, borrow := bits.Sub64(n.lo, 1, 0)
	return number{n.hi - borrow, lo}
}

func (n number) minus(m number) number {
	lo, borrow := bits.Sub64(n.lo, m.lo, 0)
	return number{n.hi - m.hi - borrow, lo}
}

func (n number) len() int {
	if n.hi != 0 {
		return 64 + bits.Len64(n.hi)
	}
	return bits.Len64(n.lo)
}

// addresses is the addresses from lo to hi, both inclusive.
type addresses struct{ lo, hi number }

var (
	all4 = addresses{hi: number{lo: 1<<32 - 1}}
	all6 = addresses{hi: number{^uint64(0), ^uint64(0)}}
)

// allOf returns every address of a family.
func allOf(v6 bool) addresses {
	if v6 {
		return all6
	}
	return all4
}

func (a addresses) meets(b addresses) bool    { return !b.hi.less(a.lo) && !a.hi.less(b.lo) }
func (a addresses) contains(b addresses) bool { return !b.lo.less(a.lo) && !a.hi.less(b.hi) }
func (a addresses) has(n number) bool         { return !n.less(a.lo) && !a.hi.less(n) }

// and returns the common part of two that meet.
func (a addresses) and(b addresses) addresses {
	if a.lo.less(b.lo) {
		a.lo = b.lo
	}
	if b.hi.less(a.hi) {
		a.hi = b.hi
	}
	return a
}

// ports is the ports from lo to hi, both inclusive; or the ICMP messages,
// numbered by type and code as in their header.
type ports struct{ lo, hi uint16 }

var allPorts = ports{0, 65535}

func (a ports) meets(b ports) bool    { return a.lo <= b.hi && b.lo <= a.hi }
func (a ports) has(p uint16) bool     { return a.lo <= p && p <= a.hi }
func (a ports) contains(b ports) bool { return a.lo <= b.lo && b.hi <= a.hi }
func (a ports) and(b ports) ports     { return ports{max(a.lo, b.lo), min(a.hi, b.hi)} }
