package ike_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// certified is rules of a host that has a certificate.
type certified struct {
	rules
	cert ike.Certificate
}

func (c certified) Peer(local, remote netip.Addr) (ike.Policy, bool) {
	out, ok := c.rules.Peer(local, remote)
	out.Auth = []ike.AuthMethod{c.cert}
	return out, ok
}

// hostCertificate returns a certificate of an authority, which is believed.
func hostCertificate(t *testing.T) ike.Certificate {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	issue := func(template, issuer *x509.Certificate) *x509.Certificate {
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Unix(1, 0), time.Unix(1<<31, 0)
		der, err := x509.CreateCertificate(nil, template, issuer, key.Public(), key)
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
	own := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "h"}, DNSNames: []string{"h.example"}}, root)
	out := ike.Certificate{Chain: []*x509.Certificate{own}, Key: key, Authorities: x509.NewCertPool(), Roots: []*x509.Certificate{root}}
	out.Authorities.AddCert(root)
	return out
}

// A peer whose revocation nobody could tell is believed with if-present, and
// each time the log and the list of peers say so.
func TestManagerRevocation(t *testing.T) {
	for _, tt := range []struct {
		policy pki.Revocation
		word   string
		why    string
	}{
		{pki.IfPresent, ike.RevocationUnknown, `revocation of "CN=h" could not be checked: no list and no OCSP response is there, and none is fetched`},
		{pki.Off, ike.RevocationOff, ""},
	} {
		t.Run(tt.policy.String(), func(t *testing.T) {
			cert := hostCertificate(t)
			cert.Revocation = tt.policy
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{Delay: time.Millisecond})
				var log bytes.Buffer
				a := start(t, net, addrA, certified{psk(addrB, addrC), cert}, func(c *ike.ManagerConfig) {
					c.Log = slog.New(slog.NewTextHandler(&log, nil))
				})
				start(t, net, addrB, certified{psk(addrA), cert})
				start(t, net, addrC, certified{psk(addrA), cert})
				for i, peer := range []netip.Addr{addrB, addrC} {
					a.acquire(peer, "all")
					pass(time.Second)
					want := i + 1
					if tt.why == "" {
						want = 0
					}
					if n := strings.Count(log.String(), "audit: a peer is believed whose certificates may have been revoked"); n != want {
						t.Errorf("said %d times, want %d:\n%s", n, want, log.String())
					}
				}
				peers := a.Peers()
				if len(peers) != 2 {
					t.Fatalf("%d peers", len(peers))
				}
				for _, p := range peers {
					if p.Revocation != tt.word || p.Unchecked != tt.why {
						t.Errorf("peer with revocation %q, %q; want %q, %q", p.Revocation, p.Unchecked, tt.word, tt.why)
					}
				}
			})
		})
	}
}
