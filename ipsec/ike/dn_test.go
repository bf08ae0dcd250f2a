package ike

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
)

func TestParseDN(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       string // as pkix writes it, or empty for an error
	}{
		{"one part", "CN=a", "CN=a"},
		{"several", "CN=a,OU=b,O=c,C=DE", "CN=a,OU=b,O=c,C=DE"},
		{"with spaces", " cn = a , ou= b b ,o =c ", "CN=a,OU=b b,O=c"},
		{"in lower case", "cn=a,o=B", "CN=a,O=B"},
		{"several values in one", "CN=a+OU=b,O=c", "CN=a+OU=b,O=c"},
		{"an object identifier", "2.5.4.3=a", "CN=a"},
		{"another of RFC 2253", "OID.2.5.4.10=a", "O=a"},
		{"a comma", `CN=a\, b,O=c`, `CN=a\, b,O=c`},
		{"bytes", `CN=L\C4\8Di\C4\87`, "CN=Lčić"},
		{"in quotation marks", `CN="a, b+c", O=d`, `CN=a\, b\+c,O=d`},
		{"a space that stays", `CN=a\ ,O=c`, `CN=a\ ,O=c`},
		{"in hexadecimal", "CN=#0c0161", "CN=a"},
		{"equals sign in a value", "CN=a=b", "CN=a=b"},
		{"nothing", "", ""},
		{"no value", "CN=", ""},
		{"no equals sign", "CN", ""},
		{"unknown attribute", "XX=a", ""},
		{"comma at the end", "CN=a,", ""},
		{"backslash at the end", `CN=a\`, ""},
		{"open quotation mark", `CN="a`, ""},
		{"something after quotation marks", `CN="a"b`, ""},
		{"quotation mark within", `CN=a"b`, ""},
		{"hexadecimal of no string", "CN=#0500", ""},
		{"no hexadecimal", "CN=#0g", ""},
		{"no object identifier", "9.9=a", ""},
		{"base64", "aGVsbG8=", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dn, err := parseDN(tt.text)
			if (err == nil) != (tt.want != "") || err == nil && dn.String() != tt.want {
				t.Errorf("%q, %v; want %q", dn, err, tt.want)
			}
		})
	}
}

// A name whose parts would take long to compare is nobody's.
func TestDNOfManyParts(t *testing.T) {
	for _, tt := range []struct {
		parts int
		want  bool
	}{{maxParts, true}, {maxParts + 1, false}} {
		text := strings.TrimSuffix(strings.Repeat("CN=a+", tt.parts), "+")
		if got := SameID(text, ParseID(text)); got != tt.want {
			t.Errorf("%d parts are the same: %v", tt.parts, got)
		}
	}
}

// What is encoded reads as what was written, and is encoded as certificates are.
func TestDNEncoding(t *testing.T) {
	const text = "CN=a,OU=b,O=Zürich,C=CH"
	id, err := dnID(text)
	if err != nil {
		t.Fatal(err)
	}
	want, err := asn1.Marshal(pkix.Name{CommonName: "a", OrganizationalUnit: []string{"b"}, Organization: []string{"Zürich"}, Country: []string{"CH"}}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	if string(id.Data) != string(want) || id.String() != text {
		t.Errorf("%x (%s), want %x", id.Data, id, want)
	}
	mail, err := dnID("E=a@b.example,DC=b,DC=example")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(mail.Data), string([]byte{asn1.TagIA5String})); n != 3 {
		t.Errorf("%d IA5Strings in %x", n, mail.Data)
	}
}

func TestDNPattern(t *testing.T) {
	subject, err := parseDN("CN=Alice,OU=Sales,OU=EMEA,O=Acme,C=DE")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, pattern string
		want          bool
	}{
		{"all of it", "CN=Alice,OU=Sales,OU=EMEA,O=Acme,C=DE", true},
		{"a part", "OU=Sales", true},
		{"any name", "CN=*, OU=Sales, O=Acme", true},
		{"in other case", "ou=SALES,o=acme", true},
		{"another order", "O=Acme,CN=Alice", true},
		{"both units", "OU=EMEA,OU=Sales", true},
		{"another unit too", "OU=Sales,OU=Payroll", false},
		{"another value", "CN=*,OU=Payroll", false},
		{"any locality, where there is none", "L=*", false},
		{"a value of another attribute", "CN=Acme", false},
		{"the beginning of a value", "CN=Ali", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParseDNPattern(tt.pattern)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.matches(subject); got != tt.want || p.String() != tt.pattern {
				t.Errorf("%s matches: %v", p, got)
			}
		})
	}
	for _, s := range []string{"", "x", "CN=a*", "CN=*.example.com", "CN=a,,O=b"} {
		if p, err := ParseDNPattern(s); err == nil || p.matches(subject) {
			t.Errorf("%q is taken for a pattern", s)
		}
	}
	if (DNPattern{}).matches(subject) {
		t.Error("the pattern of nothing matches")
	}
}

func FuzzParseDN(f *testing.F) {
	for _, s := range []string{"CN=a+OU=b,O=c", `CN="a, b",E=\#x\41 `, "2.5.4.3=#0c0161"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := dnID(s)
		if err != nil {
			return
		}
		if !SameID("dn:"+s, id) && strings.Count(s, "+") < maxParts {
			t.Errorf("%q is not the same as itself", s)
		}
		if p, err := ParseDNPattern(s); err == nil {
			dn, err := decodeDN(id.Data)
			if err != nil || !p.matches(dn) {
				t.Errorf("%q does not match itself: %v", s, err)
			}
		}
	})
}
