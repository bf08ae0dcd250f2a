package protect

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// plain is a protocol whose packets are SPI, sequence number and payload, and
// whose ICV is the upper half of the sequence number.
type plain struct{}

func (plain) Layout() Layout { return Layout{Header: 4, Align: 1, ICV: 4} }

func (plain) Seal(pkt []byte, _ int, seq uint64, _ uint8) {
	binary.BigEndian.PutUint32(pkt, uint32(seq))
	binary.BigEndian.PutUint32(pkt[len(pkt)-4:], uint32(seq>>32))
}

func (plain) Finish([]byte, int, uint64) {}

func (p plain) Number(_, pkt []byte) (uint32, bool) {
	if _, ok := p.Layout().Contents(len(pkt)); !ok {
		return 0, false
	}
	return binary.BigEndian.Uint32(pkt), true
}

func (plain) Open(_, pkt []byte, high uint32) ([]byte, uint8, error) {
	if binary.BigEndian.Uint32(pkt[len(pkt)-4:]) != high {
		return nil, 0, ipsec.ErrIntegrity
	}
	return pkt[4 : len(pkt)-4], 0, nil
}

// packet is what plain makes for a sequence number.
func packet(seq uint64) []byte {
	pkt := make([]byte, 8)
	plain{}.Seal(pkt, 0, seq, 0)
	return pkt
}

func receiver(t *testing.T, window int, esn bool, last uint64) *Receiver {
	t.Helper()
	in, err := NewReceiver(ipsec.Params{SPI: 256, Window: window, ESN: esn, Last: last}, plain{})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// Windows of any size work where the lower half of the sequence number comes
// round: what is late by less than the window is taken, once, and what is older
// never.
func TestWindowsWrap(t *testing.T) {
	const wrap = 1 << 32
	for _, size := range []int{minWindow, 64, 1000, defaultWindow, 4096, maxWindow - 1, maxWindow} {
		for _, ahead := range []uint64{0, 1, uint64(size) / 2, uint64(size) - 2, uint64(size) - 1, uint64(size), 2 * uint64(size)} {
			for _, round := range []uint64{1, 2, 1 << 31} {
				t.Run(fmt.Sprintf("%d/%d after wrap %d", size, ahead, round), func(t *testing.T) {
					top := round*wrap + ahead
					in := receiver(t, size, true, top-1-uint64(size)) // all that is tried is new
					check := func(seq uint64, want error) {
						t.Helper()
						if _, _, err := in.Open(nil, packet(seq)); err != want {
							t.Errorf("%d from the top: %v, want %v", int64(top-seq), err, want)
						}
					}
					oldest := top - uint64(size) + 1
					check(top, nil)
					for _, seq := range []uint64{oldest, oldest + 1, top - 1, top - uint64(size)/2 - 1} {
						check(seq, nil)
						check(seq, ipsec.ErrReplay)
					}
					check(top, ipsec.ErrReplay)
					// What is too old counts as of the next round, and that is not its ICV.
					check(oldest-1, ipsec.ErrIntegrity)
					check(top+1, nil)
					check(oldest, ipsec.ErrIntegrity) // too old since
					check(oldest+1, ipsec.ErrReplay)
				})
			}
		}
	}
}

// Without ESN there is no other round.
func TestNoWrap(t *testing.T) {
	for _, size := range []int{minWindow, maxWindow} {
		in := receiver(t, size, false, math.MaxUint32-1)
		for _, x := range []struct {
			seq  uint64
			want error
		}{{math.MaxUint32, nil}, {math.MaxUint32, ipsec.ErrReplay}, {1, ipsec.ErrReplay}, {0, ipsec.ErrReplay},
			{math.MaxUint32 - uint64(size) + 1, nil}, {math.MaxUint32 - uint64(size), ipsec.ErrReplay}} {
			if _, _, err := in.Open(nil, packet(x.seq)); err != x.want {
				t.Errorf("window of %d, number %d: %v, want %v", size, x.seq, err, x.want)
			}
		}
	}
}

func TestLayout(t *testing.T) {
	for _, l := range []Layout{
		{Header: 16, Trailer: 2, Align: 4, ICV: 16},
		{Header: 24, Trailer: 2, Align: 16, ICV: 12},
		{Header: 28, Align: 1},
		{Header: 8, Trailer: 2, Align: 4, ICV: 32},
	} {
		for n := range 200 {
			size := l.Len(n)
			contents, ok := l.Contents(size)
			if !ok || contents < n+l.Trailer || contents%l.Align != 0 || contents-n-l.Trailer >= l.Align {
				t.Errorf("%+v: %d bytes have %d of contents", l, n, contents)
			}
			if got := l.Max(size); got < n || l.Len(got) != size || l.Len(got+1) <= size {
				t.Errorf("%+v: Max(%d) = %d", l, size, got)
			}
			if _, ok := l.Contents(size + 1); ok && l.Align > 1 {
				t.Errorf("%+v: a packet of %d bytes", l, size+1)
			}
		}
		for _, size := range []int{-1, 0, l.Header + l.ICV + l.Trailer - 1} {
			if _, ok := l.Contents(size); ok || l.Max(size) != 0 {
				t.Errorf("%+v: contents in %d bytes", l, size)
			}
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, p := range map[string]ipsec.Params{
		"SPI 0": {}, "reserved SPI": {SPI: 255},
	} {
		if o, err := NewSender(p, plain{}); err == nil || o != nil {
			t.Errorf("%s: %v", name, o)
		}
		if in, err := NewReceiver(p, plain{}); err == nil || in != nil {
			t.Errorf("%s: %v", name, in)
		}
	}
	for _, window := range []int{-1, 1, minWindow - 1, maxWindow + 1} {
		if in, err := NewReceiver(ipsec.Params{SPI: 256, Window: window}, plain{}); err == nil || in != nil {
			t.Errorf("window of %d: %v", window, in)
		}
	}
}
