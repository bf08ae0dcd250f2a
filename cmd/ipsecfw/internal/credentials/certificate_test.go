package credentials

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
	"github.com/ipsecfw/ipsecfw/rules"
)

// pfx writes a PKCS #12 file.
func pfx(t *testing.T, password string, own *identity, issuers ...*identity) []byte {
	t.Helper()
	var certs []*x509.Certificate
	for _, x := range issuers {
		certs = append(certs, x.cert)
	}
	b, err := pkcs12.Modern2023.WithIterations(1).Encode(own.key, own.cert, certs, password)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// crlOf makes a list of revoked certificates that is good until a time.
func crlOf(t *testing.T, issuer *identity, until time.Time, revoked ...*identity) []byte {
	t.Helper()
	var entries []x509.RevocationListEntry
	for _, x := range revoked {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: x.cert.SerialNumber, RevocationTime: time.Unix(1, 0), ReasonCode: 4})
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Unix(1, 0), NextUpdate: until, RevokedCertificateEntries: entries,
	}, issuer.cert, issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func certificateOf(t *testing.T, c rules.Certificate, f files) (ike.Certificate, error) {
	t.Helper()
	n := rules.Negotiation{Rule: "staff", Position: "p.yaml:22:5", Auth: []rules.Authentication{{Certificate: &c}}, Legacy: true}
	got, err := Load(n, f.read, nil)
	if err != nil {
		return ike.Certificate{}, err
	}
	return got.Auth[0].(ike.Certificate), nil
}

func TestPKCS12(t *testing.T) {
	root := issue(t, "Root", ecKey(t), nil, true)
	middle := issue(t, "Middle", ecKey(t), root, true)
	low := issue(t, "Low", ecKey(t), middle, true)
	host := issue(t, "host.example", ecKey(t), low, false)
	nobody := issue(t, "", ecKey(t), root, false)
	weak := issue(t, "weak.example", rsaKey(t, 1024), root, false)
	own := rules.Certificate{Authorities: []string{"ca.pem"}, PKCS12: "host.p12", PasswordFile: "password"}
	for _, tt := range []struct {
		name     string
		file     []byte
		password string // in its file; "-" for a rule that names none
		chain    []*identity
		err      string
	}{
		{"with its issuers in disorder", pfx(t, "secret", host, root, middle, low), "secret\n", []*identity{host, low, middle}, ""},
		{"with the nearest issuer", pfx(t, "secret", host, low), "secret", []*identity{host, low}, ""},
		{"alone", pfx(t, "secret", host), "secret\r\n", []*identity{host}, ""},
		{"without a password", pfx(t, "", host), "-", []*identity{host}, ""},
		{"another password", pfx(t, "secret", host), "Secret", nil, "host.p12: the password in password is not that of the file"},
		{"the password not named", pfx(t, "secret", host), "-", nil, "host.p12: it has a password: name the file that holds it as password-file"},
		{"no PKCS #12", certPEM(host), "secret", nil, "host.p12: it is no PKCS #12 file with one certificate and its key"},
		{"a certificate of nobody", pfx(t, "secret", nobody), "secret", nil, "host.p12: our certificate number 1 names nobody"},
		{"a weak key", pfx(t, "secret", weak), "secret", nil, "host.p12: it is the private key of an RSA key of 1024 bits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := own
			f := files{"ca.pem": certPEM(root), "host.p12": tt.file, "password": []byte(tt.password)}
			if tt.password == "-" {
				c.PasswordFile = ""
			}
			got, err := certificateOf(t, c, f)
			if tt.err != "" {
				checkLines(t, err, []string{tt.err})
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("the password stands in %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(got.Chain, tt.chain, func(c *x509.Certificate, id *identity) bool { return c.Equal(id.cert) }) || !got.Proves() {
				t.Errorf("the chain has %d certificates, want %d", len(got.Chain), len(tt.chain))
			}
		})
	}
	t.Run("the password file missing", func(t *testing.T) {
		_, err := certificateOf(t, own, files{"ca.pem": certPEM(root), "host.p12": pfx(t, "secret", host)})
		checkLines(t, err, []string{"open password: file does not exist"})
	})
}

func TestCertificateSettings(t *testing.T) {
	root, other := issue(t, "Root", ecKey(t), nil, true), issue(t, "Other", ecKey(t), nil, true)
	middle := issue(t, "Middle", ecKey(t), other, true)
	f := files{"ca.pem": certPEM(root), "other.pem": certPEM(other), "middle.pem": certPEM(middle),
		"a.crl": crlOf(t, root, time.Unix(1<<31, 0)),
		"b.crl": slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crlOf(t, root, time.Unix(1<<31, 0))}), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crlOf(t, other, time.Unix(1<<31, 0))})),
	}
	got, err := certificateOf(t, rules.Certificate{
		Authorities: []string{"ca.pem", "other.pem"}, Intermediates: []string{"middle.pem"}, Revocation: rules.RevocationStrict,
		CRLs: []string{"a.crl", "b.crl"}, Unnamed: true, URL: "http://pki.example/host.der", AcceptURLs: true, PKCS1: true,
	}, f)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Roots) != 2 || len(got.Excluded) != 2 || len(got.Intermediates) != 1 || len(got.CRLs) != 3 || got.Revocation != pki.Strict ||
		got.URL != "http://pki.example/host.der" || !got.Lookup || !got.PKCS1 || !got.Legacy || got.Proves() {
		t.Errorf("loaded %+v", got)
	}
	plain, err := certificateOf(t, rules.Certificate{Authorities: []string{"ca.pem"}}, f)
	if err != nil || plain.Excluded != nil || plain.Lookup || plain.Revocation != pki.IfPresent {
		t.Errorf("loaded %+v, %v", plain, err)
	}
	for name, file := range map[string][]byte{
		"no CRL":        []byte("x"),
		"a certificate": certPEM(root),
		"broken":        pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte{1}}),
	} {
		f["a.crl"] = file
		if _, err := certificateOf(t, rules.Certificate{Authorities: []string{"ca.pem"}, CRLs: []string{"a.crl"}}, f); err == nil || !strings.Contains(err.Error(), "a.crl: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestRawKey(t *testing.T) {
	own, a, b := edKey(t), ecKey(t), rsaKey(t, 2048)
	public := func(key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	f := files{"own.key": keyPEM(t, "PRIVATE KEY", own), "a.pub": public(a.Public()), "both.pub": slices.Concat(public(b.Public()), certPEM(issue(t, "ca", a, nil, true))),
		"short.pub": public(rsaKey(t, 1024).Public()), "none.pub": []byte("ssh-ed25519 AAAA\n"), "private.pub": keyPEM(t, "PRIVATE KEY", own)}
	load := func(peers ...string) (Credentials, error) {
		return Load(rules.Negotiation{Rule: "staff", Position: "p.yaml:22:5", Auth: []rules.Authentication{{RawKey: &rules.RawKey{Key: "own.key", Peers: peers, PKCS1: true}}}}, f.read, nil)
	}
	got, err := load("a.pub", "both.pub")
	if err != nil {
		t.Fatal(err)
	}
	k, ok := got.Auth[0].(ike.RawKey)
	if !ok || len(k.Peers) != 3 || !a.PublicKey.Equal(k.Peers[0].Key) || !b.PublicKey.Equal(k.Peers[1].Key) || !a.PublicKey.Equal(k.Peers[2].Key) || !own.Equal(k.Key) || !k.PKCS1 {
		t.Errorf("loaded %#v", got.Auth[0])
	}
	_, err = load("short.pub", "none.pub", "private.pub", "gone.pub")
	checkLines(t, err, []string{"short.pub: public key 1 is of no use: an RSA key of 1024 bits", "none.pub: there is no public key in it",
		`private.pub: a PEM block "PRIVATE KEY" stands where only public keys should`, "open gone.pub: file does not exist"})
}

func TestAnonymous(t *testing.T) {
	got, err := Load(rules.Negotiation{Auth: []rules.Authentication{{Anonymous: rules.AnonymousOwn}, {Anonymous: rules.AnonymousPeer}, {Anonymous: rules.AnonymousBoth}}}, files{}.read, nil)
	want := []ike.AuthMethod{ike.Null{Ours: true}, ike.Null{Theirs: true}, ike.Null{Ours: true, Theirs: true}}
	if err != nil || !slices.Equal(got.Auth, want) {
		t.Errorf("loaded %v, %v, want %v", got.Auth, err, want)
	}
}

func TestPPKs(t *testing.T) {
	good := bytes.Repeat([]byte{7}, 32)
	f := files{"good": append(slices.Clone(good), '\n'), "short": []byte("only 17 bytes of it")}
	n := rules.Negotiation{Rule: "staff", Position: "p.yaml:22:5", Exchange: rules.Exchange{PPKs: []rules.PPK{{ID: "one", File: "good"}, {ID: "two", File: "good", Required: true}}},
		PPKs: []rules.PPK{{ID: "of the file", File: "gone"}}}
	got, err := Load(n, f.read, nil)
	if err != nil || len(got.PPKs) != 2 || got.PPKs[0].ID != "one" || !bytes.Equal(got.PPKs[0].Secret, good) || got.PPKs[1].ID != "two" {
		t.Errorf("loaded %v, %v", got.PPKs, err)
	}
	n.Exchange.PPKs = []rules.PPK{{ID: "one", File: "short"}, {ID: "two", File: "gone"}}
	_, err = Load(n, f.read, nil)
	checkLines(t, err, []string{"short: the post-quantum preshared key has 19 bytes: write at least 32 random ones", "open gone: file does not exist"})
}

func TestWarnings(t *testing.T) {
	now := time.Unix(1<<30, 0)
	root := issue(t, "Root", ecKey(t), nil, true)
	issuer := issue(t, "Other", ecKey(t), nil, true)
	host, foreign := issue(t, "host.example", ecKey(t), root, false), issue(t, "host.example", ecKey(t), issuer, false)
	middle := issue(t, "Middle", ecKey(t), root, true)
	low := issue(t, "low.example", ecKey(t), middle, false)
	crl := func(until time.Time, revoked ...*identity) *pki.CRL {
		l, err := pki.ParseCRL(crlOf(t, root, until, revoked...))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, tt := range []struct {
		name   string
		method ike.AuthMethod
		now    time.Time
		want   []string
	}{
		{"a good secret", ike.PresharedKey{Secret: []byte("sixteen bytes !!")}, now, nil},
		{"a short secret", ike.PresharedKey{Secret: []byte("fifteen bytes !")}, now, []string{"the preshared key has 15 bytes: write at least 32 random characters"}},
		{"a good certificate", ike.Certificate{Chain: []*x509.Certificate{host.cert}, Roots: []*x509.Certificate{root.cert}, CRLs: []*pki.CRL{crl(now.Add(time.Hour))}}, now, nil},
		{"an authority's own", ike.Certificate{Chain: []*x509.Certificate{root.cert}, Roots: []*x509.Certificate{root.cert}}, now, nil},
		{"no authority of ours", ike.Certificate{Chain: []*x509.Certificate{foreign.cert}, Roots: []*x509.Certificate{root.cert}}, now,
			[]string{`none of the authorities issued the certificate "CN=host.example": only peers that believe others accept it`}},
		{"expired", ike.Certificate{Chain: []*x509.Certificate{host.cert}, Roots: []*x509.Certificate{root.cert}}, time.Unix(1<<31+1, 0),
			[]string{`the certificate "CN=host.example" expired on 2038-01-19: renew it`, `the certificate "CN=Root" expired on 2038-01-19: renew it`}},
		{"not valid yet", ike.Certificate{Chain: []*x509.Certificate{host.cert}, Roots: []*x509.Certificate{root.cert}}, time.Unix(0, 0),
			[]string{`the certificate "CN=host.example" is not valid before 1970-01-01`, `the certificate "CN=Root" is not valid before 1970-01-01`}},
		{"an old CRL", ike.Certificate{CRLs: []*pki.CRL{crl(time.Unix(1e9, 0))}}, now,
			[]string{`the list of revoked certificates of "CN=Root" was to be replaced on 2001-09-09: what it lists is refused still, and of all else it says nothing any more`}},
		{"in our own list", ike.Certificate{Chain: []*x509.Certificate{host.cert}, Roots: []*x509.Certificate{root.cert}, CRLs: []*pki.CRL{crl(now.Add(time.Hour)), crl(now.Add(time.Hour), host)}}, now,
			[]string{`the certificate "CN=host.example" was revoked on 1970-01-01T00:00:01Z (superseded), says a CRL of 1970-01-01T00:00:01Z: peers that know refuse it; get a new one`}},
		{"its issuer in our own list", ike.Certificate{Chain: []*x509.Certificate{low.cert, middle.cert}, Roots: []*x509.Certificate{root.cert}, CRLs: []*pki.CRL{crl(now.Add(time.Hour), middle)}}, now,
			[]string{`the certificate "CN=Middle" was revoked on 1970-01-01T00:00:01Z (superseded), says a CRL of 1970-01-01T00:00:01Z: peers that know refuse it; get a new one`}},
		{"another's in the list of another", ike.Certificate{Chain: []*x509.Certificate{foreign.cert}, Roots: []*x509.Certificate{issuer.cert}, CRLs: []*pki.CRL{crl(now.Add(time.Hour), foreign)}}, now, nil},
		{"nobody", ike.Null{Ours: true}, now, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := rules.Negotiation{Rule: "staff", Position: "p.yaml:22:5", Auth: []rules.Authentication{{Certificate: &rules.Certificate{}}}}
			var want []string
			for _, w := range tt.want {
				want = append(want, `p.yaml:22:5: warning: rule "staff": `+w)
			}
			if got := (Credentials{Auth: []ike.AuthMethod{tt.method}}).Warnings(n, tt.now); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// A certificate of version 1 cannot say that it is of an authority.
func TestAuthorities(t *testing.T) {
	for _, tt := range []struct {
		name string
		cert *x509.Certificate
		ok   bool
	}{
		{"an authority", &x509.Certificate{Version: 3, IsCA: true, PublicKey: ecKey(t).Public()}, true},
		{"a host", &x509.Certificate{Version: 3, PublicKey: ecKey(t).Public(), Subject: pkix.Name{CommonName: "host"}}, false},
		{"version 1, by itself", &x509.Certificate{Version: 1, PublicKey: ecKey(t).Public()}, true},
		{"version 1, by another", &x509.Certificate{Version: 1, PublicKey: ecKey(t).Public(), RawIssuer: []byte{1}}, false},
		{"a short key", &x509.Certificate{Version: 3, IsCA: true, PublicKey: rsaKey(t, 1024).Public()}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := isAuthority(tt.cert); (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Each error and each warning is where the key stands that it is about.
func TestPlacesOfFiles(t *testing.T) {
	root := issue(t, "Root", ecKey(t), nil, true)
	host := issue(t, "host.example", ecKey(t), root, false)
	const text = `version: 1
name: places
filter-lists: {a: [{from: me, to: 10.1.0.1}]}
rules:
  - name: a
    filter-list: a
    action: require-security
    authentication:
      - certificate:
          authority: [ca.pem,
            other.pem]
          intermediates: middle.pem
          own: host.pem
          key: host.key
          crl:
            - a.crl
      - certificate:
          authority: ca.pem
          pkcs12: host.p12
          password-file: password
      - preshared-key:
          file: psk
    key-exchange:
      ppk: {id: a, file: ppk}
key-exchange:
  ppk:
    - {id: b, file: ppk}
`
	file, err := rules.Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	n := file.Negotiations()["a"]
	good := func() files {
		return files{"ca.pem": certPEM(root), "other.pem": certPEM(root), "middle.pem": certPEM(root), "host.pem": certPEM(host), "host.key": keyPEM(t, "EC PRIVATE KEY", host.key),
			"a.crl": crlOf(t, root, time.Unix(1<<31, 0), host), "host.p12": pfx(t, "secret", host), "password": []byte("secret"), "psk": []byte("fifteen bytes !"), "ppk": bytes.Repeat([]byte("x"), 32)}
	}
	for name, lines := range map[string][]string{
		"ca.pem": {"10:23", "18:22"}, "other.pem": {"11:13"}, "middle.pem": {"12:26"}, "host.pem": {"13:16"}, "host.key": {"14:16"}, "a.crl": {"16:15"},
		"host.p12": {"19:19"}, "password": {"20:26"}, "psk": {"22:17"}, "ppk": {"24:26"},
	} {
		f := good()
		delete(f, name)
		_, err := Load(n, f.read, nil)
		if err == nil {
			t.Errorf("%s is not missed", name)
			continue
		}
		got := strings.Split(err.Error(), "\n")
		for i, at := range lines {
			if want := fmt.Sprintf("p.yaml:%s: rule \"a\": open %s: ", at, name); len(got) != len(lines) || !strings.HasPrefix(got[i], want) {
				t.Errorf("error %q, want %q", got, want)
			}
		}
	}
	if _, err := FilePPKs(file, files{}.read); err == nil || !strings.HasPrefix(err.Error(), "p.yaml:27:21: key-exchange: open ppk: ") {
		t.Errorf("error %v", err)
	}
	c, err := Load(n, good().read, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := c.Warnings(n, time.Unix(1<<31+1, 0))
	want := []string{
		`13:16: warning: rule "a": the certificate "CN=host.example" expired`, `10:22: warning: rule "a": the certificate "CN=Root" expired`, `10:22: warning: rule "a": the certificate "CN=Root" expired`,
		`13:16: warning: rule "a": the certificate "CN=host.example" was revoked`, `16:13: warning: rule "a": the list of revoked certificates of "CN=Root" was to be replaced`,
		`19:19: warning: rule "a": the certificate "CN=host.example" expired`, `18:22: warning: rule "a": the certificate "CN=Root" expired`, `22:17: warning: rule "a": the preshared key has 15 bytes`,
	}
	if len(got) != len(want) {
		t.Fatalf("warnings %q, want %q", got, want)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], "p.yaml:"+want[i]) {
			t.Errorf("warning %q, want %q", got[i], want[i])
		}
	}
}
