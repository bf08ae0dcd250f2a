package ike

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// authTime is when the tests of authentication take place.
var authTime = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// somebody has a key of each kind that is made quickly.
var somebody = func() (s struct {
	p256 *ecdsa.PrivateKey
	ed   ed25519.PrivateKey
}) {
	var err1, err2 error
	s.p256, err1 = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, s.ed, err2 = ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	return s
}()

func p256Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issuer is an authority.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newIssuer(t testing.TB, name string, changes ...func(*x509.Certificate)) issuer {
	t.Helper()
	key := p256Key(t)
	self := issuer{&x509.Certificate{Subject: pkix.Name{CommonName: name}}, key}
	return issuer{self.issue(t, name, key.Public(), append([]func(*x509.Certificate){asAuthority}, changes...)...), key}
}

func asAuthority(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid = true, true
	c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	c.DNSNames = nil
}

var lastSerial int64

func (i issuer) issue(t testing.TB, name string, pub crypto.PublicKey, changes ...func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	lastSerial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(lastSerial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: authTime.Add(-time.Hour), NotAfter: authTime.Add(24 * time.Hour),
	}
	for _, c := range changes {
		c(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, pub, i.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sub makes an authority below another one.
func (i issuer) sub(t testing.TB, name string, changes ...func(*x509.Certificate)) issuer {
	t.Helper()
	key := p256Key(t)
	return issuer{i.issue(t, name, key.Public(), append([]func(*x509.Certificate){asAuthority}, changes...)...), key}
}

// host makes the method of a host with a certificate, which believes its own
// authority.
func (i issuer) host(t testing.TB, name string, changes ...func(*x509.Certificate)) Certificate {
	t.Helper()
	key := p256Key(t)
	c := i.believer()
	c.Chain, c.Key = []*x509.Certificate{i.issue(t, name, key.Public(), changes...)}, key
	return c
}

// believer has no certificate of its own.
func (i issuer) believer() Certificate {
	c := Certificate{Authorities: x509.NewCertPool(), Roots: []*x509.Certificate{i.cert}}
	c.Authorities.AddCert(i.cert)
	return c
}

// encounter is one end proving itself to another.
type encounter struct {
	claimed  string
	hashes   []HashAlgo
	requests CertRequests
	at       time.Time
	change   func(*Verifying) // what happens on the way
}

func sha256PRF(t testing.TB) xform.PRF {
	t.Helper()
	prf, err := xform.NewPRF(ipsec.PRFHMACSHA256)
	if err != nil {
		t.Fatal(err)
	}
	return prf
}

// prove has one end sign, and returns what the other gets.
func (e encounter) prove(t testing.TB, m AuthMethod) Verifying {
	t.Helper()
	v, err := e.tryProve(t, m)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (e encounter) tryProve(t testing.TB, m AuthMethod) (Verifying, error) {
	t.Helper()
	if e.at.IsZero() {
		e.at = authTime
	}
	id, err := m.Identity(e.claimed, someAddr)
	if err != nil {
		return Verifying{}, err
	}
	prf, skp := sha256PRF(t), bytes.Repeat([]byte{7}, 32)
	octets := SignedOctets(prf, []byte("message"), []byte("nonce"), skp, id)
	auth, certs, err := m.Sign(t.Context(), Signing{PRF: prf, Octets: octets, SKp: skp, Hashes: e.hashes, Requests: e.requests, Rand: rand.Reader, Now: e.at})
	if err != nil {
		return Verifying{}, err
	}
	v := Verifying{PRF: prf, Octets: octets, SKp: skp, Auth: auth, ID: id, Certs: certs, Now: e.at}
	if e.change != nil {
		e.change(&v)
	}
	return v, nil
}

var someAddr = netip.MustParseAddr("192.0.2.1")

// servers is a Fetcher with what stands at URLs.
type servers struct {
	pages map[string]func(body []byte) []byte
	asked []string
}

func (s *servers) Fetch(_ context.Context, r pki.Request) (any, error) {
	s.asked = append(s.asked, r.URL)
	page, ok := s.pages[r.URL]
	if !ok {
		return nil, fmt.Errorf("fetch %s: connection refused", r.URL)
	}
	v, _, err := r.Parse(page(r.Body))
	return v, err
}

// of finds the CERT payloads of an encoding.
func of(certs []*wire.Cert, e wire.CertEncoding) (out []*wire.Cert) {
	for _, c := range certs {
		if c.Encoding == e {
			out = append(out, c)
		}
	}
	return out
}
