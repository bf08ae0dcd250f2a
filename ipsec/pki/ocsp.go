package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// ocspAnswer is what a responder says about one certificate. Its signature was
// checked.
type ocspAnswer struct {
	raw        []byte
	status     status
	this, next time.Time
	revocation revocation
}

// maxOCSPAge is for how long an answer is good that does not say it.
const maxOCSPAge = 24 * time.Hour

// The structures of RFC 6960 section 4.2.1.
type (
	ocspResponse struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type     asn1.ObjectIdentifier
			Response []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	basicResponse struct {
		Data         responseData
		Algorithm    asn1.RawValue
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	responseData struct {
		Raw        asn1.RawContent
		Version    int `asn1:"optional,default:0,explicit,tag:0"`
		Responder  asn1.RawValue
		Produced   time.Time `asn1:"generalized"`
		Responses  []singleResponse
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	singleResponse struct {
		ID      certID
		Good    asn1.Flag `asn1:"tag:0,optional"`
		Revoked struct {
			At     time.Time       `asn1:"generalized"`
			Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
		} `asn1:"tag:1,optional"`
		Unknown    asn1.Flag        `asn1:"tag:2,optional"`
		This       time.Time        `asn1:"generalized"`
		Next       time.Time        `asn1:"generalized,explicit,tag:0,optional"`
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	certID struct {
		Hash   pkix.AlgorithmIdentifier
		Name   []byte
		Key    []byte
		Serial *big.Int
	}
)

var oidBasicResponse = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}

// parseOCSP reads a response, checks who signed it, and returns what it says
// about a certificate.
func parseOCSP(der []byte, cert, issuer *x509.Certificate, now time.Time) (*ocspAnswer, error) {
	var r ocspResponse
	if rest, err := asn1.Unmarshal(der, &r); err != nil || len(rest) > 0 {
		return nil, errors.New("it is no OCSP response")
	}
	if r.Status != 0 {
		return nil, fmt.Errorf("the responder says %s", ocsp.ResponseStatus(r.Status))
	}
	var b basicResponse
	if rest, err := asn1.Unmarshal(r.Bytes.Response, &b); err != nil || len(rest) > 0 || !r.Bytes.Type.Equal(oidBasicResponse) {
		return nil, errors.New("it is no basic OCSP response")
	}
	single, err := b.about(cert, issuer)
	if err != nil {
		return nil, err
	}
	if err := b.checkSignature(issuer, now); err != nil {
		return nil, err
	}
	a := &ocspAnswer{raw: der, this: single.This, next: single.Next}
	if a.next.IsZero() {
		a.next = a.this.Add(maxOCSPAge)
	}
	switch {
	case !single.Revoked.At.IsZero():
		a.status, a.revocation = revoked, revocation{single.Revoked.At, int(single.Revoked.Reason)}
	case bool(single.Good) && !bool(single.Unknown):
		a.status = good
	}
	return a, nil
}

// about finds the response about a certificate. One that says that it is
// revoked counts for more than others.
func (b *basicResponse) about(cert, issuer *x509.Certificate) (*singleResponse, error) {
	critical := func(e pkix.Extension) bool { return e.Critical }
	if slices.ContainsFunc(b.Data.Extensions, critical) {
		return nil, errors.New("it has a critical extension that is not known here")
	}
	var found *singleResponse
	for i := range b.Data.Responses {
		s := &b.Data.Responses[i]
		if !s.ID.is(cert, issuer) {
			continue
		}
		if slices.ContainsFunc(s.Extensions, critical) {
			return nil, errors.New("it has a critical extension that is not known here")
		}
		if found == nil || !s.Revoked.At.IsZero() {
			found = s
		}
	}
	if found == nil {
		return nil, errors.New("it is not about this certificate")
	}
	return found, nil
}

var certIDHashes = []struct {
	oid  asn1.ObjectIdentifier
	hash crypto.Hash
}{
	{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, crypto.SHA1},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512},
}

// is reports whether the ID is that of a certificate: a serial number says
// nothing without its issuer.
func (id certID) is(cert, issuer *x509.Certificate) bool {
	if id.Serial == nil || id.Serial.Cmp(cert.SerialNumber) != 0 {
		return false
	}
	for _, h := range certIDHashes {
		if id.Hash.Algorithm.Equal(h.oid) {
			return bytes.Equal(id.Name, sum(h.hash, issuer.RawSubject)) && bytes.Equal(id.Key, sum(h.hash, keyBits(issuer)))
		}
	}
	return false
}

func sum(h crypto.Hash, b []byte) []byte {
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}

// keyBits returns the public key of a certificate without its algorithm.
func keyBits(c *x509.Certificate) []byte {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &spki); err != nil {
		return nil
	}
	return spki.Key.RightAlign()
}

// maxResponderCerts bounds the certificates of a response that are looked at.
const maxResponderCerts = 4

// checkSignature checks that the issuer signed, or a responder to which it
// gave a certificate for this (RFC 6960 section 4.2.2.2). Whether that one was
// revoked is not asked.
func (b *basicResponse) checkSignature(issuer *x509.Certificate, now time.Time) error {
	algo, ok := signatureAlgorithm(b.Algorithm.FullBytes)
	if !ok {
		return errors.New("it is signed with an algorithm that is not accepted")
	}
	var why error = errors.New("it is signed neither by the issuer of the certificate nor by a responder that the issuer appointed")
	signedBy := func(c *x509.Certificate) bool {
		return b.respondedBy(c) && c.CheckSignature(algo, b.Data.Raw, b.Signature.RightAlign()) == nil
	}
	if signedBy(issuer) {
		return nil
	}
	for _, raw := range b.Certificates[:min(len(b.Certificates), maxResponderCerts)] {
		c, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil || CheckKey(c.PublicKey) != nil {
			continue
		}
		if err := appointed(c, issuer, now); err != nil {
			why = err
			continue
		}
		if signedBy(c) {
			return nil
		}
	}
	return why
}

// appointed checks that an issuer gave a responder its certificate.
func appointed(c, issuer *x509.Certificate, at time.Time) error {
	switch {
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject) || issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil:
		return fmt.Errorf("the responder %q has no certificate of %q", c.Subject, issuer.Subject)
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return fmt.Errorf("the responder's certificate of %q is not for OCSPSigning", c.Subject)
	case at.Before(c.NotBefore) || at.After(c.NotAfter):
		return fmt.Errorf("the responder's certificate of %q is valid from %s to %s, and our clock says %s", c.Subject, date(c.NotBefore), date(c.NotAfter), date(at))
	case len(c.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("the responder's certificate of %q has a critical extension that is not known here", c.Subject)
	}
	return nil
}

// respondedBy reports whether the response names a certificate's owner as the
// one who gave it.
func (b *basicResponse) respondedBy(c *x509.Certificate) bool {
	id := b.Data.Responder
	switch {
	case id.Class != asn1.ClassContextSpecific:
	case id.Tag == 1: // byName
		return bytes.Equal(id.Bytes, c.RawSubject)
	case id.Tag == 2: // byKey
		var hash []byte
		rest, err := asn1.Unmarshal(id.Bytes, &hash)
		h := sha1.Sum(keyBits(c))
		return err == nil && len(rest) == 0 && bytes.Equal(hash, h[:])
	}
	return false
}

// finding is what the answer says at a time. That the certificate was revoked,
// and not put on hold, stays true when the answer is old.
func (a *ocspAnswer) finding(now time.Time) finding {
	const hold = 6 // RFC 5280 section 5.3.1
	if a.status == revoked && a.revocation.reason != hold {
		return finding{revoked, revokedOn(a.revocation.at, a.revocation.reason, "an OCSP response of "+date(a.this))}
	}
	if err := fresh(a.this, a.next, now); err != nil {
		return finding{why: err}
	}
	switch a.status {
	case revoked:
		return finding{revoked, revokedOn(a.revocation.at, a.revocation.reason, "an OCSP response of "+date(a.this))}
	case good:
		return finding{status: good}
	}
	return finding{why: errors.New("the responder does not know the certificate")}
}

// fetchOCSP asks a responder about a certificate.
func fetchOCSP(ctx context.Context, f Fetcher, url string, cert, issuer *x509.Certificate, now time.Time) (*ocspAnswer, error) {
	body, err := ocsp.CreateRequest(cert, issuer, nil)
	if err != nil {
		return nil, fmt.Errorf("make an OCSP request: %w", err)
	}
	r := Request{Kind: KindOCSP, URL: url, Body: body, Key: keyOf(issuer), Trusted: true}
	return fetched(ctx, f, r, func(der []byte) (*ocspAnswer, time.Time, error) {
		a, err := parseOCSP(der, cert, issuer, now)
		if err != nil {
			return nil, time.Time{}, err
		}
		return a, a.next, nil
	})
}

// Staple returns an OCSP response about a certificate of our own, for peers
// that ask for it (RFC 4806), or an error if none can be had. A response that
// says anything but good is none.
func Staple(ctx context.Context, f Fetcher, cert, issuer *x509.Certificate, now time.Time) ([]byte, error) {
	err := errors.New("it names no OCSP responder")
	for _, url := range cert.OCSPServer[:min(len(cert.OCSPServer), maxResponders)] {
		var a *ocspAnswer
		if a, err = fetchOCSP(ctx, f, url, cert, issuer, now); err == nil {
			found := a.finding(now)
			if found.status == good {
				return bytes.Clone(a.raw), nil
			}
			err = found.why
		}
	}
	return nil, fmt.Errorf("an OCSP response for the certificate of %q: %w", cert.Subject, err)
}

// The algorithms with which responders sign, and the parameters of RSASSA-PSS
// with a salt as long as the hash (RFC 4055 section 3.1).
var signatureOIDs = []struct {
	oid  asn1.ObjectIdentifier
	algo x509.SignatureAlgorithm
}{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, x509.SHA256WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, x509.SHA384WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, x509.SHA512WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, x509.ECDSAWithSHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, x509.ECDSAWithSHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, x509.ECDSAWithSHA512},
	{asn1.ObjectIdentifier{1, 3, 101, 112}, x509.PureEd25519},
}

var oidPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}

var pssParameters = map[string]x509.SignatureAlgorithm{
	"3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120": x509.SHA256WithRSAPSS,
	"3034a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130": x509.SHA384WithRSAPSS,
	"3034a00f300d06096086480165030402030500a11c301a06092a864886f70d010108300d06096086480165030402030500a203020140": x509.SHA512WithRSAPSS,
}

func signatureAlgorithm(der []byte) (x509.SignatureAlgorithm, bool) {
	var a pkix.AlgorithmIdentifier
	if rest, err := asn1.Unmarshal(der, &a); err != nil || len(rest) > 0 {
		return 0, false
	}
	if a.Algorithm.Equal(oidPSS) {
		algo, ok := pssParameters[hex.EncodeToString(a.Parameters.FullBytes)]
		return algo, ok
	}
	for _, s := range signatureOIDs {
		if a.Algorithm.Equal(s.oid) {
			return s.algo, true
		}
	}
	return 0, false
}
