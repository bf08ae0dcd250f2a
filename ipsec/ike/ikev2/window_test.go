package ikev2

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// ask is a request that a test makes up.
type ask struct {
	x      wire.ExchangeType
	ps     []wire.Payload
	answer []wire.Payload
	ended  int
}

func (t *ask) begin(*SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	return t.x, t.ps, true, nil
}
func (*ask) schedule() ike.Schedule                     { return ike.Patient }
func (t *ask) end(_ *SA, _ *session, ps []wire.Payload) { t.answer, t.ended = ps, t.ended+1 }

// asks has a machine ask n times for nothing.
func asks(t *testing.T, h *iketest.Host, s *SA, n int) (out []*ask) {
	t.Helper()
	for range n {
		out = append(out, begin(t, h, s, &ask{x: wire.Informational}))
	}
	return out
}

// begin has a machine begin a task.
func begin[T task](t *testing.T, h *iketest.Host, s *SA, x T) T {
	t.Helper()
	s.enqueue(x)
	if err := h.Do(s, ike.Tick{}); err != nil {
		t.Fatal(err)
	}
	return x
}

// catch keeps what a host sends from now on from the other one.
func (p *pair) catch(from netip.Addr) *[][]byte {
	var caught [][]byte
	p.Mangle = func(src, _ netip.AddrPort, data []byte) []byte {
		if src.Addr() != from {
			return data
		}
		caught = append(caught, data)
		return nil
	}
	return &caught
}

// hand gives a host datagrams of the other one.
func (p *pair) hand(to *iketest.Host, s *SA, msgs ...[]byte) (errs []error) {
	from := p.a
	if to == p.a {
		from = p.b
	}
	for _, data := range msgs {
		errs = append(errs, to.Do(s, ike.Datagram{Local: netip.AddrPortFrom(to.Addr, 500), Remote: netip.AddrPortFrom(from.Addr, 500), Data: data}))
	}
	return errs
}

func TestWindowNegotiated(t *testing.T) {
	for _, tt := range []struct{ a, b, fromA, fromB int }{
		{0, 0, 8, 8}, {1, 4, 4, 1}, {1, 1, 1, 1}, {100, 0, 8, 64},
	} {
		t.Run(fmt.Sprintf("%d and %d", tt.a, tt.b), func(t *testing.T) {
			p := newPair()
			p.a.Policy.Window, p.b.Policy.Window = tt.a, tt.b
			a := p.acquire(t, nil, tunnel()).(*SA)
			p.Run(time.Second)
			b := p.b.Machines[0].(*SA)
			if got := a.info().Window; got != tt.fromA {
				t.Errorf("a may ask %d at a time, want %d", got, tt.fromA)
			}
			if got := b.info().Window; got != tt.fromB {
				t.Errorf("b may ask %d at a time, want %d", got, tt.fromB)
			}
			if got := max(1, a.cur.theirs.size); got != tt.fromB {
				t.Errorf("a takes %d at a time, want %d", got, tt.fromB)
			}
		})
	}
}

// TestWindowTooLarge has a peer that takes more than we want to have under way.
func TestWindowTooLarge(t *testing.T) {
	p := newPair()
	p.b.Policy.Window = 64
	a := p.acquire(t, nil, tunnel()).(*SA)
	p.Run(time.Second)
	fromA := p.catch(p.a.Addr)
	asks(t, p.a, a, 70)
	if len(*fromA) != maxOut {
		t.Errorf("%d requests under way, want %d", len(*fromA), maxOut)
	}
}

// TestWindowChanges tells of another window later on, in any message.
func TestWindowChanges(t *testing.T) {
	p, a, b := established(t)
	begin(t, p.a, a, &ask{x: wire.Informational, ps: []wire.Payload{&wire.Notify{Kind: wire.SetWindowSize, Data: []byte{0, 0, 0, 2}}}})
	p.Run(time.Second)
	if b.info().Window != 2 || a.info().Window != 8 {
		t.Errorf("windows of %d and %d", a.info().Window, b.info().Window)
	}
	fromB := p.catch(p.b.Addr)
	asks(t, p.b, b, 4)
	if len(*fromB) != 2 {
		t.Errorf("%d requests under way, want 2", len(*fromB))
	}
}

// TestWindow has requests of a delivered to b in other orders than they were
// sent, more than once, and the answers lost: each is processed once, and its
// answer repeated as it was.
func TestWindow(t *testing.T) {
	for _, tt := range []struct {
		name  string
		order []int
	}{
		{"in order", []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{"in reverse", []int{7, 6, 5, 4, 3, 2, 1, 0}},
		{"each twice", []int{0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7}},
		{"all, and all again", []int{3, 1, 0, 2, 7, 5, 4, 6, 0, 1, 2, 3, 4, 5, 6, 7}},
		{"the first last, again and again", []int{1, 2, 3, 4, 5, 6, 7, 1, 7, 1, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, a, b := established(t)
			fromA := p.catch(p.a.Addr)
			var made []*ask
			for range 8 {
				r, err := a.newChildRequest(ike.Acquire{Child: a.children[0].policy, Local: one(p.a.Addr), Remote: one(p.b.Addr)}, false, nil)
				if err != nil {
					t.Fatal(err)
				}
				made = append(made, begin(t, p.a, a, &ask{x: wire.CreateChildSA, ps: r.payloads()}))
			}
			if len(*fromA) != 8 {
				t.Fatalf("%d requests under way, want 8", len(*fromA))
			}
			before := len(p.b.Installed)
			fromB := p.catch(p.b.Addr)
			for _, i := range tt.order {
				for _, err := range p.hand(p.b, b, (*fromA)[i]) {
					if err != nil {
						t.Errorf("request %d: %v", i, err)
					}
				}
			}
			if n := len(p.b.Installed) - before; n != 8 {
				t.Errorf("%d Child SAs came of 8 requests", n)
			}
			if len(*fromB) != len(tt.order) {
				t.Fatalf("%d answers to %d requests", len(*fromB), len(tt.order))
			}
			first := map[int][]byte{}
			for n, i := range tt.order {
				if was, again := first[i]; again && !bytes.Equal(was, (*fromB)[n]) {
					t.Errorf("the answer to request %d has changed", i)
				}
				first[i] = (*fromB)[n]
			}
			for i := range first {
				p.hand(p.a, a, first[i], first[i])
			}
			for i, x := range made {
				if x.ended != 1 || len(x.answer) == 0 {
					t.Errorf("request %d was answered %d times", i, x.ended)
				}
			}
		})
	}
}

// TestWindowFull has more to ask than the peer takes.
func TestWindowFull(t *testing.T) {
	p, a, b := established(t)
	fromA := p.catch(p.a.Addr)
	all := asks(t, p.a, a, 12)
	if len(*fromA) != 8 {
		t.Fatalf("%d requests under way, want 8", len(*fromA))
	}
	requests := slices.Clone(*fromA)
	fromB := p.catch(p.b.Addr)
	p.hand(p.b, b, requests...)
	answers := slices.Clone(*fromB)
	fromA = p.catch(p.a.Addr)
	p.hand(p.a, a, answers[1:]...)
	if len(*fromA) != 0 {
		t.Errorf("%d more were sent before the first was answered", len(*fromA))
	}
	p.hand(p.a, a, answers[0])
	if len(*fromA) != 4 {
		t.Errorf("%d more were sent when the first was answered, want 4", len(*fromA))
	}
	// The peer keeps to its window too.
	next := b.cur.theirs.next
	data, err := wire.EncodeEncrypted(a.cur.header(wire.Informational, next+8, false), nil, a.cur.out)
	if err != nil {
		t.Fatal(err)
	}
	if errs := p.hand(p.b, b, data); errs[0] == nil || b.cur.theirs.find(next+8) != nil {
		t.Error("b takes a request beyond its window")
	}
	old := requests[0]
	p.hand(p.b, b, *fromA...)
	if errs := p.hand(p.b, b, old); errs[0] == nil {
		t.Error("b takes a request whose answer a has had")
	}
	p.Mangle = nil
	p.Run(10 * time.Second)
	for i, x := range all {
		if x.ended != 1 {
			t.Errorf("request %d ended %d times", i, x.ended)
		}
	}
}

// TestWindowUnderLoss loses three datagrams of ten, in
// both directions, and others overtake each other.
func TestWindowUnderLoss(t *testing.T) {
	p, a, _ := established(t)
	p.Faults = iketest.Faults{Loss: 0.3, Duplicate: 0.2, Delay: 5 * time.Millisecond, Jitter: 50 * time.Millisecond}
	all := asks(t, p.a, a, 40)
	p.Run(5 * time.Minute)
	for i, x := range all {
		if x.ended != 1 {
			t.Errorf("request %d ended %d times", i, x.ended)
		}
	}
}

// TestAlone has the IKE SA replaced in the midst of other requests: it waits
// for those before it, and those behind it for it (RFC 7296 section 2.25).
func TestAlone(t *testing.T) {
	p, a, _ := established(t)
	fromA := p.catch(p.a.Addr)
	before := asks(t, p.a, a, 3)
	old := a.cur
	begin(t, p.a, a, &rekeyIKE{of: a.cur})
	after := asks(t, p.a, a, 3)
	if len(*fromA) != 3 || !old.ours.any(func(t task) bool { return t == before[0] }) {
		t.Fatalf("%d requests under way, want 3", len(*fromA))
	}
	p.Mangle = nil
	p.Run(10 * time.Second)
	if a.cur == old {
		t.Fatal("the IKE SA was not replaced")
	}
	for i, x := range slices.Concat(before, after) {
		if x.ended != 1 {
			t.Errorf("request %d ended %d times", i, x.ended)
		}
	}
	if len(a.cur.ours.pending) != 0 || a.cur.ours.next != 3 {
		t.Errorf("the new IKE SA's next request is %d, want 3", a.cur.ours.next)
	}
}

// TestWindowOfNewIKESA begins with 1 again, until a message on it tells
// another one.
func TestWindowOfNewIKESA(t *testing.T) {
	p, a, b := established(t)
	begin(t, p.a, a, &rekeyIKE{of: a.cur})
	p.Run(time.Second)
	if a.info().Window != 1 || b.info().Window != 1 {
		t.Errorf("windows of %d and %d", a.info().Window, b.info().Window)
	}
	p.acquire(t, a, tunnel())
	p.Run(time.Second)
	if a.info().Window != 8 || b.info().Window != 8 {
		t.Errorf("windows of %d and %d, want 8", a.info().Window, b.info().Window)
	}
}

func TestInWindow(t *testing.T) {
	const top = 0xffffffff
	for _, tt := range []struct {
		name       string
		next       uint32
		size       int
		come       []uint32 // each is answered at once
		wantNext   uint32
		kept       []uint32
		fits, late []uint32
	}{
		{"one by one", 0, 1, []uint32{0, 1, 2}, 3, []uint32{2}, []uint32{3}, []uint32{4, 0, 1}},
		{"size of zero is one", 5, 0, []uint32{5}, 6, []uint32{5}, []uint32{6}, []uint32{7}},
		{"with a gap", 0, 4, []uint32{1, 3}, 0, []uint32{1, 3}, []uint32{0, 2}, []uint32{4, 5}},
		{"gap filled", 0, 4, []uint32{1, 3, 0, 2}, 4, []uint32{0, 1, 2, 3}, []uint32{4, 7}, []uint32{8}},
		{"old ones forgotten", 0, 4, []uint32{0, 1, 2, 3, 6}, 4, []uint32{3, 6}, []uint32{4, 5, 7}, []uint32{8, 1}},
		{"around the end", top - 1, 4, []uint32{top, 0, top - 1}, 1, []uint32{top - 1, top, 0}, []uint32{1, 4}, []uint32{5}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := inWindow{next: tt.next, size: tt.size}
			for _, id := range tt.come {
				if !w.fits(id) || w.find(id) != nil {
					t.Fatalf("%d does not fit", id)
				}
				q := &query{message: message{contents: contents{header: wire.Header{MessageID: id}}}}
				w.take(q)
				q.answer = new(outgoing)
				w.answered()
			}
			var kept []uint32
			for _, q := range w.queries {
				kept = append(kept, q.header.MessageID)
			}
			if w.next != tt.wantNext || !slices.Equal(kept, tt.kept) {
				t.Errorf("next %d, kept %d, want %d, %d", w.next, kept, tt.wantNext, tt.kept)
			}
			for _, id := range tt.fits {
				if !w.fits(id) {
					t.Errorf("%d does not fit", id)
				}
			}
			for _, id := range tt.late {
				if w.fits(id) && w.find(id) == nil {
					t.Errorf("%d fits", id)
				}
			}
		})
	}
}

func TestWindowOf(t *testing.T) {
	for _, tt := range []struct {
		name string
		data []byte
		size int
		ok   bool
	}{
		{"eight", []byte{0, 0, 0, 8}, 8, true},
		{"none", []byte{0, 0, 0, 0}, 1, true},
		{"all", []byte{0xff, 0xff, 0xff, 0xff}, maxWindow, true},
		{"of three bytes", []byte{0, 0, 8}, 0, false},
		{"of nothing", nil, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, ok := windowOf([]wire.Payload{&wire.Notify{Kind: wire.SetWindowSize, Data: tt.data}})
			if n != tt.size || ok != tt.ok {
				t.Errorf("%d, %v", n, ok)
			}
		})
	}
	if _, ok := windowOf([]wire.Payload{&wire.Delete{Protocol: ipsec.ProtoIKE}}); ok {
		t.Error("a window without a notification")
	}
}
