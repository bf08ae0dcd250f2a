package ike

import (
	"crypto/x509/pkix"
	"encoding/asn1"
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
