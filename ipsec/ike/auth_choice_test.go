package ike

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// notation writes payloads as their names with what counts of them.
func notation(ps []wire.Payload) string {
	var out []string
	for _, p := range ps {
		switch p := p.(type) {
		case *wire.CertReq:
			out = append(out, fmt.Sprintf("CERTREQ(%d, %d names)", p.Encoding, len(p.Authorities)/20))
		case *wire.Notify:
			out = append(out, "N("+p.Kind.String()+")")
		}
	}
	return strings.Join(out, ", ")
}

func TestRequestCerts(t *testing.T) {
	a, b := newIssuer(t, "A"), newIssuer(t, "B")
	of := func(issuers ...issuer) Certificate {
		c := Certificate{Authorities: x509.NewCertPool()}
		for _, i := range issuers {
			c.Authorities.AddCert(i.cert)
			c.Roots = append(c.Roots, i.cert)
		}
		return c
	}
	change := func(c Certificate, f func(*Certificate)) Certificate { f(&c); return c }
	off := func(c *Certificate) { c.Revocation = pki.Off }
	for _, tt := range []struct {
		name    string
		methods []AuthMethod
		want    string
	}{
		{"preshared key", []AuthMethod{PresharedKey{}}, ""},
		{"nobody", []AuthMethod{Null{Theirs: true}}, ""},
		{"certificate", []AuthMethod{of(a)}, "CERTREQ(4, 1 names), CERTREQ(14, 0 names)"},
		{"without revocation", []AuthMethod{change(of(a), off)}, "CERTREQ(4, 1 names)"},
		{"several authorities, each once", []AuthMethod{change(of(a, b), off), change(of(b), off)}, "CERTREQ(4, 2 names)"},
		{"one excluded", []AuthMethod{change(of(a, b), func(c *Certificate) { off(c); c.Excluded = []*x509.Certificate{a.cert} })}, "CERTREQ(4, 1 names)"},
		{"all excluded", []AuthMethod{change(of(a), func(c *Certificate) { off(c); c.Excluded = c.Roots })}, "CERTREQ(4, 0 names)"},
		{"no authorities", []AuthMethod{Certificate{}}, ""},
		{"raw keys", []AuthMethod{RawKey{Peers: []PeerKey{{Key: somebody.ed.Public()}}}}, "CERTREQ(15, 0 names)"},
		{"a raw key of ours alone", []AuthMethod{RawKey{Key: somebody.p256}}, ""},
		{"lookup", []AuthMethod{change(of(a), func(c *Certificate) { off(c); c.Lookup, c.Fetcher = true, &servers{} })}, "CERTREQ(4, 1 names), N(HTTP_CERT_LOOKUP_SUPPORTED)"},
		{"lookup without a fetcher", []AuthMethod{change(of(a), func(c *Certificate) { off(c); c.Lookup = true })}, "CERTREQ(4, 1 names)"},
		{"all kinds", []AuthMethod{PresharedKey{}, of(a), RawKey{Peers: []PeerKey{{Key: somebody.ed.Public()}}}}, "CERTREQ(4, 1 names), CERTREQ(14, 0 names), CERTREQ(15, 0 names)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := RequestCerts(tt.methods)
			if s := notation(got); s != tt.want {
				t.Errorf("%s, want %s", s, tt.want)
			}
			if _, err := wire.Encode(wire.Header{Version: wire.Version2, Exchange: wire.IKESAInit}, got); err != nil {
				t.Error(err)
			}
		})
	}
}

// choices are methods by name.
func choices(t *testing.T) map[string]AuthMethod {
	a, b := newIssuer(t, "A"), newIssuer(t, "B")
	m := map[string]AuthMethod{
		"psk": PresharedKey{Secret: []byte("x")}, "a": a.host(t, "h"), "b": b.host(t, "h"), "authority": a.believer(),
		"raw": RawKey{Key: somebody.p256, Peers: []PeerKey{{Key: somebody.ed.Public()}}}, "peers": RawKey{Peers: []PeerKey{{Key: somebody.ed.Public()}}},
		"null": Null{Ours: true, Theirs: true}, "null-ours": Null{Ours: true}, "null-theirs": Null{Theirs: true},
	}
	below := a.sub(t, "Mid").host(t, "h")
	below.Roots = nil
	m["below"] = below
	return m
}

func pick(m map[string]AuthMethod, names string) (out []AuthMethod) {
	for n := range strings.FieldsSeq(names) {
		out = append(out, m[n])
	}
	return out
}

// asking makes the requests of a peer with methods.
func asking(m map[string]AuthMethod, names string) (r CertRequests) {
	r.Note(RequestCerts(pick(m, names)))
	return r
}

func TestPromising(t *testing.T) {
	m := choices(t)
	for _, tt := range []struct{ name, methods, peer, want string }{
		{"no request", "a psk", "psk", "psk a"},
		{"a request", "a psk", "a", "a psk"},
		{"a request of another authority", "a b psk", "b", "b psk a"},
		{"of an authority of which we have no certificate", "below psk", "b", "below psk"},
		{"for raw keys", "a raw", "raw", "raw a"},
		{"for certificates", "raw a", "a", "a raw"},
		{"none, as keys are known", "raw", "psk", "raw"},
		{"methods that are for peers", "authority null-ours", "a", "null-ours"},
		{"nothing but these", "authority null-theirs", "a", "authority null-theirs"},
		{"keys of peers", "peers raw", "raw", "raw"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Promising(pick(m, tt.methods), asking(m, tt.peer))
			if want := pick(m, tt.want); !SameMethods(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

func TestAnswering(t *testing.T) {
	m := choices(t)
	for _, tt := range []struct{ name, methods, used, peer, want string }{
		{"preshared key", "psk a", "psk", "a", "psk"},
		{"certificate", "psk a", "a", "a", "a"},
		{"certificate, another asked for", "psk a b", "a", "b", "b"},
		{"certificate, none asked for", "psk a b", "a", "", "a"},
		{"raw key", "a raw", "raw", "a", "raw"},
		{"both nobody", "null", "null", "", "null"},
		{"anonymous initiator, certificate", "null-theirs a", "null-theirs", "a", "a"},
		{"anonymous initiator, another asked for", "a b null-theirs", "null-theirs", "b", "b"},
		{"anonymous initiator, none asked for", "null-theirs a", "null-theirs", "", "a"},
		{"anonymous initiator, raw key", "null-theirs raw", "null-theirs", "raw", "raw"},
		{"anonymous initiator, certificate asked for, and we may be anonymous", "null a", "null", "a", "a"},
		{"anonymous initiator, none asked for, and we may be anonymous", "null a", "null", "", "null"},
		{"initiator with a certificate, we are anonymous", "authority null-ours", "authority", "", "null-ours"},
		{"nothing that proves us", "authority", "authority", "a", "authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Answering(pick(m, tt.methods), m[tt.used], asking(m, tt.peer))
			if !sameMethod(got, m[tt.want]) {
				t.Errorf("%v, want %v", got, m[tt.want])
			}
		})
	}
}

func TestNote(t *testing.T) {
	var r CertRequests
	r.Note([]wire.Payload{&wire.CertReq{Encoding: wire.CertX509}, &wire.Notify{Kind: wire.InitialContact}})
	if len(r.Certs) != 1 || r.Lookup {
		t.Errorf("%+v", r)
	}
	r.Note([]wire.Payload{&wire.CertReq{Encoding: wire.CertOCSP}, &wire.Notify{Kind: wire.HTTPCertLookupSupported}})
	r.Note(nil)
	if len(r.Certs) != 2 || !r.Lookup || !r.asks(wire.CertOCSP) || r.asks(wire.CertRawKey) {
		t.Errorf("%+v", r)
	}
}
