package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// now is when all tests take place.
var now = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// owner is a certificate with its key.
type owner struct {
	*x509.Certificate
	key crypto.Signer
}

type change func(*x509.Certificate)

var serials int64

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issueFor makes a certificate for a key that need not be there in private.
func (o *owner) issueFor(t testing.TB, name string, pub crypto.PublicKey, changes ...change) *x509.Certificate {
	t.Helper()
	serials++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-day), NotAfter: now.Add(30 * day),
	}
	for _, c := range changes {
		c(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, o.Certificate, pub, o.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (o *owner) issue(t testing.TB, name string, changes ...change) *owner {
	t.Helper()
	key := newKey(t)
	return &owner{o.issueFor(t, name, key.Public(), changes...), key}
}

func authority(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid = true, true
	c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
}

// sub makes an authority below another one.
func (o *owner) sub(t testing.TB, name string, changes ...change) *owner {
	t.Helper()
	return o.issue(t, name, append([]change{authority}, changes...)...)
}

func newRoot(t testing.TB, name string) *owner {
	t.Helper()
	key := newKey(t)
	return selfSigned(t, name, key)
}

func selfSigned(t testing.TB, name string, key crypto.Signer, changes ...change) *owner {
	t.Helper()
	self := &owner{&x509.Certificate{Subject: pkix.Name{CommonName: name}}, key}
	return &owner{self.issueFor(t, name, key.Public(), append([]change{authority}, changes...)...), key}
}

func pool(cs ...*owner) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range cs {
		p.AddCert(c.Certificate)
	}
	return p
}

func certs(os ...*owner) (out []*x509.Certificate) {
	for _, o := range os {
		out = append(out, o.Certificate)
	}
	return out
}

func usage(u x509.KeyUsage) change { return func(c *x509.Certificate) { c.KeyUsage = u } }

func purposes(us ...x509.ExtKeyUsage) change {
	return func(c *x509.Certificate) { c.ExtKeyUsage = us }
}

func dates(from, to time.Duration) change {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(from), now.Add(to) }
}

func dns(names ...string) change { return func(c *x509.Certificate) { c.DNSNames = names } }

func extra(e pkix.Extension) change {
	return func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, e) }
}

// web is a Fetcher with what stands at its URLs; a nil value is a server that
// does not answer.
type web struct {
	pages map[string]func(body []byte) []byte
	asked []Request
}

var errUnreachable = errors.New("connection refused")

func (w *web) Fetch(_ context.Context, r Request) (any, error) {
	w.asked = append(w.asked, r)
	page, ok := w.pages[r.URL]
	if !ok || page == nil {
		return nil, fmt.Errorf("fetch %s: %w", r.URL, errUnreachable)
	}
	v, _, err := r.Parse(page(r.Body))
	return v, err
}

func page(data []byte) func([]byte) []byte { return func([]byte) []byte { return data } }

// reasonOf returns why a certificate was refused, and 0 if it was not.
func reasonOf(t *testing.T, err error) Reason {
	t.Helper()
	var e *CertificateError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &e):
		t.Fatalf("%v is no *CertificateError", err)
	case e.Reason.String() == "" || e.Error() == "":
		t.Errorf("the error says nothing: %#v", e)
	}
	return e.Reason
}
