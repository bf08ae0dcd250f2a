package ike

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// RawKey is a key pair of ours, and the public keys of the peers, without any
// certificate (RFC 7670).
type RawKey struct {
	Key   crypto.Signer // ours; nil if we do not prove ourselves by it
	Peers []PeerKey
	PKCS1 bool // as in Certificate
}

// PeerKey is the public key of a peer.
type PeerKey struct {
	Key crypto.PublicKey
	ID  string // who has it, as ParseID reads it; empty if its owner may call itself as it likes
}

var _ AuthMethod = RawKey{}

// String returns the rule file's keyword.
func (RawKey) String() string { return "raw-key" }

// GoString keeps the key out of %#v.
func (k RawKey) GoString() string { return fmt.Sprintf("ike.RawKey{%d peers}", len(k.Peers)) }

// Identity returns the claimed identity, or the fingerprint of our key as an
// ID_KEY_ID.
func (k RawKey) Identity(claimed string, _ netip.Addr) (wire.ID, error) {
	if claimed != "" {
		return claimedID(claimed)
	}
	if k.Key == nil {
		return wire.ID{}, errNoRawKey
	}
	fp, err := KeyFingerprint(k.Key.Public())
	if err != nil {
		return wire.ID{}, err
	}
	return wire.ID{Kind: wire.IDKeyID, Data: []byte(fp.String())}, nil
}

// errUnknownKey is told apart because it is mended in the file of the peers'
// keys.
var errUnknownKey = errors.New("the policy does not have the raw key of the peer")

var errNoRawKey = errors.New("the policy has public keys of peers but no key of our own")

// Proves holds if there is a key of our own.
func (k RawKey) Proves() bool { return k.Key != nil }

// Sign signs as RFC 7427 says, and sends the public key, whether or not the peer
// asks for it.
func (k RawKey) Sign(_ context.Context, s Signing) (*wire.Auth, []*wire.Cert, error) {
	if k.Key == nil {
		return nil, nil, errNoRawKey
	}
	a, err := signatureAuth(k.Key, s, signatureRules{pkcs1: k.PKCS1})
	if err != nil {
		return nil, nil, fmt.Errorf("sign with our raw key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("encode our raw key: %w", err)
	}
	return a, []*wire.Cert{{Encoding: wire.CertRawKey, Data: der}}, nil
}

// Understands holds for the signature methods, if there are keys of peers.
func (k RawKey) Understands(m wire.AuthMethod) bool { return len(k.Peers) > 0 && isSignature(m) }

// Verify looks for the peer's key among those that are known, by the key that
// came, or if none did, by trying them.
func (k RawKey) Verify(_ context.Context, v Verifying) (Proof, error) {
	candidates, err := k.candidates(v)
	if err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrAuthentication, err)
	}
	for _, c := range candidates {
		if err = verifySignature(c.Key, v.Auth, v.Octets, signatureRules{}); err != nil {
			err = fmt.Errorf("%w: the signature of %s with a raw key: %w", ErrAuthentication, v.ID, err)
			continue
		}
		if err = c.speaksFor(v.ID); err != nil {
			return Proof{}, err
		}
		fp, err := KeyFingerprint(c.Key)
		if err != nil {
			return Proof{}, fmt.Errorf("%w: %w", ErrAuthentication, err)
		}
		return Proof{By: k, ID: v.ID, How: "raw-key " + fp.String(), Key: c.Key}, nil
	}
	return Proof{}, err
}

// nameKey reports whether a rule's methods say whose a raw key is: by its name,
// or because none of them has another one.
func nameKey(methods []AuthMethod, key crypto.PublicKey) bool {
	var peers []PeerKey
	for _, m := range methods {
		if k, ok := m.(RawKey); ok {
			peers = append(peers, k.Peers...)
		}
	}
	return len(peers) == 1 || slices.ContainsFunc(peers, func(p PeerKey) bool { return p.ID != "" && samePublicKey(p.Key, key) })
}

// candidates returns the keys of which one must have made the peer's signature.
func (k RawKey) candidates(v Verifying) ([]PeerKey, error) {
	var sent []byte
	for _, c := range v.Certs {
		switch {
		case c.Encoding == wire.CertRawKey && sent == nil:
			sent = c.Data
		case c.Encoding == wire.CertX509 || c.Encoding == wire.CertHashAndURL:
			return nil, fmt.Errorf("%s sent a certificate, and a raw key is wanted", v.ID)
		}
	}
	if sent == nil {
		return slices.DeleteFunc(slices.Clone(k.Peers), func(p PeerKey) bool { return p.speaksFor(v.ID) != nil }), k.noneFor(v.ID)
	}
	key, err := x509.ParsePKIXPublicKey(sent)
	if err != nil {
		return nil, fmt.Errorf("the raw key of %s: %w", v.ID, err)
	}
	if err := pki.CheckKey(key); err != nil {
		return nil, fmt.Errorf("the raw key of %s: %w", v.ID, err)
	}
	i := slices.IndexFunc(k.Peers, func(p PeerKey) bool { return samePublicKey(p.Key, key) })
	if i < 0 {
		return nil, fmt.Errorf("%w, %s: its fingerprint is sha256:%x", errUnknownKey, v.ID, sha256.Sum256(sent))
	}
	return k.Peers[i : i+1], nil
}

func (k RawKey) noneFor(id wire.ID) error {
	if slices.ContainsFunc(k.Peers, func(p PeerKey) bool { return p.speaksFor(id) == nil }) {
		return nil
	}
	return fmt.Errorf("%s sent no raw key: %w", id, errUnknownKey)
}

// speaksFor checks that the owner of a key may call itself so. Nobody may call
// itself by the fingerprint of another key.
func (p PeerKey) speaksFor(id wire.ID) error {
	refused := func(why string) error {
		return &AuthorizationError{Peer: id.String(), Why: fmt.Sprintf("the raw key of the peer that calls itself %s %s", id, why)}
	}
	if p.ID != "" && !SameID(p.ID, id) {
		return refused("is that of " + p.ID)
	}
	if name := string(id.Data); id.Kind == wire.IDKeyID && strings.HasPrefix(name, "sha256:") {
		if fp, err := KeyFingerprint(p.Key); err != nil || fp.String() != name {
			return refused("has another fingerprint")
		}
	}
	return nil
}

// Accepts holds for a peer whose raw key is known here too, by the same name.
func (k RawKey) Accepts(p Proof, _ time.Time) error {
	if p.Key == nil {
		return fmt.Errorf("%w: %s did not prove itself by a raw key", ErrAuthentication, p.ID)
	}
	for _, x := range k.Peers {
		if samePublicKey(x.Key, p.Key) {
			return x.speaksFor(p.ID)
		}
	}
	return fmt.Errorf("%w: the raw key of %s is none of those that the rule knows", ErrAuthentication, p.ID)
}

func (k RawKey) equal(x RawKey) bool {
	if (k.Key == nil) != (x.Key == nil) || k.PKCS1 != x.PKCS1 {
		return false
	}
	return (k.Key == nil || samePublicKey(k.Key.Public(), x.Key.Public())) &&
		slices.EqualFunc(k.Peers, x.Peers, func(a, b PeerKey) bool { return a.ID == b.ID && samePublicKey(a.Key, b.Key) })
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
