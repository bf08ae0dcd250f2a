package ike

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// PresharedKey is a secret that both ends know (RFC 7296 section 2.15). With
// one that several hosts share, each of them may call itself by the name of
// any other.
type PresharedKey struct {
	Secret []byte
}

var _ AuthMethod = PresharedKey{}

// String returns the rule file's keyword, never the secret.
func (PresharedKey) String() string { return "preshared-key" }

// GoString keeps the secret out of %#v.
func (PresharedKey) GoString() string { return "ike.PresharedKey{…}" }

// Identity returns the claimed identity, or the local address.
func (PresharedKey) Identity(claimed string, local netip.Addr) (wire.ID, error) {
	if claimed == "" {
		return AddrID(local), nil
	}
	return claimedID(claimed)
}

// Proves holds always: who has the secret may use it.
func (PresharedKey) Proves() bool { return true }

// Sign returns prf(prf(secret, "Key Pad for IKEv2"), octets).
func (k PresharedKey) Sign(_ context.Context, s Signing) (*wire.Auth, []*wire.Cert, error) {
	if len(k.Secret) == 0 {
		return nil, nil, errors.New("the preshared key is empty: write a secret into its file")
	}
	return &wire.Auth{Method: wire.AuthPSK, Data: padded(s.PRF, k.Secret, s.Octets)}, nil, nil
}

// Understands holds for the shared key method alone.
func (PresharedKey) Understands(m wire.AuthMethod) bool { return m == wire.AuthPSK }

// Verify compares in constant time.
func (k PresharedKey) Verify(_ context.Context, v Verifying) (Proof, error) {
	// An empty key would let everybody in.
	if len(k.Secret) == 0 || !hmac.Equal(padded(v.PRF, k.Secret, v.Octets), v.Auth.Data) {
		return Proof{}, fmt.Errorf("%w: %w: %s does not have our preshared key", ErrAuthentication, ErrWrongKey, v.ID)
	}
	return Proof{By: k, ID: v.ID, How: k.String()}, nil
}

// Accepts holds for the same key.
func (k PresharedKey) Accepts(p Proof, _ time.Time) error {
	if x, ok := p.By.(PresharedKey); ok && len(k.Secret) > 0 && k.equal(x) {
		return nil
	}
	return fmt.Errorf("%w: %s did not prove that it has the preshared key", ErrAuthentication, p.ID)
}

func (k PresharedKey) equal(x PresharedKey) bool { return hmac.Equal(k.Secret, x.Secret) }

// padded is the AUTH payload of whoever knows a secret (RFC 7296 section 2.15).
func padded(prf xform.PRF, secret, octets []byte) []byte {
	return prf.Sum(prf.Sum(secret, []byte("Key Pad for IKEv2")), octets)
}
