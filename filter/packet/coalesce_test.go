package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// emitted is what a Coalescer gave out.
type emitted struct {
	pkt                                   []byte
	gsoSize, hdrLen, csumStart, csumOffst int
}

type collector struct{ out []emitted }

func (c *collector) emit(pkt []byte, gsoSize, hdrLen, csumStart, csumOffset int) {
	c.out = append(c.out, emitted{bytes.Clone(pkt), gsoSize, hdrLen, csumStart, csumOffset})
}

// cut returns the segments of a TCP packet.
func cut(t testing.TB, b []byte, limit int) [][]byte {
	t.Helper()
	var p Packet
	var s Segmenter
	if err := Parse(b, &p); err != nil {
		t.Fatal(err)
	}
	if err := s.Reset(b, &p, limit); err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for {
		dst := make([]byte, p.HeaderLen+limit)
		n, ok := s.NextPacket(dst)
		if !ok {
			return out
		}
		out = append(out, dst[:n])
	}
}

// What is cut and merged again is the packet as it was.
func TestCoalescerUndoesSegmenter(t *testing.T) {
	for _, tt := range []struct {
		name  string
		b     []byte
		limit int
	}{
		{"IPv4", ip4(TCP, nil, tcpSegment(flagACK|flagPSH, nil, pattern(5000))), 1020},
		{"IPv4 with options", ip4(TCP, nil, tcpSegment(flagACK, timestamps, pattern(64000))), 1480},
		{"IPv6", ip6(TCP, tcpSegment(flagACK|flagPSH, timestamps, pattern(5001))), 1000},
		{"an even multiple", ip6(TCP, tcpSegment(flagACK, nil, pattern(5000))), 1020},
		{"two", ip6(TCP, tcpSegment(flagACK|flagPSH, nil, pattern(101))), 120},
		{"as large as can be", ip4(TCP, nil, tcpSegment(flagACK, nil, pattern(65495))), 1020},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Coalescer
			var got collector
			for _, seg := range cut(t, tt.b, tt.limit) {
				c.Add(append(seg, 0, 0), got.emit) // with padding
			}
			c.Flush(got.emit)
			if len(got.out) != 1 {
				t.Fatalf("%d packets, want 1", len(got.out))
			}
			e := got.out[0]
			var p Packet
			if err := Parse(e.pkt, &p); err != nil {
				t.Fatal(err)
			}
			h, _ := tcpHeader(e.pkt, &p)
			if e.gsoSize != tt.limit-len(h) || e.hdrLen != p.HeaderLen+len(h) || e.csumStart != p.HeaderLen || e.csumOffst != 16 {
				t.Errorf("gsoSize %d, hdrLen %d, csumStart %d, csumOffset %d", e.gsoSize, e.hdrLen, e.csumStart, e.csumOffst)
			}
			if got, want := binary.BigEndian.Uint16(h[16:]), Fold(PseudoSum(e.pkt, &p, p.Len-p.HeaderLen)); got != want {
				t.Errorf("checksum field %04x, want the sum of the pseudo-header, %04x", got, want)
			}
			// What the kernel does with the header's fields.
			sum := ^Fold(Sum(0, e.pkt[e.csumStart:]))
			binary.BigEndian.PutUint16(e.pkt[e.csumStart+e.csumOffst:], sum)
			if !VerifyChecksum(e.pkt, &p) {
				t.Error("the checksum does not come right")
			}
			FinishChecksum(tt.b, &p)
			if !bytes.Equal(e.pkt, tt.b) {
				t.Errorf("merged %x\nwant   %x", e.pkt[:80], tt.b[:80])
			}
		})
	}
}

// segmentOf is one packet of a flow, complete.
type segmentOf struct {
	seq   uint32
	flags uint8
	data  int
	edit  func(b []byte) // before the checksums
	spoil func(b []byte) // after them
	port  uint16
}

func (s segmentOf) packet(t testing.TB, v6 bool) []byte {
	t.Helper()
	seg := tcpSegment(s.flags, timestamps, pattern(s.data))
	binary.BigEndian.PutUint32(seg[4:], s.seq)
	binary.BigEndian.PutUint16(seg[0:], 40000+s.port)
	b := ip4(TCP, nil, seg)
	if v6 {
		b = ip6(TCP, seg)
	}
	if s.edit != nil {
		s.edit(b)
	}
	var p Packet
	if err := Parse(b, &p); err != nil {
		t.Fatal(err)
	}
	FinishChecksum(b, &p)
	if p.Is4() {
		FinishHeaderChecksum(b)
	}
	if s.spoil != nil {
		s.spoil(b)
	}
	return b
}

func TestCoalescer(t *testing.T) {
	set := func(at int, v byte) func([]byte) { return func(b []byte) { b[at] = v } }
	const ack, psh = flagACK, flagACK | flagPSH
	for _, tt := range []struct {
		name string
		in   []segmentOf
		want []int // bytes of data of each packet that comes out
		only int   // 4 or 6; 0 for both
	}{
		{"one", []segmentOf{{seq: 0, flags: ack, data: 100}}, []int{100}, 0},
		{"in a row", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100}, {seq: 200, flags: ack, data: 100}}, []int{300}, 0},
		{"across the end of the sequence space", []segmentOf{{seq: ^uint32(49), flags: ack, data: 100}, {seq: 50, flags: ack, data: 100}}, []int{200}, 0},
		{"psh ends it", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: psh, data: 100}, {seq: 200, flags: ack, data: 100}}, []int{200, 100}, 0},
		{"psh alone", []segmentOf{{seq: 0, flags: psh, data: 100}, {seq: 100, flags: ack, data: 100}}, []int{100, 100}, 0},
		{"a short one ends it", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 60}, {seq: 160, flags: ack, data: 60}}, []int{160, 60}, 0},
		{"a longer one begins anew", []segmentOf{{seq: 0, flags: ack, data: 60}, {seq: 60, flags: ack, data: 100}, {seq: 160, flags: ack, data: 100}}, []int{60, 200}, 0},
		{"a gap", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 101, flags: ack, data: 100}}, []int{100, 100}, 0},
		{"twice the same", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 0, flags: ack, data: 100}}, []int{100, 100}, 0},
		{"no data", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 0}, {seq: 100, flags: ack, data: 100}}, []int{100, 0, 100}, 0},
		{"fin", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack | flagFIN, data: 100}}, []int{100, 100}, 0},
		{"syn with data", []segmentOf{{seq: 0, flags: flagSYN, data: 100}, {seq: 100, flags: ack, data: 100}}, []int{100, 100}, 0},
		{"rst", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack | flagRST, data: 100}}, []int{100, 100}, 0},
		{"congestion window reduced", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack | flagCWR, data: 100}}, []int{100, 100}, 0},
		{"other flows between", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 7, flags: ack, data: 50, port: 1}, {seq: 100, flags: ack, data: 100}, {seq: 57, flags: ack, data: 50, port: 1}}, []int{200, 100}, 0},

		{"other acknowledgement", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(20+8, 9)}}, []int{100, 100}, 4},
		{"other window", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(20+14, 9)}}, []int{100, 100}, 4},
		{"other timestamp", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(20+31, 77)}}, []int{100, 100}, 4},
		{"reserved bits", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(20+12, 0x81)}}, []int{100, 100}, 4},
		{"urgent pointer", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(20+19, 1)}}, []int{100, 100}, 4},
		{"other data offset", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(20+12, 0x70)}}, []int{100, 104}, 4},
		{"other type of service", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(1, 0)}}, []int{100, 100}, 4},
		{"other time to live", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(8, 9)}}, []int{100, 100}, 4},
		{"may be fragmented", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(6, 0)}}, []int{100, 100}, 4},
		{"reserved IPv4 flag", []segmentOf{{seq: 0, flags: ack, data: 100, edit: set(6, 0xc0)}, {seq: 100, flags: ack, data: 100, edit: set(6, 0xc0)}}, []int{100, 100}, 4},
		{"wrong header checksum", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, spoil: set(10, 9)}}, []int{100, 100}, 4},
		{"wrong checksum", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, spoil: set(60, 0x55)}}, []int{100, 100}, 4},
		{"wrong checksum first", []segmentOf{{seq: 0, flags: ack, data: 100, spoil: set(60, 0x55)}, {seq: 100, flags: ack, data: 100}}, []int{100, 100}, 4},
		{"other destination", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(19, 9+1)}}, []int{100, 100}, 4},

		{"other traffic class", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(0, 0x63)}}, []int{100, 100}, 6},
		{"other flow label", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(3, 0)}}, []int{100, 100}, 6},
		{"other hop limit", []segmentOf{{seq: 0, flags: ack, data: 100}, {seq: 100, flags: ack, data: 100, edit: set(7, 9)}}, []int{100, 100}, 6},
	} {
		for _, v := range []int{4, 6} {
			if tt.only != 0 && tt.only != v {
				continue
			}
			t.Run(fmt.Sprintf("%s/IPv%d", tt.name, v), func(t *testing.T) {
				var c Coalescer
				var got collector
				for _, s := range tt.in {
					c.Add(s.packet(t, v == 6), got.emit)
				}
				c.Flush(got.emit)
				var sizes []int
				for i, e := range got.out {
					var p Packet
					if err := Parse(e.pkt, &p); err != nil {
						t.Fatal(err)
					}
					n := p.Len - p.HeaderLen - int(e.pkt[p.HeaderLen+12]>>4)*4
					sizes = append(sizes, n)
					if merged := e.gsoSize != 0; merged != (e.gsoSize > 0 && n > e.gsoSize) {
						t.Errorf("packet %d of %d bytes has gsoSize %d", i, n, e.gsoSize)
					}
				}
				if fmt.Sprint(sizes) != fmt.Sprint(tt.want) {
					t.Errorf("packets of %d bytes, want %d", sizes, tt.want)
				}
			})
		}
	}
}

func TestCoalescerPassesOthers(t *testing.T) {
	held := segmentOf{seq: 0, flags: flagACK, data: 100}.packet(t, false)
	for _, tt := range []struct {
		name string
		b    []byte
		last bool // it flushes what is held
	}{
		{"udp", ip4(UDP, nil, udpDatagram("hello")), false},
		{"not IP", []byte{1, 2, 3}, false},
		{"empty", nil, false},
		{"tcp cut off", ip4(TCP, nil, tcpSegment(flagACK, nil, nil)[:19]), true},
		{"IPv4 options", ip4(TCP, []byte{1, 1, 1, 1}, tcpSegment(flagACK, nil, pattern(10))), true},
		{"later fragment", fragment4(ip4(TCP, nil, tcpSegment(flagACK, nil, pattern(10))), 9), true},
		{"first fragment", fragment4(ip4(TCP, nil, tcpSegment(flagACK, nil, pattern(10))), 0x2000), true},
		{"extension header", ip6(destOptions, ext(TCP, 0), tcpSegment(flagACK, nil, pattern(10))), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Coalescer
			var got collector
			c.Add(held, got.emit)
			c.Add(tt.b, got.emit)
			at := 0
			if tt.last {
				at = 1
			}
			if len(got.out) != at+1 || !bytes.Equal(got.out[at].pkt, tt.b) || got.out[at].gsoSize != 0 {
				t.Errorf("emitted %v", got.out)
			}
			c.Flush(got.emit)
			if len(got.out) != 2 || !bytes.Equal(got.out[1-at].pkt, held) {
				t.Errorf("after Flush %v", got.out)
			}
		})
	}
}

// More flows than it can hold, with losses and odd packets: each flow's bytes
// come out in the order in which they went in.
func TestCoalescerKeepsOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	var c Coalescer
	type span struct {
		seq uint32
		n   int
	}
	spans := func(b []byte) (flow uint16, s span) {
		var p Packet
		if err := Parse(b, &p); err != nil {
			t.Fatal(err)
		}
		u := b[p.HeaderLen:p.Len]
		return p.SrcPort, span{binary.BigEndian.Uint32(u[4:]), len(u) - int(u[12]>>4)*4}
	}
	join := func(list []span, s span) []span {
		if n := len(list); n > 0 && s.n > 0 && list[n-1].seq+uint32(list[n-1].n) == s.seq {
			list[n-1].n += s.n
			return list
		}
		return append(list, s)
	}
	in, out := map[uint16][]span{}, map[uint16][]span{}
	packets, emits := 0, 0
	emit := func(pkt []byte, _, _, _, _ int) {
		emits++
		flow, s := spans(pkt)
		out[flow] = join(out[flow], s)
	}
	var seq [12]uint32
	flow := 0
	for range 4000 {
		if r.IntN(4) == 0 {
			flow = r.IntN(len(seq))
		}
		s := segmentOf{seq: seq[flow], flags: flagACK, data: 100, port: uint16(flow)}
		switch r.IntN(12) {
		case 0:
			s.data = r.IntN(200)
		case 1:
			s.flags |= flagPSH
		case 2:
			s.seq += 1000
		case 3:
			s.spoil = func(b []byte) { b[len(b)-1] ^= 1 }
		}
		seq[flow] = s.seq + uint32(s.data)
		b := s.packet(t, flow > 5)
		port, sp := spans(b)
		in[port] = join(in[port], sp)
		packets++
		c.Add(b, emit)
		if r.IntN(64) == 0 {
			c.Flush(emit)
		}
	}
	c.Flush(emit)
	if fmt.Sprint(in) != fmt.Sprint(out) {
		t.Error("bytes came out in another order")
	}
	if emits*3 > packets*2 {
		t.Errorf("%d packets became %d: hardly any were merged", packets, emits)
	}
}

func TestCoalescerAllocatesNothing(t *testing.T) {
	segs := cut(t, ip4(TCP, nil, tcpSegment(flagACK, nil, pattern(60000))), 1020)
	var c Coalescer
	total := 0
	emit := func(pkt []byte, _, _, _, _ int) { total += len(pkt) }
	if n := testing.AllocsPerRun(20, func() {
		for _, s := range segs {
			c.Add(s, emit)
		}
		c.Flush(emit)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if total < 60000 {
		t.Errorf("%d bytes came out", total)
	}
}

// Packets come from the peer: whatever they are, as many bytes of TCP data
// come out as went in, in packets that parse.
func FuzzCoalescer(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b, uint8(3))
	}
	f.Add(segmentOf{flags: flagACK, data: 100}.packet(f, false), uint8(5))
	f.Fuzz(func(t *testing.T, b []byte, repeat uint8) {
		var c Coalescer
		var p Packet
		err := Parse(b, &p)
		in, out := 0, 0
		emit := func(pkt []byte, gsoSize, hdrLen, csumStart, csumOffset int) {
			if gsoSize == 0 {
				out += len(pkt)
				return
			}
			var q Packet
			if err := Parse(pkt, &q); err != nil || q.Len != len(pkt) || hdrLen <= csumStart || csumStart+csumOffset+2 > hdrLen || hdrLen >= len(pkt) {
				t.Fatalf("merged packet %+v: %v", q, err)
			}
			out += (len(pkt)-hdrLen+gsoSize-1)/gsoSize*hdrLen + len(pkt) - hdrLen
		}
		for range repeat {
			n := len(b)
			if err == nil && p.Protocol == TCP && p.HasPorts {
				n = p.Len
				if h, ok := tcpHeader(b, &p); ok {
					FinishChecksum(b, &p)
					c.Add(b, emit)
					in += n
					binary.BigEndian.PutUint32(h[4:], binary.BigEndian.Uint32(h[4:])+uint32(p.Len-p.HeaderLen-len(h)))
					continue
				}
			}
			c.Add(b, emit)
			in += n
		}
		c.Flush(emit)
		if in != out {
			t.Fatalf("%d bytes went in, %d came out", in, out)
		}
	})
}

func BenchmarkCoalescer(b *testing.B) {
	segs := cut(b, ip4(TCP, nil, tcpSegment(flagACK, timestamps, pattern(60000))), 1440)
	var c Coalescer
	emit := func([]byte, int, int, int, int) {}
	b.SetBytes(60000)
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range segs {
			c.Add(s, emit)
		}
		c.Flush(emit)
	}
}
