package ikev2

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// TestNull has a peer that proves nothing (RFC 7619): its AUTH payload is made
// with SK_pi, or with that which comes of a PPK, in the place of a preshared
// key, and the machine's with SK_pr.
func TestNull(t *testing.T) {
	nobody := &wire.ID{Kind: wire.IDNull}
	for _, tt := range []struct {
		name string
		may  bool // be anonymous
		ppk  bool
		good bool // its AUTH payload
	}{
		{"allowed", true, false, true},
		{"with a PPK", true, true, true},
		{"took no part in the key exchange", true, false, false},
		{"not allowed", false, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, h := newByHand(t, true, 36)
			if tt.may {
				h.Policy.Auth = []ike.AuthMethod{ike.Null{Ours: true, Theirs: true}}
			}
			h.Policy.PPKs = []ike.PPK{ppkOne}
			say := []wire.NotifyType{16438}
			if tt.ppk {
				say = append(say, 16435)
			}
			m, _ := p.begin(h, []ipsec.Proposal{suiteByHand(36)}, say...)
			p.exchange(h, m, 36)
			sk, more := p.sk, childPayloads()
			if tt.ppk {
				sk = p.ppk(string(ppkOne.Secret))
				more = append(more, &wire.Notify{Kind: 16436, Data: []byte("\x02one")})
			}
			key := sk.pi
			if !tt.good {
				key = make([]byte, 32)
			}
			auth := &wire.Auth{Method: 13, Data: macByHand(key, p.octets(true, sk, nobody))}
			_, ps := p.open(p.one(p.send(h, m, p.seal(35, 2, false, append([]wire.Payload{nobody, auth}, more...)...))))
			if !tt.may || !tt.good {
				if _, ok := wire.FindNotify(ps, wire.AuthenticationFailed); !ok || !errors.Is(h.Failed[0].Why, ike.ErrAuthentication) {
					t.Errorf("the answer is %v, %v", ps, h.Failed)
				}
				return
			}
			info := connected(t, h, 1)
			id, _ := wire.FindID(ps, true)
			got, _ := wire.Find[*wire.Auth](ps)
			if id.Kind != wire.IDNull || len(id.Data) != 0 || got.Method != 13 || !bytes.Equal(got.Data, macByHand(sk.pr, p.octets(false, sk, id))) {
				t.Errorf("the machine is %v, by %v", id, got)
			}
			if info.RemoteID == "" || info.RemoteID == "by.hand" {
				t.Errorf("the peer is %q", info.RemoteID)
			}
		})
	}
}

// TestNullWithPPK has ends that announce PPKs and prove nothing else, which may
// not go without one, whatever the policy says (RFC 8784 section 5.2.3).
func TestNullWithPPK(t *testing.T) {
	nobody := &wire.ID{Kind: wire.IDNull}
	refused := func(t *testing.T, h *iketest.Host, ps []wire.Payload) {
		t.Helper()
		if _, ok := wire.FindNotify(ps, wire.AuthenticationFailed); !ok || len(h.Failed) != 1 || ike.CauseOf(h.Failed[0].Why) != ike.CausePPK || len(h.Established) != 0 {
			t.Errorf("the answer is %v, %v", ps, h.Failed)
		}
	}
	unknown := &wire.Notify{Kind: 16436, Data: []byte("\x02two")}

	t.Run("initiator by hand", func(t *testing.T) {
		p, h := newByHand(t, true)
		h.Policy.Auth, h.Policy.PPKs = []ike.AuthMethod{secret("staff"), ike.Null{Theirs: true}}, []ike.PPK{ppkOne}
		m, _ := p.begin(h, []ipsec.Proposal{suiteByHand()}, 16435)
		mac := macByHand(p.sk.pi, p.octets(true, p.sk, nobody))
		auth := &wire.Auth{Method: wire.AuthNull, Data: mac}
		_, ps := p.open(p.one(p.send(h, m, p.seal(35, 1, false, append(childPayloads(), nobody, auth, unknown, &wire.Notify{Kind: 16437, Data: mac})...))))
		refused(t, h, ps)
	})
	t.Run("the machine would answer so", func(t *testing.T) {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		p, h := newByHand(t, true)
		h.Policy.Auth = []ike.AuthMethod{ike.RawKey{Peers: []ike.PeerKey{{Key: pub}}}, ike.Null{Ours: true}}
		h.Policy.PPKs = []ike.PPK{ppkOne}
		m, _ := p.begin(h, []ipsec.Proposal{suiteByHand()}, 16435, 16431)
		sig := append([]byte("\x07\x30\x05\x06\x03\x2b\x65\x70"), ed25519.Sign(key, p.octets(true, p.sk, identity))...)
		ps := p.tryAuth(h, m, &wire.Auth{Method: wire.AuthDigitalSignature, Data: sig}, append(childPayloads(), unknown, &wire.Notify{Kind: 16437, Data: sig})...)
		refused(t, h, ps)
	})
	for _, tt := range []struct {
		name      string
		auth      []ike.AuthMethod // the machine's, which begins
		supported bool             // the responder says USE_PPK
		used      bool             // and uses it
		noPPKAuth bool             // that the machine offers to do without
		good      bool
	}{
		{"used", []ike.AuthMethod{ike.Null{Ours: true, Theirs: true}}, true, true, false, true},
		{"not used", []ike.AuthMethod{ike.Null{Ours: true, Theirs: true}}, true, false, false, false},
		{"not used by an anonymous responder", []ike.AuthMethod{secret("staff"), ike.Null{Theirs: true}}, true, false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, h := newByHand(t, false)
			h.Policy.Auth, h.Policy.PPKs = tt.auth, []ike.PPK{ppkOne}
			m, _ := p.hear(h)
			_, ps := p.open(p.one(p.send(h, m, p.answerInit(suiteByHand(), 16435))))
			if _, may := wire.FindNotify(ps, 16437); may != tt.noPPKAuth {
				t.Errorf("NO_PPK_AUTH %v", may)
			}
			id := *nobody
			id.Responder = true
			sk, more := p.sk, childPayloads()
			if tt.used {
				sk, more = p.ppk(string(ppkOne.Secret)), append(more, &wire.Notify{Kind: 16436})
			}
			auth := &wire.Auth{Method: wire.AuthNull, Data: macByHand(sk.pr, p.octets(false, sk, &id))}
			next := p.send(h, m, p.seal(35, p.request.MessageID, true, append(more, &id, auth)...))
			if tt.good {
				if info := connected(t, h, 1); info.PPK != "one" || !info.Anonymous {
					t.Errorf("PPK %q, anonymous %v", info.PPK, info.Anonymous)
				}
				return
			}
			_, ps = p.open(p.one(next))
			refused(t, h, ps)
		})
	}
	t.Run("the responder knows no PPKs", func(t *testing.T) {
		for _, tt := range []struct {
			name string
			auth []ike.AuthMethod
			by   wire.AuthMethod // what the machine goes on with, 0 if it gives up
		}{
			{"null", []ike.AuthMethod{ike.Null{Ours: true, Theirs: true}}, 0},
			{"null, or a key", []ike.AuthMethod{ike.Null{Ours: true, Theirs: true}, secret("staff")}, wire.AuthPSK},
		} {
			p, h := newByHand(t, false)
			h.Policy.Auth, h.Policy.PPKs = tt.auth, []ike.PPK{ppkOne}
			m, _ := p.hear(h)
			next := p.send(h, m, p.answerInit(suiteByHand()))
			if tt.by == 0 {
				if len(next) != 0 || len(h.Failed) != 1 || ike.CauseOf(h.Failed[0].Why) != ike.CausePPK {
					t.Errorf("%s: %d datagrams, %v", tt.name, len(next), h.Failed)
				}
				continue
			}
			_, ps := p.open(p.one(next))
			if auth, ok := wire.Find[*wire.Auth](ps); !ok || auth.Method != tt.by {
				t.Errorf("%s: %v", tt.name, ps)
			}
		}
	})
}
