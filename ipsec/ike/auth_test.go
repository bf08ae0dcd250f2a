package ike

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

func TestSameMethods(t *testing.T) {
	newCert := func(name string) *x509.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// Each call reads the files anew, as each policy does.
	method := func(own *x509.Certificate, roots ...*x509.Certificate) Certificate {
		c := Certificate{Chain: []*x509.Certificate{own}, Authorities: x509.NewCertPool()}
		for _, r := range roots {
			c.Authorities.AddCert(r)
		}
		return c
	}
	psk := func(s string) PresharedKey { return PresharedKey{Secret: []byte(s)} }
	raw := func(id string, pkcs1 bool) RawKey {
		return RawKey{Key: somebody.p256, Peers: []PeerKey{{Key: somebody.ed.Public(), ID: id}}, PKCS1: pkcs1}
	}
	// with is a certificate of which one thing is different.
	with := func(c Certificate, change func(*Certificate)) []AuthMethod {
		change(&c)
		return []AuthMethod{c}
	}
	host, other, ca, ca2 := newCert("host"), newCert("host"), newCert("ca"), newCert("ca")
	for _, tt := range []struct {
		name string
		a, b []AuthMethod
		want bool
	}{
		{"nothing", nil, []AuthMethod{}, true},
		{"same key", []AuthMethod{psk("x")}, []AuthMethod{psk("x")}, true},
		{"other key", []AuthMethod{psk("x")}, []AuthMethod{psk("y")}, false},
		{"same certificate", []AuthMethod{method(host, ca)}, []AuthMethod{method(host, ca)}, true},
		{"pointer", []AuthMethod{method(host, ca)}, []AuthMethod{new(method(host, ca))}, true},
		{"other certificate of the name", []AuthMethod{method(host, ca)}, []AuthMethod{method(other, ca)}, false},
		{"other authority of the name", []AuthMethod{method(host, ca)}, []AuthMethod{method(host, ca2)}, false},
		{"one authority more", []AuthMethod{method(host, ca)}, []AuthMethod{method(host, ca, ca2)}, false},
		{"other kind", []AuthMethod{method(host, ca)}, []AuthMethod{psk("x")}, false},
		{"one more", []AuthMethod{psk("x")}, []AuthMethod{psk("x"), method(host, ca)}, false},
		{"other order", []AuthMethod{psk("x"), method(host, ca)}, []AuthMethod{method(host, ca), psk("x")}, false},
		{"excluded authority", []AuthMethod{method(host, ca)}, with(method(host, ca), func(c *Certificate) { c.Excluded = []*x509.Certificate{ca} }), false},
		{"intermediate", []AuthMethod{method(host, ca)}, with(method(host, ca), func(c *Certificate) { c.Intermediates = []*x509.Certificate{ca} }), false},
		{"revocation", []AuthMethod{method(host, ca)}, with(method(host, ca), func(c *Certificate) { c.Revocation = pki.Strict }), false},
		{"fetching", []AuthMethod{method(host, ca)}, with(method(host, ca), func(c *Certificate) { c.Fetcher = &servers{} }), false},
		{"another fetcher", with(method(host, ca), func(c *Certificate) { c.Fetcher = &servers{} }), with(method(host, ca), func(c *Certificate) { c.Fetcher = &servers{} }), true},
		{"lookup", []AuthMethod{method(host, ca)}, with(method(host, ca), func(c *Certificate) { c.Lookup = true }), false},
		{"URL", []AuthMethod{method(host, ca)}, with(method(host, ca), func(c *Certificate) { c.URL = "http://x" }), false},
		{"padding", []AuthMethod{method(host, ca)}, with(method(host, ca), func(c *Certificate) { c.PKCS1 = true }), false},
		{"legacy", []AuthMethod{method(host, ca)}, with(method(host, ca), func(c *Certificate) { c.Legacy = true }), false},
		{"authorities only", []AuthMethod{method(host, ca)}, with(method(host, ca), func(c *Certificate) { c.Chain = nil }), false},
		{"raw key", []AuthMethod{raw("a", false)}, []AuthMethod{raw("a", false)}, true},
		{"raw key of another name", []AuthMethod{raw("a", false)}, []AuthMethod{raw("b", false)}, false},
		{"raw key, padding", []AuthMethod{raw("a", false)}, []AuthMethod{raw("a", true)}, false},
		{"raw key, of peers alone", []AuthMethod{raw("a", false)}, []AuthMethod{RawKey{Peers: raw("a", false).Peers}}, false},
		{"raw key, no peers", []AuthMethod{raw("a", false)}, []AuthMethod{RawKey{Key: somebody.p256}}, false},
		{"nobody", []AuthMethod{Null{Ours: true}}, []AuthMethod{Null{Ours: true}}, true},
		{"nobody on one side", []AuthMethod{Null{Ours: true}}, []AuthMethod{Null{Theirs: true}}, false},
		{"nobody and a key", []AuthMethod{Null{Ours: true}}, []AuthMethod{psk("x")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := SameMethods(tt.a, tt.b); got != tt.want {
				t.Errorf("same: %v", got)
			}
			if got := SameMethods(tt.b, tt.a); got != tt.want {
				t.Errorf("the other way round: %v", got)
			}
		})
	}
}

// What several methods say of a peer stands in one error, each thing once, and
// can be found in it.
func TestAuthenticateSaysAll(t *testing.T) {
	v := encounter{hashes: everyHash}.prove(t, newIssuer(t, "CA").host(t, "h.example"))
	methods := []AuthMethod{
		PresharedKey{Secret: []byte("x")}, newIssuer(t, "CA").believer(), newIssuer(t, "CA").believer(),
		RawKey{Peers: []PeerKey{{Key: somebody.ed.Public()}}},
	}
	_, err := Authenticate(t.Context(), methods, "", nil, v)
	var c *pki.CertificateError
	if !errors.Is(err, ErrAuthentication) || !errors.As(err, &c) || c.Reason != pki.UnknownAuthority {
		t.Fatalf("%v", err)
	}
	if n := strings.Count(err.Error(), "no authority that is trusted"); n != 1 || !strings.Contains(err.Error(), "a raw key is wanted") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	v.Auth.Method = 201
	if _, err := Authenticate(t.Context(), methods, "", nil, v); !errors.Is(err, ErrNoMethod) || !errors.Is(err, ErrAuthentication) {
		t.Errorf("a method that nobody has: %v", err)
	}
}

// Whoever is refused by a rule is named, with the rule's reason.
func TestAuthorizationError(t *testing.T) {
	host := newIssuer(t, "CA")
	us, v := host.believer(), encounter{hashes: everyHash}.prove(t, host.host(t, "h.example"))
	for _, tt := range []struct {
		name   string
		peerID string
		group  *PeerGroup
		want   AuthorizationError
	}{
		{"another identity", "x.example", nil, AuthorizationError{"h.example", "", "the peer is h.example, and the policy wants x.example", ""}},
		{"not of the group", "", &PeerGroup{Name: "staff"}, AuthorizationError{"h.example", "staff", `is not of the peers "staff"; its fingerprint is sha256:`, "peers: staff"}},
		{"of another fingerprint", "", &PeerGroup{Name: "staff", Fingerprints: []Fingerprint{{1}}},
			AuthorizationError{"h.example", "staff", ", that of its key sha256:", "peers: staff: fingerprints"}},
		{"excepted", "", &PeerGroup{Name: "staff", Names: []string{"*.example"}, Except: &PeerGroup{Name: "guests", Names: []string{"h.example"}}},
			AuthorizationError{"h.example", "staff", `is one of those whom the peers "staff" except, "guests"; its fingerprint`, "peers: staff: except"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Authenticate(t.Context(), []AuthMethod{us}, tt.peerID, tt.group, v)
			var a *AuthorizationError
			if !errors.As(err, &a) || !errors.Is(err, ErrAuthentication) {
				t.Fatalf("%v", err)
			}
			if a.Peer != tt.want.Peer || a.Group != tt.want.Group || a.Setting != tt.want.Setting || !strings.Contains(a.Why, tt.want.Why) || !strings.Contains(err.Error(), a.Why) {
				t.Errorf("%#v, want %#v", a, tt.want)
			}
		})
	}
	if s := (&AuthorizationError{Why: strings.Repeat("x", 1<<16)}).Error(); len(s) > 2*maxText {
		t.Errorf("an error of %d bytes", len(s))
	}
}
