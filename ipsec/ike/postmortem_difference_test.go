package ike

import (
	"reflect"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

func TestDifferences(t *testing.T) {
	var (
		prf384 = ipsec.Transform{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA384}
		sha1   = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA1}
		sha256 = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256}
		modp   = ipsec.Transform{Type: ipsec.TypeGroup, ID: ipsec.GroupMODP2048}
		mlkem  = ipsec.Transform{Type: ipsec.TypeADDKE1, ID: ipsec.GroupMLKEM768}
		alien  = ipsec.Transform{Type: 99, ID: 1}
	)
	ike := func(ts ...ipsec.Transform) ipsec.Proposal {
		return ipsec.Proposal{Protocol: ipsec.ProtoIKE, Transforms: ts}
	}
	esp := func(ts ...ipsec.Transform) ipsec.Proposal {
		return ipsec.Proposal{Protocol: ipsec.ProtoESP, Transforms: ts}
	}
	list := func(ps ...ipsec.Proposal) []ipsec.Proposal { return ps }
	differ := func(name, ours, theirs string) []TypeDifference {
		return []TypeDifference{{name, []string{ours}, []string{theirs}}}
	}
	for _, tt := range []struct {
		name         string
		ours, theirs []ipsec.Proposal
		want         []TypeDifference // of the first
		of           int              // differences
	}{
		{"the same", list(ike(gcm, prf, x25519)), list(ike(gcm, prf, x25519)), nil, 0},
		{"one in common of several", list(ike(gcm, prf, x25519)), list(ike(cbc, prf, sha1, modp), ike(gcm128, gcm, prf, modp, x25519)), nil, 0},
		{"encryption", list(ike(gcm, prf, x25519)), list(ike(gcm128, prf, x25519)), differ("encryption", "aes256gcm16", "aes128gcm16"), 1},
		{"prf", list(ike(gcm, prf, x25519)), list(ike(gcm, prf384, x25519)), differ("prf", "prfsha256", "prfsha384"), 1},
		{"integrity", list(ike(cbc, prf, sha256, x25519)), list(ike(cbc, prf, sha1, x25519)), differ("integrity", "sha256", "sha1"), 1},
		{"integrity beside an AEAD", list(ike(cbc, gcm, prf, sha256, x25519)), list(ike(gcm, prf, x25519)), nil, 0},
		{"key exchange", list(ike(gcm, prf, x25519)), list(ike(gcm, prf, modp)), differ("key-exchange", "x25519", "modp2048"), 1},
		{"additional key exchange", list(ike(gcm, prf, x25519, mlkem)), list(ike(gcm, prf, x25519)), differ("additional-key-exchange-1", "ke1_mlkem768", "none"), 1},
		{"esn", list(esp(gcm, esn)), list(esp(gcm, noESN)), differ("esn", "esn", "noesn"), 1},
		{"nothing said of esn", list(esp(gcm)), list(esp(gcm, noESN)), nil, 0},
		{"pfs", list(esp(gcm, x25519)), list(esp(gcm)), differ("key-exchange", "x25519", "none"), 1},
		{"protocol", list(esp(gcm)), list(ike(gcm)), differ("protocol", "ESP", "IKE"), 1},
		{"a type that is unknown", list(esp(gcm)), list(esp(gcm, alien)), differ("unknown", "none", alien.String()), 1},
		{"the closest one", list(ike(gcm, prf, x25519), ike(cbc, sha256, prf, modp)), list(ike(cbc, sha1, prf, modp), ike(cbc, sha1, prf384, x25519)),
			differ("integrity", "sha256", "sha1"), 2},
		{"nothing offered", list(ike(gcm, prf, x25519)), nil, nil, 0},
		{"nothing wanted", nil, list(ike(gcm, prf, x25519)), nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Differences(tt.ours, tt.theirs)
			if len(got) != tt.of {
				t.Fatalf("%d differences, want %d: %+v", len(got), tt.of, got)
			}
			if tt.of > 0 && !reflect.DeepEqual(got[0].Types, tt.want) {
				t.Errorf("got %+v, want %+v", got[0], tt.want)
			}
			if _, agree := SelectProposal(tt.ours, tt.theirs, 0); agree && len(got) > 0 {
				t.Error("a difference is told of proposals that agree")
			}
		})
	}
}
