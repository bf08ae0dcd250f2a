package ikev2

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

func proposalPRF(id uint16) ipsec.Proposal {
	return ipsec.Proposal{Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}, {Type: ipsec.TypePRF, ID: id}, {Type: ipsec.TypeGroup, ID: ipsec.GroupX25519},
	}}
}

func TestCheckNonce(t *testing.T) {
	for _, tt := range []struct {
		name string
		prf  uint16
		len  int
		ok   bool
	}{
		{"SHA-1", ipsec.PRFHMACSHA1, 16, true},
		{"SHA-256", ipsec.PRFHMACSHA256, 16, true},
		{"SHA-384", ipsec.PRFHMACSHA384, 24, true},
		{"SHA-384, short", ipsec.PRFHMACSHA384, 23, false},
		{"SHA-512", ipsec.PRFHMACSHA512, 32, true},
		{"SHA-512, short", ipsec.PRFHMACSHA512, 31, false},
		{"SHA-512, longest", ipsec.PRFHMACSHA512, 256, true},
		{"our own with the longest PRF", ipsec.PRFHMACSHA512, nonceLen, true},
		{"no such PRF", 99, 32, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := checkNonce(make([]byte, tt.len), proposalPRF(tt.prf)); (err == nil) != tt.ok {
				t.Errorf("%v, want accepted %v", err, tt.ok)
			}
		})
	}
}

// TestShortNonceInInit shortens the nonce of one message on its way. If it
// were taken, authentication would fail, as both ends sign it.
func TestShortNonceInInit(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer bool // the responder's
		want   error
	}{
		{"initiator's", false, ike.ErrRefused},
		{"responder's", true, ike.ErrNoAnswer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair()
			p.a.Policy.Proposals = []ipsec.Proposal{proposalPRF(ipsec.PRFHMACSHA512)}
			p.Mangle = func(_, _ netip.AddrPort, data []byte) []byte {
				h, ps, err := wire.Decode(data)
				if n, ok := wire.Find[*wire.Nonce](ps); ok && err == nil && h.Response == tt.answer {
					n.Data = n.Data[:31]
					if data, err = wire.Encode(h, ps); err != nil {
						t.Error(err)
					}
				}
				return data
			}
			p.acquire(t, nil, tunnel())
			p.Run(time.Minute)
			if len(p.a.Failed) != 1 || !errors.Is(p.a.Failed[0].Why, tt.want) || len(p.a.Established)+len(p.b.Established) != 0 {
				t.Errorf("failures %v, want %v", p.a.Failed, tt.want)
			}
		})
	}
}

// established returns both ends of an IKE SA whose PRF has long keys.
func established(t *testing.T) (p *pair, a, b *SA) {
	t.Helper()
	p = newPair()
	p.a.Policy.Proposals = []ipsec.Proposal{proposalPRF(ipsec.PRFHMACSHA512)}
	p.acquire(t, nil, tunnel())
	p.Run(time.Second)
	if len(p.a.Alive()) != 1 {
		t.Fatalf("not connected: %v", p.a.Failed)
	}
	return p, p.a.Machines[0].(*SA), p.b.Machines[0].(*SA)
}

// queryOf is a request of the peer with these payloads.
func queryOf(ses *session, ps []wire.Payload) *query {
	return &query{ses: ses, message: message{payloads: ps}}
}

// TestShortNonceLater has a peer that is authenticated and saves on nonces.
func TestShortNonceLater(t *testing.T) {
	_, a, b := established(t)
	r, err := a.newChildRequest(ike.Acquire{Child: a.children[0].policy, Local: one(a.local.Addr()), Remote: one(a.remote.Addr())}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	good, err := b.answerCreate(queryOf(b.cur, r.payloads()))
	if err != nil {
		t.Fatal(err)
	}
	nr, ok := wire.Find[*wire.Nonce](good)
	if !ok {
		t.Fatalf("refused: %v", good)
	}
	if _, _, err := a.complete(r, good, r.ni, nr.Data[:31]); err == nil {
		t.Error("takes a short nonce in the answer")
	}
	short := *r
	short.ni = r.ni[:31]
	rekey := &rekeyIKE{of: a.cur}
	_, ps, _, err := rekey.begin(a)
	if err != nil {
		t.Fatal(err)
	}
	for name, ps := range map[string][]wire.Payload{"Child SA": short.payloads(), "IKE SA": ps} {
		n, _ := wire.Find[*wire.Nonce](ps)
		n.Data = n.Data[:31]
		answer, err := b.answerCreate(queryOf(b.cur, ps))
		if _, refused := wire.FindNotify(answer, wire.InvalidSyntax); err != nil || !refused {
			t.Errorf("%s: the answer to a short nonce is %v, %v", name, answer, err)
		}
	}
	for n := range 32 {
		if _, err := rekey.complete(a.cur, []wire.Payload{
			&wire.SA{Proposals: []ipsec.Proposal{rekey.offered[0]}}, &wire.KE{Group: rekey.group, Data: rekey.key.Public()}, &wire.Nonce{Data: make([]byte, n)},
		}); err == nil {
			t.Errorf("takes a nonce of %d bytes for a new IKE SA", n)
		}
	}
}

// A peer that has no room for the very first Child SA has none in another IKE
// SA either.
func TestNoAdditionalSAs(t *testing.T) {
	_, a, _ := established(t)
	no := []wire.Payload{&wire.Notify{Kind: wire.NoAdditionalSAs}}
	for _, tt := range []struct {
		name string
		ni   []byte
		full bool
	}{
		{"IKE_AUTH", nil, false},
		{"CREATE_CHILD_SA", make([]byte, nonceLen), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, exists, err := a.complete(&childRequest{ni: tt.ni}, no, nil, nil)
			if err == nil || exists || errors.Is(err, ike.ErrFull) != tt.full || errors.Is(err, ike.ErrRefused) == tt.full {
				t.Errorf("%v, exists %v", err, exists)
			}
		})
	}
}
