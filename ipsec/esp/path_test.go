package esp

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// The packet path allocates nothing, and neither does a flood of bad packets.
func TestAllocs(t *testing.T) {
	eachSuite(t, func(t *testing.T, encr, integ ipsec.Transform, esn bool) {
		o, in := pair(t, encr, integ, esn)
		buf := make([]byte, 0, 2048)
		payload := make([]byte, 1400)
		pkt := make([]byte, 2048)
		sealAgain := func() []byte {
			sealed, err := o.Seal(buf, payload, 4)
			if err != nil {
				t.Fatal(err)
			}
			return pkt[:copy(pkt, sealed)]
		}
		open := func(pkt []byte, want error) {
			if _, _, err := in.Open(nil, pkt); err != want {
				t.Fatal(err)
			}
		}
		old := bytes.Clone(sealAgain())
		open(bytes.Clone(old), nil)
		for _, tt := range []struct {
			name string
			run  func()
		}{
			{"Seal in place", func() {
				at := o.HeaderLen()
				if _, err := o.Seal(buf, buf[at:at+1400], 4); err != nil {
					t.Fatal(err)
				}
			}},
			{"Seal and Open", func() { open(sealAgain(), nil) }},
			{"replay", func() { open(old, ipsec.ErrReplay) }},
			{"forgery", func() {
				pkt := sealAgain()
				pkt[100] ^= 1
				open(pkt, ipsec.ErrIntegrity)
			}},
		} {
			// The race detector makes sync.Pool forget at random.
			if n := testing.AllocsPerRun(100, tt.run); n != 0 && !raceEnabled {
				t.Errorf("%s: %v allocations", tt.name, n)
			}
		}
	})
}

func eachBenchmark(b *testing.B, run func(b *testing.B, encr, integ ipsec.Transform, size int)) {
	for _, s := range suites {
		for _, size := range []int{64, 1400} {
			b.Run(fmt.Sprintf("%s/%d", s.name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				run(b, s.encr, s.integ, size)
			})
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, encr, integ ipsec.Transform, size int) {
		o, _ := pair(b, encr, integ, true)
		buf := make([]byte, 0, 2048)
		at := o.HeaderLen()
		for b.Loop() {
			if _, err := o.Seal(buf, buf[at:at+size], 4); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen is of what a packet costs without its replay window, and
// includes the copy that brings the ciphertext back.
func BenchmarkOpen(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, encr, integ ipsec.Transform, size int) {
		o, _ := pair(b, encr, integ, true)
		sealed := seal(b, o, string(make([]byte, size)))
		s, err := newSuite(params(b, encr, integ, true, 1))
		if err != nil {
			b.Fatal(err)
		}
		pkt := make([]byte, len(sealed))
		for b.Loop() {
			copy(pkt, sealed)
			if _, _, err := s.Open(nil, pkt, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Anybody can send to an inbound SA: no bytes make Open panic, and none but
// those that were sealed move the window or yield a payload.
func FuzzOpen(f *testing.F) {
	type sa struct {
		params func(t testing.TB) ipsec.Params
		sealed []byte
	}
	var sas []sa
	for _, s := range suites {
		for _, esn := range []bool{false, true} {
			o, _ := pair(f, s.encr, s.integ, esn)
			sealed := seal(f, o, "payload")
			f.Add(uint8(len(sas)), sealed)
			f.Add(uint8(len(sas)), sealed[:len(sealed)-4])
			f.Add(uint8(len(sas)), append(bytes.Clone(sealed), 0, 0, 0, 0))
			f.Add(uint8(len(sas)), sealed[:8])
			sas = append(sas, sa{func(t testing.TB) ipsec.Params { return params(t, s.encr, s.integ, esn, 1) }, sealed})
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, pkt []byte) {
		sa := sas[int(which)%len(sas)]
		in, err := NewInbound(sa.params(t))
		if err != nil {
			t.Fatal(err)
		}
		genuine := bytes.Equal(pkt, sa.sealed)
		payload, _, err := in.Open(nil, bytes.Clone(pkt))
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
		if _, _, err := in.Open(nil, bytes.Clone(sa.sealed)); (err == ipsec.ErrReplay) != genuine || err != nil && !genuine {
			t.Errorf("the genuine packet then: %v", err)
		}
	})
}
