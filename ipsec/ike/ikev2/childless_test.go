package ikev2

import (
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// TestChildless has initiators that want to do without a Child SA in IKE_AUTH,
// and responders that can, and cannot (RFC 6023):
//
//	HDR(35), SK {IDi, AUTH} -->
//	<-- HDR(35), SK {IDr, AUTH}
//	HDR(36), SK {SA, Ni, KEi, TSi, TSr} -->
//	<-- HDR(36), SK {SA, Nr, KEr, TSi, TSr}
func TestChildless(t *testing.T) {
	for _, tt := range []struct {
		name      string
		childless bool
		groups    []uint16
		creates   int
	}{
		{"wanted", true, []uint16{ipsec.GroupX25519}, 1},
		{"wanted, without a key exchange", true, nil, 1},
		{"not wanted", false, []uint16{ipsec.GroupX25519}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newPair()
			w.a.Policy.Proposals = []ipsec.Proposal{suiteByHand()}
			w.a.Policy.Childless = tt.childless
			rule := withGroups(tt.groups...)
			w.b.Children = []ike.ChildPolicy{rule}
			said := w.watch(t)
			w.acquire(t, nil, rule)
			w.Run(time.Second)
			if len(w.a.Alive()) != 1 || len(w.b.Alive()) != 1 || len(w.a.Failed)+len(w.b.Failed) != 0 {
				t.Fatalf("%d and %d Child SAs, %v %v", len(w.a.Alive()), len(w.b.Alive()), w.a.Failed, w.b.Failed)
			}
			creates := 0
			for _, m := range *said {
				_, sa := wire.Find[*wire.SA](m.ps)
				_, ts := wire.Find[*wire.TS](m.ps)
				_, ke := wire.Find[*wire.KE](m.ps)
				switch m.Exchange {
				case 35:
					if sa == tt.childless || ts == tt.childless {
						t.Errorf("IKE_AUTH with SA %v, TS %v", sa, ts)
					}
				case 36:
					if ke != (len(tt.groups) > 0) {
						t.Errorf("CREATE_CHILD_SA with KE %v", ke)
					}
					if !m.Response {
						creates++
					}
				}
			}
			if creates != tt.creates {
				t.Errorf("%d CREATE_CHILD_SA, want %d", creates, tt.creates)
			}
		})
	}
}

// A responder that does not say CHILDLESS_IKEV2_SUPPORTED is asked for a Child
// SA with IKE_AUTH, whatever the policy wants; one that does is asked after.
func TestChildlessResponder(t *testing.T) {
	for _, can := range []bool{false, true} {
		p, h := newByHand(t, false)
		h.Policy.Childless = true
		m, _ := p.hear(h)
		var say []wire.NotifyType
		if can {
			say = append(say, 16418)
		}
		_, ps := p.open(p.one(p.send(h, m, p.answerInit(suiteByHand(), say...))))
		if _, sa := wire.Find[*wire.SA](ps); sa == can {
			t.Errorf("childless %v: SA %v", can, sa)
		}
		var more []wire.Payload
		if !can {
			more = childPayloads()
		}
		next := p.answerAuth(h, m, p.sk, more...)
		if can {
			hd, ps := p.open(p.one(next))
			if _, sa := wire.Find[*wire.SA](ps); !sa || hd.Exchange != 36 || hd.MessageID != 2 {
				t.Errorf("the machine goes on with %v, %v", hd, ps)
			}
			connected(t, h, 0)
		} else {
			connected(t, h, 1)
		}
	}
}

// An initiator by hand that wants no Child SA yet gets none, whoever the
// machine is, and may ask later.
func TestChildlessInitiator(t *testing.T) {
	p, h := newByHand(t, true)
	m, ps := p.begin(h, []ipsec.Proposal{suiteByHand()})
	if _, ok := wire.FindNotify(ps, 16418); !ok {
		t.Error("no CHILDLESS_IKEV2_SUPPORTED")
	}
	ps = p.authenticate(h, m, p.sk, p.sk)
	if _, ok := wire.Find[*wire.SA](ps); ok {
		t.Error("an SA in the answer")
	}
	connected(t, h, 0)
	nonce := make([]byte, 32)
	child := append([]wire.Payload{&wire.Nonce{Data: nonce}}, childPayloads()...)
	_, ps = p.open(p.one(p.send(h, m, p.seal(36, 2, false, child...))))
	if _, ok := wire.Find[*wire.SA](ps); !ok {
		t.Errorf("the answer is %v, %v", ps, h.Failed)
	}
	connected(t, h, 1)
}
