package ipsec

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// sel makes a selector of the addresses from lo to hi.
func sel(lo, hi string, protocol uint8, start, end uint16) TrafficSelector {
	return TrafficSelector{Protocol: protocol, StartPort: start, EndPort: end,
		Start: netip.MustParseAddr(lo), End: netip.MustParseAddr(hi)}
}

func TestSelectPrefix(t *testing.T) {
	tests := []struct{ prefix, start, end string }{
		{"10.1.0.0/16", "10.1.0.0", "10.1.255.255"},
		{"10.1.2.3/16", "10.1.0.0", "10.1.255.255"},
		{"192.0.2.129/25", "192.0.2.128", "192.0.2.255"},
		{"192.0.2.7/31", "192.0.2.6", "192.0.2.7"},
		{"192.0.2.7/32", "192.0.2.7", "192.0.2.7"},
		{"0.0.0.0/0", "0.0.0.0", "255.255.255.255"},
		{"2001:db8::/33", "2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"},
		{"2001:db8::1/128", "2001:db8::1", "2001:db8::1"},
		{"::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	}
	for _, tt := range tests {
		t.Run(tt.prefix, func(t *testing.T) {
			got := SelectPrefix(netip.MustParsePrefix(tt.prefix), 6, 80, 443)
			if want := sel(tt.start, tt.end, 6, 80, 443); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestIntersect(t *testing.T) {
	v4 := func(lo, hi string) TrafficSelector { return sel(lo, hi, 0, 0, 0xffff) }
	tests := []struct {
		name string
		t, u TrafficSelector
		want TrafficSelector
		ok   bool
	}{
		{"same", v4("10.0.0.0", "10.0.0.9"), v4("10.0.0.0", "10.0.0.9"), v4("10.0.0.0", "10.0.0.9"), true},
		{"inside", v4("10.0.0.0", "10.0.0.9"), v4("10.0.0.3", "10.0.0.4"), v4("10.0.0.3", "10.0.0.4"), true},
		{"overlap", v4("10.0.0.0", "10.0.0.5"), v4("10.0.0.3", "10.0.0.9"), v4("10.0.0.3", "10.0.0.5"), true},
		{"one address in common", v4("10.0.0.0", "10.0.0.5"), v4("10.0.0.5", "10.0.0.9"), v4("10.0.0.5", "10.0.0.5"), true},
		{"apart", v4("10.0.0.0", "10.0.0.5"), v4("10.0.0.6", "10.0.0.9"), TrafficSelector{}, false},
		{"other family", v4("0.0.0.0", "255.255.255.255"), sel("::", "ffff::", 0, 0, 0xffff), TrafficSelector{}, false},
		{"any protocol", v4("10.0.0.0", "10.0.0.5"), sel("10.0.0.0", "10.0.0.5", 6, 0, 0xffff), sel("10.0.0.0", "10.0.0.5", 6, 0, 0xffff), true},
		{"other protocol", sel("10.0.0.0", "10.0.0.5", 17, 0, 0xffff), sel("10.0.0.0", "10.0.0.5", 6, 0, 0xffff), TrafficSelector{}, false},
		{"ports overlap", sel("10.0.0.0", "10.0.0.5", 6, 80, 500), sel("10.0.0.0", "10.0.0.5", 6, 443, 600), sel("10.0.0.0", "10.0.0.5", 6, 443, 500), true},
		{"ports apart", sel("10.0.0.0", "10.0.0.5", 6, 80, 80), sel("10.0.0.0", "10.0.0.5", 6, 443, 600), TrafficSelector{}, false},
		// OPAQUE (RFC 7296 section 3.13.1) is no port at all.
		{"opaque ports", sel("10.0.0.0", "10.0.0.5", 6, 0xffff, 0), v4("10.0.0.0", "10.0.0.5"), TrafficSelector{}, false},
		{"zero value", TrafficSelector{}, v4("10.0.0.0", "10.0.0.5"), TrafficSelector{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, order := range []struct{ t, u TrafficSelector }{{tt.t, tt.u}, {tt.u, tt.t}} {
				got, ok := order.t.Intersect(order.u)
				if ok != tt.ok || ok && got != tt.want {
					t.Errorf("%v and %v: %v, %v", order.t, order.u, got, ok)
				}
				if contains := order.t.Contains(order.u); contains != (tt.ok && tt.want == order.u) {
					t.Errorf("%v contains %v: %v", order.t, order.u, contains)
				}
			}
		})
	}
}

// A packet is in the intersection when it is in both selectors.
func TestIntersectMatch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func() TrafficSelector {
		a, b := byte(r.IntN(8)), byte(r.IntN(8))
		p, q := uint16(r.IntN(8)), uint16(r.IntN(8))
		return TrafficSelector{Protocol: uint8(r.IntN(3)), StartPort: min(p, q), EndPort: max(p, q),
			Start: netip.AddrFrom4([4]byte{10, 0, 0, min(a, b)}), End: netip.AddrFrom4([4]byte{10, 0, 0, max(a, b)})}
	}
	for range 500 {
		s, u := random(), random()
		both, ok := s.Intersect(u)
		for i := range 8 * 8 * 2 {
			addr, port, protocol := netip.AddrFrom4([4]byte{10, 0, 0, byte(i % 8)}), uint16(i/8%8), uint8(1+i/64)
			want := s.Match(addr, protocol, port, true) && u.Match(addr, protocol, port, true)
			if got := ok && both.Match(addr, protocol, port, true); got != want {
				t.Fatalf("%v and %v are %v: %v %d %d matches: %v", s, u, both, addr, protocol, port, got)
			}
		}
	}
}

func TestMatch(t *testing.T) {
	web := sel("10.0.0.1", "10.0.0.9", 6, 80, 443)
	all := sel("10.0.0.0", "10.255.255.255", 0, 0, 0xffff)
	tests := []struct {
		name     string
		sel      TrafficSelector
		addr     string
		protocol uint8
		port     uint16
		hasPort  bool
		want     bool
	}{
		{"first of everything", web, "10.0.0.1", 6, 80, true, true},
		{"last of everything", web, "10.0.0.9", 6, 443, true, true},
		{"address below", web, "10.0.0.0", 6, 80, true, false},
		{"address above", web, "10.0.0.10", 6, 80, true, false},
		{"other protocol", web, "10.0.0.1", 17, 80, true, false},
		{"port below", web, "10.0.0.1", 6, 79, true, false},
		{"port above", web, "10.0.0.1", 6, 444, true, false},
		{"fragment without a port", web, "10.0.0.1", 6, 0, false, false},
		{"no port and any port", all, "10.0.0.1", 1, 0, false, true},
		{"any protocol", all, "10.9.9.9", 47, 0, false, true},
		{"other family", all, "::ffff:10.0.0.1", 6, 80, true, false},
		{"no address", all, "", 6, 80, true, false},
		{"zero selector", TrafficSelector{}, "10.0.0.1", 6, 0, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var addr netip.Addr
			if tt.addr != "" {
				addr = netip.MustParseAddr(tt.addr)
			}
			if got := tt.sel.Match(addr, tt.protocol, tt.port, tt.hasPort); got != tt.want {
				t.Errorf("Match = %v", got)
			}
		})
	}
}

func TestTrafficSelectorString(t *testing.T) {
	tests := []struct {
		sel  TrafficSelector
		want string
	}{
		{sel("10.1.0.0", "10.1.255.255", 6, 8443, 8443), "10.1.0.0/16 tcp 8443"},
		{sel("10.1.0.0", "10.1.255.254", 17, 1, 99), "10.1.0.0-10.1.255.254 udp 1-99"},
		{sel("10.1.0.1", "10.1.0.2", 0, 0, 0xffff), "10.1.0.1-10.1.0.2"},
		{sel("10.1.0.1", "10.1.0.1", 1, 0, 0xffff), "10.1.0.1 icmp"},
		{sel("0.0.0.0", "255.255.255.255", 0, 0, 0xffff), "0.0.0.0/0"},
		{sel("2001:db8::", "2001:db8::ffff", 58, 0, 0xffff), "2001:db8::/112 icmpv6"},
		{sel("::1", "::1", 47, 0, 0xffff), "::1 gre"},
	}
	for _, tt := range tests {
		if got := tt.sel.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
