package esp

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// forget makes an inbound SA take the same packet again.
func forget(in *Inbound) {
	clear(in.window.ring)
	in.window.top = 0
}

// The packet path allocates nothing, and neither does a flood of bad packets.
func TestAllocs(t *testing.T) {
	eachSuite(t, func(t *testing.T, encr, integ ipsec.Transform, esn bool) {
		o, in := pair(t, encr, integ, esn)
		buf := make([]byte, 0, 2048)
		payload := make([]byte, 1400)
		sealed := seal(t, o, string(payload))
		pkt := make([]byte, len(sealed))
		for _, tt := range []struct {
			name string
			run  func()
		}{
			{"Seal", func() {
				if _, err := o.Seal(buf, payload, 4); err != nil {
					t.Fatal(err)
				}
			}},
			{"Seal in place", func() {
				at := o.HeaderLen()
				if _, err := o.Seal(buf, buf[at:at+1400], 4); err != nil {
					t.Fatal(err)
				}
			}},
			{"Open", func() {
				forget(in)
				copy(pkt, sealed)
				if _, _, err := in.Open(pkt); err != nil {
					t.Fatal(err)
				}
			}},
			{"replay", func() {
				if _, _, err := in.Open(pkt); err != ErrReplay {
					t.Fatal(err)
				}
			}},
			{"forgery", func() {
				forget(in)
				copy(pkt, sealed)
				pkt[100] ^= 1
				if _, _, err := in.Open(pkt); err != ErrIntegrity {
					t.Fatal(err)
				}
			}},
		} {
			// The race detector makes sync.Pool forget at random.
			if n := testing.AllocsPerRun(100, tt.run); n != 0 && !raceEnabled {
				t.Errorf("%s: %v allocations", tt.name, n)
			}
		}
	})
}

func eachBenchmark(b *testing.B, run func(b *testing.B, o *Outbound, in *Inbound, size int)) {
	for _, s := range suites {
		for _, size := range []int{64, 1400} {
			b.Run(fmt.Sprintf("%s/%d", s.name, size), func(b *testing.B) {
				o, in := pair(b, s.encr, s.integ, true)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				run(b, o, in, size)
			})
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, o *Outbound, _ *Inbound, size int) {
		buf := make([]byte, 0, 2048)
		at := o.HeaderLen()
		for b.Loop() {
			if _, err := o.Seal(buf, buf[at:at+size], 4); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen includes the copy that brings the ciphertext back.
func BenchmarkOpen(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, o *Outbound, in *Inbound, size int) {
		sealed := seal(b, o, string(make([]byte, size)))
		pkt := make([]byte, len(sealed))
		for b.Loop() {
			forget(in)
			copy(pkt, sealed)
			if _, _, err := in.Open(pkt); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Anybody can send to an inbound SA: no bytes make Open panic, and none but
// those that were sealed move the window or yield a payload.
func FuzzOpen(f *testing.F) {
	type sa struct {
		in     *Inbound
		sealed []byte
	}
	var sas []sa
	for _, s := range suites {
		for _, esn := range []bool{false, true} {
			o, in := pair(f, s.encr, s.integ, esn)
			sealed := seal(f, o, "payload")
			f.Add(uint8(len(sas)), sealed)
			f.Add(uint8(len(sas)), sealed[:len(sealed)-4])
			f.Add(uint8(len(sas)), append(bytes.Clone(sealed), 0, 0, 0, 0))
			f.Add(uint8(len(sas)), sealed[:8])
			sas = append(sas, sa{in, sealed})
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, pkt []byte) {
		sa := sas[int(which)%len(sas)]
		forget(sa.in)
		genuine := bytes.Equal(pkt, sa.sealed)
		before := sa.in.Counters()
		payload, _, err := sa.in.Open(bytes.Clone(pkt))
		after := sa.in.Counters()
		switch {
		case genuine:
			if err != nil || string(payload) != "payload" || sa.in.window.top != 1 {
				t.Errorf("genuine packet: %q, %v, window at %d", payload, err, sa.in.window.top)
			}
		case err != ErrReplay && err != ErrIntegrity && err != ErrMalformed:
			t.Errorf("opened to %q, %v", payload, err)
		case sa.in.window.top != 0 || after.Packets != before.Packets:
			t.Errorf("window at %d after %v", sa.in.window.top, err)
		case after.Replayed+after.Forged+after.Malformed != before.Replayed+before.Forged+before.Malformed+1:
			t.Errorf("not counted: %+v", after)
		}
	})
}
