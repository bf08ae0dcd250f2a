package packet

import "testing"

// The table of RFC 6040 section 4.2.
func TestDecapsulate(t *testing.T) {
	const drop = 0xff
	table := [4][4]byte{ // inner, outer: Not-ECT 0, ECT(1) 1, ECT(0) 2, CE 3
		0: {0, 0, 0, drop},
		1: {1, 1, 1, 3},
		2: {2, 1, 2, 3},
		3: {3, 3, 3, 3},
	}
	for inner := range byte(4) {
		for outer := range byte(4) {
			for _, v6 := range []bool{false, true} {
				b := datagram(v6, 20)
				const dscp = 0xb8
				if v6 {
					b[0], b[1] = 0x60|dscp>>4, dscp<<4&0xf0|inner<<4|0x0f // and some flow label
				} else {
					b[1] = dscp | inner
					FinishHeaderChecksum(b)
				}
				var p Packet
				if err := Parse(b, &p); err != nil {
					t.Fatal(err)
				}
				ok := Decapsulate(b, &p, 0x40|outer)
				if want := table[inner][outer]; ok != (want != drop) || ok && p.TrafficClass != dscp|want {
					t.Errorf("inner %d, outer %d, IPv6 %v: %v, %x", inner, outer, v6, ok, p.TrafficClass)
				}
				q := p
				if err := Parse(b, &q); err != nil || q.TrafficClass != p.TrafficClass {
					t.Errorf("inner %d, outer %d: the packet has %x, want %x", inner, outer, q.TrafficClass, p.TrafficClass)
				}
				if v6 && b[1]&0x0f != 0x0f {
					t.Error("the flow label has changed")
				}
				if !v6 && Fold(Sum(0, b[:20])) != 0xffff {
					t.Error("the checksum is wrong")
				}
			}
		}
	}
}
