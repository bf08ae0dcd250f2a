package protect

// window remembers which of the last sequence numbers were received. It is a
// ring of blocks of bits (RFC 6479): moving ahead clears blocks instead of
// shifting bits. The ring has at least one block more than the window, so
// that the block of the newest number holds no bit that still counts.
type window struct {
	size uint64 // how many numbers are remembered, the newest included
	top  uint64 // the highest number received; 0 before the first
	ring []uint64
}

// blockBits is the length of a block in bits.
const blockBits = 64

// newWindow returns a window of size numbers. Nothing was received.
func newWindow(size int) *window {
	blocks := 1
	for blocks < (size+blockBits-1)/blockBits+1 {
		blocks *= 2
	}
	return &window{size: uint64(size), ring: make([]uint64, blocks)}
}

// fresh reports whether a number is neither received nor too old. Number 0 is
// never sent.
func (w *window) fresh(seq uint64) bool {
	if seq > w.top {
		return true
	}
	if seq == 0 || w.top-seq >= w.size {
		return false
	}
	return *w.block(seq / blockBits)&bit(seq) == 0
}

// accept marks a number as received and moves the window up to it. It
// reports false, and changes nothing, when the number is not fresh.
func (w *window) accept(seq uint64) bool {
	if !w.fresh(seq) {
		return false
	}
	if seq > w.top {
		last := w.top / blockBits
		for i := range min(seq/blockBits-last, uint64(len(w.ring))) {
			*w.block(last + 1 + i) = 0
		}
		w.top = seq
	}
	*w.block(seq / blockBits) |= bit(seq)
	return true
}

// resolve completes the lower half of an extended sequence number: of all
// numbers that end with it, the lowest one that is not too old (RFC 4303
// appendix A2.2). A number beyond the last one comes round to one that is
// too old.
func (w *window) resolve(low uint32) uint64 {
	var bottom uint64
	if w.top >= w.size {
		bottom = w.top - w.size + 1
	}
	return bottom + uint64(low-uint32(bottom))
}

// block returns the i-th block of all numbers. The ring's length is a power
// of two.
func (w *window) block(i uint64) *uint64 { return &w.ring[i&uint64(len(w.ring)-1)] }

func bit(seq uint64) uint64 { return 1 << (seq % blockBits) }
