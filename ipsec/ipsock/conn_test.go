package ipsock

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
)

func loopback(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Loopback()
	}
	return netip.MustParseAddr("127.0.0.1")
}

func listenAny(t *testing.T, v6, gro bool) (*Conn, netip.AddrPort) {
	t.Helper()
	c, err := ListenUDP(v6, 0, 0, gro)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, netip.AddrPortFrom(loopback(v6), c.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
}

func TestUDP(t *testing.T) {
	tests := []struct {
		name    string
		v6, gro bool
		total   int // bytes
		size    int // of each datagram
	}{
		{"one datagram", false, false, 100, 100},
		{"one datagram, IPv6", true, false, 100, 100},
		{"several, the last is shorter", false, false, 4500, 1400},
		{"several, received together", false, true, 4500, 1400},
		{"several, received together, IPv6", true, true, 4500, 1400},
		{"more than one send takes", false, true, 130000, 1400},
		{"larger than a frame", false, false, 60000, 60000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from, fromAddr := listenAny(t, tt.v6, false)
			to, toAddr := listenAny(t, tt.v6, tt.gro)
			want := make([]byte, tt.total)
			for i := range want {
				want[i] = byte(i / tt.size)
			}
			const class = 0x28
			if err := from.Write(fromAddr, toAddr, class, want, tt.size); err != nil {
				t.Fatal(err)
			}
			var got []byte
			for b := NewBatch(); len(got) < tt.total; {
				n, err := to.Read(b)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range b[:n] {
					if p.Offset < Headroom {
						t.Errorf("offset %d leaves no room for a header", p.Offset)
					}
					if p.Remote != fromAddr || p.Local.Addr() != loopback(tt.v6) || p.TrafficClass != class {
						t.Errorf("from %s to %s, class %#x", p.Remote, p.Local, p.TrafficClass)
					}
					if p.Size > tt.size {
						t.Errorf("datagrams of %d bytes, want %d", p.Size, tt.size)
					}
					got = append(got, p.Buf[p.Offset:]...)
				}
			}
			if !bytes.Equal(got, want) {
				t.Error("what came is not what was sent")
			}
		})
	}
}

func TestClose(t *testing.T) {
	c, _ := listenAny(t, false, false)
	done := make(chan error)
	go func() { done <- Each(c, func(Batch) {}) }()
	c.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Each returned %v, want net.ErrClosed", err)
	}
}

func TestIPv4HeaderLen(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
		want int
	}{
		{"no options", append([]byte{0x45}, make([]byte, 30)...), 20},
		{"options", append([]byte{0x46}, make([]byte, 30)...), 24},
		{"cut", []byte{0x45, 0, 0}, 3},
		{"longer than the packet", append([]byte{0x4f}, make([]byte, 20)...), 21},
	}
	for _, tt := range tests {
		if got := ipv4HeaderLen(tt.b); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// A second socket sends from the same port, and gets nothing of what comes there;
// nobody else can have the port.
func TestDialUDP(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		c, addr := listenAny(t, v6, false)
		c.port = addr.Port() // the kernel has chosen it
		d, err := c.DialUDP(0)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if other, err := ListenUDP(v6, addr.Port(), 0, false); err == nil {
			other.Close()
			t.Error("the port is free for others")
		}
		to, toAddr := listenAny(t, v6, false)
		b := NewBatch()
		for i := range byte(20) {
			if err := d.Write(addr, toAddr, 0, []byte{i}, 1); err != nil {
				t.Fatal(err)
			}
			if n, err := to.Read(b); err != nil || n != 1 || b[0].Remote != addr {
				t.Fatalf("%d packets from %s, %v; want one from %s", n, b[0].Remote, err, addr)
			}
			if err := to.Write(toAddr, addr, 0, []byte{i}, 1); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(b); err != nil || n != 1 || b[0].Buf[b[0].Offset] != i {
				t.Fatalf("the first socket gets %d packets, %v", n, err)
			}
		}
		if err := d.Write(addr, toAddr, 0, make([]byte, 1<<16), 1<<16); err == nil {
			t.Error("more than a packet holds is sent")
		}
	}
}
