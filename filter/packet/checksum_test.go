package packet

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

// slowSum is the sum as RFC 1071 section 4.1 writes it.
func slowSum(sum uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
		sum = sum>>16 + sum&0xffff
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSum(t *testing.T) {
	// RFC 1071 section 3.
	if got := Fold(Sum(0, unhex(t, "0001f203f4f5f6f7"))); got != 0xddf2 {
		t.Errorf("the example of RFC 1071 sums to %04x, want ddf2", got)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 400 {
		b := make([]byte, n)
		for i := range b {
			if n%3 != 0 {
				b[i] = byte(r.Uint32())
			} else {
				b[i] = 0xff // every addition carries
			}
		}
		if got, want := Fold(Sum(0, b)), slowSum(0, b); got != want {
			t.Fatalf("%d bytes sum to %04x, want %04x", n, got, want)
		}
		if got, want := Fold(Sum(^uint64(0), b)), slowSum(0xffff, b); got != want {
			t.Fatalf("%d bytes and all ones sum to %04x, want %04x", n, got, want)
		}
		cut := n / 2 &^ 1
		if got, want := Fold(Sum(Sum(5, b[:cut]), b[cut:])), slowSum(5, b); got != want {
			t.Fatalf("%d bytes in two parts sum to %04x, want %04x", n, got, want)
		}
	}
}

func udpDatagram(data string) []byte {
	b := append(bytes.Clone(ports), data...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	return b
}

// Whole packets with the checksums that another implementation, scapy, gives
// them.
var checksummed = []struct{ name, packet string }{
	{"tcp", "4500003300010000400666b40a0100050a0200099c4020fb000000010000000270182000c2550000020405b4010000006f6464"},
	{"udp", "4500002100010000401166bb0a0100050a0200099c400035000d0b7c68656c6c6f"},
	{"icmp", "4500002300010000400166c90a0100050a020009080066cc0005000161626364656667"},
	{"sctp", "4500002400010000408466450a0100050a0200099c4020fb000000079f9e6ace0b000004"},
	{"IPv6 tcp", "600000000018064020010db800000000000000000000000520010db8000000000000000000000009" +
		"9c4020fb000000010000000250102000ac2d00006576656e"},
	{"IPv6 udp behind extension headers", "60000000001d004020010db800000000000000000000000520010db8000000000000000000000009" +
		"3c0001040000000011000104000000009c400035000dc40c68656c6c6f"},
	{"icmpv6", "60000000000f3a4020010db800000000000000000000000520010db8000000000000000000000009" +
		"800093020005000161626364656667"},
}

func TestChecksumVectors(t *testing.T) {
	for _, tt := range checksummed {
		t.Run(tt.name, func(t *testing.T) {
			want := unhex(t, tt.packet)
			b := append(bytes.Clone(want), 0xee) // padding is not summed
			var p Packet
			if err := Parse(b, &p); err != nil {
				t.Fatal(err)
			}
			if !VerifyChecksum(b, &p) {
				t.Error("the right checksum is refused")
			}
			at, _, _ := checksumAt(p.Protocol)
			copy(b[p.HeaderLen+at:], []byte{0x12, 0x34}) // what a stack may leave there
			if !FinishChecksum(b, &p) || !bytes.Equal(b[:p.Len], want) {
				t.Errorf("finished %x\nwant     %x", b[:p.Len], want)
			}
			if p.Is4() {
				b[10], b[11] = 0x12, 0x34
				FinishHeaderChecksum(b)
				if !bytes.Equal(b[:p.Len], want) {
					t.Errorf("header %x\nwant   %x", b[:20], want[:20])
				}
			}
			for i := p.HeaderLen; i < p.Len; i++ {
				b[i] ^= 0x40
				if VerifyChecksum(b, &p) {
					t.Errorf("byte %d changed, and the checksum is accepted", i)
				}
				b[i] ^= 0x40
			}
			if n := testing.AllocsPerRun(10, func() { FinishChecksum(b, &p); VerifyChecksum(b, &p) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestUDPLiteCoverage(t *testing.T) {
	u := udpDatagram("covered, and not")
	for _, tt := range []struct {
		name     string
		coverage uint16
		ok       bool
		covered  int
	}{
		{"part", 15, true, 15}, {"all", 0, true, len(u)}, {"just the header", 8, true, 8},
		{"less than the header", 7, false, 0}, {"more than there is", uint16(len(u) + 1), false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			binary.BigEndian.PutUint16(u[4:], tt.coverage)
			b := ip4(UDPLite, nil, u)
			var p Packet
			if err := Parse(b, &p); err != nil {
				t.Fatal(err)
			}
			if got := FinishChecksum(b, &p); got != tt.ok || VerifyChecksum(b, &p) != tt.ok {
				t.Fatalf("finished: %v, want %v", got, tt.ok)
			}
			for i := 8; tt.ok && i < len(u); i++ {
				b[20+i] ^= 1
				if got, want := VerifyChecksum(b, &p), i >= tt.covered; got != want {
					t.Errorf("byte %d changed, accepted: %v", i, got)
				}
				b[20+i] ^= 1
			}
		})
	}
}

func TestChecksumCases(t *testing.T) {
	noChecksum := func(b []byte, at int) []byte { b[at], b[at+1] = 0, 0; return b }
	// In this datagram the words sum to 0xffff, so that the checksum would be
	// zero: it is sent as ffff.
	zero := udpDatagram("\x00\x00")
	var p Packet
	b := ip4(UDP, nil, zero)
	if err := Parse(b, &p); err != nil {
		t.Fatal(err)
	}
	FinishChecksum(b, &p)
	copy(zero[8:], b[26:28])
	for _, tt := range []struct {
		name     string
		b        []byte
		finish   bool
		verify   bool // before it is finished
		checksum uint16
		at       int
	}{
		{"udp without a checksum", noChecksum(ip4(UDP, nil, udpDatagram("x")), 26), true, true, 0, 0},
		{"IPv6 udp without a checksum", noChecksum(ip6(UDP, udpDatagram("x")), 46), true, false, 0, 0},
		{"udp whose checksum is zero", ip4(UDP, nil, zero), true, true, 0xffff, 26},
		{"udp with a length too large", ip4(UDP, nil, append(bytes.Clone(ports[:4]), 0, 9, 1, 1)), false, false, 0x0101, 26},
		{"first fragment", fragment4(ip4(UDP, nil, udpDatagram("x")), 0x2000), false, false, 0, 26},
		{"later fragment", fragment4(ip4(ICMP, nil, ports), 0x0008), false, false, 0x20fb, 22},
		{"tcp cut off", ip4(TCP, nil, tcpSegment(flagACK, nil, nil)[:19]), false, false, 0, 36},
		{"gre", ip4(47, nil, ports), false, true, 0x9c40, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Packet
			if err := Parse(tt.b, &p); err != nil {
				t.Fatal(err)
			}
			if got := VerifyChecksum(tt.b, &p); got != tt.verify {
				t.Errorf("VerifyChecksum = %v, want %v", got, tt.verify)
			}
			if got := FinishChecksum(tt.b, &p); got != tt.finish {
				t.Errorf("FinishChecksum = %v, want %v", got, tt.finish)
			}
			if tt.finish && !VerifyChecksum(tt.b, &p) {
				t.Error("the finished checksum is refused")
			}
			if got := binary.BigEndian.Uint16(tt.b[tt.at:]); tt.at > 0 && got != tt.checksum {
				t.Errorf("field holds %04x, want %04x", got, tt.checksum)
			}
		})
	}
}

// What is finished verifies, and nothing but the field has changed.
func FuzzChecksum(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	for _, c := range checksummed {
		f.Add(unhex(f, c.packet))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Packet
		if Parse(b, &p) != nil {
			return
		}
		VerifyChecksum(b, &p)
		old := bytes.Clone(b)
		if !FinishChecksum(b, &p) {
			if !bytes.Equal(b, old) {
				t.Fatal("not finished, but changed")
			}
			return
		}
		if !VerifyChecksum(b, &p) {
			t.Fatalf("finished %x is refused", b)
		}
		at, _, _ := checksumAt(p.Protocol)
		n := 2
		if p.Protocol == SCTP {
			n = 4
		}
		copy(b[p.HeaderLen+at:][:n], old[p.HeaderLen+at:])
		if !bytes.Equal(b, old) {
			t.Fatal("more than the field has changed")
		}
	})
}

func BenchmarkSum(b *testing.B) {
	buf := make([]byte, 1460)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		Sum(0, buf)
	}
}
