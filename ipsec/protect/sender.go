package protect

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Sender is an SA that we send with. It is safe for concurrent use, and its
// packets cost no allocation.
type Sender struct {
	life
	layout Layout
	end    uint64 // sequence number that the SA ends with

	seq    atomic.Uint64 // last number used
	budget budget
}

// NewSender returns an SA whose first packet has the sequence number after
// Last. There must be only one for its keys, ever. The error names a reserved
// SPI.
func NewSender(p ipsec.Params, s Suite) (*Sender, error) {
	o := &Sender{layout: s.Layout(), end: math.MaxUint32}
	if p.ESN {
		o.end = math.MaxUint64
	}
	o.budget.limit = p.Limit
	o.seq.Store(p.Last)
	if err := o.begin(p, s); err != nil {
		return nil, err
	}
	return o, nil
}

// HeaderLen returns the length in bytes of what precedes the payload in a
// packet.
func (o *Sender) HeaderLen() int { return o.layout.Header }

// Overhead returns how many bytes Seal adds to n bytes of payload.
func (o *Sender) Overhead(n int) int { return o.layout.Len(n) - n }

// MaxPlaintext returns the length in bytes of the longest payload whose packet
// has at most size bytes, or 0 when no payload has such a packet.
func (o *Sender) MaxPlaintext(size int) int { return o.layout.Max(size) }

// Seal appends a packet with a payload to dst, and returns the extended
// slice. It allocates nothing when dst has len(plaintext) and
// Overhead(len(plaintext)) bytes of spare capacity. The plaintext may lie in
// that capacity; when it begins HeaderLen bytes after dst's length, where it
// will be in the packet, it is not even copied. It is overwritten then.
//
// The error is ErrSequenceExhausted, ErrLifetime or ErrClosed of package ipsec, and dst is
// unchanged.
func (o *Sender) Seal(dst, plaintext []byte, nextHeader uint8) ([]byte, error) {
	s := o.suite.Load()
	if s == nil {
		return dst, ipsec.ErrClosed
	}
	seq, ok := o.next()
	if !ok {
		o.budget.end()
		return dst, ipsec.ErrSequenceExhausted
	}
	if !o.budget.spend(len(plaintext)) {
		return dst, ipsec.ErrLifetime
	}
	start, n := len(dst), len(plaintext)
	size := o.layout.Len(n)
	dst = slices.Grow(dst, size)[:start+size]
	pkt := dst[start:]
	// The payload goes first: it may lie where everything else will be.
	if at := o.layout.Header; n > 0 && &pkt[at] != &plaintext[0] {
		copy(pkt[at:], plaintext)
	}
	(*s).Seal(pkt, n, seq, nextHeader)
	return dst, nil
}

// next takes the next sequence number; ok is false when there is none.
func (o *Sender) next() (seq uint64, ok bool) {
	for {
		seq := o.seq.Load()
		if seq >= o.end {
			return 0, false
		}
		if o.seq.CompareAndSwap(seq, seq+1) {
			return seq + 1, true
		}
	}
}

// Finish completes an IP packet that ends with what Seal has appended, once
// its IP header of headerLen bytes, options and extension headers included, is
// as it leaves: protocol, lengths and identification are final. Where the ICV
// covers no header it does nothing. It must be called once for a packet: some
// integrity algorithms take no other ICV for a sequence number. A packet of an SA that is wiped meanwhile is
// left without its ICV, and nobody accepts it.
func (o *Sender) Finish(ip []byte, headerLen int) {
	if s := o.suite.Load(); s != nil {
		(*s).Finish(ip, headerLen, o.seq.Load())
	}
}

// Counters returns what the SA has sealed so far.
func (o *Sender) Counters() ipsec.Counters {
	return ipsec.Counters{Packets: o.budget.packets.Load(), Bytes: o.budget.bytes.Load(), Over: o.budget.over.Load()}
}
