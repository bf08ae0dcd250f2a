package ikev2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// late is two machines whose Works are done when the test says so. Datagrams
// arrive at once, except for those that are held.
type late struct {
	t    *testing.T
	now  time.Time
	a, b *lateEnd
}

type lateEnd struct {
	l       *late
	m       *SA
	other   *lateEnd
	work    []ike.Work
	sent    []ike.Send
	effects []ike.Effect // all but Send and Work
	hold    bool         // datagrams to it wait in held
	held    []ike.Send
}

func newLate(t *testing.T) *late {
	p := newPair()
	p.a.Policy.Proposals, p.b.Policy.Proposals = []ipsec.Proposal{suiteByHand()}, []ipsec.Proposal{suiteByHand()}
	l := &late{t: t, now: p.Now}
	l.a, l.b = &lateEnd{l: l}, &lateEnd{l: l}
	l.a.m, l.b.m = NewInitiator(p.a.Config(p.b.Addr)), NewResponder(p.b.Config(p.a.Addr))
	l.a.other, l.b.other = l.b, l.a
	rule := tunnel()
	rule.Auth = p.a.Policy.Auth
	if err := l.a.do(ike.Acquire{Child: rule, Local: one(p.a.Addr), Remote: one(p.b.Addr)}); err != nil {
		t.Fatal(err)
	}
	return l
}

func (e *lateEnd) do(ev ike.Event) error {
	effects, err := e.m.Handle(e.l.now, ev)
	for _, x := range effects {
		switch x := x.(type) {
		case ike.Work:
			e.work = append(e.work, x)
		case ike.Send:
			e.sent = append(e.sent, x)
			e.other.arrive(x)
		default:
			e.effects = append(e.effects, x)
		}
	}
	return err
}

func (e *lateEnd) arrive(x ike.Send) {
	if e.hold {
		e.held = append(e.held, x)
		return
	}
	// What is refused shows in the state.
	_ = e.do(ike.Datagram{Local: x.Remote, Remote: x.Local, Data: slices.Clone(x.Data)})
}

// finish does the oldest Work of an end.
func (e *lateEnd) finish() {
	e.l.t.Helper()
	if len(e.work) == 0 {
		e.l.t.Fatalf("no Work while %s", e.m.State())
	}
	w := e.work[0]
	e.work = e.work[1:]
	if err := e.do(ike.Done{ID: w.ID, Result: w.Do(context.Background())}); err != nil {
		e.l.t.Fatalf("the result of %d while %s: %v", w.ID, e.m.State(), err)
	}
}

func (l *late) want(a, b State) {
	l.t.Helper()
	if l.a.m.State() != a || l.b.m.State() != b {
		l.t.Fatalf("a is %s, b %s, want %s and %s", l.a.m.State(), l.b.m.State(), a, b)
	}
}

// pass lets time pass to the next deadline of an end.
func (e *lateEnd) pass() {
	e.l.t.Helper()
	at, ok := e.m.Deadline()
	if !ok {
		e.l.t.Fatalf("no deadline while %s", e.m.State())
	}
	e.l.now = at
	if err := e.do(ike.Tick{}); err != nil {
		e.l.t.Fatal(err)
	}
}

func (e *lateEnd) count(fits func(ike.Effect) bool) (n int) {
	for _, x := range e.effects {
		if fits(x) {
			n++
		}
	}
	return n
}

func installed(x ike.Effect) bool { _, ok := x.(ike.InstallChild); return ok }

// TestWork takes the steps one by one: sign, verify and sign, verify.
func TestWork(t *testing.T) {
	l := newLate(t)
	l.want(Proving, InitAnswered)
	l.a.finish()
	l.want(AuthSent, Verifying)
	if l.b.count(installed) != 0 {
		t.Fatal("a Child SA for a peer that has not authenticated")
	}
	// The request comes again and again, and is not looked at again.
	again := l.a.sent[len(l.a.sent)-1]
	for range 3 {
		l.b.arrive(again)
	}
	if len(l.b.work) != 1 || len(l.b.sent) != 1 {
		t.Errorf("%d Works and %d messages of b, want 1 each", len(l.b.work), len(l.b.sent))
	}
	l.b.finish()
	l.want(Verifying, Established)
	if l.a.count(installed) != 0 || l.b.count(installed) != 1 {
		t.Error("Child SAs come too early or too late")
	}
	// Now it is answered again, which a does not look at again.
	l.b.arrive(again)
	if len(l.b.sent) != 3 || len(l.a.work) != 1 {
		t.Errorf("%d messages of b, %d Works of a", len(l.b.sent), len(l.a.work))
	}
	// b may ask for something before a has done with it.
	if err := l.b.do(ike.DeleteChild{InSPI: l.b.m.children[0].in}); err != nil {
		t.Fatal(err)
	}
	l.want(Verifying, Established)
	l.a.finish()
	l.want(Established, Established)
	if l.a.count(installed) != 1 {
		t.Error("no Child SA")
	}
	l.b.pass()
	if len(l.a.m.children) != 0 {
		t.Error("the deletion that came too early did not come again")
	}
}

// TestWorkTooLate has results for attempts that are over.
func TestWorkTooLate(t *testing.T) {
	l := newLate(t)
	l.a.finish()
	work := l.b.work[0]
	for _, e := range []*lateEnd{l.a, l.b} {
		if err := e.do(ike.Close{Reason: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	l.want(Closed, Closed)
	if err := l.b.do(ike.Done{ID: work.ID, Result: work.Do(context.Background())}); !errors.Is(err, ike.ErrClosed) {
		t.Errorf("a result after the end: %v", err)
	}

	// The half-open time ends while b thinks.
	l = newLate(t)
	l.a.finish()
	l.a.hold = true
	for l.b.m.State() == Verifying {
		l.b.pass()
	}
	l.want(AuthSent, Closed)
	if took := l.now.Sub(time.Unix(1e9, 0)); took != halfOpenTime {
		t.Errorf("b thought for %s", took)
	}

	// So does the time that a has for its signature.
	l = newLate(t)
	l.a.pass()
	l.want(Closed, InitAnswered)

	// Unknown numbers, and one that comes twice, are nothing.
	l = newLate(t)
	work = l.a.work[0]
	result := work.Do(context.Background())
	if err := l.a.do(ike.Done{ID: work.ID + 1, Result: result}); !errors.Is(err, errIgnored) {
		t.Error(err)
	}
	l.want(Proving, InitAnswered)
	l.a.finish()
	if err := l.a.do(ike.Done{ID: work.ID, Result: result}); !errors.Is(err, errIgnored) {
		t.Error(err)
	}
	l.want(AuthSent, Verifying)
}

// TestWorkOfAnotherAttempt has a second method, whose attempt must not take the
// result of the first one.
func TestWorkOfAnotherAttempt(t *testing.T) {
	l := newLate(t)
	l.a.m.start.untried = []ike.AuthMethod{secret("other")}
	first := l.a.work[0]
	l.b.hold = true
	if err := l.a.do(ike.Done{ID: first.ID, Result: proof{err: errors.New("no key")}}); err != nil {
		t.Fatal(err)
	}
	l.want(InitSent, InitAnswered)
	if err := l.a.do(ike.Done{ID: first.ID, Result: first.Do(context.Background())}); !errors.Is(err, errIgnored) {
		t.Error(err)
	}
	l.want(InitSent, InitAnswered)
}

// TestWorkDropped has a host that is too busy for each of the three, for which
// it is as if the message before had got lost.
func TestWorkDropped(t *testing.T) {
	drop := func(e *lateEnd) {
		t.Helper()
		w := e.work[0]
		e.work = e.work[1:]
		if err := e.do(ike.Done{ID: w.ID, Result: ike.ErrDropped}); !errors.Is(err, ike.ErrDropped) {
			t.Errorf("%v", err)
		}
	}
	l := newLate(t)
	l.a.finish()
	drop(l.b)
	l.want(AuthSent, InitAnswered)
	l.a.pass() // sends the request again
	l.want(AuthSent, Verifying)
	l.b.finish()
	l.want(Verifying, Established)
	drop(l.a)
	l.want(AuthSent, Established)
	l.a.pass()
	l.want(Verifying, Established)
	l.a.finish()
	l.want(Established, Established)

	l = newLate(t)
	drop(l.a)
	l.want(Closed, InitAnswered)
	failed := l.a.effects[0].(ike.Failed)
	if !errors.Is(failed.Why, ike.ErrBusy) || failed.Policy != "tunnel" {
		t.Errorf("failed with %v", failed)
	}
}

// The memory that a Work uses is its own: the machine wipes its keys meanwhile.
func TestWorkIsApart(t *testing.T) {
	l := newLate(t)
	l.a.finish()
	do := func() judgement { return l.b.work[0].Do(context.Background()).(judgement) }
	before := do()
	if err := l.b.do(ike.Close{Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	after := do()
	if before.err != nil || after.err != nil || !bytes.Equal(before.proof.auth.Data, after.proof.auth.Data) {
		t.Errorf("before the keys were wiped %v, %v, and after %v, %v", before.proof.auth, before.err, after.proof.auth, after.err)
	}
}

// Each Work has randomness of its own, which is none of the machine's.
func TestSource(t *testing.T) {
	l := newLate(t)
	read := func() []byte {
		r, err := l.a.m.source()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	x, y := read(), read()
	if bytes.Equal(x, y) || bytes.Equal(x[:16], x[16:32]) || bytes.Equal(x[:16], make([]byte, 16)) {
		t.Errorf("%x and %x", x, y)
	}
}
