package ikev2

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// sealed is a message of one end to the other with a chain of payloads that
// need not make sense.
func sealed(t testing.TB, from *SA, h wire.Header, first wire.PayloadType, plain []byte) []byte {
	t.Helper()
	data, err := wire.Seal(h, first, plain, from.cur.out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestMalformedRequest ends the IKE SA at both ends, and neither says more of
// it than INVALID_SYNTAX (RFC 7296 section 2.21.3).
func TestMalformedRequest(t *testing.T) {
	short := []byte{0, 0, 0, 3}
	for _, tt := range []struct {
		name  string
		x     wire.ExchangeType
		first wire.PayloadType
		plain []byte
	}{
		{"payload shorter than its header", wire.Informational, wire.TypeNotify, short},
		{"payload that is announced and missing", wire.Informational, wire.TypeNotify, nil},
		{"bytes behind the last payload", wire.Informational, wire.NoNextPayload, short},
		{"CREATE_CHILD_SA of nothing", wire.CreateChildSA, wire.NoNextPayload, nil},
		{"a second IKE_AUTH", wire.IKEAuth, wire.NoNextPayload, nil},
		{"exchange that is not known", 240, wire.NoNextPayload, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, a, b := established(t)
			x := &ask{x: tt.x}
			m := &outgoing{contents: contents{header: a.cur.header(tt.x, a.cur.ours.next, false), first: tt.first, plain: tt.plain}, cipher: a.cur.out}
			m.data = [][]byte{sealed(t, a, m.header, m.first, m.plain)}
			a.dispatch(a.cur, m, x)
			p.hand(p.b, b, m.data[0])
			p.Run(time.Second)
			if a.state != Closed || b.state != Closed {
				t.Errorf("a is %s, b %s", a.state, b.state)
			}
			if n, ok := wire.FindNotify(x.answer, wire.InvalidSyntax); !ok || len(x.answer) != 1 || len(n.Data) != 0 {
				t.Errorf("the answer is %v", x.answer)
			}
			if len(p.a.Alive())+len(p.b.Alive()) != 0 {
				t.Error("Child SAs are left")
			}
		})
	}
}

// TestUnknownPayloads are passed over, unless they are critical (RFC 7296
// section 2.5).
func TestUnknownPayloads(t *testing.T) {
	for _, critical := range []bool{false, true} {
		t.Run(fmt.Sprintf("critical %v", critical), func(t *testing.T) {
			p, a, b := established(t)
			x := begin(t, p.a, a, &ask{x: wire.Informational, ps: []wire.Payload{&wire.Unknown{Kind: 47, Critical: critical}}})
			p.Run(time.Second)
			n, refused := wire.FindNotify(x.answer, wire.UnsupportedCriticalPayload)
			if x.ended != 1 || refused != critical || critical && (len(n.Data) != 1 || n.Data[0] != 47) {
				t.Errorf("answered %d times with %v", x.ended, x.answer)
			}
			if a.state != Established || b.state != Established {
				t.Errorf("a is %s, b %s", a.state, b.state)
			}
		})
	}
}

// TestMalformedAnswer closes an IKE SA whose peer cannot be understood: it
// would give the same answer again.
func TestMalformedAnswer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first wire.PayloadType
		plain []byte
	}{
		{"malformed", wire.TypeNotify, []byte{0, 0, 0, 3}},
		{"unknown and critical", 200, []byte{0, 0x80, 0, 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, a, b := established(t)
			fromA := p.catch(p.a.Addr)
			x := asks(t, p.a, a, 1)[0]
			h, err := wire.ParseHeader((*fromA)[0])
			if err != nil {
				t.Fatal(err)
			}
			p.Mangle = nil
			p.hand(p.a, a, sealed(t, b, b.cur.header(h.Exchange, h.MessageID, true), tt.first, tt.plain))
			if a.state != Closing || x.ended != 0 {
				t.Errorf("a is %s, the request ended %d times", a.state, x.ended)
			}
			p.hand(p.b, b, *fromA...) // that b has seen it before the deletion comes
			p.Run(time.Second)
			if a.state != Closed || b.state != Closed {
				t.Errorf("a is %s, b %s", a.state, b.state)
			}
		})
	}
}

// TestIgnored has messages that change nothing and get no answer.
func TestIgnored(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(a, b *SA, h *wire.Header)
	}{
		{"SPIs that are not known", func(_, _ *SA, h *wire.Header) { h.SPIr++ }},
		{"our own flag", func(_, _ *SA, h *wire.Header) { h.Initiator = !h.Initiator }},
		{"answer that nobody waits for", func(_, _ *SA, h *wire.Header) { h.Response = true }},
		{"request beyond the window", func(_, b *SA, h *wire.Header) { h.MessageID = b.cur.theirs.next + 8 }},
		{"request long before", func(_, b *SA, h *wire.Header) { b.cur.theirs.queries, h.MessageID = nil, 0 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, a, b := established(t)
			h := a.cur.header(wire.Informational, b.cur.theirs.next, false)
			tt.change(a, b, &h)
			sent := len(p.b.Sent)
			errs := p.hand(p.b, b, sealed(t, a, h, wire.NoNextPayload, nil))
			if !errors.Is(errs[0], errIgnored) || len(p.b.Sent) != sent || b.state != Established {
				t.Errorf("%v, %d answers, %s", errs[0], len(p.b.Sent)-sent, b.state)
			}
		})
	}
	t.Run("other major version", func(t *testing.T) {
		p, a, b := established(t)
		data := sealed(t, a, a.cur.header(wire.Informational, b.cur.theirs.next, false), wire.NoNextPayload, nil)
		data[17] = 0x30
		if errs := p.hand(p.b, b, data); !errors.Is(errs[0], errIgnored) {
			t.Error(errs[0])
		}
	})
	t.Run("higher minor version", func(t *testing.T) { // is not ignored (RFC 7296 section 2.5)
		p, a, b := established(t)
		h := a.cur.header(wire.Informational, b.cur.theirs.next, false)
		h.Version, h.HigherMinor = wire.Version2|3, true
		if errs := p.hand(p.b, b, sealed(t, a, h, wire.NoNextPayload, nil)); errs[0] != nil || b.cur.theirs.next != h.MessageID+1 {
			t.Errorf("%v, %d is the next", errs[0], b.cur.theirs.next)
		}
	})
}

// TestRequestInProgress has a responder asked again while its Work is under
// way: it neither answers nor begins anew, and answers once.
func TestRequestInProgress(t *testing.T) {
	p := newPair()
	fromA := p.catch(p.a.Addr)
	a := p.acquire(t, nil, tunnel()).(*SA)
	b := NewResponder(p.b.Config(p.a.Addr))
	now := time.Unix(1e9, 0)
	local, remote := netip.AddrPortFrom(p.b.Addr, 500), netip.AddrPortFrom(p.a.Addr, 500)
	var works []ike.Work
	// give has b take an event, and counts what b sends to a.
	give := func(ev ike.Event) (sends int) {
		effects, err := b.Handle(now, ev)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range effects {
			switch e := e.(type) {
			case ike.Work:
				works = append(works, e)
			case ike.Send:
				sends++
				p.hand(p.a, a, e.Data)
			}
		}
		return sends
	}
	// feed gives b all that a sends, until neither has more to say.
	feed := func() (sends int) {
		for len(*fromA) > 0 {
			data := (*fromA)[0]
			*fromA = (*fromA)[1:]
			sends += give(ike.Datagram{Local: local, Remote: remote, Data: data})
		}
		return sends
	}
	feed()
	if len(works) != 1 || a.state != AuthSent {
		t.Fatalf("%d Works, a is %s", len(works), a.state)
	}
	for range 3 {
		p.Run(2 * time.Second) // a asks again
		if n := feed(); n != 0 || len(works) != 1 {
			t.Fatalf("%d answers, %d Works", n, len(works))
		}
	}
	answers := 0
	for len(works) > 0 {
		w := works[0]
		works = works[1:]
		answers += give(ike.Done{ID: w.ID, Result: w.Do(t.Context())})
	}
	if answers != 1 || a.state != Established || b.state != Established {
		t.Errorf("%d answers, a is %s, b %s", answers, a.state, b.state)
	}
}

// TestAnswerLostBeforeNewKeys loses the answer to IKE_INTERMEDIATE, after which
// the responder has other keys than those that the request comes again under
// (RFC 9370 section 2.2.2).
func TestAnswerLostBeforeNewKeys(t *testing.T) {
	for _, size := range []int{576, -1} {
		t.Run(fmt.Sprintf("fragments of %d", size), func(t *testing.T) {
			p := newPair()
			p.a.Policy.FragmentSize, p.b.Policy.FragmentSize = size, size
			lost := 0
			p.Mangle = func(_, _ netip.AddrPort, data []byte) []byte {
				if h, err := wire.ParseHeader(data); err == nil && h.Exchange == wire.IKEIntermediate && h.Response && lost < 2 {
					lost++
					return nil
				}
				return data
			}
			p.acquire(t, nil, tunnel())
			p.Run(10 * time.Second)
			if lost != 2 || len(p.a.Alive()) != 1 || len(p.b.Alive()) != 1 {
				t.Errorf("%d lost; %d and %d Child SAs: %v", lost, len(p.a.Alive()), len(p.b.Alive()), p.a.Failed)
			}
		})
	}
}

// TestTrace reads what both ends tell of an exchange with a lost answer.
func TestTrace(t *testing.T) {
	p := newPair()
	proposals := []ipsec.Proposal{proposalPRF(ipsec.PRFHMACSHA256)}
	p.a.Policy.Proposals, p.b.Policy.Proposals = proposals, proposals
	told := map[netip.Addr][]string{}
	trace := func(h *iketest.Host, c ike.MachineConfig) ike.MachineConfig {
		c.Trace = func(m ike.Message) {
			line := "<- "
			if m.Sent {
				line = "-> "
			}
			if m.Again {
				line += "again "
			}
			s, _, _ := strings.Cut(wire.Describe(m.Header, m.Payloads), ":")
			told[h.Addr] = append(told[h.Addr], fmt.Sprintf("%s%s, %d payloads", line, s, len(m.Payloads)))
			if m.Size == 0 || m.At.IsZero() || m.Local.Addr() != h.Addr {
				t.Errorf("%+v", m)
			}
		}
		return c
	}
	p.b.Responder = func(c ike.MachineConfig) ike.Machine { return NewResponder(trace(p.b, c)) }
	lost := false
	p.Mangle = func(_, _ netip.AddrPort, data []byte) []byte {
		if h, err := wire.ParseHeader(data); err == nil && h.Exchange == wire.IKEAuth && h.Response && !lost {
			lost = true
			return nil
		}
		return data
	}
	p.acquire(t, NewInitiator(trace(p.a, p.a.Config(p.b.Addr))), tunnel())
	p.Run(2 * time.Second)
	strip := func(lines []string) (out []string) {
		for _, l := range lines {
			s, n, _ := strings.Cut(l, ", ")
			if n == "0 payloads" {
				t.Errorf("nothing in %s", l)
			}
			out = append(out, s)
		}
		return out
	}
	want := []string{
		"-> IKE_SA_INIT request 0", "<- IKE_SA_INIT response 0", "-> IKE_AUTH request 1", "-> again IKE_AUTH request 1", "<- IKE_AUTH response 1",
	}
	if got := strip(told[p.a.Addr]); !slices.Equal(got, want) {
		t.Errorf("a tells %q, want %q", got, want)
	}
	want = []string{
		"<- IKE_SA_INIT request 0", "-> IKE_SA_INIT response 0", "<- IKE_AUTH request 1", "-> IKE_AUTH response 1",
		"<- again IKE_AUTH request 1", "-> again IKE_AUTH response 1",
	}
	if got := strip(told[p.b.Addr]); !slices.Equal(got, want) {
		t.Errorf("b tells %q, want %q", got, want)
	}
}
