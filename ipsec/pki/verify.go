package pki

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Verifier is what a rule says of the certificates that it believes. It is
// safe for concurrent use, and must not change while it is used.
type Verifier struct {
	Roots         *x509.CertPool      // the authorities
	Intermediates []*x509.Certificate // our own, for peers that do not send theirs
	Revocation    Revocation
	CRLs          []*CRL // our own, asked before any is fetched
	// Fetcher gets CRLs, OCSP answers and certificates; nil if nothing is to
	// be fetched.
	Fetcher Fetcher
	// Lookup gets the certificates of issuers that are missing where the
	// certificates of a peer say (RFC 5280 section 4.2.2.1). These URLs are
	// those of a peer of which nothing is known yet.
	Lookup bool
	// LookupUntil is when the last of it ends; zero for when the context does.
	LookupUntil time.Time
}

// Evidence is what came along with a certificate. Nobody vouches for any of it.
type Evidence struct {
	Intermediates []*x509.Certificate
	CRLs          [][]byte // DER
	OCSP          [][]byte // DER of OCSP responses
}

// Verified is a certificate that is believed.
type Verified struct {
	Chain      []*x509.Certificate // the certificate first, the authority last
	Until      time.Time           // the first end of a certificate of the chain
	Revocation Revocation          // the strictest policy that the chain satisfies
	// Unchecked says of which certificates of the chain nobody said whether they
	// were revoked, and why, though it names somebody who should, if somebody
	// was to say so; nil if there are none.
	Unchecked error
}

// MaxIntermediates is how many certificates of a peer are looked at beside its
// own.
const MaxIntermediates = 8

// maxLookups bounds the certificates that are fetched for one chain.
const maxLookups = 3

// Verify finds a chain to an authority that satisfies everything. The error is
// a *CertificateError, or that of the context.
func (v *Verifier) Verify(ctx context.Context, leaf *x509.Certificate, ev Evidence, now time.Time) (Verified, error) {
	chains, err := v.Chains(leaf, ev.Intermediates, now)
	if v.Lookup && v.Fetcher != nil {
		sent := slices.Clone(ev.Intermediates[:min(len(ev.Intermediates), MaxIntermediates)])
		lookups := ctx
		if !v.LookupUntil.IsZero() {
			var stop context.CancelFunc
			lookups, stop = context.WithDeadline(ctx, v.LookupUntil)
			defer stop()
		}
		for range maxLookups {
			next := v.missingIssuer(lookups, err)
			if next == nil {
				break
			}
			sent = append(sent, next)
			chains, err = v.chains(leaf, sent, now)
		}
	}
	if err != nil {
		return Verified{}, err
	}
	return v.unrevoked(ctx, chains, ev, now)
}

// Chains returns the chains from a certificate to the authorities that are
// valid at a time, without asking whether any of it was revoked. It fetches
// nothing. The error is a *CertificateError.
func (v *Verifier) Chains(leaf *x509.Certificate, sent []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	return v.chains(leaf, sent[:min(len(sent), MaxIntermediates)], now)
}

func (v *Verifier) chains(leaf *x509.Certificate, sent []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	if v.Roots == nil { // which would mean those of the system
		return nil, newError(leaf, UnknownAuthority, now, nil, "no authority is trusted")
	}
	if err := CheckKey(leaf.PublicKey); err != nil {
		return nil, newError(leaf, WeakKey, now, err, "")
	}
	if err := checkUse(leaf, true); err != nil {
		return nil, newError(leaf, KeyUsage, now, err, "")
	}
	pool := x509.NewCertPool()
	for _, c := range slices.Concat(v.Intermediates, sent) {
		// One that is of no use may be of no need, too.
		if CheckKey(c.PublicKey) == nil {
			pool.AddCert(c)
		}
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         v.Roots,
		Intermediates: pool,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // checkUse is about this
	})
	if err != nil {
		return nil, explain(err, leaf, sent, now)
	}
	var refused error
	chains = slices.DeleteFunc(chains, func(chain []*x509.Certificate) bool {
		err := checkAuthorities(chain[1:], now)
		if err != nil && refused == nil {
			refused = err
		}
		return err != nil
	})
	if len(chains) == 0 {
		return nil, refused
	}
	return chains, nil
}

// checkAuthorities checks of the issuers in a chain what crypto/x509 does not.
func checkAuthorities(issuers []*x509.Certificate, now time.Time) error {
	for i, c := range issuers {
		if err := CheckKey(c.PublicKey); err != nil {
			return newError(c, WeakKey, now, err, "")
		}
		if i == len(issuers)-1 {
			break // an authority is trusted as it is
		}
		if err := checkUse(c, false); err != nil {
			return newError(c, KeyUsage, now, err, "")
		}
	}
	return nil
}

// explain says what an error of crypto/x509 is about.
func explain(err error, leaf *x509.Certificate, sent []*x509.Certificate, now time.Time) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var critical x509.UnhandledCriticalExtension
	switch {
	case errors.As(err, &invalid):
		c := invalid.Cert
		if c == nil {
			c = leaf
		}
		switch invalid.Reason {
		case x509.Expired:
			if now.Before(c.NotBefore) {
				return newError(c, NotYetValid, now, nil, "")
			}
			return newError(c, Expired, now, nil, "")
		case x509.NotAuthorizedToSign, x509.TooManyIntermediates, x509.CANotAuthorizedForExtKeyUsage:
			return newError(c, NotAnAuthority, now, err, "")
		case x509.CANotAuthorizedForThisName, x509.NameConstraintsWithoutSANs, x509.UnconstrainedName, x509.TooManyConstraints:
			return newError(c, NameConstraints, now, err, "")
		case x509.IncompatibleUsage:
			return newError(c, KeyUsage, now, err, "")
		}
		return newError(c, Malformed, now, err, "")
	case errors.As(err, &critical):
		for _, c := range append([]*x509.Certificate{leaf}, sent...) {
			if len(c.UnhandledCriticalExtensions) > 0 {
				return newError(c, Malformed, now, nil, "its critical extension %s is not known here", c.UnhandledCriticalExtensions[0])
			}
		}
		return newError(leaf, Malformed, now, err, "an issuer has a critical extension that is not known here")
	case errors.As(err, &unknown):
		c := unknown.Cert
		if c == nil {
			c = leaf
		}
		if weakSignature(c) {
			return newError(c, WeakSignature, now, nil, "%s", c.SignatureAlgorithm)
		}
		for _, issuer := range sent {
			if !bytes.Equal(issuer.RawSubject, c.RawIssuer) {
				continue
			}
			if weak := CheckKey(issuer.PublicKey); weak != nil {
				return newError(issuer, WeakKey, now, weak, "")
			}
			var may x509.ConstraintViolationError
			if errors.As(c.CheckSignatureFrom(issuer), &may) {
				return newError(issuer, NotAnAuthority, now, nil, "its basic constraints or its key usage do not let it sign certificates")
			}
		}
		return newError(c, UnknownAuthority, now, err, "")
	}
	return newError(leaf, Malformed, now, err, "")
}

func weakSignature(c *x509.Certificate) bool {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

// missingIssuer fetches the issuer of the certificate with which a chain
// ended, or returns nil.
func (v *Verifier) missingIssuer(ctx context.Context, err error) *x509.Certificate {
	var e *CertificateError
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &e) || e.Reason != UnknownAuthority || !errors.As(err, &unknown) || unknown.Cert == nil || len(unknown.Cert.IssuingCertificateURL) == 0 {
		return nil
	}
	issuer, err := v.certificate(ctx, unknown.Cert.IssuingCertificateURL[0], nil)
	if err != nil || !bytes.Equal(issuer.RawSubject, unknown.Cert.RawIssuer) {
		return nil
	}
	return issuer
}

// LookUp fetches a certificate that a peer names by its URL and by the SHA-1
// hash of its DER (RFC 7296 section 3.6). The error is a *CertificateError.
func (v *Verifier) LookUp(ctx context.Context, url string, sum [sha1.Size]byte, now time.Time) (*x509.Certificate, error) {
	if !v.Lookup || v.Fetcher == nil {
		return nil, newError(nil, NotObtainable, now, nil, "the peer sends a URL in place of it, and the policy does not look certificates up")
	}
	c, err := v.certificate(ctx, url, sum[:])
	if err != nil {
		return nil, newError(nil, NotObtainable, now, err, "")
	}
	return c, nil
}

// certificate fetches a certificate, which must have the SHA-1 hash sum if
// that is not nil.
func (v *Verifier) certificate(ctx context.Context, url string, sum []byte) (*x509.Certificate, error) {
	r := Request{Kind: KindCertificate, URL: url, Key: string(sum)}
	return fetched(ctx, v.Fetcher, r, func(der []byte) (*x509.Certificate, time.Time, error) {
		if h := sha1.Sum(der); sum != nil && !bytes.Equal(h[:], sum) {
			return nil, time.Time{}, fmt.Errorf("what is at %s has not the hash that the peer gave", url)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("what is at %s is no certificate: %w", url, err)
		}
		return c, c.NotAfter, nil
	})
}

// until is the first end of the certificates of a chain.
func until(chain []*x509.Certificate) time.Time {
	end := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// keyOf names an issuer in a Fetcher's cache.
func keyOf(c *x509.Certificate) string {
	h := sha256.Sum256(c.Raw)
	return string(h[:])
}
