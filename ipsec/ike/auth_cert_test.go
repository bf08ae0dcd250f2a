package ike

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

func TestCertificate(t *testing.T) {
	ca, other := newIssuer(t, "CA"), newIssuer(t, "CA")
	mid := ca.sub(t, "Mid")
	us, host := ca.believer(), ca.host(t, "h.example")
	below := mid.host(t, "m.example")
	withMid := below
	withMid.Chain = append(slices.Clone(below.Chain), mid.cert)
	knowsMid := us
	knowsMid.Intermediates = []*x509.Certificate{mid.cert}
	var none func(*Verifying)
	expired := ca.host(t, "h.example", func(c *x509.Certificate) { c.NotAfter = authTime.Add(-time.Minute) })
	for _, tt := range []struct {
		name   string
		by     Certificate
		to     Certificate
		change func(*Verifying)
		reason pki.Reason // if it is one of a certificate
		want   error      // else; nil if it verifies
	}{
		{"directly below the authority", host, us, none, 0, nil},
		{"with an intermediate", withMid, us, none, 0, nil},
		{"with an intermediate of ours", below, knowsMid, none, 0, nil},
		{"without the intermediate", below, us, none, pki.UnknownAuthority, nil},
		{"another authority of the name", other.host(t, "h.example"), us, none, pki.UnknownAuthority, nil},
		{"expired", expired, us, none, pki.Expired, nil},
		{"our clock is behind", host, us, func(v *Verifying) { v.Now = authTime.AddDate(-1, 0, 0) }, pki.NotYetValid, nil},
		{"another identity", host, us, func(v *Verifying) { v.ID = ParseID("x.example") }, pki.NotForIdentity, nil},
		{"another signature", host, us, func(v *Verifying) { v.Octets = []byte("others") }, 0, ErrWrongKey},
		{"another certificate", host, us, func(v *Verifying) {
			v.Certs = []*wire.Cert{{Encoding: wire.CertX509, Data: ca.host(t, "h.example").Chain[0].Raw}}
		}, 0, ErrWrongKey},
		{"no certificate", host, us, func(v *Verifying) { v.Certs = nil }, 0, ErrAuthentication},
		{"a certificate that is none", host, us, func(v *Verifying) { v.Certs[0].Data = []byte("x") }, pki.Malformed, nil},
		{"another that is none", withMid, us, func(v *Verifying) {
			v.Certs = append(v.Certs, &wire.Cert{Encoding: wire.CertX509, Data: []byte("x")})
		}, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := encounter{hashes: everyHash, change: tt.change}.prove(t, tt.by)
			p, err := Authenticate(t.Context(), []AuthMethod{tt.to}, "", nil, v)
			var c *pki.CertificateError
			switch {
			case tt.reason == 0 && tt.want == nil:
				if err != nil {
					t.Fatal(err)
				}
				if p.Chain[0] == nil || !p.Chain[0].Equal(tt.by.Chain[0]) || p.ID.String() != v.ID.String() || p.Until.IsZero() || p.Revocation != pki.IfPresent {
					t.Errorf("%+v", p)
				}
			case !errors.Is(err, ErrAuthentication):
				t.Errorf("%v does not wrap ErrAuthentication", err)
			case tt.reason != 0 && (!errors.As(err, &c) || c.Reason != tt.reason):
				t.Errorf("%v, want %s", err, tt.reason)
			case tt.want != nil && !errors.Is(err, tt.want):
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// A proof lasts as long as the first certificate of its chain that ends.
func TestProofUntil(t *testing.T) {
	end := authTime.Add(2 * time.Hour).Truncate(time.Second)
	ca := newIssuer(t, "CA")
	mid := ca.sub(t, "Mid", func(c *x509.Certificate) { c.NotAfter = end })
	host := mid.host(t, "h.example")
	host.Chain = append(host.Chain, mid.cert)
	p, err := ca.believer().Verify(t.Context(), encounter{hashes: everyHash}.prove(t, host))
	if err != nil || !p.Until.Equal(end) {
		t.Errorf("until %s, want %s; %v", p.Until, end, err)
	}
}

func TestCertificateIdentity(t *testing.T) {
	c := newIssuer(t, "CA").host(t, "h.example", func(c *x509.Certificate) { c.EmailAddresses = []string{"a@h.example"} })
	for _, tt := range []struct{ name, claimed, want string }{
		{"its own", "", "h.example"},
		{"one that it speaks for", "a@h.example", "a@h.example"},
		{"its subject", "CN=h.example", "CN=h.example"},
		{"another", "x.example", "h.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := c.Identity(tt.claimed, someAddr)
			if err != nil || id.String() != tt.want {
				t.Errorf("%s, %v", id, err)
			}
		})
	}
	if _, err := (Certificate{}).Identity("h.example", someAddr); err == nil {
		t.Error("an identity without a certificate")
	}
}

func answerOf(t *testing.T, by issuer, about *x509.Certificate, status int) []byte {
	t.Helper()
	der, err := ocsp.CreateResponse(by.cert, by.cert, ocsp.Response{
		Status: status, SerialNumber: about.SerialNumber, ThisUpdate: authTime.Add(-time.Minute), NextUpdate: authTime.Add(time.Hour), RevokedAt: authTime,
	}, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// RFC 4806: who asks for an OCSP response gets one, and takes it.
func TestStapling(t *testing.T) {
	const responder = "http://ocsp.example"
	ca := newIssuer(t, "CA")
	host := ca.host(t, "h.example", func(c *x509.Certificate) { c.OCSPServer = []string{responder} })
	status := ocsp.Good
	host.Fetcher = &servers{pages: map[string]func([]byte) []byte{responder: func([]byte) []byte { return answerOf(t, ca, host.Chain[0], status) }}}
	us := ca.believer()
	us.Revocation = pki.Strict
	var asked CertRequests
	asked.Note(RequestCerts([]AuthMethod{us}))
	if !asked.asks(wire.CertOCSP) {
		t.Fatal("a strict host does not ask for OCSP responses")
	}
	v := encounter{hashes: everyHash, requests: asked}.prove(t, host)
	if n := len(of(v.Certs, wire.CertOCSP)); n != 1 || v.Certs[0].Encoding != wire.CertX509 {
		t.Fatalf("%d OCSP responses", n)
	}
	p, err := us.Verify(t.Context(), v)
	if err != nil || p.Revocation != pki.Strict {
		t.Errorf("satisfies %s, %v", p.Revocation, err)
	}
	v = encounter{hashes: everyHash}.prove(t, host)
	if len(of(v.Certs, wire.CertOCSP)) != 0 {
		t.Error("staples for one who does not ask")
	}
	var c *pki.CertificateError
	if _, err := us.Verify(t.Context(), v); !errors.As(err, &c) || c.Reason != pki.RevocationUnknown {
		t.Errorf("without a response: %v", err)
	}
	v.Certs = append(v.Certs, &wire.Cert{Encoding: wire.CertOCSP, Data: answerOf(t, ca, host.Chain[0], ocsp.Revoked)})
	if _, err := us.Verify(t.Context(), v); !errors.As(err, &c) || c.Reason != pki.Revoked {
		t.Errorf("revoked: %v", err)
	}
	status = ocsp.Revoked
	if v := (encounter{hashes: everyHash, requests: asked}).prove(t, host); len(of(v.Certs, wire.CertOCSP)) != 0 {
		t.Error("staples its own revocation")
	}
}

// Revocation lists come from the peer, from our files, or from where the
// certificate says.
func TestRevocationLists(t *testing.T) {
	const url = "http://pki.example/crl"
	ca := newIssuer(t, "CA")
	host := ca.host(t, "h.example", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{url} })
	list := func(revoked ...*x509.Certificate) []byte {
		template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: authTime.Add(-time.Minute), NextUpdate: authTime.Add(time.Hour)}
		for _, r := range revoked {
			template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.SerialNumber, RevocationTime: authTime})
		}
		der, err := x509.CreateRevocationList(rand.Reader, template, ca.cert, ca.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ours, err := pki.ParseCRL(list(host.Chain[0]))
	if err != nil {
		t.Fatal(err)
	}
	plain, withFile, fetching := ca.believer(), ca.believer(), ca.believer()
	withFile.CRLs = []*pki.CRL{ours}
	fetching.Fetcher = &servers{pages: map[string]func([]byte) []byte{url: func([]byte) []byte { return list(host.Chain[0]) }}}
	sends := func(der []byte) func(*Verifying) {
		return func(v *Verifying) { v.Certs = append(v.Certs, &wire.Cert{Encoding: wire.CertCRL, Data: der}) }
	}
	for _, tt := range []struct {
		name    string
		to      Certificate
		change  func(*Verifying)
		revoked bool
	}{
		{"nobody says", plain, nil, false},
		{"the peer's", plain, sends(list(host.Chain[0])), true},
		{"the peer's without it", plain, sends(list()), false},
		{"ours", withFile, nil, true},
		{"ours against the peer's", withFile, sends(list()), true},
		{"fetched", fetching, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.to.Verify(t.Context(), encounter{hashes: everyHash, change: tt.change}.prove(t, host))
			var c *pki.CertificateError
			if (err != nil) != tt.revoked || tt.revoked && (!errors.As(err, &c) || c.Reason != pki.Revoked) {
				t.Errorf("%v", err)
			}
		})
	}
	// What another rule believed is held against the lists of this one.
	proof, err := plain.Verify(t.Context(), encounter{hashes: everyHash}.prove(t, host))
	if err != nil {
		t.Fatal(err)
	}
	var c *pki.CertificateError
	if err := withFile.Accepts(proof, authTime); !errors.As(err, &c) || c.Reason != pki.Revoked {
		t.Errorf("a rule with a list that revokes: %v", err)
	}
	if err := plain.Accepts(proof, authTime); err != nil {
		t.Errorf("a rule without: %v", err)
	}
	proof.Weak = true
	if err := plain.Accepts(proof, authTime); !errors.Is(err, ErrWeakMethod) {
		t.Errorf("a signature with SHA-1: %v", err)
	}
}

// Nothing is fetched for one who does not have the key of its certificate.
func TestNothingFetchedForStrangers(t *testing.T) {
	ca := newIssuer(t, "CA")
	host := ca.host(t, "h.example", func(c *x509.Certificate) { c.OCSPServer = []string{"http://ocsp.example"} })
	w := &servers{}
	us := ca.believer()
	us.Fetcher, us.Revocation = w, pki.Strict
	for name, change := range map[string]func(*Verifying){
		"another key":      func(v *Verifying) { v.Octets = []byte("others") },
		"another identity": func(v *Verifying) { v.ID = ParseID("x.example") },
	} {
		if _, err := us.Verify(t.Context(), encounter{hashes: everyHash, change: change}.prove(t, host)); err == nil || len(w.asked) > 0 {
			t.Errorf("%s: %v, asked %q", name, err, w.asked)
		}
	}
	own := newIssuer(t, "Mine").host(t, "h.example", func(c *x509.Certificate) { c.OCSPServer = []string{"http://victim.example"} })
	if _, err := us.Verify(t.Context(), encounter{hashes: everyHash}.prove(t, own)); err == nil || len(w.asked) > 0 {
		t.Errorf("an authority of its own: %v, asked %q", err, w.asked)
	}
}

// RFC 7296 section 3.6, hash and URL.
func TestHashAndURL(t *testing.T) {
	const url = "http://pki.example/h.der"
	ca := newIssuer(t, "CA")
	host := ca.host(t, "h.example")
	host.URL = url
	us := ca.believer()
	us.Lookup = true
	pages := &servers{pages: map[string]func([]byte) []byte{url: func([]byte) []byte { return host.Chain[0].Raw }}}
	us.Fetcher = pages
	var asked CertRequests
	asked.Note(RequestCerts([]AuthMethod{us}))
	if !asked.Lookup {
		t.Fatal("HTTP_CERT_LOOKUP_SUPPORTED is missing")
	}
	v := encounter{hashes: everyHash, requests: asked}.prove(t, host)
	h := sha1.Sum(host.Chain[0].Raw)
	if len(v.Certs) != 1 || v.Certs[0].Encoding != wire.CertHashAndURL || string(v.Certs[0].Data) != string(h[:])+url {
		t.Fatalf("sent %+v", v.Certs)
	}
	if p, err := us.Verify(t.Context(), v); err != nil || !p.Chain[0].Equal(host.Chain[0]) {
		t.Errorf("%v", err)
	}
	if plain := (encounter{hashes: everyHash}).prove(t, host); plain.Certs[0].Encoding != wire.CertX509 {
		t.Error("sends a URL to one who does not look certificates up")
	}
	reasons := func(name string, to Certificate, data []byte, want pki.Reason) {
		t.Helper()
		v := v
		v.Certs = []*wire.Cert{{Encoding: wire.CertHashAndURL, Data: data}}
		var c *pki.CertificateError
		if _, err := to.Verify(t.Context(), v); !errors.As(err, &c) || c.Reason != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	other := sha1.Sum([]byte("other"))
	reasons("another hash", us, append(other[:], url...), pki.NotObtainable)
	reasons("not there", us, append(slices.Clone(h[:]), "http://pki.example/x"...), pki.NotObtainable)
	reasons("no URL", us, h[:], pki.Malformed)
	reasons("half a hash", us, h[:10], pki.Malformed)
	reasons("a long URL", us, append(slices.Clone(h[:]), strings.Repeat("x", maxURL+1)...), pki.Malformed)
	pages.asked = nil
	strict := us
	strict.Lookup = false
	reasons("not allowed", strict, v.Certs[0].Data, pki.NotObtainable)
	if len(pages.asked) != 0 {
		t.Errorf("asked %q all the same", pages.asked)
	}
	many := v
	for range 10 {
		many.Certs = append(many.Certs, &wire.Cert{Encoding: wire.CertHashAndURL, Data: append(slices.Clone(h[:]), "http://victim.example/"...)})
	}
	if _, err := us.Verify(t.Context(), many); err != nil || len(pages.asked) > maxFollows {
		t.Errorf("%v after %d requests", err, len(pages.asked))
	}
}

// endless is a Fetcher of servers that never answer.
type endless struct{ asked int }

func (e *endless) Fetch(ctx context.Context, r pki.Request) (any, error) {
	e.asked++
	<-ctx.Done()
	return nil, ctx.Err()
}

// What a peer has looked up takes a few seconds in all, wherever it leads.
func TestLookupsEnd(t *testing.T) {
	const url = "http://slow.example/"
	ca := newIssuer(t, "CA")
	mid := ca.sub(t, "Mid")
	host := mid.host(t, "h.example", func(c *x509.Certificate) { c.IssuingCertificateURL = []string{url} })
	byURL := make([]*wire.Cert, maxFollows)
	for i := range byURL {
		byURL[i] = hashAndURL(host.Chain[0].Raw, url)
	}
	sent := &wire.Cert{Encoding: wire.CertX509, Data: host.Chain[0].Raw}
	for _, tt := range []struct {
		name  string
		certs []*wire.Cert
		asked int
	}{
		{"its certificate", byURL, 1},
		{"its issuer's", []*wire.Cert{sent}, 1},
		{"issuers that it names, and then its issuer's", append([]*wire.Cert{sent}, byURL...), maxFollows + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := encounter{hashes: everyHash}.prove(t, host)
			v.Certs = tt.certs
			synctest.Test(t, func(t *testing.T) {
				w := &endless{}
				us := ca.believer()
				us.Lookup, us.Fetcher = true, w
				began := time.Now()
				_, err := us.Verify(t.Context(), v)
				if took := time.Since(began); !errors.Is(err, ErrAuthentication) || took != lookupPatience || w.asked != tt.asked {
					t.Errorf("%v after %s and %d requests, want %s and %d", err, took, w.asked, lookupPatience, tt.asked)
				}
			})
		})
	}
}

// A rule takes what another verified, unless it wants to know more.
func TestAccepts(t *testing.T) {
	ca := newIssuer(t, "CA")
	host := ca.host(t, "h.example")
	off, ifPresent, strict := ca.believer(), ca.believer(), ca.believer()
	off.Revocation, strict.Revocation = pki.Off, pki.Strict
	key := RawKey{Peers: []PeerKey{{Key: host.Key.Public()}}}
	v := encounter{hashes: everyHash}.prove(t, host)
	for _, tt := range []struct {
		name string
		by   Certificate
		rule AuthMethod
		at   time.Time
		want bool
	}{
		{"the same", ifPresent, ifPresent, authTime, true},
		{"less", ifPresent, off, authTime, true},
		{"more", ifPresent, strict, authTime, false},
		{"more than nothing", off, ifPresent, authTime, false},
		{"another authority", ifPresent, newIssuer(t, "CA").believer(), authTime, false},
		{"expired meanwhile", ifPresent, ifPresent, authTime.AddDate(0, 0, 2), false},
		{"no authority", ifPresent, Certificate{}, authTime, false},
		{"preshared key", ifPresent, PresharedKey{Secret: []byte("x")}, authTime, false},
		{"raw key", ifPresent, key, authTime, false},
		{"nobody", ifPresent, Null{Theirs: true}, authTime, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := tt.by.Verify(t.Context(), v)
			if err != nil {
				t.Fatal(err)
			}
			err = Entitled([]AuthMethod{tt.rule}, "h.example", nil, p, tt.at)
			if (err == nil) != tt.want || err != nil && !errors.Is(err, ErrAuthentication) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// A peer without RFC 7427 has RSA with SHA-1 or nothing.
func TestLegacyCertificate(t *testing.T) {
	ca := newIssuer(t, "CA")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	host := ca.believer()
	host.Chain, host.Key = []*x509.Certificate{ca.issue(t, "h.example", key.Public())}, key
	if _, err := (encounter{}).tryProve(t, host); !errors.Is(err, ErrWeakMethod) {
		t.Errorf("signed: %v", err)
	}
	host.Legacy = true
	v := encounter{}.prove(t, host)
	us := ca.believer()
	if _, err := Authenticate(t.Context(), []AuthMethod{us}, "", nil, v); !errors.Is(err, ErrWeakMethod) {
		t.Errorf("taken: %v", err)
	}
	us.Legacy = true
	p, err := Authenticate(t.Context(), []AuthMethod{us}, "", nil, v)
	if err != nil {
		t.Fatal(err)
	}
	if err := Entitled([]AuthMethod{us}, "h.example", nil, p, authTime); err != nil {
		t.Errorf("a rule that is legacy too: %v", err)
	}
	if err := Entitled([]AuthMethod{ca.believer()}, "h.example", nil, p, authTime); !errors.Is(err, ErrWeakMethod) {
		t.Errorf("a rule that is not: %v", err)
	}
	// A better signature is no worse for a rule that would have taken a weak one.
	p, err = Authenticate(t.Context(), []AuthMethod{us}, "", nil, encounter{hashes: everyHash}.prove(t, host))
	if err != nil {
		t.Fatal(err)
	}
	if err := Entitled([]AuthMethod{ca.believer()}, "h.example", nil, p, authTime); err != nil {
		t.Errorf("signed with SHA-2: %v", err)
	}
}

// FuzzCerts reads what a peer may put into its CERT payloads.
func FuzzCerts(f *testing.F) {
	ca := newIssuer(f, "CA")
	host := ca.host(f, "h.example")
	us := ca.believer()
	us.Lookup, us.Fetcher = true, &servers{}
	v := encounter{hashes: everyHash}.prove(f, host)
	f.Add(uint8(wire.CertX509), host.Chain[0].Raw, uint8(wire.CertCRL), []byte("x"))
	f.Add(uint8(wire.CertHashAndURL), make([]byte, 40), uint8(wire.CertOCSP), []byte{0x30, 3, 10, 1, 1})
	der, err := x509.MarshalPKIXPublicKey(host.Key.Public())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(wire.CertRawKey), der, uint8(wire.CertX509), []byte{})
	key := RawKey{Peers: []PeerKey{{Key: somebody.ed.Public()}}}
	f.Fuzz(func(t *testing.T, e1 uint8, d1 []byte, e2 uint8, d2 []byte) {
		v := v
		v.Octets = []byte("nothing that anybody signed")
		v.Certs = []*wire.Cert{{Encoding: wire.CertEncoding(e1), Data: d1}, {Encoding: wire.CertEncoding(e2), Data: d2}}
		for _, m := range []AuthMethod{us, key} {
			if _, err := m.Verify(t.Context(), v); !errors.Is(err, ErrAuthentication) {
				t.Errorf("%s: %v", m, err)
			}
		}
	})
}
