package pki

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// CRL is a complete certificate revocation list (RFC 5280 section 5), with its
// entries by serial number. It does not change, and is made by ParseCRL.
type CRL struct {
	sum     [sha256.Size]byte    // of its DER
	list    *x509.RevocationList // without its entries
	scope   scope
	revoked map[string]revocation
}

type revocation struct {
	at     time.Time
	reason int
}

var (
	oidCRLNumber    = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaCRL     = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIDP          = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidAuthorityKey = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidReasonCode   = asn1.ObjectIdentifier{2, 5, 29, 21}
)

// ParseCRL reads a CRL from DER. Who signed it, and whether it is still good,
// is looked at when it is used. It refuses what it could misunderstand: a
// delta CRL, an indirect one, and critical extensions that it does not know
// (RFC 5280 section 5.2).
func ParseCRL(der []byte) (*CRL, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("it is no CRL: %w", err)
	}
	c := &CRL{sum: sha256.Sum256(der), list: list, revoked: make(map[string]revocation, len(list.RevokedCertificateEntries))}
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidDeltaCRL):
			return nil, errors.New("it is a delta CRL, which says nothing without its base")
		case e.Id.Equal(oidIDP):
			if c.scope, err = parseScope(e.Value); err != nil {
				return nil, err
			}
		case e.Critical && !e.Id.Equal(oidCRLNumber) && !e.Id.Equal(oidAuthorityKey):
			return nil, fmt.Errorf("its critical extension %s is not known here", e.Id)
		}
	}
	for _, e := range list.RevokedCertificateEntries {
		if slices.ContainsFunc(e.Extensions, func(x pkix.Extension) bool { return x.Critical && !x.Id.Equal(oidReasonCode) }) {
			return nil, errors.New("an entry has a critical extension that is not known here")
		}
		c.revoked[string(e.SerialNumber.Bytes())] = revocation{at: e.RevocationTime, reason: e.ReasonCode}
	}
	list.RevokedCertificateEntries = nil // there may be very many
	return c, nil
}

// Equal reports whether two CRLs are the same.
func (c *CRL) Equal(d *CRL) bool { return c.sum == d.sum }

// Issuer returns the name of whoever issued the list.
func (c *CRL) Issuer() string { return c.list.Issuer.String() }

// NextUpdate returns when the list is to be replaced; zero if it does not say.
func (c *CRL) NextUpdate() time.Time { return c.list.NextUpdate }

// parseCRLs leaves out what is of no use.
func parseCRLs(ders [][]byte) (out []*CRL) {
	for _, der := range ders {
		if c, err := ParseCRL(der); err == nil {
			out = append(out, c)
		}
	}
	return out
}

// checkIssuer checks that a CRL was signed by the issuer of the certificates
// that it is about.
func (c *CRL) checkIssuer(issuer *x509.Certificate) error {
	if !bytes.Equal(c.list.RawIssuer, issuer.RawSubject) {
		return fmt.Errorf("the CRL is of %q and not of %q", c.list.Issuer, issuer.Subject)
	}
	if err := c.list.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("the signature of the CRL: %w", err)
	}
	return nil
}

// finding is what the CRL says about a certificate of its issuer. That one is
// revoked stays true when the list is out of date, or of another distribution
// point; only that it is not takes a list that is to be asked. What was on hold
// may have been let go since.
func (c *CRL) finding(q question) finding {
	r, listed := c.revoked[string(q.cert.SerialNumber.Bytes())]
	const hold, removed = 6, 8 // RFC 5280 section 5.3.1
	if listed && r.reason != hold && r.reason != removed && !c.scope.attributes {
		return finding{revoked, revokedOn(r.at, r.reason, "a CRL of "+date(c.list.ThisUpdate))}
	}
	if c.list.NextUpdate.IsZero() {
		return finding{why: errors.New("it does not say when it is to be replaced")}
	}
	if err := fresh(c.list.ThisUpdate, c.list.NextUpdate, q.now); err != nil {
		return finding{why: err}
	}
	if err := c.scope.covers(q.cert); err != nil {
		return finding{why: err}
	}
	if listed {
		return finding{revoked, revokedOn(r.at, r.reason, "a CRL of "+date(c.list.ThisUpdate))}
	}
	if c.scope.someReasons {
		return finding{why: errors.New("it is about some reasons for revocation only")}
	}
	return finding{status: good}
}

// Revoked returns when and why the list says that a certificate of an issuer was
// revoked; nil if it does not say so, or is another issuer's.
func (c *CRL) Revoked(cert, issuer *x509.Certificate, now time.Time) error {
	if c.checkIssuer(issuer) != nil {
		return nil
	}
	if f := c.finding(question{cert, issuer, now}); f.status == revoked {
		return f.why
	}
	return nil
}

// scope is what a CRL is about, from its issuing distribution point
// (RFC 5280 section 5.2.5). The zero value is everything of its issuer.
type scope struct {
	urls        []string
	named       bool // it has a distribution point, be it none that is understood
	users, cas  bool // only end entities, only authorities
	someReasons bool
	attributes  bool
}

type distributionPoint struct {
	Name struct {
		Full     []asn1.RawValue `asn1:"optional,tag:0"`
		Relative asn1.RawValue   `asn1:"optional,tag:1"`
	} `asn1:"optional,tag:0"`
	Users      bool           `asn1:"optional,tag:1"`
	CAs        bool           `asn1:"optional,tag:2"`
	Reasons    asn1.BitString `asn1:"optional,tag:3"`
	Indirect   bool           `asn1:"optional,tag:4"`
	Attributes bool           `asn1:"optional,tag:5"`
}

func parseScope(der []byte) (scope, error) {
	var p distributionPoint
	if rest, err := asn1.Unmarshal(der, &p); err != nil || len(rest) > 0 {
		return scope{}, errors.New("its issuing distribution point does not parse")
	}
	if p.Indirect {
		return scope{}, errors.New("it is an indirect CRL, which is about certificates of other issuers")
	}
	s := scope{users: p.Users, cas: p.CAs, someReasons: p.Reasons.BitLength > 0, attributes: p.Attributes}
	s.named = len(p.Name.Full) > 0 || len(p.Name.Relative.FullBytes) > 0
	for _, n := range p.Name.Full {
		const uri = 6 // of GeneralName
		if n.Class == asn1.ClassContextSpecific && n.Tag == uri {
			s.urls = append(s.urls, string(n.Bytes))
		}
	}
	return s, nil
}

// covers checks that the CRL is about a certificate.
func (s scope) covers(c *x509.Certificate) error {
	switch {
	case s.attributes:
		return errors.New("it is about attribute certificates only")
	case s.users && c.IsCA:
		return errors.New("it is not about authorities")
	case s.cas && !c.IsCA:
		return errors.New("it is about authorities only")
	case s.named && !slices.ContainsFunc(s.urls, func(u string) bool { return slices.Contains(c.CRLDistributionPoints, u) }):
		return errors.New("it is of another distribution point than those of the certificate")
	}
	return nil
}

// fetchCRL gets the CRL at a distribution point, signed by the issuer.
func fetchCRL(ctx context.Context, f Fetcher, url string, issuer *x509.Certificate) (*CRL, error) {
	r := Request{Kind: KindCRL, URL: url, Key: keyOf(issuer), Trusted: true}
	return fetched(ctx, f, r, func(der []byte) (*CRL, time.Time, error) {
		c, err := ParseCRL(der)
		if err == nil {
			err = c.checkIssuer(issuer)
		}
		if err != nil {
			return nil, time.Time{}, err
		}
		return c, c.list.NextUpdate, nil
	})
}
