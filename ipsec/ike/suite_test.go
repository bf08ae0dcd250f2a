package ike

import (
	"slices"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

func TestSuites(t *testing.T) {
	for _, name := range SuiteNames() {
		t.Run(name, func(t *testing.T) {
			ike, esp, ok := Suite(name)
			if !ok {
				t.Fatal("no such suite")
			}
			for i, p := range slices.Concat(ike, esp) {
				checkSuiteProposal(t, p)
				n := i + 1
				if i >= len(ike) {
					n -= len(ike)
				}
				if int(p.Number) != n {
					t.Errorf("%s has the number %d", p, p.Number)
				}
			}
			for _, p := range ike {
				if p.Protocol != ipsec.ProtoIKE || len(p.Of(ipsec.TypePRF)) == 0 || len(p.Of(ipsec.TypeGroup)) == 0 || len(p.Of(ipsec.TypeESN)) != 0 {
					t.Errorf("%s", p)
				}
			}
			for _, p := range esp {
				if p.Protocol != ipsec.ProtoESP || !slices.Equal(p.Of(ipsec.TypeESN), []ipsec.Transform{esn, noESN}) || len(p.Of(ipsec.TypePRF)) != 0 {
					t.Errorf("%s", p)
				}
			}
			if chosen, ok := SelectProposal(ike, ike, ipsec.GroupNone); !ok {
				t.Error("it does not agree with itself")
			} else if _, post := chosen.First(ipsec.TypeADDKE1); post != (name != "interop") {
				t.Errorf("with itself it agrees on %s", chosen)
			}
			ike[0].Transforms[0].ID = 0 // the slices are ours
			if again, _, _ := Suite(name); again[0].Transforms[0].ID == 0 {
				t.Error("the suite was changed")
			}
		})
	}
	if _, _, ok := Suite("none such"); ok {
		t.Error("a suite without a name")
	}
}

// checkSuiteProposal wants transforms that xform has, of which none is weak or
// stands twice, and integrity once.
func checkSuiteProposal(t *testing.T, p ipsec.Proposal) {
	t.Helper()
	for i, x := range p.Transforms {
		if why, weak := x.Weak(); weak {
			t.Errorf("%s is weak: %s", x, why)
		}
		if !slices.Contains(ipsec.Transforms(p.Protocol, x.Type), x) || slices.Contains(p.Transforms[:i], x) {
			t.Errorf("%s in %s", x, p)
		}
	}
	for _, e := range p.Of(ipsec.TypeEncr) {
		integs := p.Of(ipsec.TypeInteg)
		if e.AEAD() {
			integs = []ipsec.Transform{{}}
			if len(p.Of(ipsec.TypeInteg)) != 0 {
				t.Errorf("%s with integrity in %s", e, p)
			}
		}
		if len(integs) == 0 {
			t.Errorf("%s without integrity in %s", e, p)
		}
		for _, i := range integs {
			if _, _, err := xform.KeyLens(e, i); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestSuiteText(t *testing.T) {
	for _, tt := range []struct{ name, ike, esp string }{
		{"default",
			"IKE:aes256gcm16-aes128gcm16-chacha20poly1305-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-modp2048-ke1_mlkem768, " +
				"IKE:aes256-aes128-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-modp2048-ke1_mlkem768, " +
				"IKE:aes256gcm16-aes128gcm16-chacha20poly1305-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-modp2048, " +
				"IKE:aes256-aes128-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-modp2048",
			"ESP:aes256gcm16-aes128gcm16-chacha20poly1305-esn-noesn, ESP:aes256-aes128-sha256-sha384-sha512-esn-noesn"},
		{"cnsa2", "IKE:aes256gcm16-prfsha384-prfsha512-ecp384-ke1_mlkem1024", "ESP:aes256gcm16-esn-noesn"},
		{"interop",
			"IKE:aes256gcm16-aes128gcm16-prfsha256-prfsha384-prfsha512-ecp256-ecp384-x25519-ecp521-modp2048-modp3072-modp4096, " +
				"IKE:aes256-aes128-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-ecp256-ecp384-x25519-ecp521-modp2048-modp3072-modp4096",
			"ESP:aes256gcm16-aes128gcm16-esn-noesn, ESP:aes256-aes128-sha256-sha384-sha512-esn-noesn"},
	} {
		ike, esp, _ := Suite(tt.name)
		if got := Proposals(ike); got != tt.ike {
			t.Errorf("%s: IKE is %s", tt.name, got)
		}
		if got := Proposals(esp); got != tt.esp {
			t.Errorf("%s: ESP is %s", tt.name, got)
		}
	}
	if ike, _, _ := Suite("default"); Proposals(DefaultProposals()) != Proposals(ike) {
		t.Errorf("DefaultProposals are %s", Proposals(DefaultProposals()))
	}
}
