package foreign

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Every comparison must say yes or no only if it is so whatever the unknown
// bits are, and maybe only if it may be both.
func TestComparisonsAgainstBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	small := func() []byte { return []byte{byte(r.IntN(4)) << 6, byte(r.IntN(4))} }
	for range 3000 {
		b, known := small(), []byte{0xff, 0xff}
		unknown := []byte{byte(r.IntN(4)) << 6, byte(r.IntN(4))}
		for i := range known {
			known[i] &^= unknown[i]
		}
		first, last := small(), small()
		if bytes.Compare(first, last) > 0 {
			first, last = last, first
		}
		tests := []struct {
			name string
			got  truth
			is   func(b []byte) bool
		}{
			{"equal", equal(b, known, first), func(b []byte) bool { return bytes.Equal(b, first) }},
			{"less", less(b, known, first), func(b []byte) bool { return bytes.Compare(b, first) < 0 }},
			{"in range", inRange(b, known, first, last), func(b []byte) bool {
				return bytes.Compare(first, b) <= 0 && bytes.Compare(b, last) <= 0
			}},
		}
		for _, tt := range tests {
			can := map[bool]bool{}
			for n := range 16 {
				x := []byte{byte(n >> 2 << 6), byte(n & 3)}
				if (x[0]^b[0])&known[0] == 0 && (x[1]^b[1])&known[1] == 0 {
					can[tt.is(x)] = true
				}
			}
			switch {
			case tt.got == yes && can[false], tt.got == no && can[true]:
				t.Fatalf("%x, known %x, %s %x-%x: %d, but it can be %v", b, known, tt.name, first, last, tt.got, can)
			case tt.got == maybe && tt.name != "in range" && len(can) == 1:
				t.Fatalf("%x, known %x, %s %x-%x: unsure, but it can only be %v", b, known, tt.name, first, last, can)
			}
		}
	}
}
