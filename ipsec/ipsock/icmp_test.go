package ipsock

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// errorPacket is what a read of an ICMP socket brings.
func errorPacket(from string, b ...[]byte) *Packet {
	return &Packet{Buf: slices.Concat(append([][]byte{make([]byte, Headroom)}, b...)...), Offset: Headroom, Remote: netip.AddrPortFrom(netip.MustParseAddr(from), 0)}
}

func TestParseError(t *testing.T) {
	udp := []byte{1, 244, 0x11, 0x94, 0, 8, 0, 0} // 500 to 4500
	ip4 := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}
	tcp4 := slices.Clone(ip4)
	tcp4[9] = 6
	local6, remote6 := netip.MustParseAddr("2001:db8::1").As16(), netip.MustParseAddr("2001:db8::2").As16()
	ip6 := slices.Concat([]byte{0x60, 0, 0, 0, 0, 8, 17, 64}, local6[:], remote6[:])
	for _, tt := range []struct {
		name   string
		packet *Packet
		want   string
		remote string
	}{
		{"port", errorPacket("10.0.0.2", []byte{3, 3, 0, 0, 0, 0, 0, 0}, ip4, udp), "ICMP port unreachable, from 10.0.0.2", "10.0.0.2:4500"},
		{"host", errorPacket("10.0.0.9", []byte{3, 1, 0, 0, 0, 0, 0, 0}, ip4, udp), "ICMP host unreachable, from 10.0.0.9", "10.0.0.2:4500"},
		{"too big", errorPacket("10.0.0.9", []byte{3, 4, 0, 0, 0, 0, 5, 0}, ip4, udp), "ICMP fragmentation needed, MTU 1280, from 10.0.0.9", "10.0.0.2:4500"},
		{"unknown code", errorPacket("10.0.0.9", []byte{3, 99, 0, 0, 0, 0, 0, 0}, ip4, udp), "ICMP unreachable, code 99, from 10.0.0.9", "10.0.0.2:4500"},
		{"IPv6", errorPacket("2001:db8::2", []byte{1, 4, 0, 0, 0, 0, 0, 0}, ip6, udp), "ICMP port unreachable, from 2001:db8::2", "[2001:db8::2]:4500"},
		{"IPv6 too big", errorPacket("2001:db8::9", []byte{2, 0, 0, 0, 0, 0, 5, 0}, ip6, udp), "ICMP packet too big, MTU 1280, from 2001:db8::9", "[2001:db8::2]:4500"},
		{"of TCP", errorPacket("10.0.0.2", []byte{3, 3, 0, 0, 0, 0, 0, 0}, tcp4, udp), "", ""},
		{"nothing", errorPacket("10.0.0.2"), "", ""},
		{"cut", errorPacket("10.0.0.2", []byte{3, 3, 0, 0, 0, 0, 0, 0}, ip4, udp[:3]), "", ""},
		{"IPv6 cut", errorPacket("2001:db8::2", []byte{1, 4, 0, 0, 0, 0, 0, 0}, ip6, udp[:3]), "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, ok := ParseError(tt.packet)
			if ok != (tt.want != "") || ok && (e.String() != tt.want || e.Remote.String() != tt.remote || e.Local.Port() != 500) {
				t.Errorf("got %v %q about %s to %s", ok, e, e.Local, e.Remote)
			}
		})
	}
}

func FuzzParseError(f *testing.F) {
	f.Add([]byte{3, 3, 0, 0, 0, 0, 0, 0, 0x45}, false)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		from := "10.0.0.1"
		if v6 {
			from = "::1"
		}
		if e, ok := ParseError(errorPacket(from, b)); ok && (!e.Remote.IsValid() || e.Text == "") {
			t.Errorf("%+v", e)
		}
	})
}

// A packet to a port where nobody listens comes back as an error, and an echo
// request does not.
func TestListenErrors(t *testing.T) {
	c, err := ListenErrors(false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u, err := ListenUDP(false, 0, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	lo := netip.MustParseAddr("127.0.0.1")
	const nobody = 9 // discard
	if err := u.Write(netip.AddrPortFrom(lo, 0), netip.AddrPortFrom(lo, nobody), 0, []byte("x"), 1); err != nil {
		t.Fatal(err)
	}
	got := make(chan Error, 1)
	go Each(c, func(b Batch) {
		for i := range b {
			if e, ok := ParseError(&b[i]); ok && e.Remote.Port() == nobody {
				select {
				case got <- e:
				default:
				}
			}
		}
	})
	select {
	case e := <-got:
		if e.Text != "port unreachable" || e.From != lo {
			t.Errorf("got %+v", e)
		}
	case <-time.After(10 * time.Second):
		t.Error("no error came back")
	}
}
