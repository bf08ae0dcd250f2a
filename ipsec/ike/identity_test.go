package ike

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

func TestSameID(t *testing.T) {
	dn, err := asn1.Marshal(pkix.Name{CommonName: "payroll"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	fqdn := wire.ID{Kind: wire.IDFQDN, Data: []byte("Host.example")}
	tests := []struct {
		name  string
		named string
		id    wire.ID
		want  bool
	}{
		{"name", "host.example", fqdn, true},
		{"name with the final dot", "host.example.", fqdn, true},
		{"another name", "other.example", fqdn, false},
		{"a name that looks like an address", "10.0.0.1", wire.ID{Kind: wire.IDFQDN, Data: []byte("10.0.0.1")}, false},
		{"address", "10.0.0.1", ParseID("10.0.0.1"), true},
		{"another address", "10.0.0.2", ParseID("10.0.0.1"), false},
		{"e-mail", "a@host.example", ParseID("a@host.example"), true},
		{"e-mail is exact", "A@host.example", ParseID("a@host.example"), false},
		{"distinguished name", "CN=payroll", wire.ID{Kind: wire.IDDN, Data: dn}, true},
		{"another distinguished name", "CN=other", wire.ID{Kind: wire.IDDN, Data: dn}, false},
		{"distinguished name in other case", "cn=Payroll", wire.ID{Kind: wire.IDDN, Data: dn}, true},
		{"distinguished name, forwards", "O=Acme, CN=payroll", ParseID("CN=payroll,O=Acme"), true},
		{"distinguished name, by its prefix", "dn:CN=payroll", wire.ID{Kind: wire.IDDN, Data: dn}, true},
		{"a part of a distinguished name", "CN=payroll", ParseID("CN=payroll,O=Acme"), false},
		{"distinguished name that is none", "CN=payroll", wire.ID{Kind: wire.IDDN, Data: []byte("x")}, false},
		{"name that looks like a distinguished name", "fqdn:CN=payroll", wire.ID{Kind: wire.IDFQDN, Data: []byte("CN=payroll")}, true},
		{"key ID", "keyid:box 7", wire.ID{Kind: wire.IDKeyID, Data: []byte("box 7")}, true},
		{"key ID in hexadecimal", "keyid:#00ff", wire.ID{Kind: wire.IDKeyID, Data: []byte{0, 255}}, true},
		{"key ID in other case", "keyid:Box 7", wire.ID{Kind: wire.IDKeyID, Data: []byte("box 7")}, false},
		{"address by its prefix", "ipv4:10.0.0.1", ParseID("10.0.0.1"), true},
		{"address by another prefix", "ipv6:10.0.0.1", ParseID("10.0.0.1"), false},
		{"IPv6 address", "2001:db8::1", ParseID("ipv6:2001:DB8::0:1"), true},
		{"e-mail by its prefix", "email:a@host.example", ParseID("a@host.example"), true},
		{"nobody", "", wire.ID{Kind: wire.IDNull}, false},
		{"nobody by what is none", "dn:x", wire.ID{}, false},
		{"name that folds to ASCII", "host.k", wire.ID{Kind: wire.IDFQDN, Data: []byte("host.\u212a")}, false},
		{"key ID is no name", "host.example", wire.ID{Kind: wire.IDKeyID, Data: []byte("host.example")}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := SameID(tt.named, tt.id); got != tt.want {
				t.Errorf("SameID(%q, %s) = %v", tt.named, tt.id, got)
			}
		})
	}
}

// An identity that cannot be claimed is an error, and not another one.
func TestClaimedID(t *testing.T) {
	for _, s := range []string{"dn:x", "ipv4:h.example", "ipv6:10.0.0.1", "keyid:#0g", "keyid:"} {
		if id, err := (PresharedKey{}).Identity(s, someAddr); err == nil {
			t.Errorf("%q is claimed as %s", s, id)
		}
	}
}

func TestFingerprint(t *testing.T) {
	digits := strings.Repeat("0123456789abcdef", 4)
	colons := strings.TrimSuffix(strings.Repeat("01:23:45:67:89:AB:CD:EF:", 4), ":")
	for _, s := range []string{digits, "sha256:" + digits, "SHA256:" + colons, strings.ToUpper(digits)} {
		f, err := ParseFingerprint(s)
		if err != nil || f.String() != "sha256:"+digits {
			t.Errorf("%q: %s, %v", s, f, err)
		}
	}
	for _, s := range []string{"", "sha256:", digits[1:], digits + "00", "sha1:" + digits[:40], "g" + digits[1:]} {
		if f, err := ParseFingerprint(s); err == nil {
			t.Errorf("%q is %s", s, f)
		}
	}
}
