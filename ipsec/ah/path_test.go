package ah

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// The packet path allocates nothing, and neither does a flood of bad packets.
func TestAllocs(t *testing.T) {
	eachSuite(t, func(t *testing.T, integ ipsec.Transform, esn, outer6 bool) {
		o, in := pair(t, integ, esn, outer6, 0)
		payload := make([]byte, 1400)
		header := ipHeader(outer6, 1400+o.Overhead(1400))
		hlen := len(header)
		buf := append(make([]byte, 0, 2048), header...)
		sealAgain := func() []byte {
			ip, err := o.Seal(buf, payload, 4)
			if err != nil {
				t.Fatal(err)
			}
			o.Finish(ip, hlen)
			return ip
		}
		open := func(ip []byte, want error) {
			if _, _, err := in.Open(ip[:hlen], ip[hlen:]); err != want {
				t.Fatal(err)
			}
		}
		first := bytes.Clone(sealAgain())
		open(bytes.Clone(first), nil)
		for _, tt := range []struct {
			name string
			run  func()
		}{
			{"Seal, Finish and Open", func() { open(sealAgain(), nil) }},
			{"replay", func() { open(first, ipsec.ErrReplay) }},
			{"forgery", func() {
				ip := sealAgain()
				ip[100] ^= 1
				open(ip, ipsec.ErrIntegrity)
			}},
		} {
			// The race detector makes sync.Pool forget at random.
			if n := testing.AllocsPerRun(100, tt.run); n != 0 && !raceEnabled {
				t.Errorf("%s: %v allocations", tt.name, n)
			}
		}
	})
}

func eachBenchmark(b *testing.B, run func(b *testing.B, integ ipsec.Transform, size int)) {
	for _, tr := range ipsec.Transforms(ipsec.ProtoAH, ipsec.TypeInteg) {
		for _, size := range []int{64, 1400} {
			b.Run(fmt.Sprintf("%s/%d", tr, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				run(b, tr, size)
			})
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, integ ipsec.Transform, size int) {
		o, _ := pair(b, integ, true, false, 0)
		header := ipHeader(false, size+o.Overhead(size))
		buf := append(make([]byte, 0, 2048), header...)
		at := len(buf) + o.HeaderLen()
		for b.Loop() {
			ip, err := o.Seal(buf, buf[at:at+size], 4)
			if err != nil {
				b.Fatal(err)
			}
			o.Finish(ip, len(header))
		}
	})
}

// BenchmarkOpen is of what a packet costs without its replay window, and
// includes the copy that brings the ICV back.
func BenchmarkOpen(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, integ ipsec.Transform, size int) {
		o, _ := pair(b, integ, true, false, 0)
		sealed, hlen := seal(b, o, false, string(make([]byte, size)))
		s, err := newSuite(params(b, integ, true, false, 1))
		if err != nil {
			b.Fatal(err)
		}
		ip := make([]byte, len(sealed))
		for b.Loop() {
			copy(ip, sealed)
			if _, _, err := s.Open(ip[:hlen], ip[hlen:], 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Anybody can send to an inbound SA: no bytes make Open panic, and none but
// those that were sealed, mutable fields aside, move the window or yield a
// payload.
func FuzzOpen(f *testing.F) {
	type sa struct {
		params func(t testing.TB) ipsec.Params
		ip     []byte
		hlen   int
	}
	var sas []sa
	for _, tr := range ipsec.Transforms(ipsec.ProtoAH, ipsec.TypeInteg) {
		for _, esn := range []bool{false, true} {
			for _, outer6 := range []bool{false, true} {
				key := byte(len(sas)) // none opens what another one sealed
				o, err := NewOutbound(params(f, tr, esn, outer6, key))
				if err != nil {
					f.Fatal(err)
				}
				ip, hlen := seal(f, o, outer6, "payload")
				f.Add(uint8(len(sas)), ip[:hlen], ip[hlen:])
				f.Add(uint8(len(sas)), append(bytes.Clone(ip[:hlen]), 0x94, 4, 0, 0), ip[hlen:])
				f.Add(uint8(len(sas)), ip[:hlen], append(bytes.Clone(ip[hlen:]), 0, 0, 0, 0))
				f.Add(uint8(len(sas)), ip[:hlen], ip[hlen:hlen+12])
				f.Add(uint8(len(sas)), unhex(f, with(head6, "2b")+"3c04000200000000"+first+second+"2c00010400000000"+"3300000012345678"), ip[hlen:])
				f.Add(uint8(len(sas)), unhex(f, "48ff00641234400040330000c0000201c0000202"+"01830b04c0000264c0000265"), ip[hlen:])
				sas = append(sas, sa{func(t testing.TB) ipsec.Params { return params(t, tr, esn, outer6, key) }, ip, hlen})
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, header, pkt []byte) {
		sa := sas[int(which)%len(sas)]
		in, err := NewInbound(sa.params(t))
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(header)
		payload, _, err := in.Open(header, bytes.Clone(pkt))
		if !bytes.Equal(header, before) {
			t.Errorf("the header is now %x", header)
		}
		covered, ok := appendCovered(nil, header, false)
		want, _ := appendCovered(nil, sa.ip[:sa.hlen], false)
		genuine := ok && bytes.Equal(covered, want) && bytes.Equal(pkt, sa.ip[sa.hlen:])
		c := in.Counters()
		switch {
		case genuine:
			if err != nil || string(payload) != "payload" {
				t.Errorf("genuine packet: %q, %v", payload, err)
			}
		case err != ipsec.ErrReplay && err != ipsec.ErrIntegrity && err != ipsec.ErrMalformed:
			t.Errorf("opened to %q, %v", payload, err)
		case c.Packets != 0 || c.Replayed+c.Forged+c.Malformed != 1:
			t.Errorf("counters %+v", c)
		}
		// The window is where it was: the first packet is new, once.
		ip := bytes.Clone(sa.ip)
		if _, _, err := in.Open(ip[:sa.hlen], ip[sa.hlen:]); (err == ipsec.ErrReplay) != genuine || err != nil && !genuine {
			t.Errorf("the genuine packet then: %v", err)
		}
		// Nor do they make Finish panic, where there is an AH at all.
		if o, err := NewOutbound(sa.params(t)); err != nil {
			t.Fatal(err)
		} else if len(pkt) >= o.HeaderLen() {
			o.Finish(append(bytes.Clone(header), pkt...), len(header))
		}
	})
}
