package packet

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// upper returns a packet of a protocol with random contents and a right checksum.
func upper(r *rand.Rand, from, to netip.Addr, protocol uint8, n int) []byte {
	u := make([]byte, n)
	for i := range u {
		u[i] = byte(r.Uint32())
	}
	if protocol == UDP || protocol == UDPLite {
		binary.BigEndian.PutUint16(u[4:], uint16(n))
	}
	var b []byte
	if from.Is4() {
		b = AppendIPv4Header(nil, from, to, protocol, 0, 64, n, true)
	} else {
		b = AppendIPv6Header(nil, from, to, protocol, 0, 64, n)
	}
	b = append(b, u...)
	var p Packet
	if Parse(b, &p) != nil || !FinishChecksum(b, &p) {
		panic("no packet")
	}
	return b
}

func addresses(a, b netip.Addr) uint64 { return Sum(Sum(0, a.AsSlice()), b.AsSlice()) }

func TestUpdateAfterTranslation(t *testing.T) {
	a4, b4 := netip.MustParseAddr("192.168.1.2"), netip.MustParseAddr("203.0.113.9")
	c4, d4 := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("10.0.0.1")
	a6, b6 := netip.MustParseAddr("fd00::2"), netip.MustParseAddr("2001:db8::9")
	c6, d6 := netip.MustParseAddr("2001:db8:1::7"), netip.MustParseAddr("fd01::1")
	for _, tt := range []struct {
		name       string
		protocol   uint8
		a, b, c, d netip.Addr
	}{
		{"TCP", TCP, a4, b4, c4, d4},
		{"UDP", UDP, a4, b4, c4, d4},
		{"UDP-Lite", UDPLite, a4, b4, c4, d4},
		{"ICMP", ICMP, a4, b4, c4, d4},
		{"TCP over IPv6", TCP, a6, b6, c6, d6},
		{"UDP over IPv6", UDP, a6, b6, c6, d6},
		{"ICMPv6", ICMPv6, a6, b6, c6, d6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for i := range 2000 {
				b := upper(r, tt.a, tt.b, tt.protocol, 20+i%40)
				var p Packet
				if err := Parse(b, &p); err != nil {
					t.Fatal(err)
				}
				wrong := i%7 == 0
				if wrong {
					b[len(b)-1] ^= 0x10
				}
				if tt.a.Is4() {
					copy(b[12:], tt.c.AsSlice())
					copy(b[16:], tt.d.AsSlice())
				} else {
					copy(b[8:], tt.c.AsSlice())
					copy(b[24:], tt.d.AsSlice())
				}
				if !UpdatePseudo(b, &p, addresses(tt.a, tt.b), addresses(tt.c, tt.d)) {
					t.Fatal("the checksum is not known")
				}
				word := b[p.HeaderLen+4 : p.HeaderLen+6]
				if tt.protocol == UDP || tt.protocol == UDPLite { // where the length is
					word = b[p.HeaderLen : p.HeaderLen+2]
				}
				was := Sum(0, word)
				binary.BigEndian.PutUint16(word, uint16(r.Uint32()))
				if !UpdateChecksum(b, &p, was, Sum(0, word)) {
					t.Fatal("the checksum is not known")
				}
				if VerifyChecksum(b, &p) == wrong {
					t.Fatalf("packet %d: %x, damaged before: %v", i, b, wrong)
				}
			}
		})
	}
}

func TestUpdateChecksumLeavesAlone(t *testing.T) {
	a, b := netip.MustParseAddr("192.168.1.2"), netip.MustParseAddr("203.0.113.9")
	r := rand.New(rand.NewPCG(3, 4))
	for _, tt := range []struct {
		name     string
		protocol uint8
		change   func(b []byte, p *Packet)
		want     bool // what UpdateChecksum returns
	}{
		{"UDP without a checksum", UDP, func(b []byte, p *Packet) { b[26], b[27] = 0, 0 }, true},
		{"a later fragment", UDP, func(b []byte, p *Packet) { p.FragmentOffset = 8 }, true},
		{"SCTP", SCTP, func(b []byte, p *Packet) {}, false},
		{"the checksum cut off", TCP, func(b []byte, p *Packet) { p.Len = p.HeaderLen + 17 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pkt := upper(r, a, b, tt.protocol, 40)
			var p Packet
			if err := Parse(pkt, &p); err != nil {
				t.Fatal(err)
			}
			tt.change(pkt, &p)
			before := string(pkt)
			if got := UpdateChecksum(pkt, &p, 1, 2); got != tt.want || string(pkt) != before {
				t.Errorf("returned %v, and changed the packet: %v", got, string(pkt) != before)
			}
		})
	}
}

// The other zero (RFC 768): a UDP checksum that comes to zero is written as ones.
func TestUpdateChecksumNeverZero(t *testing.T) {
	b := upper(rand.New(rand.NewPCG(5, 6)), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), UDP, 16)
	var p Packet
	if err := Parse(b, &p); err != nil {
		t.Fatal(err)
	}
	for v := range 0x10000 {
		word := b[p.HeaderLen+8 : p.HeaderLen+10]
		was := Sum(0, word)
		binary.BigEndian.PutUint16(word, uint16(v))
		UpdateChecksum(b, &p, was, Sum(0, word))
		if b[p.HeaderLen+6]|b[p.HeaderLen+7] == 0 || !VerifyChecksum(b, &p) {
			t.Fatalf("with %04x the packet is %x", v, b)
		}
	}
}
