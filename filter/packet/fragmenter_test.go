package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// options4 puts options, of a multiple of 4 bytes, into an IPv4 packet.
func options4(b, opts []byte) []byte {
	out := append(append(bytes.Clone(b[:IPv4HeaderLen]), opts...), b[IPv4HeaderLen:]...)
	out[0] = 0x40 | byte(5+len(opts)/4)
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	FinishHeaderChecksum(out)
	return out
}

// datagram makes a UDP packet of IPv4 or IPv6 with n bytes of data.
func datagram(v6 bool, n int) []byte {
	u := binary.BigEndian.AppendUint16([]byte{0x9c, 0x40, 0, 53}, uint16(8+n))
	u = append(u, 0, 0)
	for i := range n {
		u = append(u, byte(i*7>>3))
	}
	if v6 {
		return append(AppendIPv6Header(nil, addr6a, addr6b, UDP, 0x28, 9, len(u)), u...)
	}
	b := append(AppendIPv4Header(nil, addr4a, addr4b, UDP, 0x28, 9, len(u), false), u...)
	return b
}

// joined puts fragments together, and looks at what each must be.
func joined(t *testing.T, f *Fragmenter, mtu int) (data []byte, first []byte, n int) {
	t.Helper()
	dst := make([]byte, 1<<16+40)
	end, more := 0, true
	for {
		size, ok := f.Next(dst)
		if !ok {
			break
		}
		b := dst[:size]
		var p Packet
		if err := Parse(b, &p); err != nil {
			t.Fatalf("fragment %d: %v: %x", n, err, b[:min(size, 64)])
		}
		if size > mtu || p.Len != size {
			t.Errorf("fragment %d has %d bytes, and says %d; the MTU is %d", n, size, p.Len, mtu)
		}
		if p.Is4() && Fold(Sum(0, b[:p.HeaderLen])) != 0xffff {
			t.Errorf("fragment %d has a wrong checksum", n)
		}
		if !more {
			t.Errorf("fragment %d comes after the last", n)
		}
		if int(p.FragmentOffset) != end {
			t.Errorf("fragment %d is at %d, want %d", n, p.FragmentOffset, end)
		}
		if n == 0 {
			first = bytes.Clone(b)
		}
		head := p.HeaderLen
		if p.FragmentOffset == 0 {
			head, _ = EnRoute(b, &p)
		}
		data = append(data, b[head:]...)
		end += size - head
		more = p.MoreFragments
		n++
	}
	if more && n > 1 {
		t.Error("the last fragment says that there are more")
	}
	return data, first, n
}

func TestFragmenter(t *testing.T) {
	hop := []byte{UDP, 0, 1, 4, 0, 0, 0, 0}
	dest := []byte{UDP, 0, 1, 4, 0, 0, 0, 0}
	extended := func(kind byte, header []byte, n int) []byte {
		b := datagram(true, n)
		out := append(append(bytes.Clone(b[:40]), header...), b[40:]...)
		out[6] = kind
		binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
		return out
	}
	for _, tt := range []struct {
		name string
		b    []byte
		mtu  int
		head int // bytes that each fragment repeats, without a fragment header
		n    int
	}{
		{"fits", datagram(false, 1472), 1500, 20, 1},
		{"a byte too long", datagram(false, 1473), 1500, 20, 2},
		{"IPv4", datagram(false, 65507), 1400, 20, 48},
		{"the least", datagram(false, 24), 28, 20, 4},
		{"IPv4 with options", options4(datagram(false, 4000), []byte{7, 7, 4, 0, 0, 0, 0, 1}), 1500, 28, 3},
		{"IPv6 fits", datagram(true, 1452), 1500, 40, 1},
		{"IPv6", datagram(true, 1453), 1500, 40, 2},
		{"IPv6, the longest", datagram(true, 65527), 1280, 40, 54},
		{"IPv6 with hop-by-hop options", extended(0, hop, 3000), 1500, 48, 3},
		{"IPv6 with options of the destination", extended(60, dest, 3000), 1500, 40, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Packet
			if err := Parse(tt.b, &p); err != nil {
				t.Fatal(err)
			}
			var f Fragmenter
			if err := f.Reset(tt.b, &p, tt.mtu, 0x12345678); err != nil {
				t.Fatal(err)
			}
			data, first, n := joined(t, &f, tt.mtu)
			if n != tt.n {
				t.Errorf("%d fragments, want %d", n, tt.n)
			}
			if n == 1 {
				if !bytes.Equal(first, tt.b) {
					t.Error("a packet that fits was changed")
				}
				return
			}
			if !p.Is4() { // the data that were joined begin with the first fragment's header
				var q Packet
				Parse(first, &q)
				if q.Protocol != UDP || !q.HasPorts {
					t.Errorf("the first fragment is of protocol %d", q.Protocol)
				}
			}
			want := tt.b[tt.head:]
			if !bytes.Equal(data, want) {
				t.Errorf("%d bytes are carried, or others, want %d", len(data), len(want))
			}
		})
	}
}

// Options without the copied flag are in the first fragment alone (RFC 791).
func TestFragmenterOptions(t *testing.T) {
	opts := []byte{0x07, 3, 4, 0x94, 4, 0, 0, 0} // record route, router alert
	b := options4(datagram(false, 100), opts)
	var p Packet
	if err := Parse(b, &p); err != nil {
		t.Fatal(err)
	}
	var f Fragmenter
	if err := f.Reset(b, &p, 100, 1); err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]byte{opts, {1, 1, 1, 0x94, 4, 0, 0, 0}} {
		dst := make([]byte, 100)
		if _, ok := f.Next(dst); !ok || !bytes.Equal(dst[20:28], want) {
			t.Errorf("fragment %d has the options %x, want %x", i, dst[20:28], want)
		}
	}
}

// A fragment is fragmented further, with its own identification.
func TestFragmenterOfFragment(t *testing.T) {
	b := datagram(false, 992)
	binary.BigEndian.PutUint16(b[4:], 0xabcd)
	binary.BigEndian.PutUint16(b[6:], 0x2000|125) // from byte 1000 on, and more follow
	FinishHeaderChecksum(b)
	var p Packet
	if err := Parse(b, &p); err != nil {
		t.Fatal(err)
	}
	var f Fragmenter
	if err := f.Reset(b, &p, 520, 1); err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 520)
	for i, offset := range []uint16{1000, 1496} {
		n, ok := f.Next(dst)
		if !ok {
			t.Fatal("too few fragments")
		}
		if err := Parse(dst[:n], &p); err != nil {
			t.Fatal(err)
		}
		if p.FragmentOffset != offset || !p.MoreFragments || binary.BigEndian.Uint16(dst[4:]) != 0xabcd {
			t.Errorf("fragment %d is at %d, identification %x", i, p.FragmentOffset, dst[4:6])
		}
	}
}

func TestFragmenterRefuses(t *testing.T) {
	v6 := datagram(true, 3000)
	atomic := append(append(bytes.Clone(v6[:40]), UDP, 0, 0, 0, 0, 0, 0, 1), v6[40:]...)
	atomic[6] = fragment
	binary.BigEndian.PutUint16(atomic[4:], uint16(len(atomic)-40))
	for _, tt := range []struct {
		name string
		b    []byte
		mtu  int
		want error
	}{
		{"no room", datagram(false, 100), 27, ErrNoRoom},
		{"no room in IPv6", v6, 55, ErrNoRoom},
		{"a fragment header", atomic, 1280, ErrFragment},
	} {
		var p Packet
		if err := Parse(tt.b, &p); err != nil {
			t.Fatal(err)
		}
		var f Fragmenter
		if err := f.Reset(tt.b, &p, tt.mtu, 1); err != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if _, ok := f.Next(make([]byte, 100)); ok {
			t.Errorf("%s: there are fragments all the same", tt.name)
		}
	}
}

func FuzzFragmenter(f *testing.F) {
	f.Add(datagram(false, 3000), 1500)
	f.Add(datagram(true, 3000), 1280)
	f.Fuzz(func(t *testing.T, b []byte, mtu int) {
		var p Packet
		if Parse(b, &p) != nil || mtu < 0 || mtu > 70000 {
			return
		}
		var x Fragmenter
		if x.Reset(b, &p, mtu, 7) != nil {
			return
		}
		dst, total := make([]byte, max(mtu, p.Len)+8), 0
		for {
			n, ok := x.Next(dst)
			if !ok {
				break
			}
			if n > max(mtu, 0) && p.Len > mtu {
				t.Fatalf("a fragment of %d bytes for an MTU of %d", n, mtu)
			}
			var q Packet
			if err := Parse(dst[:n], &q); err != nil && err != ErrTruncated {
				t.Fatalf("a fragment: %v: %x", err, dst[:n])
			}
			total += n
		}
		if total < p.Len && p.Len > 0 && !(p.HeaderLen >= p.Len) {
			t.Fatalf("%d bytes of %d", total, p.Len)
		}
	})
}
