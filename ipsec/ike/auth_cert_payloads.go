package ike

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/x509"
	"errors"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// maxSent bounds the CERT payloads of each kind that are looked at beside the
// peer's own certificate, and the URLs that are followed.
const (
	maxSent    = pki.MaxIntermediates
	maxFollows = 3
)

// payloads returns our certificates as the peer takes them: our own by its URL
// if the peer looks certificates up and there is one, and an OCSP response if
// it asks for that and we get one.
func (c Certificate) payloads(ctx context.Context, s Signing) []*wire.Cert {
	certs := make([]*wire.Cert, len(c.Chain))
	for i, x := range c.Chain {
		certs[i] = &wire.Cert{Encoding: wire.CertX509, Data: x.Raw}
	}
	if c.URL != "" && s.Requests.Lookup {
		certs[0] = hashAndURL(c.Chain[0].Raw, c.URL)
	}
	if issuer := c.issuer(); issuer != nil && c.Fetcher != nil && s.Requests.asks(wire.CertOCSP) {
		// A peer that wants to be strict asks the responder itself.
		if der, err := pki.Staple(ctx, c.Fetcher, c.Chain[0], issuer, s.Now); err == nil {
			certs = append(certs, &wire.Cert{Encoding: wire.CertOCSP, Data: der})
		}
	}
	return certs
}

// hashAndURL is a certificate by its URL (RFC 7296 section 3.6).
func hashAndURL(der []byte, url string) *wire.Cert {
	h := sha1.Sum(der)
	return &wire.Cert{Encoding: wire.CertHashAndURL, Data: append(h[:], url...)}
}

// parseHashAndURL reads the data of such a payload.
func parseHashAndURL(data []byte) (sum [sha1.Size]byte, url string, err error) {
	if len(data) <= len(sum) {
		return sum, "", errors.New("a CERT payload with a hash and no URL")
	}
	if len(data)-len(sum) > maxURL {
		return sum, "", errors.New("a CERT payload with too long a URL")
	}
	return [sha1.Size]byte(data), string(data[len(sum):]), nil
}

// maxURL is the longest URL that is followed, in bytes.
const maxURL = 1024

// issuer is that of our own certificate, if we have it.
func (c Certificate) issuer() *x509.Certificate {
	i := slices.IndexFunc(slices.Concat(c.Chain[1:], c.Roots), func(x *x509.Certificate) bool {
		return bytes.Equal(x.RawSubject, c.Chain[0].RawIssuer) && c.Chain[0].CheckSignatureFrom(x) == nil
	})
	if i < 0 {
		return nil
	}
	return slices.Concat(c.Chain[1:], c.Roots)[i]
}

// received reads the CERT payloads of a peer: its own certificate, which comes
// first (RFC 7296 section 3.6), and what supports it.
func (c Certificate) received(ctx context.Context, v Verifying) (leaf *x509.Certificate, ev pki.Evidence, err error) {
	follows := 0
	for _, p := range v.Certs {
		switch p.Encoding {
		case wire.CertX509, wire.CertHashAndURL:
			if len(ev.Intermediates) == maxSent || p.Encoding == wire.CertHashAndURL && follows == maxFollows {
				continue
			}
			var x *x509.Certificate
			var err error
			if p.Encoding == wire.CertHashAndURL {
				follows++
				x, err = c.follow(ctx, p.Data, v)
			} else if x, err = x509.ParseCertificate(p.Data); err != nil {
				err = pki.NewError(nil, pki.Malformed, v.Now, err)
			}
			switch {
			case err != nil && leaf == nil:
				return nil, ev, err
			case err != nil: // one that is of no use may be of no need
			case leaf == nil:
				leaf = x
			default:
				ev.Intermediates = append(ev.Intermediates, x)
			}
		case wire.CertCRL:
			if len(ev.CRLs) < maxSent {
				ev.CRLs = append(ev.CRLs, p.Data)
			}
		case wire.CertOCSP:
			if len(ev.OCSP) < maxSent {
				ev.OCSP = append(ev.OCSP, p.Data)
			}
		}
	}
	if leaf == nil {
		return nil, ev, errors.New("it signed, but sent no certificate")
	}
	return leaf, ev, nil
}

func (c Certificate) follow(ctx context.Context, data []byte, v Verifying) (*x509.Certificate, error) {
	sum, url, err := parseHashAndURL(data)
	if err != nil {
		return nil, pki.NewError(nil, pki.Malformed, v.Now, err)
	}
	return c.verifier().LookUp(ctx, url, sum, v.Now)
}

// issuedByOneOf reports whether a request with these hashes may mean our
// certificate. It does too when the request names nobody, or when we do not
// have our issuer's certificate and cannot tell.
func (c Certificate) issuedByOneOf(hashes []byte) bool {
	if len(c.Chain) == 0 {
		return false
	}
	issuers := slices.Clone(c.Chain[1:])
	last := c.Chain[len(c.Chain)-1]
	for _, x := range slices.Concat(c.Roots, c.Intermediates) {
		if bytes.Equal(x.RawSubject, last.RawIssuer) {
			issuers = append(issuers, x)
		}
	}
	if len(hashes) == 0 || len(issuers) == 0 {
		return true
	}
	return slices.ContainsFunc(issuers, func(x *x509.Certificate) bool { return hasHash(hashes, keyHash(x)) })
}
