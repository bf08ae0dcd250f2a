package ike

import (
	"crypto/x509"
	"errors"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

func TestChecked(t *testing.T) {
	chain := []*x509.Certificate{{}}
	for _, tt := range []struct {
		name  string
		proof Proof
		word  string
	}{
		{"no certificate", Proof{}, ""},
		{"all is known", Proof{Chain: chain, Revocation: pki.Strict}, RevocationChecked},
		{"nobody answered", Proof{Chain: chain, Revocation: pki.IfPresent, Unchecked: errors.New("timeout")}, RevocationUnknown},
		{"the authority tells nowhere", Proof{Chain: chain, Revocation: pki.IfPresent}, RevocationNowhere},
		{"nobody was asked", Proof{Chain: chain, Revocation: pki.Off}, RevocationOff},
	} {
		t.Run(tt.name, func(t *testing.T) {
			word, why := tt.proof.Checked()
			if word != tt.word || (why != "") != (tt.proof.Unchecked != nil) {
				t.Errorf("%q, %q; want %q", word, why, tt.word)
			}
		})
	}
}
