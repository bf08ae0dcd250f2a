package packet

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
)

func TestAppendIPHeader(t *testing.T) {
	addr := netip.MustParseAddr
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"IPv4", AppendIPv4Header(nil, addr("203.0.113.153"), addr("203.0.113.5"), 50, 0, 64, 0x8c-20, false),
			"4500008c00000000403201a1cb007199cb007105"},
		{"IPv4, do not fragment", AppendIPv4Header(nil, addr("192.168.0.1"), addr("192.168.0.199"), 17, 0, 64, 0x73-20, true),
			"45000073000040004011b861c0a80001c0a800c7"},
		{"IPv4, longest", AppendIPv4Header(nil, addr("10.0.0.1"), addr("10.0.0.2"), 6, 0xb8, 1, 65515, false),
			"45b8ffff000000000106a53e0a0000010a000002"},
		{"IPv6", AppendIPv6Header(nil, addr("2001:db8::1"), addr("2001:db8::2%eth0"), 58, 0xb8, 255, 8),
			"6b80000000083aff20010db800000000000000000000000120010db8000000000000000000000002"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want, err := hex.DecodeString(tt.want)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(tt.got, want) {
				t.Errorf("header %x, want %x", tt.got, want)
			}
		})
	}
}

func TestAppendIPHeaderAllocs(t *testing.T) {
	buf := make([]byte, 0, 128)
	a4, b4 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	a6, b6 := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2")
	if n := testing.AllocsPerRun(100, func() {
		AppendIPv4Header(buf, a4, b4, 6, 0, 64, 100, true)
		AppendIPv6Header(buf, a6, b6, 6, 0, 64, 100)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
