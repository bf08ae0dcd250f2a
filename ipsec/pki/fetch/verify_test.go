package fetch

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// A failure that is remembered is told of in each verification, as if it had
// been met in it.
func TestFailureIsToldAgain(t *testing.T) {
	var asked atomic.Int32
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.NotFound(w, r)
	})
	now := time.Now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(template, issuer *x509.Certificate) *x509.Certificate {
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), now.Add(-time.Hour), now.Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	authority := &x509.Certificate{Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true}
	root := issue(authority, authority)
	leaf := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "h"}, CRLDistributionPoints: []string{s.URL}}, root)
	v := pki.Verifier{Roots: x509.NewCertPool(), Fetcher: fetcher(t, Options{})}
	v.Roots.AddCert(root)
	for range 2 {
		got, err := v.Verify(t.Context(), leaf, pki.Evidence{}, now)
		if err != nil {
			t.Fatal(err)
		}
		if got.Unchecked == nil || !strings.Contains(got.Unchecked.Error(), "404") {
			t.Errorf("unchecked: %v", got.Unchecked)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}
