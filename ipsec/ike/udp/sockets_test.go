package udp

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ipsock"
)

// sorted is what demultiplex made of a read.
type sorted struct{ ike, esp []string }

func (s *sorted) Receive(buf []byte, offset int, _, _ netip.AddrPort, _ uint8, _ int) {
	s.esp = append(s.esp, string(buf[offset:]))
}
func (s *sorted) Flush() {}

func sort(data []byte, size int) sorted {
	var s sorted
	p := ipsock.Packet{Buf: append(make([]byte, ipsock.Headroom), data...), Offset: ipsock.Headroom, Size: size}
	demultiplex(&p, func(_, _ netip.AddrPort, msg []byte) { s.ike = append(s.ike, string(msg)) }, &s)
	return s
}

func TestDemultiplex(t *testing.T) {
	tests := []struct {
		name string
		data string
		size int
		want sorted
	}{
		{"nothing", "", 0, sorted{}},
		{"keepalive", "\xff", 1, sorted{}},
		{"too short for an SPI", "abc", 3, sorted{}},
		{"IKE", "\x00\x00\x00\x00hello", 9, sorted{ike: []string{"hello"}}},
		{"marker alone", "\x00\x00\x00\x00", 4, sorted{ike: []string{""}}},
		{"ESP", "\x00\x00\x10\x01hello", 9, sorted{esp: []string{"\x00\x00\x10\x01hello"}}},
		{"several at once", "abcd1abcd2xyz", 5, sorted{esp: []string{"abcd1", "abcd2"}}},
		{"size that cannot be", "abcd", 0, sorted{esp: []string{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := sort([]byte(tt.data), tt.size)
			if !slices.Equal(got.ike, tt.want.ike) || !slices.Equal(got.esp, tt.want.esp) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// When one socket fails, the others must not go on as if nothing were wrong.
func TestRunEndsWithOneSocket(t *testing.T) {
	s := new(Sockets)
	for _, c := range []**ipsock.Conn{&s.ike[0], &s.nat[0], &s.icmp[0]} {
		var err error
		if *c, err = ipsock.ListenUDP(false, 0, 0, false); err != nil {
			t.Fatal(err)
		}
	}
	s.ike[0].Close()
	err := s.Run(t.Context(), func(_, _ netip.AddrPort, _ []byte) {}, func() Receiver { return new(sorted) }, func(_, _ netip.AddrPort, _ string) {})
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}

func FuzzDemultiplex(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00ike"), 7)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		s, n := sort(data, size), 0
		for _, x := range append(s.ike, s.esp...) {
			n += len(x)
		}
		if n > len(data) {
			t.Errorf("%d bytes made of %d", n, len(data))
		}
	})
}
