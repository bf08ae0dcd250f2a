package ike

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// Certificate is our own certificate with its key, and the authorities that
// we believe.
type Certificate struct {
	Chain       []*x509.Certificate // our own first, then intermediates
	Key         crypto.Signer
	Authorities *x509.CertPool
	Roots       []*x509.Certificate // the certificates in Authorities, for certificate requests
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

// Identity returns the certificate's identity, whatever is claimed: the peer
// accepts no other.
func (c Certificate) Identity(string, netip.Addr) (wire.ID, error) {
	if len(c.Chain) == 0 {
		return wire.ID{}, errNoCertificate
	}
	return CertID(c.Chain[0])
}

var errNoCertificate = errors.New("the policy has authorities but no certificate of our own")

// Sign signs with the certificate's key, as RFC 7427 says if the peer knows
// it, and else with ECDSA as in RFC 4754. RSA without RFC 7427 means SHA-1,
// which is refused.
func (c Certificate) Sign(_ context.Context, s Signing) (*wire.Auth, []*wire.Cert, error) {
	if len(c.Chain) == 0 || c.Key == nil {
		return nil, nil, errNoCertificate
	}
	a, err := signatureAuth(c.Key, s)
	if err != nil {
		return nil, nil, fmt.Errorf("sign as %s: %w", c, err)
	}
	certs := make([]*wire.Cert, len(c.Chain))
	for i, x := range c.Chain {
		certs[i] = &wire.Cert{Encoding: wire.CertX509, Data: x.Raw}
	}
	return a, certs, nil
}

// Understands holds for the signature methods without SHA-1.
func (Certificate) Understands(m wire.AuthMethod) bool {
	switch m {
	case wire.AuthDigitalSignature, wire.AuthECDSA256, wire.AuthECDSA384, wire.AuthECDSA521:
		return true
	}
	return false
}

// Verify checks the chain against our authorities at the time given, that
// the certificate speaks for the identity, and then the signature.
func (c Certificate) Verify(_ context.Context, v Verifying) (Proof, error) {
	var certs [][]byte
	for _, x := range v.Certs {
		if x.Encoding == wire.CertX509 {
			certs = append(certs, x.Data)
		}
	}
	if len(certs) == 0 {
		return Proof{}, fmt.Errorf("%w: %s signed, but sent no certificate", ErrAuthentication, v.ID)
	}
	leaf, err := x509.ParseCertificate(certs[0])
	if err != nil {
		return Proof{}, fmt.Errorf("%w: the certificate of %s: %w", ErrAuthentication, v.ID, err)
	}
	intermediates := x509.NewCertPool()
	for _, der := range certs[1:min(len(certs), 1+maxChain)] {
		// One that does not parse is of no use, and may be of no need.
		if x, err := x509.ParseCertificate(der); err == nil && longRSA(x) == nil {
			intermediates.AddCert(x)
		}
	}
	chain, err := c.verifyChain(leaf, intermediates, v.Now)
	if err != nil {
		return Proof{}, fmt.Errorf("%w: the certificate of %q: %w", ErrAuthentication, leaf.Subject, err)
	}
	if err := MatchID(leaf, v.ID); err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrAuthentication, err)
	}
	if err := verifySignature(leaf.PublicKey, v.Auth, v.Octets); err != nil {
		return Proof{}, fmt.Errorf("%w: the signature of %s: %w", ErrAuthentication, v.ID, err)
	}
	return Proof{By: c, ID: v.ID, How: "certificate " + leaf.Subject.String(), Chain: chain}, nil
}

// Accepts verifies the chain against our authorities.
func (c Certificate) Accepts(p Proof, now time.Time) error {
	if len(p.Chain) == 0 {
		return fmt.Errorf("%w: %s did not prove itself by a certificate", ErrAuthentication, p.ID)
	}
	intermediates := x509.NewCertPool()
	for _, x := range p.Chain[1:] {
		intermediates.AddCert(x)
	}
	if _, err := c.verifyChain(p.Chain[0], intermediates, now); err != nil {
		return fmt.Errorf("%w: the certificate of %q: %w", ErrAuthentication, p.Chain[0].Subject, err)
	}
	return nil
}

// maxChain bounds the intermediate certificates that are looked at.
const maxChain = 8

func (c Certificate) verifyChain(leaf *x509.Certificate, intermediates *x509.CertPool, now time.Time) ([]*x509.Certificate, error) {
	if c.Authorities == nil {
		return nil, errors.New("no authority is trusted") // a nil pool would mean those of the system
	}
	if err := longRSA(leaf); err != nil {
		return nil, err
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         c.Authorities,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, err
	}
	return chains[0], nil
}

// maxRSA is the longest modulus that is worked with, in bits. Nobody vouches
// for the keys of certificates that just came, and a datagram has room for one
// that takes seconds.
const maxRSA = 8192

func longRSA(c *x509.Certificate) error {
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSA {
		return fmt.Errorf("an RSA key of %d bits: %d are the most", k.N.BitLen(), maxRSA)
	}
	return nil
}

// CertRequest returns the certificate request that tells a peer which
// authorities the methods trust (RFC 7296 section 3.7); ok is false when no
// method has any.
func CertRequest(methods []AuthMethod) (req *wire.CertReq, ok bool) {
	req = &wire.CertReq{Encoding: wire.CertX509}
	for _, m := range methods {
		c, _ := certificate(m)
		for _, root := range c.Roots {
			if h := keyHash(root); !hasHash(req.Authorities, h) {
				req.Authorities = append(req.Authorities, h...)
			}
		}
	}
	return req, len(req.Authorities) > 0
}

func keyHash(c *x509.Certificate) []byte {
	h := sha1.Sum(c.RawSubjectPublicKeyInfo)
	return h[:]
}

func hasHash(hashes, h []byte) bool {
	for ; len(hashes) >= len(h); hashes = hashes[len(h):] {
		if bytes.Equal(hashes[:len(h)], h) {
			return true
		}
	}
	return false
}

// issuedByOneOf reports whether a request with these hashes may mean our
// certificate. It does too when the request names nobody, or when we do not
// have our issuer's certificate and cannot tell.
func (c Certificate) issuedByOneOf(hashes []byte) bool {
	if len(c.Chain) == 0 {
		return false
	}
	issuers := c.Chain[1:]
	last := c.Chain[len(c.Chain)-1]
	for _, root := range c.Roots {
		if bytes.Equal(root.RawSubject, last.RawIssuer) {
			issuers = append(issuers[:len(issuers):len(issuers)], root)
		}
	}
	if len(hashes) == 0 || len(issuers) == 0 {
		return true
	}
	for _, i := range issuers {
		if hasHash(hashes, keyHash(i)) {
			return true
		}
	}
	return false
}
