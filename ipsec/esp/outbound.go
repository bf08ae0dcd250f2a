package esp

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
)

// Outbound is an SA that we send with. It is safe for concurrent use.
type Outbound struct {
	secrets
	spi    uint32
	layout layout
	last   uint64 // sequence number that the SA ends with

	seq   atomic.Uint64 // last sequence number used; so many packets were sealed
	bytes atomic.Uint64
}

// NewOutbound returns an SA whose first packet has sequence number 1. There
// must be only one for its keys, ever. The error wraps xform.ErrUnsupported
// or xform.ErrKeyLength, or names a reserved SPI.
func NewOutbound(p Params) (*Outbound, error) {
	s, err := newSuite(p)
	if err != nil {
		return nil, fmt.Errorf("outbound ESP SA: %w", err)
	}
	o := &Outbound{spi: uint32(p.SPI), layout: s.layout(), last: math.MaxUint32}
	if p.ESN {
		o.last = math.MaxUint64
	}
	o.keys = p.Keys
	o.suite.Store(&s)
	return o, nil
}

// HeaderLen returns the length in bytes of what precedes the payload in a
// packet: SPI, sequence number and IV.
func (o *Outbound) HeaderLen() int { return headerLen + o.layout.iv }

// Overhead returns how many bytes Seal adds to n bytes of payload: header,
// IV, padding, trailer and ICV.
func (o *Outbound) Overhead(n int) int {
	return o.layout.fixed() + o.layout.contentsLen(n) - n
}

// MaxPlaintext returns the length in bytes of the longest payload whose ESP
// packet has at most size bytes, or 0 when no payload has such a packet.
func (o *Outbound) MaxPlaintext(size int) int {
	room := size - o.layout.fixed()
	return max(0, room-room%o.layout.align-trailerLen)
}

// Seal appends an ESP packet with a payload to dst, and returns the extended
// slice. It allocates nothing when dst has len(plaintext) and
// Overhead(len(plaintext)) bytes of spare capacity. The plaintext may lie in
// that capacity; when it begins HeaderLen bytes after dst's length, where its
// ciphertext will be, it is not even copied. It is overwritten then.
//
// The error is ErrSequenceExhausted or ErrClosed, and dst is unchanged.
func (o *Outbound) Seal(dst, plaintext []byte, nextHeader uint8) ([]byte, error) {
	s := o.suite.Load()
	if s == nil {
		return dst, ErrClosed
	}
	seq, ok := o.next()
	if !ok {
		return dst, ErrSequenceExhausted
	}
	start, n := len(dst), len(plaintext)
	size := n + o.Overhead(n)
	dst = slices.Grow(dst, size)[:start+size]
	pkt := dst[start:]

	// The payload goes first: it may lie where everything else will be.
	contents := pkt[o.HeaderLen() : size-o.layout.icv]
	if n > 0 && &contents[0] != &plaintext[0] {
		copy(contents, plaintext)
	}
	trailer := contents[n:]
	pad := len(trailer) - trailerLen
	for i := range pad {
		trailer[i] = byte(i + 1)
	}
	trailer[pad] = byte(pad)
	trailer[pad+1] = nextHeader

	binary.BigEndian.PutUint32(pkt, o.spi)
	binary.BigEndian.PutUint32(pkt[4:], uint32(seq))
	(*s).putIV(pkt[headerLen:o.HeaderLen()], seq)
	(*s).seal(pkt, uint32(seq>>32))
	o.bytes.Add(uint64(n))
	return dst, nil
}

// next takes the next sequence number; ok is false when there is none.
func (o *Outbound) next() (seq uint64, ok bool) {
	for {
		seq := o.seq.Load()
		if seq >= o.last {
			return 0, false
		}
		if o.seq.CompareAndSwap(seq, seq+1) {
			return seq + 1, true
		}
	}
}

// Counters returns what the SA has sealed so far. Packets is the last
// sequence number as well.
func (o *Outbound) Counters() Counters {
	return Counters{Packets: o.seq.Load(), Bytes: o.bytes.Load()}
}
