package ike

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// Null is NULL authentication (RFC 7619): who uses it proves nothing, and what
// comes of it protects from those who only listen. The two ends need not both
// use it: beside a Certificate that has authorities only, Null{Ours: true} is
// for an initiator that stays anonymous and wants to know whom it talks to;
// beside our own certificate, Null{Theirs: true} is for the responder.
type Null struct {
	Ours   bool // we may prove nothing
	Theirs bool // the peer may prove nothing
}

var _ AuthMethod = Null{}

// String returns the rule file's keyword.
func (Null) String() string { return "null" }

// Identity returns ID_NULL, which names nobody.
func (Null) Identity(string, netip.Addr) (wire.ID, error) { return wire.ID{Kind: wire.IDNull}, nil }

// Proves holds if we may prove nothing.
func (n Null) Proves() bool { return n.Ours }

// Sign returns what a preshared key would give whose secret is our SK_pi or
// SK_pr (section 2.1).
func (n Null) Sign(_ context.Context, s Signing) (*wire.Auth, []*wire.Cert, error) {
	if !n.Ours {
		return nil, nil, errors.New("the policy lets the peer go without authentication, and not this host: give the rule a certificate or a key")
	}
	if len(s.SKp) == 0 {
		return nil, nil, errors.New("sign with NULL authentication: SK_p is missing")
	}
	return &wire.Auth{Method: wire.AuthNull, Data: padded(s.PRF, s.SKp, s.Octets)}, nil, nil
}

// Understands holds for the NULL method, if the peer may use it.
func (n Null) Understands(m wire.AuthMethod) bool { return n.Theirs && m == wire.AuthNull }

// Verify checks that the peer took part in the key exchange. The proof is that
// of nobody, whoever the peer says that it is (section 2.2).
func (n Null) Verify(_ context.Context, v Verifying) (Proof, error) {
	if !n.Theirs {
		return Proof{}, fmt.Errorf("%w: the peer may not go without authentication", ErrAuthentication)
	}
	if len(v.SKp) == 0 || !hmac.Equal(padded(v.PRF, v.SKp, v.Octets), v.Auth.Data) {
		return Proof{}, fmt.Errorf("%w: %w: NULL authentication of somebody who took no part in the key exchange", ErrAuthentication, ErrWrongKey)
	}
	return Proof{By: n, ID: wire.ID{Kind: wire.IDNull}, How: "null: nobody proved anything"}, nil
}

// Accepts holds for a peer that proved nothing, if it may.
func (n Null) Accepts(p Proof, _ time.Time) error {
	if _, ok := p.By.(Null); ok && n.Theirs {
		return nil
	}
	return fmt.Errorf("%w: %s proved something, and the rule wants an anonymous peer", ErrAuthentication, p.ID)
}
