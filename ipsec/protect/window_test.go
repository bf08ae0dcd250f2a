package protect

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestWindow(t *testing.T) {
	type step struct {
		seq  uint64
		want bool
	}
	tests := []struct {
		name  string
		size  int
		steps []step
	}{
		{"zero is never sent", 64, []step{{0, false}, {1, true}, {0, false}}},
		{"in order", 64, []step{{1, true}, {2, true}, {3, true}}},
		{"again", 64, []step{{1, true}, {1, false}, {2, true}, {2, false}, {1, false}}},
		{"out of order", 64, []step{{5, true}, {3, true}, {4, true}, {3, false}, {1, true}, {5, false}}},
		{"oldest that counts", 64, []step{{100, true}, {37, true}, {36, false}}},
		{"size of no whole block", 100, []step{{200, true}, {101, true}, {100, false}}},
		{"smaller than a block", 32, []step{{64, true}, {33, true}, {32, false}}},
		{"jump within the ring", 128, []step{{1, true}, {130, true}, {2, false}, {3, true}, {130, false}}},
		{"jump around the ring", 64, []step{{1, true}, {64, true}, {1 << 20, true}, {1<<20 - 1, true}, {1<<20 - 63, true}, {1<<20 - 64, false}}},
		{"block that is used again", 64, []step{{63, true}, {128 + 63, true}, {128 + 62, true}, {128 + 63, false}}},
		{"last numbers of 64 bits", 64, []step{{math.MaxUint64 - 1, true}, {math.MaxUint64, true}, {math.MaxUint64, false}, {math.MaxUint64 - 63, true}, {math.MaxUint64 - 64, false}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWindow(tt.size)
			for i, s := range tt.steps {
				if got := w.fresh(s.seq); got != s.want {
					t.Errorf("step %d: fresh(%d) = %v", i, s.seq, got)
				}
				if got := w.accept(s.seq); got != s.want {
					t.Errorf("step %d: accept(%d) = %v", i, s.seq, got)
				}
			}
		})
	}
}

// A window does what a set of all numbers ever received would do.
func TestWindowModel(t *testing.T) {
	for _, size := range []int{32, 63, 64, 65, 100, 128, 1000, 1024} {
		r := rand.New(rand.NewPCG(1, uint64(size)))
		for _, start := range []uint64{0, 1<<32 - 500, math.MaxUint64 - 20000} {
			w := newWindow(size)
			if start > 0 {
				w.accept(start)
			}
			seen, top := map[uint64]bool{start: true}, start
			for range 5000 {
				seq := top - min(top, r.Uint64N(uint64(size)+10))
				switch r.IntN(50) {
				case 0:
					seq = top + r.Uint64N(uint64(size)*3) // far ahead
				case 1, 2, 3, 4, 5, 6, 7, 8, 9:
					seq = top + r.Uint64N(4)
				}
				if seq < start {
					continue // the number came round
				}
				want := seq != 0 && !seen[seq] && (seq > top || top-seq < uint64(size))
				if got := w.fresh(seq); got != want {
					t.Fatalf("size %d, top %d: fresh(%d) = %v", size, top, seq, got)
				}
				if got := w.accept(seq); got != want {
					t.Fatalf("size %d, top %d: accept(%d) = %v", size, top, seq, got)
				}
				if want {
					seen[seq], top = true, max(top, seq)
				}
				if w.top != top {
					t.Fatalf("size %d: top is %d, not %d", size, w.top, top)
				}
			}
		}
	}
}

func TestResolve(t *testing.T) {
	const round = 1 << 32
	tests := []struct {
		name string
		size int
		top  uint64
		low  uint32
		want uint64
	}{
		{"first packet", 64, 0, 1, 1},
		{"before the window is full", 64, 10, 5, 5},
		{"highest number at first", 64, 0, math.MaxUint32, math.MaxUint32},
		{"case A, in the window", 64, 1000, 937, 937},
		{"case A, ahead", 64, 1000, 5000, 5000},
		{"case A, too old means the next round", 64, 1000, 936, round + 936},
		{"wrap", 64, round - 1, 0, round},
		{"ahead of a wrap", 64, round - 10, 20, round + 20},
		{"case B, late packet of the last round", 64, round + 10, math.MaxUint32, round - 1},
		{"case B, oldest", 64, round + 10, math.MaxUint32 - 52, round - 53},
		{"case B, older means this round", 64, round + 10, math.MaxUint32 - 53, 2*round - 54},
		{"case B, in the window", 64, round + 10, 3, round + 3},
		{"third round", 1024, 3*round + 5000, 4990, 3*round + 4990},
		{"last round", 64, math.MaxUint64 - 5, math.MaxUint32, math.MaxUint64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWindow(tt.size)
			w.top = tt.top
			if got := w.resolve(tt.low); got != tt.want {
				t.Errorf("resolve(%d) = %d, want %d", tt.low, got, tt.want)
			}
		})
	}
	t.Run("after the last number", func(t *testing.T) {
		w := newWindow(64)
		w.top = math.MaxUint64
		if seq := w.resolve(3); w.fresh(seq) {
			t.Errorf("number %d is fresh", seq)
		}
	})
}

// The formula that a window uses says what RFC 4303 appendix A2.2 says with
// its cases, wherever that gives a number at all.
func TestResolveRFC4303(t *testing.T) {
	rfc := func(top, size uint64, low uint32) (seq uint64, ok bool) {
		th, tl, w := top>>32, uint32(top), uint32(size)
		high := th
		if tl >= w-1 {
			if low < tl-w+1 {
				high++
			}
		} else if low >= tl-w+1 {
			high--
		}
		return high<<32 | uint64(low), high <= math.MaxUint32
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		w := newWindow(32 + r.IntN(2000))
		w.top = r.Uint64() >> r.IntN(64)
		if r.IntN(2) == 0 { // about a wrap of the low half
			w.top = w.top&^(1<<32-1) + r.Uint64N(4000) - 2000
		}
		low := uint32(w.top) + r.Uint32N(6000) - 3000
		want, ok := rfc(w.top, w.size, low)
		if got := w.resolve(low); ok && got != want {
			t.Fatalf("size %d, top %d: resolve(%d) = %d, want %d", w.size, w.top, low, got, want)
		}
	}
}
