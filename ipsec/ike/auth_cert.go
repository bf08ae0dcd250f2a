package ike

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// Certificate is our own certificate with its key, and the authorities that
// we believe. Either may be missing: without a chain and a key it is for peers
// alone.
type Certificate struct {
	Chain       []*x509.Certificate // our own first, then intermediates
	Key         crypto.Signer       // it may be of hardware: nothing but Public and Sign is used
	Authorities *x509.CertPool
	Roots       []*x509.Certificate // the certificates in Authorities, for certificate requests
	Excluded    []*x509.Certificate // those of Roots that certificate requests do not name
	// Intermediates are of issuers between Authorities and peers that do not
	// send them.
	Intermediates []*x509.Certificate
	Revocation    pki.Revocation
	CRLs          []*pki.CRL // that this host has, asked before any is fetched
	// Fetcher gets CRLs and OCSP answers, also the one about our own
	// certificate that peers may ask for; nil if nothing is to be fetched.
	Fetcher pki.Fetcher
	// Lookup fetches certificates from URLs that a peer names before it has
	// proved anything: in place of its certificate, and in that for its issuer.
	Lookup bool
	// URL is where peers that look certificates up get ours, as DER, by HTTP;
	// empty to send it always (RFC 7296 section 3.6).
	URL string
	// PKCS1 signs with RSASSA-PKCS1-v1_5 in place of RSASSA-PSS, for peers that
	// know RFC 7427 and no more. Both are always accepted.
	PKCS1 bool
	// Legacy lets both ends sign by RSA with SHA-1, where the peer does not
	// know RFC 7427.
	Legacy bool
}

var _ AuthMethod = Certificate{}

// String names the owner.
func (c Certificate) String() string {
	if len(c.Chain) == 0 {
		return "certificate"
	}
	return "certificate " + c.Chain[0].Subject.String()
}

// GoString keeps the key out of %#v.
func (c Certificate) GoString() string { return "ike.Certificate{" + c.String() + "}" }

// Identity returns the claimed identity if the certificate speaks for it, and
// else the certificate's own: peers accept no other.
func (c Certificate) Identity(claimed string, _ netip.Addr) (wire.ID, error) {
	if len(c.Chain) == 0 {
		return wire.ID{}, errNoCertificate
	}
	if id := ParseID(claimed); claimed != "" && speaksFor(c.Chain[0], id) {
		return id, nil
	}
	return CertID(c.Chain[0])
}

var errNoCertificate = errors.New("the policy has authorities but no certificate of our own")

// Proves holds if there is a certificate of our own with its key.
func (c Certificate) Proves() bool { return len(c.Chain) > 0 && c.Key != nil }

// Sign signs with the certificate's key: as RFC 7427 says if the peer knows
// it, and else with ECDSA as in RFC 4754. RSA without RFC 7427 means SHA-1,
// which is refused without Legacy.
func (c Certificate) Sign(ctx context.Context, s Signing) (*wire.Auth, []*wire.Cert, error) {
	if !c.Proves() {
		return nil, nil, errNoCertificate
	}
	a, err := signatureAuth(c.Key, s, c.rules())
	if err != nil {
		return nil, nil, fmt.Errorf("sign as %s: %w", c, err)
	}
	return a, c.payloads(ctx, s), nil
}

func (c Certificate) rules() signatureRules { return signatureRules{pkcs1: c.PKCS1, legacy: c.Legacy} }

// Understands holds for the signature methods, and for RSA as it was before
// RFC 7427, if only to say why it is refused.
func (c Certificate) Understands(m wire.AuthMethod) bool { return isSignature(m) || m == wire.AuthRSA }

// Verify checks that the certificate speaks for the identity, that its key
// made the signature, that a chain leads to our authorities at the time given,
// and that nothing of it was revoked, in this order: nothing is fetched for
// one who does not have the key, but for the certificate itself.
func (c Certificate) Verify(ctx context.Context, v Verifying) (Proof, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	lookups, stop := context.WithTimeout(ctx, lookupPatience)
	defer stop()
	leaf, evidence, err := c.received(lookups, v)
	if err != nil {
		return Proof{}, fmt.Errorf("%w: %s: %w", ErrAuthentication, v.ID, err)
	}
	if err := pki.CheckKey(leaf.PublicKey); err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrAuthentication, pki.NewError(leaf, pki.WeakKey, v.Now, err))
	}
	if err := MatchID(leaf, v.ID); err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrAuthentication, err)
	}
	if err := verifySignature(leaf.PublicKey, v.Auth, v.Octets, c.rules()); err != nil {
		return Proof{}, fmt.Errorf("%w: the signature of %s: %w", ErrAuthentication, v.ID, err)
	}
	weak := c.Legacy && verifySignature(leaf.PublicKey, v.Auth, v.Octets, signatureRules{pkcs1: c.PKCS1}) != nil
	verifier := c.verifier()
	verifier.LookupUntil, _ = lookups.Deadline()
	verified, err := verifier.Verify(ctx, leaf, evidence, v.Now)
	if err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrAuthentication, err)
	}
	return Proof{
		By: c, ID: v.ID, How: "certificate " + leaf.Subject.String(),
		Chain: verified.Chain, Until: verified.Until, Revocation: verified.Revocation, Unchecked: verified.Unchecked, Weak: weak,
	}, nil
}

// patience bounds how long all that is fetched for a peer may take, while it
// waits and repeats its request.
const patience = 20 * time.Second

// lookupPatience bounds how long all that is fetched from where the peer itself
// says may take: it may name servers that never end.
const lookupPatience = 5 * time.Second

func (c Certificate) verifier() *pki.Verifier {
	return &pki.Verifier{
		Roots: c.Authorities, Intermediates: c.Intermediates, Revocation: c.Revocation, CRLs: c.CRLs, Fetcher: c.Fetcher, Lookup: c.Lookup,
	}
}

// Accepts verifies the chain against our authorities and revocation lists.
// Nobody else is asked again whether it was revoked: a stricter policy than the
// one that it satisfied when the peer authenticated refuses.
func (c Certificate) Accepts(p Proof, now time.Time) error {
	if len(p.Chain) == 0 {
		return fmt.Errorf("%w: %s did not prove itself by a certificate", ErrAuthentication, p.ID)
	}
	if p.Weak && !c.Legacy {
		return fmt.Errorf("%w: %s: %w", ErrAuthentication, p.ID, ErrWeakMethod)
	}
	here := c.verifier()
	here.Fetcher, here.Lookup = nil, false
	if here.Revocation == pki.Strict {
		here.Revocation = pki.IfPresent // what the lists of this host do not say was looked up then
	}
	evidence := pki.Evidence{Intermediates: p.Chain[1:]}
	if _, err := here.Verify(context.Background(), p.Chain[0], evidence, now); err != nil {
		return fmt.Errorf("%w: %w", ErrAuthentication, err)
	}
	if !p.Revocation.Covers(c.Revocation) {
		return fmt.Errorf("%w: the certificate of %q was verified with revocation %s, and the rule wants %s", ErrAuthentication, p.Chain[0].Subject, p.Revocation, c.Revocation)
	}
	return nil
}

func (c Certificate) excludes(root *x509.Certificate) bool {
	return slices.ContainsFunc(c.Excluded, root.Equal)
}

func (c Certificate) equal(x Certificate) bool {
	same := func(a, b []*x509.Certificate) bool { return slices.EqualFunc(a, b, (*x509.Certificate).Equal) }
	// The key is that of the first certificate, and the Fetcher is the host's.
	return same(c.Chain, x.Chain) && c.Authorities.Equal(x.Authorities) && same(c.Excluded, x.Excluded) &&
		same(c.Intermediates, x.Intermediates) && slices.EqualFunc(c.CRLs, x.CRLs, (*pki.CRL).Equal) && c.Revocation == x.Revocation && (c.Fetcher == nil) == (x.Fetcher == nil) &&
		c.Lookup == x.Lookup && c.URL == x.URL && c.PKCS1 == x.PKCS1 && c.Legacy == x.Legacy
}
