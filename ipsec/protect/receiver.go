package protect

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Receiver is an SA that we receive with. It is safe for concurrent use, and
// packets cost no allocation.
type Receiver struct {
	life
	esn bool

	mu     sync.Mutex
	window *window

	budget                      budget
	replayed, forged, malformed atomic.Uint64
}

// Bounds of Params.Window, in packets. RFC 4303 section 3.4.3 wants 32 at the
// least.
const (
	minWindow     = 32
	defaultWindow = 1024
	maxWindow     = 65536
)

// NewReceiver returns an SA that has received nothing yet after the sequence
// number Last. The error names a reserved SPI or a window out of bounds.
func NewReceiver(p ipsec.Params, s Suite) (*Receiver, error) {
	if p.Window == 0 {
		p.Window = defaultWindow
	}
	if p.Window < minWindow || p.Window > maxWindow {
		return nil, fmt.Errorf("replay window of %d packets is not between %d and %d", p.Window, minWindow, maxWindow)
	}
	in := &Receiver{esn: p.ESN, window: newWindow(p.Window)}
	in.window.top, in.budget.limit = p.Last, p.Limit
	if err := in.begin(p, s); err != nil {
		return nil, err
	}
	return in, nil
}

// Open checks a packet and decrypts it in place: payload is a part of pkt. The
// caller has found the SA by the packet's SPI. The header is the IP header that
// stood before it, as it was received and reassembled; nil will do where the ICV
// covers none.
//
// The error is ErrReplay, ErrIntegrity, ErrMalformed, ErrLifetime or ErrClosed of
// package ipsec. The replay window is then as it was, but with ErrLifetime, and
// the contents of pkt are undefined.
func (in *Receiver) Open(header, pkt []byte) (payload []byte, nextHeader uint8, err error) {
	payload, nextHeader, err = in.open(header, pkt)
	switch err {
	case nil:
		if !in.budget.spend(len(payload)) {
			return nil, 0, ipsec.ErrLifetime
		}
	case ipsec.ErrReplay:
		in.replayed.Add(1)
	case ipsec.ErrIntegrity:
		in.forged.Add(1)
	case ipsec.ErrMalformed:
		in.malformed.Add(1)
	}
	return payload, nextHeader, err
}

func (in *Receiver) open(header, pkt []byte) (payload []byte, nextHeader uint8, err error) {
	s := in.suite.Load()
	if s == nil {
		return nil, 0, ipsec.ErrClosed
	}
	low, ok := (*s).Number(header, pkt)
	if !ok {
		return nil, 0, ipsec.ErrMalformed
	}
	seq, ok := in.precheck(low)
	if !ok {
		return nil, 0, ipsec.ErrReplay
	}
	if payload, nextHeader, err = (*s).Open(header, pkt, uint32(seq>>32)); err != nil {
		return nil, 0, err
	}
	// Another goroutine may have received the same packet meanwhile.
	if !in.commit(seq) {
		return nil, 0, ipsec.ErrReplay
	}
	return payload, nextHeader, nil
}

// precheck completes a sequence number and says whether it may be new. It
// keeps a flood of replays from costing more than this.
func (in *Receiver) precheck(low uint32) (seq uint64, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	seq = uint64(low)
	if in.esn {
		seq = in.window.resolve(low)
	}
	return seq, in.window.fresh(seq)
}

func (in *Receiver) commit(seq uint64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.window.accept(seq)
}

// Counters returns what the SA has received so far.
func (in *Receiver) Counters() ipsec.Counters {
	return ipsec.Counters{
		Packets:   in.budget.packets.Load(),
		Bytes:     in.budget.bytes.Load(),
		Replayed:  in.replayed.Load(),
		Forged:    in.forged.Load(),
		Malformed: in.malformed.Load(),
		Over:      in.budget.over.Load(),
	}
}
