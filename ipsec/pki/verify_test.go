package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
)

func TestReasons(t *testing.T) {
	root, other := newRoot(t, "Root"), newRoot(t, "Root")
	mid := root.sub(t, "Mid")
	expired := root.sub(t, "Expired", dates(-2*day, -day))
	early := root.sub(t, "Early", dates(day, 2*day))
	short := root.sub(t, "Short", func(c *x509.Certificate) { c.MaxPathLenZero = true })
	belowShort := short.sub(t, "BelowShort")
	noCA := root.issue(t, "NoCA")
	noSign := root.sub(t, "NoSign", usage(x509.KeyUsageCRLSign))
	mail := root.sub(t, "Mail", purposes(x509.ExtKeyUsageEmailProtection))
	tls := root.sub(t, "TLS", purposes(x509.ExtKeyUsageServerAuth))
	strange := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}
	odd := root.sub(t, "Odd", extra(strange))
	named := root.sub(t, "Named", func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedDNSDomains = []string{"a.example"}
		c.ExcludedDNSDomains = []string{"secret.a.example"}
		c.PermittedEmailAddresses = []string{"a.example"}
		c.PermittedIPRanges = []*net.IPNet{{IP: net.IPv4(192, 0, 2, 0).To4(), Mask: net.CIDRMask(24, 32)}}
	})
	address := func(ip net.IP) change { return func(c *x509.Certificate) { c.IPAddresses = []net.IP{ip} } }
	mailbox := func(s string) change { return func(c *x509.Certificate) { c.EmailAddresses = []string{s} } }

	rsa1024, long := rsaKey(t, 1024), &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), MaxRSA, 1), E: 65537}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak := &owner{root.issueFor(t, "Weak", rsa1024.Public(), authority), rsa1024}
	rsaRoot := selfSigned(t, "RSA", rsaKey(t, 2048))
	keyed := func(pub crypto.PublicKey) *owner { return &owner{root.issueFor(t, "h", pub), nil} }

	unknownUsage := func(oids ...asn1.ObjectIdentifier) change {
		return func(c *x509.Certificate) { c.UnknownExtKeyUsage = oids }
	}

	for _, tt := range []struct {
		name string
		leaf *owner
		sent []*owner
		want Reason
	}{
		{"directly below an authority", root.issue(t, "h"), nil, 0},
		{"intermediate of the peer", mid.issue(t, "h"), []*owner{mid}, 0},
		{"intermediate missing", mid.issue(t, "h"), nil, UnknownAuthority},
		{"authority of the same name", other.issue(t, "h"), nil, UnknownAuthority},
		{"signed by itself", selfSigned(t, "h", newKey(t), usage(x509.KeyUsageDigitalSignature)), nil, UnknownAuthority},
		{"expired", root.issue(t, "h", dates(-2*day, -day)), nil, Expired},
		{"in its last second", root.issue(t, "h", dates(-day, 0)), nil, 0},
		{"not yet valid", root.issue(t, "h", dates(day, 2*day)), nil, NotYetValid},
		{"intermediate expired", expired.issue(t, "h"), []*owner{expired}, Expired},
		{"intermediate not yet valid", early.issue(t, "h"), []*owner{early}, NotYetValid},
		{"path length", belowShort.issue(t, "h"), []*owner{belowShort, short}, NotAnAuthority},
		{"path length kept", short.issue(t, "h"), []*owner{short}, 0},
		{"issued by a host", noCA.issue(t, "h"), []*owner{noCA}, NotAnAuthority},
		{"issued by an authority that signs CRLs only", noSign.issue(t, "h"), []*owner{noSign}, NotAnAuthority},
		{"permitted name", named.issue(t, "h", dns("h.a.example")), []*owner{named}, 0},
		{"name that is not permitted", named.issue(t, "h", dns("h.b.example")), []*owner{named}, NameConstraints},
		{"excluded name", named.issue(t, "h", dns("h.secret.a.example")), []*owner{named}, NameConstraints},
		{"permitted address", named.issue(t, "h", address(net.IPv4(192, 0, 2, 9))), []*owner{named}, 0},
		{"address that is not permitted", named.issue(t, "h", address(net.IPv4(198, 51, 100, 9))), []*owner{named}, NameConstraints},
		{"mailbox that is not permitted", named.issue(t, "h", mailbox("x@b.example")), []*owner{named}, NameConstraints},
		{"digitalSignature", root.issue(t, "h", usage(x509.KeyUsageDigitalSignature)), nil, 0},
		{"nonRepudiation", root.issue(t, "h", usage(x509.KeyUsageContentCommitment)), nil, 0},
		{"keyEncipherment only", root.issue(t, "h", usage(x509.KeyUsageKeyEncipherment)), nil, KeyUsage},
		{"anyExtendedKeyUsage", root.issue(t, "h", purposes(x509.ExtKeyUsageAny)), nil, 0},
		{"ipsecIKE", root.issue(t, "h", unknownUsage(oidIPsecIKE)), nil, 0},
		{"serverAuth", root.issue(t, "h", purposes(x509.ExtKeyUsageServerAuth)), nil, 0},
		{"clientAuth among others", root.issue(t, "h", purposes(x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageClientAuth)), nil, 0},
		{"ipsecEndSystem", root.issue(t, "h", purposes(x509.ExtKeyUsageIPSECEndSystem)), nil, 0},
		{"ipsecTunnel", root.issue(t, "h", purposes(x509.ExtKeyUsageIPSECTunnel)), nil, 0},
		{"ipsecUser", root.issue(t, "h", purposes(x509.ExtKeyUsageIPSECUser)), nil, 0},
		{"codeSigning", root.issue(t, "h", purposes(x509.ExtKeyUsageCodeSigning)), nil, KeyUsage},
		{"a purpose of somebody", root.issue(t, "h", unknownUsage(strange.Id)), nil, KeyUsage},
		{"issuer for TLS", tls.issue(t, "h"), []*owner{tls}, 0},
		{"issuer for mail", mail.issue(t, "h"), []*owner{mail}, KeyUsage},
		{"unknown critical extension", root.issue(t, "h", extra(strange)), nil, Malformed},
		{"unknown critical extension of an issuer", odd.issue(t, "h"), []*owner{odd}, Malformed},
		{"RSA of 1024 bits", keyed(rsa1024.Public()), nil, WeakKey},
		{"RSA of 8193 bits", keyed(long), nil, WeakKey},
		{"P-224", keyed(p224.Public()), nil, WeakKey},
		{"issuer with RSA of 1024 bits", weak.issue(t, "h"), []*owner{weak}, WeakKey},
		{"RSA with SHA-1", rsaRoot.issue(t, "h", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }), nil, WeakSignature},
		{"RSASSA-PSS", rsaRoot.issue(t, "h", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA384WithRSAPSS }), nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &Verifier{Roots: pool(root, rsaRoot)}
			got, err := v.Verify(t.Context(), tt.leaf.Certificate, Evidence{Intermediates: certs(tt.sent...)}, now)
			if r := reasonOf(t, err); r != tt.want {
				t.Fatalf("%s (%v), want %s", r, err, tt.want)
			}
			if err != nil {
				return
			}
			if !got.Chain[0].Equal(tt.leaf.Certificate) {
				t.Errorf("the chain begins with %q", got.Chain[0].Subject)
			}
			if want := len(tt.sent) + 2; len(got.Chain) != want {
				t.Errorf("a chain of %d, want %d", len(got.Chain), want)
			}
		})
	}
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestNoAuthorities(t *testing.T) {
	root := newRoot(t, "Root")
	_, err := (&Verifier{}).Chains(root.issue(t, "h").Certificate, nil, now)
	if reasonOf(t, err) != UnknownAuthority || !strings.Contains(err.Error(), "no authority is trusted") {
		t.Errorf("without authorities: %v", err)
	}
}

// What our clock says, and the dates, stand in the error.
func TestClock(t *testing.T) {
	root := newRoot(t, "Root")
	leaf := root.issue(t, "h").Certificate
	for _, tt := range []struct {
		name string
		at   int // days from now
		want []string
	}{
		{"behind", -400, []string{"not valid before 2026-03-13T12:00:00Z", "our clock says 2025-02-07T12:00:00Z"}},
		{"ahead", 400, []string{"expired at 2026-04-13T12:00:00Z", "our clock says 2027-04-18T12:00:00Z"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := now.AddDate(0, 0, tt.at)
			_, err := (&Verifier{Roots: pool(root)}).Chains(leaf, nil, at)
			var e *CertificateError
			if !errors.As(err, &e) || !e.Now.Equal(at) || !e.NotBefore.Equal(leaf.NotBefore) || !e.NotAfter.Equal(leaf.NotAfter) {
				t.Fatalf("%#v", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

// Intermediates of our own make up for those that a peer does not send, and a
// cross-signed one leads to either root.
func TestIntermediates(t *testing.T) {
	a, b := newRoot(t, "A"), newRoot(t, "B")
	mid := a.sub(t, "Mid", dates(-day, 5*day))
	cross := &owner{b.issueFor(t, "Mid", mid.key.Public(), authority), mid.key}
	lapsed := &owner{a.issueFor(t, "Mid", mid.key.Public(), authority, dates(-3*day, -2*day)), mid.key}
	leaf := mid.issue(t, "h")
	for _, tt := range []struct {
		name  string
		roots []*owner
		ours  []*owner
		sent  []*owner
		root  *owner // that the chain leads to; nil for none
	}{
		{"ours", []*owner{a}, []*owner{mid}, nil, a},
		{"the peer's leads to the other root", []*owner{b}, nil, []*owner{mid, cross}, b},
		{"the peer's leads elsewhere, ours does not", []*owner{b}, []*owner{cross}, []*owner{mid}, b},
		{"one lapsed, the other not", []*owner{a, b}, nil, []*owner{lapsed, cross}, b},
		{"none of use", []*owner{b}, nil, []*owner{mid}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &Verifier{Roots: pool(tt.roots...), Intermediates: certs(tt.ours...)}
			got, err := v.Verify(t.Context(), leaf.Certificate, Evidence{Intermediates: certs(tt.sent...)}, now)
			if tt.root == nil {
				if reasonOf(t, err) != UnknownAuthority {
					t.Fatalf("verified: %v", err)
				}
				return
			}
			if err != nil || !got.Chain[2].Equal(tt.root.Certificate) {
				t.Fatalf("%v, %v", got.Chain, err)
			}
			if tt.root == a && !got.Until.Equal(mid.NotAfter) {
				t.Errorf("until %s, want the end of the intermediate, %s", got.Until, mid.NotAfter)
			}
		})
	}
}

// A peer may send any number of certificates, of which a few are looked at.
func TestManyIntermediates(t *testing.T) {
	root := newRoot(t, "Root")
	mid := root.sub(t, "Mid")
	var sent []*owner
	for range MaxIntermediates {
		sent = append(sent, root.sub(t, "Other"))
	}
	v := &Verifier{Roots: pool(root)}
	if _, err := v.Chains(mid.issue(t, "h").Certificate, certs(append(sent, mid)...), now); reasonOf(t, err) != UnknownAuthority {
		t.Errorf("looked at more than %d: %v", MaxIntermediates, err)
	}
}

func TestLookupOfIssuers(t *testing.T) {
	root := newRoot(t, "Root")
	at := func(url string) change {
		return func(c *x509.Certificate) { c.IssuingCertificateURL = []string{url} }
	}
	mid1 := root.sub(t, "Mid1")
	mid2 := mid1.sub(t, "Mid2", at("http://pki.example/mid1"))
	leaf := mid2.issue(t, "h", at("http://pki.example/mid2")).Certificate
	for _, tt := range []struct {
		name   string
		lookup bool
		pages  map[string]func([]byte) []byte
		want   Reason
		asked  int
	}{
		{"both", true, map[string]func([]byte) []byte{"http://pki.example/mid1": page(mid1.Raw), "http://pki.example/mid2": page(mid2.Raw)}, 0, 2},
		{"not allowed", false, map[string]func([]byte) []byte{"http://pki.example/mid1": page(mid1.Raw), "http://pki.example/mid2": page(mid2.Raw)}, UnknownAuthority, 0},
		{"not there", true, nil, UnknownAuthority, 1},
		{"another certificate", true, map[string]func([]byte) []byte{"http://pki.example/mid2": page(root.Raw)}, UnknownAuthority, 1},
		{"no certificate", true, map[string]func([]byte) []byte{"http://pki.example/mid2": page([]byte("<html>"))}, UnknownAuthority, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &web{pages: tt.pages}
			v := &Verifier{Roots: pool(root), Fetcher: w, Lookup: tt.lookup, Revocation: Off}
			_, err := v.Verify(t.Context(), leaf, Evidence{}, now)
			if r := reasonOf(t, err); r != tt.want || len(w.asked) != tt.asked {
				t.Fatalf("%s after %d requests (%v), want %s after %d", r, len(w.asked), err, tt.want, tt.asked)
			}
			for _, r := range w.asked {
				if r.Trusted || r.Kind != KindCertificate || r.Body != nil {
					t.Errorf("asked as %+v", r)
				}
			}
		})
	}
}

func TestLookUp(t *testing.T) {
	c := newRoot(t, "Root").issue(t, "h").Certificate
	const url = "http://pki.example/h"
	w := &web{pages: map[string]func([]byte) []byte{url: page(c.Raw)}}
	v := &Verifier{Fetcher: w, Lookup: true}
	got, err := v.LookUp(t.Context(), url, sha1.Sum(c.Raw), now)
	if err != nil || !got.Equal(c) {
		t.Fatalf("%v, %v", got, err)
	}
	if _, err := v.LookUp(t.Context(), url, sha1.Sum([]byte("other")), now); reasonOf(t, err) != NotObtainable || !strings.Contains(err.Error(), "hash") {
		t.Errorf("with another hash: %v", err)
	}
	if _, err := v.LookUp(t.Context(), "http://other.example", sha1.Sum(c.Raw), now); !errors.Is(err, errUnreachable) {
		t.Errorf("from elsewhere: %v", err)
	}
	v.Lookup = false
	if _, err := v.LookUp(context.Background(), url, sha1.Sum(c.Raw), now); reasonOf(t, err) != NotObtainable {
		t.Errorf("not allowed: %v", err)
	}
}
