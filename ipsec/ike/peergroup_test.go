package ike

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

func TestPeerGroup(t *testing.T) {
	dns := func(names ...string) *x509.Certificate { return &x509.Certificate{DNSNames: names} }
	cn := func(name string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}}
	}
	units := func(us ...string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: "x", OrganizationalUnit: us}}
	}
	mail := &x509.Certificate{EmailAddresses: []string{"alice@host.example.com"}}
	addr := &x509.Certificate{IPAddresses: []net.IP{net.ParseIP("192.0.2.7"), net.ParseIP("2001:db8::7")}}
	named := func(names ...string) *PeerGroup { return &PeerGroup{Name: "staff", Names: names} }
	of := func(us ...string) *PeerGroup { return &PeerGroup{Name: "staff", Units: us} }
	for _, tt := range []struct {
		name  string
		group *PeerGroup
		id    string            // of a preshared key, or
		cert  *x509.Certificate // verified
		want  bool
	}{
		{"no group", nil, "", dns("a.example.com"), true},
		{"an empty group", named(), "", dns("a.example.com"), false},
		{"DNS name", named("a.example.com"), "", dns("b.example.com", "a.example.com"), true},
		{"DNS name in capitals", named("a.Example.com"), "", dns("A.example.COM."), true},
		{"another DNS name", named("a.example.com"), "", dns("aa.example.com"), false},
		{"wildcard", named("*.example.com"), "", dns("a.Example.com"), true},
		{"wildcard, two labels", named("*.example.com"), "", dns("b.a.example.com"), false},
		{"wildcard, no label", named("*.example.com"), "", dns("example.com"), false},
		{"wildcard, empty label", named("*.example.com"), "", dns(".example.com"), false},
		{"wildcard in the certificate", named("*.example.com"), "", dns("*.example.com"), false},
		{"wildcard in both, as text", named("*.example.com", "*"), "", dns("*.example.com", "*"), false},
		{"wildcard and an e-mail address", named("*.example.com"), "", mail, false},
		{"wildcard and an IP address", named("*.0.2.7"), "", addr, false},
		{"e-mail address", named("Alice@host.example.com"), "", mail, true},
		{"another e-mail address", named("bob@host.example.com"), "", mail, false},
		{"IPv4 address", named("192.0.2.7"), "", addr, true},
		{"IPv6 address, written otherwise", named("2001:DB8:0::0007"), "", addr, true},
		{"another address", named("192.0.2.8"), "", addr, false},
		{"common name", named("payroll"), "", cn("Payroll"), true},
		{"common name and wildcard", named("*.example.com"), "", cn("a.example.com"), true},
		{"common name that folds to ASCII", named("payroll.k"), "", cn("payroll.\u212a"), false},
		{"no names at all", named("", "a"), "", cn(""), false},
		{"unit", of("Payroll"), "", units("Sales", "Payroll"), true},
		{"unit of other case", of("payroll"), "", units("Payroll"), false},
		{"another unit", of("Payroll"), "", units("Sales"), false},
		{"a unit is no name", of("x"), "", units("Sales"), false},
		{"a name is no unit", named("Sales"), "", units("Sales"), false},
		{"preshared key, name", named("a.example.com"), "A.example.com", nil, true},
		{"preshared key, wildcard", named("*.example.com"), "a.example.com", nil, true},
		{"preshared key, address", named("192.0.2.7"), "192.0.2.7", nil, true},
		{"preshared key, e-mail address", named("alice@example.com"), "alice@example.com", nil, true},
		{"preshared key, another", named("a.example.com"), "b.example.com", nil, false},
		{"preshared key, unit", of("a.example.com"), "a.example.com", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proof := Proof{ID: ParseID(tt.id)}
			if tt.cert != nil {
				proof.Chain = []*x509.Certificate{tt.cert}
			}
			err := tt.group.admits(proof)
			if (err == nil) != tt.want {
				t.Fatalf("admits: %v, want %v", err, tt.want)
			}
			if err != nil && (!errors.Is(err, ErrAuthentication) || !strings.Contains(err.Error(), `"staff"`)) {
				t.Errorf("the error does not name the group: %v", err)
			}
		})
	}
}

func TestPeerGroupSaysWho(t *testing.T) {
	g := &PeerGroup{Name: "staff", Names: []string{"a.example.com"}}
	err := g.admits(Proof{Chain: []*x509.Certificate{{
		DNSNames: []string{"b.example.com"}, Subject: pkix.Name{CommonName: "box", OrganizationalUnit: []string{"Sales"}},
	}}})
	for _, part := range []string{"b.example.com", "box", "Sales", "staff"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
	many := &x509.Certificate{}
	for range 5000 {
		many.DNSNames = append(many.DNSNames, "name.example.org")
	}
	if n := len(g.admits(Proof{Chain: []*x509.Certificate{many}}).Error()); n > 2*maxText {
		t.Errorf("an error of %d bytes", n)
	}
	if err := g.admits(Proof{ID: wire.ID{Kind: wire.IDKeyID, Data: []byte("a.example.com")}}); err == nil {
		t.Error("a key ID passes for a name")
	}
}

// A certificate is in a group by any one thing of it, and out of it by any one
// of the exceptions.
func TestPeerGroupOfCertificates(t *testing.T) {
	ca := newIssuer(t, "CA")
	key := p256Key(t)
	c := ca.issue(t, "h.example", key.Public(), func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "Alice", OrganizationalUnit: []string{"Sales"}, Organization: []string{"Acme"}}
	})
	ofKey, err := KeyFingerprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	dn := func(s string) DNPattern {
		p, err := ParseDNPattern(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	constrainedCA := newIssuer(t, "Constrained", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example"} })
	everyone := func(except *PeerGroup) *PeerGroup {
		return &PeerGroup{Name: "staff", Names: []string{"*.example"}, Except: except}
	}
	byCert := Proof{ID: ParseID("h.example"), Chain: []*x509.Certificate{c, ca.cert}}
	byKey := Proof{ID: ParseID("h.example"), Key: key.Public()}
	byNamedKey := Proof{ID: ParseID("h.example"), Key: key.Public(), Named: true}
	for _, tt := range []struct {
		name  string
		group *PeerGroup
		proof Proof
		want  bool
	}{
		{"pattern", &PeerGroup{DNs: []DNPattern{dn("CN=x"), dn("CN=*,OU=Sales,O=Acme")}}, byCert, true},
		{"another pattern", &PeerGroup{DNs: []DNPattern{dn("OU=Payroll")}}, byCert, false},
		{"fingerprint of the certificate", &PeerGroup{Fingerprints: []Fingerprint{{}, CertFingerprint(c)}}, byCert, true},
		{"fingerprint of its key", &PeerGroup{Fingerprints: []Fingerprint{ofKey}}, byCert, true},
		{"fingerprint of its issuer", &PeerGroup{Fingerprints: []Fingerprint{CertFingerprint(ca.cert)}}, byCert, false},
		{"fingerprint of a raw key", &PeerGroup{Fingerprints: []Fingerprint{ofKey}}, byKey, true},
		{"another raw key", &PeerGroup{Fingerprints: []Fingerprint{{}}}, byKey, false},
		{"name of a raw key", &PeerGroup{Names: []string{"h.example"}}, byNamedKey, true},
		{"name of a raw key that may have any", &PeerGroup{Names: []string{"h.example"}}, byKey, false},
		{"pattern and a raw key", &PeerGroup{DNs: []DNPattern{dn("CN=*")}}, byKey, false},
		{"nobody", &PeerGroup{Names: []string{"", "*"}, DNs: []DNPattern{dn("CN=*")}}, Proof{By: Null{}, ID: wire.ID{Kind: wire.IDNull}}, false},
		{"no exception", everyone(&PeerGroup{Names: []string{"x.example"}}), byCert, true},
		{"excepted by name", everyone(&PeerGroup{Names: []string{"H.example"}}), byCert, false},
		{"excepted by common name", everyone(&PeerGroup{Names: []string{"alice"}}), byCert, false},
		{"excepted by unit", everyone(&PeerGroup{Units: []string{"Sales"}}), byCert, false},
		{"excepted by pattern", everyone(&PeerGroup{DNs: []DNPattern{dn("O=Acme")}}), byCert, false},
		{"excepted by fingerprint", everyone(&PeerGroup{Fingerprints: []Fingerprint{ofKey}}), byCert, false},
		{"raw key excepted", everyone(&PeerGroup{Fingerprints: []Fingerprint{ofKey}}), byKey, false},
		{"common name", &PeerGroup{Names: []string{"alice"}}, byCert, true},
		{"common name by an authority that is constrained in names", &PeerGroup{Names: []string{"alice"}},
			Proof{Chain: []*x509.Certificate{c, constrainedCA.cert, ca.cert}}, false},
		{"excepted by that common name", everyone(&PeerGroup{Names: []string{"alice"}}),
			Proof{Chain: []*x509.Certificate{c, constrainedCA.cert, ca.cert}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.group.admits(tt.proof); (err == nil) != tt.want {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func TestPeerGroupEqual(t *testing.T) {
	group := func(change func(*PeerGroup)) *PeerGroup {
		p, err := ParseDNPattern("CN=*")
		if err != nil {
			t.Fatal(err)
		}
		g := &PeerGroup{Name: "a", DNs: []DNPattern{p}, Fingerprints: []Fingerprint{{1}}, Except: &PeerGroup{Names: []string{"x"}}}
		change(g)
		return g
	}
	for name, change := range map[string]func(*PeerGroup){
		"pattern":     func(g *PeerGroup) { g.DNs = nil },
		"fingerprint": func(g *PeerGroup) { g.Fingerprints[0] = Fingerprint{2} },
		"exception":   func(g *PeerGroup) { g.Except.Names = nil },
		"exceptions":  func(g *PeerGroup) { g.Except = nil },
	} {
		if same := func(*PeerGroup) {}; !group(same).equal(group(same)) || group(same).equal(group(change)) || group(change).equal(group(same)) {
			t.Errorf("another %s makes no difference", name)
		}
	}
}
