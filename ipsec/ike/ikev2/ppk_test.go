package ikev2

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

var (
	ppkOne = ike.PPK{ID: "one", Secret: []byte("the secret of the first of the keys")}
	ppkTwo = ike.PPK{ID: "two", Secret: []byte("the secret of the second of the keys")}
)

// TestPPKResponder is the table of RFC 8784 section 3, row by row and more,
// with a peer that is played by hand:
//
//	HDR(34), SAi1, KEi, Ni, N(USE_PPK 16435) -->
//	<-- HDR(34), SAr1, KEr, Nr, N(16435)
//	HDR(35), SK {IDi, AUTH, SAi2, TSi, TSr, N(PPK_IDENTITY 16436), N(NO_PPK_AUTH 16437)} -->
//	<-- HDR(35), SK {IDr, AUTH, SAr2, TSi, TSr, N(16436)}
func TestPPKResponder(t *testing.T) {
	const (
		standard = "standard"
		use      = "use the PPK"
		abort    = "abort"
	)
	for _, tt := range []struct {
		usePPK     bool // received USE_PPK
		noPPKAuth  bool // received NO_PPK_AUTH
		configured bool // has the PPK that the peer names
		mandatory  bool
		want       string
	}{
		{false, false, false, false, standard},
		{false, false, true, false, standard},
		{false, false, true, true, abort},
		{false, true, true, true, abort},
		{true, false, false, false, abort},
		{true, false, false, true, abort},
		{true, true, false, true, abort},
		{true, true, false, false, standard},
		{true, false, true, false, use},
		{true, false, true, true, use},
		{true, true, true, false, use},
		{true, true, true, true, use},
	} {
		for _, exchanges := range [][]uint16{nil, {36}} {
			t.Run(fmt.Sprintf("USE_PPK %v, NO_PPK_AUTH %v, configured %v, mandatory %v, %d exchanges", tt.usePPK, tt.noPPKAuth, tt.configured, tt.mandatory, len(exchanges)), func(t *testing.T) {
				p, h := newByHand(t, true, exchanges...)
				h.Policy.PPKs, h.Policy.PPKRequired = []ike.PPK{ppkOne}, tt.mandatory
				if tt.configured {
					h.Policy.PPKs = []ike.PPK{ppkOne, ppkTwo}
				}
				say := []wire.NotifyType{16438}
				if tt.usePPK {
					say = append(say, 16435)
				}
				m, ps := p.begin(h, []ipsec.Proposal{suiteByHand(exchanges...)}, say...)
				if _, ok := wire.FindNotify(ps, 16435); ok != tt.usePPK {
					t.Errorf("USE_PPK in the answer: %v", ok)
				}
				for _, x := range exchanges {
					p.exchange(h, m, x)
				}
				plain, mixed := p.sk, p.ppk(string(ppkTwo.Secret))
				sk, more := plain, childPayloads()
				if tt.usePPK {
					sk = mixed
					more = append(more, &wire.Notify{Kind: 16436, Data: append([]byte{2}, "two"...)})
				}
				if tt.noPPKAuth {
					more = append(more, &wire.Notify{Kind: 16437, Data: macByHand([]byte("staff"), p.octets(true, plain, identity))})
				}
				ps = p.tryAuth(h, m, &wire.Auth{Method: wire.AuthPSK, Data: macByHand([]byte("staff"), p.octets(true, sk, identity))}, more...)
				n, said := wire.FindNotify(ps, 16436)
				switch tt.want {
				case abort:
					if _, ok := wire.FindNotify(ps, wire.AuthenticationFailed); !ok || len(h.Failed) != 1 {
						t.Fatalf("the answer is %v, %v", ps, h.Failed)
					}
					var why *ike.NegotiationError
					if !errors.As(h.Failed[0].Why, &why) || ike.CauseOf(why) != ike.CausePPK || why.Hint == "" {
						t.Errorf("failed with %v", h.Failed[0].Why)
					}
					if s := h.Failed[0].Why.Error(); strings.Contains(s, string(ppkOne.Secret)) || strings.Contains(s, string(ppkTwo.Secret)) {
						t.Error("a secret in the failure")
					}
				case standard:
					p.checkAuth(ps, plain)
					if info := connected(t, h, 1); info.PPK != "" || said {
						t.Errorf("PPK %q, PPK_IDENTITY %v", info.PPK, said)
					}
					p.checkChild(h, plain)
				case use:
					p.checkAuth(ps, mixed)
					if info := connected(t, h, 1); info.PPK != "two" || !said || len(n.Data) != 0 {
						t.Errorf("PPK %q, PPK_IDENTITY %v %v", info.PPK, said, n)
					}
					p.checkChild(h, mixed)
				}
			})
		}
	}
}

// TestPPKOdd has what the table does not say of initiators.
func TestPPKOdd(t *testing.T) {
	for _, tt := range []struct {
		name     string
		identity *wire.Notify
		auth     []byte // of what IKE_AUTH is made: the PPK's secret, or nil
		required bool
		good     bool
	}{
		{"no PPK_IDENTITY after all", nil, nil, false, false},
		{"no PPK_IDENTITY, and one is required", nil, nil, true, false},
		{"the right name and another secret", &wire.Notify{Kind: 16436, Data: []byte("\x02one")}, ppkTwo.Secret, false, false},
		{"the right name and no secret", &wire.Notify{Kind: 16436, Data: []byte("\x02one")}, nil, false, false},
		{"PPK_ID of the opaque type", &wire.Notify{Kind: 16436, Data: []byte("\x01one")}, ppkOne.Secret, false, false},
		{"empty PPK_ID", &wire.Notify{Kind: 16436}, ppkOne.Secret, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, h := newByHand(t, true)
			h.Policy.PPKs, h.Policy.PPKRequired = []ike.PPK{ppkOne}, tt.required
			m, _ := p.begin(h, []ipsec.Proposal{suiteByHand()}, 16435)
			sk, more := p.sk, childPayloads()
			if tt.auth != nil {
				sk = p.ppk(string(tt.auth))
			}
			if tt.identity != nil {
				more = append(more, tt.identity)
			}
			ps := p.tryAuth(h, m, &wire.Auth{Method: wire.AuthPSK, Data: macByHand([]byte("staff"), p.octets(true, sk, identity))}, more...)
			if _, failed := wire.FindNotify(ps, wire.AuthenticationFailed); failed == tt.good {
				t.Errorf("the answer is %v, %v", ps, h.Failed)
			}
		})
	}
}

// TestPPKInitiator has the machine begin, and a responder that is played by
// hand.
func TestPPKInitiator(t *testing.T) {
	for _, tt := range []struct {
		name       string
		required   bool
		supported  bool // the responder says USE_PPK
		identity   bool // and PPK_IDENTITY
		mixed      bool // and proves itself with the PPK
		refused    string
		noPPKAuth  bool // that the machine offers to do without
		identified string
	}{
		{"both use it", false, true, true, true, "", true, "one"},
		{"both require it", true, true, true, true, "", false, "one"},
		{"the responder does not know it", false, true, false, false, "", true, ""},
		{"the responder does not know it, and it is required", true, true, false, false, "IKE_AUTH", false, ""},
		{"the responder does not use any", false, false, false, false, "", false, ""},
		{"the responder does not use any, and one is required", true, false, false, false, "IKE_SA_INIT", false, ""},
		{"the responder says it does, and does not", false, true, true, false, "IKE_AUTH", true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, h := newByHand(t, false)
			h.Policy.PPKs, h.Policy.PPKRequired = []ike.PPK{ppkOne, ppkTwo}, tt.required
			var say []wire.NotifyType
			if tt.supported {
				say = append(say, 16435)
			}
			failed := func() {
				t.Helper()
				var why *ike.NegotiationError
				if len(h.Failed) != 1 || !errors.As(h.Failed[0].Why, &why) || why.Step != tt.refused || len(h.Established) != 0 {
					t.Fatalf("%v, %v", h.Failed, h.Established)
				}
				if tt.required && (ike.CauseOf(why) != ike.CausePPK || why.Hint == "") {
					t.Errorf("failed with %v", why)
				}
			}
			m, said := p.hear(h)
			if _, ok := wire.FindNotify(said, 16435); !ok {
				t.Error("no USE_PPK")
			}
			if tt.required && !tt.supported {
				err := h.Do(m, ike.Datagram{Local: p.b, Remote: p.a, Data: p.answerInit(suiteByHand(), say...)})
				if err != nil || len(h.Failed) != 0 {
					t.Errorf("%v, %v: a better answer may come", err, h.Failed)
				}
				p.w.Run(time.Second)
				failed()
				return
			}
			next := p.send(h, m, p.answerInit(suiteByHand(), say...))
			_, ps := p.open(p.one(next))
			mixed, plain := p.ppk(string(ppkOne.Secret)), p.sk
			id, named := wire.FindNotify(ps, 16436)
			no, may := wire.FindNotify(ps, 16437)
			if named != tt.supported || named && string(id.Data) != "\x02one" || may != tt.noPPKAuth {
				t.Errorf("PPK_IDENTITY %v, NO_PPK_AUTH %v", id, may)
			}
			me, _ := wire.FindID(ps, false)
			if may && !bytes.Equal(no.Data, macByHand([]byte("staff"), p.octets(true, plain, me))) {
				t.Error("NO_PPK_AUTH proves nothing")
			}
			if named {
				p.checkAuth(ps, mixed)
			} else {
				p.checkAuth(ps, plain)
			}
			sk, more := plain, childPayloads()
			if tt.mixed {
				sk = mixed
			}
			if tt.identity {
				more = append(more, &wire.Notify{Kind: 16436})
			}
			p.answerAuth(h, m, sk, more...)
			if tt.refused != "" {
				failed()
				return
			}
			if info := connected(t, h, 1); info.PPK != tt.identified {
				t.Errorf("PPK %q", info.PPK)
			}
			p.checkChild(h, sk)
		})
	}
}

// TestPPKRequiredWithout has a policy that cannot be met.
func TestPPKRequiredWithout(t *testing.T) {
	w := newPair()
	w.a.Policy.PPKRequired = true
	w.acquire(t, nil, tunnel())
	if len(w.a.Failed) != 1 || ike.CauseOf(w.a.Failed[0].Why) != ike.CausePPK || len(w.a.Sent) != 0 {
		t.Errorf("%v, %d sent", w.a.Failed, len(w.a.Sent))
	}
}

// TestPPKLater rekeys an IKE SA with a PPK: SK_d of which the new keys are
// made is that with the PPK at both ends.
func TestPPKLater(t *testing.T) {
	w := newPair()
	w.a.Policy.PPKs, w.b.Policy.PPKs = []ike.PPK{ppkOne}, []ike.PPK{ppkTwo, ppkOne}
	m := w.acquire(t, nil, tunnel())
	w.Run(time.Second)
	w.acquire(t, m, tunnel())
	if err := w.a.Do(m, ike.RekeyIKE{}); err != nil {
		t.Fatal(err)
	}
	w.Run(time.Second)
	w.acquire(t, m, tunnel())
	w.Run(time.Second)
	if len(w.a.Alive()) != 3 || len(w.b.Alive()) != 3 || len(w.a.Changed) == 0 {
		t.Fatalf("%d and %d Child SAs, %d changes: %v %v", len(w.a.Alive()), len(w.b.Alive()), len(w.a.Changed), w.a.Failed, w.b.Failed)
	}
	if p := w.a.Changed[len(w.a.Changed)-1].Peer.PPK; p != "one" {
		t.Errorf("PPK %q after the rekeying", p)
	}
}
