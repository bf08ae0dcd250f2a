package esp

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
)

// Inbound is an SA that we receive with. It is safe for concurrent use.
type Inbound struct {
	secrets
	layout layout
	esn    bool

	mu     sync.Mutex
	window *window

	packets, bytes              atomic.Uint64
	replayed, forged, malformed atomic.Uint64
}

// Bounds of Params.Window, in packets. RFC 4303 section 3.4.3 wants 32 at the
// least.
const (
	minWindow     = 32
	defaultWindow = 1024
	maxWindow     = 65536
)

// NewInbound returns an SA that has received nothing yet. The error wraps
// xform.ErrUnsupported or xform.ErrKeyLength, or names a reserved SPI or a
// window out of bounds.
func NewInbound(p Params) (*Inbound, error) {
	s, err := newSuite(p)
	if err != nil {
		return nil, fmt.Errorf("inbound ESP SA: %w", err)
	}
	if p.Window == 0 {
		p.Window = defaultWindow
	}
	if p.Window < minWindow || p.Window > maxWindow {
		return nil, fmt.Errorf("inbound ESP SA: replay window of %d packets is not between %d and %d", p.Window, minWindow, maxWindow)
	}
	in := &Inbound{layout: s.layout(), esn: p.ESN, window: newWindow(p.Window)}
	in.keys = p.Keys
	in.suite.Store(&s)
	return in, nil
}

// Open checks an ESP packet and decrypts it in place: payload is a part of
// pkt. The caller has found the SA by the packet's SPI. The payload of a
// packet whose nextHeader is Dummy is to be thrown away; in tunnel mode, more
// bytes may follow the IP packet than its own length tells (RFC 4303 sections
// 2.6 and 2.7).
//
// The error is ErrReplay, ErrIntegrity, ErrMalformed or ErrClosed. The
// replay window is then as it was, and the contents of pkt are undefined.
func (in *Inbound) Open(pkt []byte) (payload []byte, nextHeader uint8, err error) {
	payload, nextHeader, err = in.open(pkt)
	switch err {
	case nil:
		in.packets.Add(1)
		in.bytes.Add(uint64(len(payload)))
	case ErrReplay:
		in.replayed.Add(1)
	case ErrIntegrity:
		in.forged.Add(1)
	case ErrMalformed:
		in.malformed.Add(1)
	}
	return payload, nextHeader, err
}

func (in *Inbound) open(pkt []byte) (payload []byte, nextHeader uint8, err error) {
	s := in.suite.Load()
	if s == nil {
		return nil, 0, ErrClosed
	}
	n := len(pkt) - in.layout.fixed()
	if n < in.layout.align || n%in.layout.align != 0 {
		return nil, 0, ErrMalformed
	}
	seq, ok := in.precheck(binary.BigEndian.Uint32(pkt[4:]))
	if !ok {
		return nil, 0, ErrReplay
	}
	if !(*s).open(pkt, uint32(seq>>32)) {
		return nil, 0, ErrIntegrity
	}
	start := headerLen + in.layout.iv
	payload, nextHeader, ok = trim(pkt[start : start+n])
	if !ok {
		return nil, 0, ErrMalformed
	}
	// Another goroutine may have received the same packet meanwhile.
	if !in.commit(seq) {
		return nil, 0, ErrReplay
	}
	return payload, nextHeader, nil
}

// precheck completes a sequence number and says whether it may be new. It
// keeps a flood of replays from costing more than this.
func (in *Inbound) precheck(low uint32) (seq uint64, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	seq = uint64(low)
	if in.esn {
		seq = in.window.resolve(low)
	}
	return seq, in.window.fresh(seq)
}

func (in *Inbound) commit(seq uint64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.window.accept(seq)
}

// trim takes padding and trailer, which is at least there, from decrypted
// contents. The padding must be 1, 2, 3 … (RFC 4303 section 2.4).
func trim(contents []byte) (payload []byte, nextHeader uint8, ok bool) {
	end := len(contents) - trailerLen
	pad := int(contents[end])
	if pad > end {
		return nil, 0, false
	}
	payload = contents[:end-pad]
	for i, b := range contents[end-pad : end] {
		if int(b) != i+1 {
			return nil, 0, false
		}
	}
	return payload, contents[end+1], true
}

// Counters returns what the SA has received so far.
func (in *Inbound) Counters() Counters {
	return Counters{
		Packets:   in.packets.Load(),
		Bytes:     in.bytes.Load(),
		Replayed:  in.replayed.Load(),
		Forged:    in.forged.Load(),
		Malformed: in.malformed.Load(),
	}
}
