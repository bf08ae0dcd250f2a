package ikev2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// begun returns a pair whose a has sent IKE_SA_INIT, and what a host that sees
// it may answer in b's place.
func begun(t *testing.T) (w *pair, m *SA, forge func(version uint8, ps ...wire.Payload) []byte) {
	t.Helper()
	w = newPair()
	w.a.Policy.Proposals = []ipsec.Proposal{suiteByHand(36)}
	m = w.acquire(t, nil, tunnel()).(*SA)
	return w, m, func(version uint8, ps ...wire.Payload) []byte {
		data, err := wire.Encode(wire.Header{SPIi: m.cur.spiI, Version: wire.Version2, Exchange: wire.IKESAInit, Response: true}, ps)
		if err != nil {
			t.Fatal(err)
		}
		data[17] = version
		return data
	}
}

// TestForgedRefusal has somebody say that b wants nothing of a, just before b
// says what it does want (RFC 7296 section 2.21.1).
func TestForgedRefusal(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version uint8
		kind    wire.NotifyType
	}{
		{"no proposal", 0x20, wire.NoProposalChosen},
		{"invalid syntax", 0x20, wire.InvalidSyntax},
		{"an error that nobody knows", 0x20, 8191},
		{"major version", 0x20, wire.InvalidMajorVersion},
		{"another version", 0x10, wire.NoProposalChosen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, m, forge := begun(t)
			// There are exchanges to come when a would believe the refusal.
			w.Faults.Delay = 200 * time.Millisecond
			// What another version says is refused, and heard all the same.
			_ = w.a.Do(m, ike.Datagram{Local: m.local, Remote: m.remote, Data: forge(tt.version, &wire.Notify{Kind: tt.kind})})
			w.Run(10 * time.Second)
			if len(w.a.Alive()) != 1 || len(w.b.Alive()) != 1 || len(w.a.Failed) != 0 {
				t.Errorf("not connected: %v", w.a.Failed)
			}
		})
	}
}

// TestHonestRefusal has a peer that is serious. It is asked once, and believed
// soon.
func TestHonestRefusal(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version uint8
		kind    wire.NotifyType
		want    error
		cause   ike.Cause
	}{
		{"no proposal", 0x20, wire.NoProposalChosen, ike.ErrNoProposal, ike.CauseNoProposal},
		{"invalid syntax", 0x20, wire.InvalidSyntax, ike.ErrRefused, ike.CauseRefused},
		{"major version", 0x20, wire.InvalidMajorVersion, ike.ErrRefused, ike.CauseRefused},
		{"another version", 0x10, wire.NoProposalChosen, ike.ErrRefused, ike.CauseRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, m, forge := begun(t)
			w.Mangle = func(_, _ netip.AddrPort, _ []byte) []byte { return nil }
			w.Faults.Loss = 1
			sent := len(w.a.Sent)
			_ = w.a.Do(m, ike.Datagram{Local: m.local, Remote: m.remote, Data: forge(tt.version, &wire.Notify{Kind: tt.kind})})
			if len(w.a.Failed) != 0 {
				t.Error("gave up at once")
			}
			// What comes later, in the same vein, does not delay the end.
			w.Run(300 * time.Millisecond)
			_ = w.a.Do(m, ike.Datagram{Local: m.local, Remote: m.remote, Data: forge(tt.version, &wire.Notify{Kind: tt.kind})})
			w.Now = w.Now.Add(250 * time.Millisecond)
			if err := w.a.Do(m, ike.Tick{}); err != nil {
				t.Fatal(err)
			}
			var why *ike.NegotiationError
			if len(w.a.Failed) != 1 || !errors.As(w.a.Failed[0].Why, &why) || !errors.Is(why, tt.want) || ike.CauseOf(why) != tt.cause {
				t.Fatalf("failures %v", w.a.Failed)
			}
			if errors.Is(why, ike.ErrNoIKE) || errors.Is(why, ike.ErrNoAnswer) {
				t.Errorf("a peer that answers speaks IKE: %v", why)
			}
			if n := len(w.a.Sent) - sent; n != 0 {
				t.Errorf("asked %d times more", n)
			}
		})
	}
}

// TestCookieSizes has cookies of 1 to 64 bytes, and others (RFC 7296
// section 2.6). What follows a good one is the same message with it in front.
func TestCookieSizes(t *testing.T) {
	for _, tt := range []struct {
		size int
		good bool
	}{{0, false}, {1, true}, {64, true}, {65, false}} {
		t.Run(fmt.Sprint(tt.size), func(t *testing.T) {
			w, m, forge := begun(t)
			first := w.a.Sent[0].Data
			cookie := bytes.Repeat([]byte{7}, tt.size)
			if err := w.a.Do(m, ike.Datagram{Local: m.local, Remote: m.remote, Data: forge(0x20, &wire.Notify{Kind: wire.Cookie, Data: cookie})}); (err == nil) != tt.good {
				t.Errorf("%v", err)
			}
			if !tt.good {
				if len(w.a.Sent) != 1 {
					t.Error("sent something")
				}
				return
			}
			h1, before, err1 := wire.Decode(first)
			h2, after, err2 := wire.Decode(w.a.Sent[1].Data)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			n, ok := after[0].(*wire.Notify)
			if !ok || n.Kind != wire.Cookie || !bytes.Equal(n.Data, cookie) {
				t.Errorf("the first payload is %v", after[0])
			}
			h1.FirstPayload, h2.FirstPayload = 0, 0
			_, rest, err := wire.EncodePayloads(after[1:])
			_, whole, err2 := wire.EncodePayloads(before)
			if err != nil || err2 != nil || h1 != h2 || !bytes.Equal(rest, whole) {
				t.Error("the message changed otherwise")
			}
		})
	}
}

// TestCookieAndGroup has a peer that wants a cookie and then another group: the
// cookie comes along (RFC 7296 section 2.6.1), with the same SPI and nonce.
func TestCookieAndGroup(t *testing.T) {
	w := newPair()
	p := suiteByHand()
	p.Transforms = append(p.Transforms, ipsec.Transform{Type: ipsec.TypeGroup, ID: 36})
	w.a.Policy.Proposals = []ipsec.Proposal{p}
	m := w.acquire(t, nil, tunnel()).(*SA)
	answer := func(n *wire.Notify) {
		t.Helper()
		data, err := wire.Encode(wire.Header{SPIi: m.cur.spiI, Version: wire.Version2, Exchange: wire.IKESAInit, Response: true}, []wire.Payload{n})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.a.Do(m, ike.Datagram{Local: m.local, Remote: m.remote, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	answer(&wire.Notify{Kind: wire.Cookie, Data: []byte("cookie")})
	answer(&wire.Notify{Kind: wire.InvalidKEPayload, Data: binary.BigEndian.AppendUint16(nil, 36)})
	var nonces [][]byte
	for i, s := range w.a.Sent {
		h, ps, err := wire.Decode(s.Data)
		if err != nil {
			t.Fatal(err)
		}
		nonce, _ := wire.Find[*wire.Nonce](ps)
		nonces = append(nonces, nonce.Data)
		ke, _ := wire.Find[*wire.KE](ps)
		_, cookie := wire.FindNotify(ps, wire.Cookie)
		if want := []uint16{31, 31, 36}[i]; ke.Group != want || cookie != (i > 0) || h.SPIi != m.cur.spiI || h.MessageID != 0 {
			t.Errorf("message %d: group %d, cookie %v, %v", i, ke.Group, cookie, h)
		}
	}
	if len(nonces) != 3 || !bytes.Equal(nonces[0], nonces[2]) {
		t.Errorf("%d messages, or another nonce", len(nonces))
	}
	// Time and again is too often.
	for range 10 {
		answer(&wire.Notify{Kind: wire.Cookie, Data: []byte("cookie")})
	}
	if n := len(w.a.Sent); n != 1+maxRestarts {
		t.Errorf("%d messages", n)
	}
}

// TestExtensions looks at what both ends say in IKE_SA_INIT.
func TestExtensions(t *testing.T) {
	type kinds = []wire.NotifyType
	for _, tt := range []struct {
		name     string
		a, b     func(*ike.Policy)
		wantA    kinds
		wantB    kinds
		fragment bool
	}{
		{"default", nil, nil, kinds{16430, 16431, 16438}, kinds{16430, 16431, 16438, 16418}, true},
		{"a without fragments", func(p *ike.Policy) { p.FragmentSize = -1 }, nil, kinds{16431, 16438}, kinds{16431, 16438, 16418}, false},
		{"b without fragments", nil, func(p *ike.Policy) { p.FragmentSize = -1 }, kinds{16430, 16431, 16438}, kinds{16431, 16438, 16418}, false},
		{"a has a PPK", func(p *ike.Policy) { p.PPKs = []ike.PPK{ppkOne} }, nil, kinds{16430, 16431, 16438, 16435}, kinds{16430, 16431, 16438, 16418}, true},
		{"b has a PPK", nil, func(p *ike.Policy) { p.PPKs = []ike.PPK{ppkOne} }, kinds{16430, 16431, 16438}, kinds{16430, 16431, 16438, 16418}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newPair()
			if tt.a != nil {
				tt.a(&w.a.Policy)
			}
			if tt.b != nil {
				tt.b(&w.b.Policy)
			}
			w.acquire(t, nil, tunnel())
			w.Run(time.Second)
			said := func(data []byte) (out kinds) {
				_, ps, err := wire.Decode(data)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range ps {
					if n, ok := p.(*wire.Notify); ok && n.Kind != wire.NATDetectionSourceIP && n.Kind != wire.NATDetectionDestinationIP {
						out = append(out, n.Kind)
					}
				}
				return out
			}
			if got := said(w.a.Sent[0].Data); !slices.Equal(got, tt.wantA) {
				t.Errorf("a says %v, want %v", got, tt.wantA)
			}
			if got := said(w.b.Sent[0].Data); !slices.Equal(got, tt.wantB) {
				t.Errorf("b says %v, want %v", got, tt.wantB)
			}
			if len(w.a.Established) != 1 || len(w.b.Established) != 1 {
				t.Fatalf("%v %v", w.a.Failed, w.b.Failed)
			}
			a, b := w.a.Established[0].Peer, w.b.Established[0].Peer
			if a.Fragmentation != tt.fragment || b.Fragmentation != tt.fragment || !a.Childless || b.Childless {
				t.Errorf("%+v and %+v", a, b)
			}
		})
	}
}

// TestWindowAnnounced has both ends tell each other how many requests they
// take, in IKE_AUTH.
func TestWindowAnnounced(t *testing.T) {
	for _, tt := range []struct{ policy, want int }{{0, 8}, {1, 1}, {3, 3}, {1000, maxWindow}, {-1, 8}} {
		t.Run(fmt.Sprint(tt.policy), func(t *testing.T) {
			w := newPair()
			w.b.Policy.Window = tt.policy
			w.acquire(t, nil, tunnel())
			w.Run(time.Second)
			if len(w.a.Established) != 1 || w.a.Established[0].Peer.Window != tt.want || w.b.Established[0].Peer.Window != 8 {
				t.Errorf("%+v", w.a.Established)
			}
		})
	}
}

// TestAuthLifetime has a responder that wants its peer to authenticate anew
// after a while (RFC 4478), and says so with IKE_AUTH.
func TestAuthLifetime(t *testing.T) {
	w := newPair()
	w.a.Policy.Proposals = []ipsec.Proposal{suiteByHand()}
	w.b.Policy.Reauth = 1000*time.Second + 500*time.Millisecond
	said := w.watch(t)
	w.acquire(t, nil, tunnel())
	w.Run(time.Second)
	n, ok := wire.FindNotify((*said)[len(*said)-1].ps, 16403)
	if !ok || binary.BigEndian.Uint32(n.Data) != 1000 {
		t.Fatalf("AUTH_LIFETIME %v", n)
	}
	if d := w.a.Established[0].Peer.Renew.Sub(w.a.Established[0].Peer.Since); d != 1000*time.Second {
		t.Errorf("a is to authenticate anew after %s", d)
	}
}

// TestTraceInit sees all four messages of a beginning, in clear.
func TestTraceInit(t *testing.T) {
	w := newPair()
	w.a.Policy.Proposals = []ipsec.Proposal{suiteByHand()}
	var got []string
	c := w.a.Config(w.b.Addr)
	c.Trace = func(m ike.Message) {
		got = append(got, fmt.Sprintf("%s sent %v %d payloads again %v", m.Header.Exchange, m.Sent, min(len(m.Payloads), 5), m.Again))
	}
	m := NewInitiator(c)
	w.acquire(t, m, tunnel())
	w.Run(time.Second)
	want := []string{
		"IKE_SA_INIT sent true 5 payloads again false", "IKE_SA_INIT sent false 5 payloads again false",
		"IKE_AUTH sent true 5 payloads again false", "IKE_AUTH sent false 5 payloads again false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("traced %q", got)
	}
}

// TestBadPublicValue has peers whose half of the key exchange is none.
func TestBadPublicValue(t *testing.T) {
	for _, tt := range []struct {
		name  string
		group uint16
		data  []byte
	}{
		{"X25519, zero", 31, make([]byte, 32)},
		{"X25519, short", 31, make([]byte, 31)},
		{"ML-KEM-768, short", 36, make([]byte, 32)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, h := newByHand(t, true)
			s := suiteByHand()
			s.Transforms[2].ID = tt.group
			h.Policy.Proposals = []ipsec.Proposal{s}
			request, err := wire.Encode(wire.Header{SPIi: p.spiI, Version: wire.Version2, Exchange: 34, Initiator: true}, []wire.Payload{
				&wire.SA{Proposals: []ipsec.Proposal{s}}, &wire.KE{Group: tt.group, Data: tt.data}, &wire.Nonce{Data: p.ni},
			})
			p.must(err)
			m := NewResponder(h.Config(p.a.Addr()))
			_, ps, err := wire.Decode(p.one(p.send(h, m, request)))
			p.must(err)
			if _, ok := wire.FindNotify(ps, wire.InvalidSyntax); !ok || m.State() != Closed || len(h.Machines) != 0 {
				t.Errorf("%v, %s", ps, m.State())
			}
		})
	}
}

// TestExplained looks at who is told what of a failure.
func TestExplained(t *testing.T) {
	var why, theirs *ike.NegotiationError
	failed := func(w *pair) {
		t.Helper()
		w.acquire(t, nil, tunnel())
		w.Run(5 * time.Second)
		if len(w.a.Failed) != 1 || !errors.As(w.a.Failed[0].Why, &why) || len(w.b.Failed) != 1 || !errors.As(w.b.Failed[0].Why, &theirs) {
			t.Fatalf("%v %v", w.a.Failed, w.b.Failed)
		}
	}
	w := newPair()
	w.a.Policy.Proposals, w.b.Policy.Proposals = []ipsec.Proposal{suiteByHand()}, []ipsec.Proposal{suiteByHand(36)}
	failed(w)
	if len(why.Ours.Proposals) != 1 || len(why.Theirs.Proposals) != 0 || len(theirs.Ours.Proposals) != 1 || len(theirs.Theirs.Proposals) != 1 {
		t.Errorf("proposals: %v, %v", why, theirs)
	}

	w = newPair()
	w.b.Policy.Auth = []ike.AuthMethod{secret("another")}
	failed(w)
	if why.Side != ike.PeerSide || why.Hint == "" || why.Identity != "" {
		t.Errorf("the peer refused us: %+v", why)
	}
	if theirs.Identity != "10.0.0.1" || !errors.Is(theirs, ike.ErrWrongKey) {
		t.Errorf("we refused the peer: %+v", theirs)
	}

	w = newPair()
	w.a.Policy.PeerID = "somebody.else"
	w.acquire(t, nil, tunnel())
	w.Run(5 * time.Second)
	if !errors.As(w.a.Failed[0].Why, &why) || ike.CauseOf(why) != ike.CauseIdentity || why.Identity != "10.0.0.2" {
		t.Errorf("we refused the responder: %v", w.a.Failed[0].Why)
	}
}

// TestKeysWiped looks for SK_d, SK_pi and SK_pr after they have served.
func TestKeysWiped(t *testing.T) {
	zero := make([]byte, 32)
	l := newLate(t)
	l.a.finish()
	l.b.finish()
	l.a.finish()
	for _, e := range []*lateEnd{l.a, l.b} {
		k := e.m.cur.keys
		if bytes.Equal(k.d, zero) || !bytes.Equal(k.pi, zero) || !bytes.Equal(k.pr, zero) || e.m.start != nil {
			t.Error("SK_pi and SK_pr outlive authentication, or SK_d does not")
		}
		if err := e.do(ike.Close{Reason: "test", Silent: true}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(k.d, zero) {
			t.Error("SK_d outlives the IKE SA")
		}
	}
	l = newLate(t)
	l.a.finish()
	work := l.b.work[0]
	if err := l.b.do(ike.Done{ID: work.ID, Result: judgement{verdict: verdict{err: ike.ErrAuthentication}}}); err != nil {
		t.Fatal(err)
	}
	l.want(Closed, Refused)
	for _, e := range []*lateEnd{l.a, l.b} {
		if k := e.m.cur.keys; !bytes.Equal(k.d, zero) || !bytes.Equal(k.pi, zero) || !bytes.Equal(k.pr, zero) {
			t.Errorf("%s: keys outlive a refusal", e.m.State())
		}
	}
}
