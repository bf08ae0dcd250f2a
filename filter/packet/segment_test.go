package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// pattern is n bytes that differ from place to place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

var timestamps = []byte{1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8}

// checkSegment checks one segment of a packet as far as it must agree with
// the whole, and returns its data.
func checkSegment(t *testing.T, whole, seg []byte, limit, pos int, n uint16) []byte {
	t.Helper()
	var w, p Packet
	if err := Parse(whole, &w); err != nil {
		t.Fatal(err)
	}
	if err := Parse(seg, &p); err != nil {
		t.Fatal(err)
	}
	if p.Len != len(seg) || p.Len-p.HeaderLen > limit || p.Len-p.HeaderLen < 20 {
		t.Fatalf("segment %d is of %d bytes behind a header of %d, limit %d", n, p.Len, p.HeaderLen, limit)
	}
	if !VerifyChecksum(seg, &p) {
		t.Errorf("segment %d has a wrong checksum", n)
	}
	if p.Is4() {
		if Fold(Sum(0, seg[:p.HeaderLen])) != 0xffff {
			t.Errorf("segment %d has a wrong header checksum", n)
		}
		if got, want := binary.BigEndian.Uint16(seg[4:]), binary.BigEndian.Uint16(whole[4:])+n; got != want {
			t.Errorf("segment %d has identification %d, want %d", n, got, want)
		}
	}
	u, wu := seg[p.HeaderLen:], whole[w.HeaderLen:w.Len]
	if got, want := binary.BigEndian.Uint32(u[4:]), binary.BigEndian.Uint32(wu[4:])+uint32(pos); got != want {
		t.Errorf("segment %d has sequence number %d, want %d", n, got, want)
	}
	p.Len = w.Len
	if p != w {
		t.Errorf("segment %d parses to %+v, the packet to %+v", n, p, w)
	}
	hlen := int(wu[12]>>4) * 4
	if !bytes.Equal(u[8:13], wu[8:13]) || !bytes.Equal(u[14:16], wu[14:16]) || !bytes.Equal(u[20:hlen], wu[20:hlen]) {
		t.Errorf("segment %d has header %x, the packet %x", n, u[:hlen], wu[:hlen])
	}
	return u[hlen:]
}

func TestSegmenter(t *testing.T) {
	const all = flagACK | flagPSH | flagFIN | flagCWR
	for _, tt := range []struct {
		name  string
		b     []byte
		limit int
		flags []uint8 // of each segment
	}{
		{"three", ip4(TCP, nil, tcpSegment(all, nil, pattern(250))), 120, []uint8{flagACK | flagCWR, flagACK, flagACK | flagPSH | flagFIN}},
		{"even multiple", ip4(TCP, nil, tcpSegment(all, nil, pattern(200))), 120, []uint8{flagACK | flagCWR, flagACK | flagPSH | flagFIN}},
		{"fits", ip4(TCP, nil, tcpSegment(all, nil, pattern(100))), 120, []uint8{all}},
		{"one byte more", ip4(TCP, nil, tcpSegment(all, nil, pattern(101))), 120, []uint8{flagACK | flagCWR, flagACK | flagPSH | flagFIN}},
		{"no data", ip4(TCP, nil, tcpSegment(flagACK, nil, nil)), 120, []uint8{flagACK}},
		{"no data and no room for any", ip4(TCP, nil, tcpSegment(flagACK, nil, nil)), 20, []uint8{flagACK}},
		{"syn fits", ip4(TCP, nil, tcpSegment(flagSYN, []byte{2, 4, 5, 0xb4}, nil)), 120, []uint8{flagSYN}},
		{"options", ip4(TCP, []byte{1, 7, 3, 4}, tcpSegment(flagACK|flagPSH, timestamps, pattern(150))), 132, []uint8{flagACK, flagACK | flagPSH}},
		{"one byte each", ip4(TCP, nil, tcpSegment(flagACK, nil, pattern(3))), 21, []uint8{flagACK, flagACK, flagACK}},
		{"IPv6", ip6(TCP, tcpSegment(all, timestamps, pattern(250))), 132, []uint8{flagACK | flagCWR, flagACK, flagACK | flagPSH | flagFIN}},
		{"IPv6 with extension headers", ip6(hopByHop, ext(destOptions, 0), ext(TCP, 1), tcpSegment(flagACK, nil, pattern(150))), 120, []uint8{flagACK, flagACK}},
		{"padding", append(ip6(TCP, tcpSegment(flagACK, nil, pattern(150))), 1, 2, 3), 120, []uint8{flagACK, flagACK}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Packet
			if err := Parse(tt.b, &p); err != nil {
				t.Fatal(err)
			}
			before := bytes.Clone(tt.b)
			var s Segmenter
			if err := s.Reset(tt.b, &p, tt.limit); err != nil {
				t.Fatal(err)
			}
			dst := make([]byte, p.HeaderLen+tt.limit)
			var data []byte
			var packets [][]byte
			for i, flags := range tt.flags {
				n, ok := s.NextPacket(dst)
				if !ok {
					t.Fatalf("%d segments, want %d", i, len(tt.flags))
				}
				data = append(data, checkSegment(t, tt.b, dst[:n], tt.limit, len(data), uint16(i))...)
				if got := dst[p.HeaderLen+13]; got != flags {
					t.Errorf("segment %d has flags %08b, want %08b", i, got, flags)
				}
				packets = append(packets, bytes.Clone(dst[:n]))
			}
			if n, ok := s.NextPacket(dst); ok || n != 0 {
				t.Errorf("another segment, of %d bytes", n)
			}
			h, _ := tcpHeader(tt.b, &p)
			if want := tt.b[p.HeaderLen+len(h) : p.Len]; !bytes.Equal(data, want) {
				t.Errorf("segments hold %d bytes %x, want %d bytes %x", len(data), data, len(want), want)
			}
			if !bytes.Equal(tt.b, before) {
				t.Error("the packet itself has changed")
			}
			// Next gives the same without the IP header.
			if err := s.Reset(tt.b, &p, tt.limit); err != nil {
				t.Fatal(err)
			}
			for i, want := range packets {
				if n, ok := s.Next(dst[:tt.limit]); !ok || !bytes.Equal(dst[:n], want[p.HeaderLen:]) {
					t.Errorf("Next gives %x, NextPacket %x", dst[:n], want[p.HeaderLen:])
				} else if i == len(packets)-1 {
					if _, ok := s.Next(dst); ok {
						t.Error("another segment from Next")
					}
				}
			}
		})
	}
}

func TestSegmenterUrgent(t *testing.T) {
	seg := tcpSegment(flagACK|flagURG, nil, pattern(300))
	binary.BigEndian.PutUint16(seg[18:], 150)
	b := ip4(TCP, nil, seg)
	var p Packet
	if err := Parse(b, &p); err != nil {
		t.Fatal(err)
	}
	var s Segmenter
	if err := s.Reset(b, &p, 120); err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 120)
	for i, want := range []uint16{150, 50, 0} {
		if _, ok := s.Next(dst); !ok {
			t.Fatal("no segment")
		}
		if got, urg := binary.BigEndian.Uint16(dst[18:]), dst[13]&flagURG != 0; got != want || urg != (want != 0) {
			t.Errorf("segment %d: urgent pointer %d, flag %v; want %d", i, got, urg, want)
		}
	}
}

func TestSegmenterErrors(t *testing.T) {
	badOffset := tcpSegment(flagACK, nil, pattern(300))
	badOffset[12] = 0x40
	pastEnd := tcpSegment(flagACK, nil, nil)
	pastEnd[12] = 0x60
	for _, tt := range []struct {
		name  string
		b     []byte
		limit int
		want  error
	}{
		{"udp", ip4(UDP, nil, udpDatagram("hello")), 1000, ErrNotTCP},
		{"first fragment", fragment4(ip4(TCP, nil, tcpSegment(flagACK, nil, pattern(300))), 0x2000), 100, ErrNotTCP},
		{"later fragment", fragment4(ip4(TCP, nil, tcpSegment(flagACK, nil, pattern(300))), 1), 100, ErrNotTCP},
		{"header cut off", ip4(TCP, nil, tcpSegment(flagACK, nil, nil)[:19]), 100, ErrNotTCP},
		{"header too short", ip4(TCP, nil, badOffset), 100, ErrNotTCP},
		{"header longer than the packet", ip4(TCP, nil, pastEnd), 100, ErrNotTCP},
		{"no room", ip4(TCP, nil, tcpSegment(flagACK, nil, pattern(1))), 20, ErrSegment},
		{"less than no room", ip4(TCP, nil, tcpSegment(flagACK, nil, pattern(1))), -5, ErrSegment},
		{"large syn", ip4(TCP, nil, tcpSegment(flagSYN, nil, pattern(300))), 100, ErrNoCutTCP},
		{"large rst", ip6(TCP, tcpSegment(flagRST, nil, pattern(300))), 100, ErrNoCutTCP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Packet
			if err := Parse(tt.b, &p); err != nil {
				t.Fatal(err)
			}
			var s Segmenter
			if err := s.Reset(tt.b, &p, tt.limit); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if _, ok := s.Next(make([]byte, 2000)); ok {
				t.Error("a segment after an error")
			}
		})
	}
	if _, ok := new(Segmenter).NextPacket(nil); ok {
		t.Error("a segment of nothing")
	}
}

// Segments of whatever the stack hands over fit, verify, and hold the data.
func FuzzSegmenter(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b, uint16(60))
	}
	f.Add(ip6(TCP, tcpSegment(flagACK|flagURG, timestamps, pattern(3000))), uint16(1000))
	f.Fuzz(func(t *testing.T, b []byte, limit uint16) {
		var p Packet
		var s Segmenter
		if Parse(b, &p) != nil || s.Reset(b, &p, int(limit)) != nil {
			return
		}
		h, _ := tcpHeader(b, &p)
		want := b[p.HeaderLen+len(h) : p.Len]
		bound := max(int(limit), len(h))
		dst := make([]byte, p.HeaderLen+bound)
		pos := 0
		for i := uint16(0); ; i++ {
			n, ok := s.NextPacket(dst)
			if !ok {
				break
			}
			data := checkSegment(t, b, dst[:n], bound, pos, i)
			if !bytes.HasPrefix(want[pos:], data) {
				t.Fatalf("segment %d holds other data", i)
			}
			pos += len(data)
		}
		if pos != len(want) {
			t.Fatalf("segments hold %d bytes of %d", pos, len(want))
		}
	})
}

func BenchmarkSegmenter(b *testing.B) {
	pkt := ip4(TCP, nil, tcpSegment(flagACK|flagPSH, timestamps, pattern(64000)))
	var p Packet
	if err := Parse(pkt, &p); err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 1500)
	b.SetBytes(int64(len(pkt)))
	b.ReportAllocs()
	var s Segmenter
	for b.Loop() {
		if err := s.Reset(pkt, &p, 1440); err != nil {
			b.Fatal(err)
		}
		for {
			if _, ok := s.NextPacket(dst); !ok {
				break
			}
		}
	}
}

func TestSegmenterAllocatesNothing(t *testing.T) {
	pkt := ip6(TCP, tcpSegment(flagACK|flagPSH, timestamps, pattern(30000)))
	dst := make([]byte, 1500)
	var s Segmenter
	if n := testing.AllocsPerRun(10, func() {
		var p Packet
		if Parse(pkt, &p) != nil || s.Reset(pkt, &p, 1440) != nil {
			t.Error("packet refused")
		}
		for {
			if _, ok := s.NextPacket(dst); !ok {
				break
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
