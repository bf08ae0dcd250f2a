package filter

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestSide(t *testing.T) {
	for _, tt := range []struct {
		name     string
		side     Side
		text     string
		fixed    uint32
		prefixes []string
		v6       bool
	}{
		{"any in IPv4", Any(), "any", 0, []string{"0.0.0.0/0"}, false},
		{"any in IPv6", Any(), "any", 0, []string{"::/0"}, true},
		{"me", Me(), "me", 128, []string{"0.0.0.0/0"}, false},
		{"address", Address(addr("10.1.2.3")), "10.1.2.3", 128, []string{"10.1.2.3/32"}, false},
		{"IPv6 address", Address(addr("2001:db8::1")), "2001:db8::1", 128, []string{"2001:db8::1/128"}, true},
		{"subnet", Subnet(netip.MustParsePrefix("10.1.0.0/16")), "10.1.0.0/16", 112, []string{"10.1.0.0/16"}, false},
		{"subnet with host bits", Subnet(netip.MustParsePrefix("10.1.2.3/16")), "10.1.0.0/16", 112, []string{"10.1.0.0/16"}, false},
		{"all of IPv4", Subnet(netip.MustParsePrefix("0.0.0.0/0")), "0.0.0.0/0", 96, []string{"0.0.0.0/0"}, false},
		{"all of IPv6", Subnet(netip.MustParsePrefix("::/0")), "::/0", 0, []string{"::/0"}, true},
		{"IPv6 subnet", Subnet(netip.MustParsePrefix("2001:db8::/32")), "2001:db8::/32", 32, []string{"2001:db8::/32"}, true},
		{"range that is a subnet", Range(addr("10.0.0.0"), addr("10.0.0.255")), "10.0.0.0/24", 120, []string{"10.0.0.0/24"}, false},
		{"range", Range(addr("10.0.0.1"), addr("10.0.0.9")), "10.0.0.1-10.0.0.9", 124,
			[]string{"10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/30", "10.0.0.8/31"}, false},
		{"range to the end of the space", Range(addr("255.255.255.253"), addr("255.255.255.255")), "255.255.255.253-255.255.255.255", 126,
			[]string{"255.255.255.253/32", "255.255.255.254/31"}, false},
		{"IPv6 range across words", Range(addr("2001:db8::ffff:ffff:ffff:ffff"), addr("2001:db8:0:1::")), "2001:db8::ffff:ffff:ffff:ffff-2001:db8:0:1::", 127,
			[]string{"2001:db8::ffff:ffff:ffff:ffff/128", "2001:db8:0:1::/128"}, true},
		{"none", Side{}, "invalid side", 0, []string{"0.0.0.0/0"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.side.String(); got != tt.text {
				t.Errorf("String() = %q, want %q", got, tt.text)
			}
			if got := tt.side.fixedBits(); got != tt.fixed {
				t.Errorf("fixedBits() = %d, want %d", got, tt.fixed)
			}
			got := tt.side.prefixes(tt.v6)
			if len(got) != len(tt.prefixes) {
				t.Fatalf("prefixes() = %v, want %v", got, tt.prefixes)
			}
			for i, p := range got {
				if p.String() != tt.prefixes[i] {
					t.Errorf("prefix %d is %v, want %v", i, p, tt.prefixes[i])
				}
			}
		})
	}
	if a, b := Subnet(netip.MustParsePrefix("10.0.0.0/24")), Range(addr("10.0.0.0"), addr("10.0.0.255")); a != b {
		t.Errorf("%v and %v are the same addresses but differ", a, b)
	}
}

// The worst ranges stay within the bound that maxTuples is made for.
func TestPrefixCounts(t *testing.T) {
	if n := len(Range(addr("0.0.0.1"), addr("255.255.255.254")).prefixes(false)); n != 62 {
		t.Errorf("the worst IPv4 range has %d prefixes, want 62", n)
	}
	if n := len(Range(addr("::1"), addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")).prefixes(true)); n != 254 {
		t.Errorf("the worst IPv6 range has %d prefixes, want 254", n)
	}
	if n := len(PortRange{1, 65534}.prefixes()); n != 30 {
		t.Errorf("the worst range of ports has %d prefixes, want 30", n)
	}
}

// Every address is in exactly one prefix of a range if the range contains
// it, and in none otherwise.
func TestRangePrefixesCover(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		base := uint8(r.Uint32())
		lo := addr("10.0.255.0").As4()
		lo[3] = base
		first := netip.AddrFrom4(lo)
		last := first
		for range r.IntN(300) {
			last = last.Next()
		}
		s := Range(first, last)
		prefixes := s.prefixes(false)
		for a := addr("10.0.254.250"); a.Less(addr("10.1.2.10")); a = a.Next() {
			n := 0
			for _, p := range prefixes {
				if p.Contains(a) {
					n++
				}
			}
			if want := s.Contains(a); n > 1 || (n == 1) != want {
				t.Fatalf("%v: %v is in %d prefixes, Contains says %v", s, a, n, want)
			}
		}
	}
}

func TestPortPrefixesCover(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	ranges := []PortRange{{}, {0, 65535}, {0, 1023}, {1024, 65535}, {65535, 65535}, {1, 1}, {1, 65534}}
	for range 30 {
		a, b := uint16(r.Uint32()), uint16(r.Uint32())
		ranges = append(ranges, PortRange{min(a, b), max(a, b)})
	}
	for _, pr := range ranges {
		prefixes := pr.prefixes()
		for port := range 65536 {
			n := 0
			for _, p := range prefixes {
				if uint16(port)&portMask(p.bits) == p.value {
					n++
				}
			}
			if want := pr.Contains(uint16(port)); n > 1 || (n == 1) != want {
				t.Fatalf("%v: port %d is in %d prefixes, Contains says %v", pr, port, n, want)
			}
		}
	}
	if got := (PortRange{1024, 65535}).prefixes(); len(got) != 6 {
		t.Errorf("1024-65535 has %d prefixes, want 6", len(got))
	}
}
