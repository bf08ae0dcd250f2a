package ikev2

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
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
