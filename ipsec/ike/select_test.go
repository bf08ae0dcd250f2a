package ike

import (
	"errors"
	"slices"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

var (
	gcm     = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}
	gcm128  = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 128}
	cbc     = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 256}
	hmac256 = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256}
	none    = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegNone}
	prf     = ipsec.Transform{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256}
	x25519  = ipsec.Transform{Type: ipsec.TypeGroup, ID: ipsec.GroupX25519}
	p256    = ipsec.Transform{Type: ipsec.TypeGroup, ID: ipsec.GroupP256}
	noGroup = ipsec.Transform{Type: ipsec.TypeGroup, ID: ipsec.GroupNone}
	noESN   = ipsec.Transform{Type: ipsec.TypeESN, ID: ipsec.ESNNo}
	esn     = ipsec.Transform{Type: ipsec.TypeESN, ID: ipsec.ESNYes}
	kem768  = ke(1, ipsec.GroupMLKEM768)
	noKE1   = ke(1, ipsec.GroupNone)

	tripleDES = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.Encr3DES}
	hmacSHA1  = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA1}
	prfSHA1   = ipsec.Transform{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA1}
	modp1024  = ipsec.Transform{Type: ipsec.TypeGroup, ID: ipsec.GroupMODP1024}
)

// ke is the n-th additional key exchange.
func ke(n int, id uint16) ipsec.Transform {
	return ipsec.Transform{Type: ipsec.TypeADDKE1 + ipsec.TransformType(n-1), ID: id}
}

func ikeP(ts ...ipsec.Transform) ipsec.Proposal {
	return ipsec.Proposal{Protocol: ipsec.ProtoIKE, Transforms: ts}
}

func espP(ts ...ipsec.Transform) ipsec.Proposal {
	return ipsec.Proposal{Protocol: ipsec.ProtoESP, Transforms: ts}
}

func TestSelectProposal(t *testing.T) {
	type ps = []ipsec.Proposal
	for _, tt := range []struct {
		name            string
		wanted, offered ps
		group           uint16
		want            []ipsec.Transform // nil for no agreement
	}{
		{"equal", ps{ikeP(gcm, prf, x25519)}, ps{ikeP(gcm, prf, x25519)}, 0, []ipsec.Transform{gcm, prf, x25519}},
		{"our order counts", ps{ikeP(gcm, gcm128, prf, x25519, p256)}, ps{ikeP(gcm128, gcm, prf, p256, x25519)}, 0, []ipsec.Transform{gcm, prf, x25519}},
		{"the group of the KE payload", ps{ikeP(gcm, prf, x25519, p256)}, ps{ikeP(gcm, prf, p256, x25519)}, ipsec.GroupP256, []ipsec.Transform{gcm, prf, p256}},
		{"a KE payload of no use", ps{ikeP(gcm, prf, x25519)}, ps{ikeP(gcm, prf, p256, x25519)}, ipsec.GroupP256, []ipsec.Transform{gcm, prf, x25519}},
		{"another proposal is worth another round", ps{ikeP(gcm, prf, x25519), ikeP(tripleDES, hmacSHA1, prfSHA1, modp1024)}, ps{ikeP(gcm, prf, x25519), ikeP(tripleDES, hmacSHA1, prfSHA1, modp1024)}, ipsec.GroupMODP1024, []ipsec.Transform{gcm, prf, x25519}},
		{"so is one that is not weak", ps{ikeP(gcm, prf, p256), ikeP(gcm128, prf, x25519)}, ps{ikeP(gcm128, prf, x25519), ikeP(gcm, prf, p256)}, ipsec.GroupX25519, []ipsec.Transform{gcm, prf, p256}},
		{"so is a group that is not weak", ps{ikeP(gcm, prf, x25519, modp1024)}, ps{ikeP(gcm, prf, x25519, modp1024)}, ipsec.GroupMODP1024, []ipsec.Transform{gcm, prf, x25519}},
		{"a weak group that is all there is", ps{ikeP(gcm, prf, x25519, modp1024)}, ps{ikeP(gcm, prf, modp1024)}, ipsec.GroupMODP1024, []ipsec.Transform{gcm, prf, modp1024}},
		{"second proposal", ps{ikeP(cbc, hmac256, prf, x25519), ikeP(gcm, prf, x25519)}, ps{ikeP(gcm, prf, x25519)}, 0, []ipsec.Transform{gcm, prf, x25519}},
		{"key length differs", ps{ikeP(gcm, prf, x25519)}, ps{ikeP(gcm128, prf, x25519)}, 0, nil},
		{"AEAD with INTEG NONE", ps{espP(gcm, noESN)}, ps{espP(gcm, none, noESN)}, 0, []ipsec.Transform{gcm, none, noESN}},
		{"AEAD with an INTEG beside", ps{espP(gcm, noESN)}, ps{espP(gcm, hmac256, noESN)}, 0, nil},
		{"AEAD fails, CBC does", ps{espP(gcm, cbc, hmac256)}, ps{espP(gcm, cbc, hmac256, noESN)}, 0, []ipsec.Transform{cbc, hmac256, noESN}},
		{"CBC without integrity", ps{espP(cbc)}, ps{espP(cbc, noESN)}, 0, nil},
		{"CBC with INTEG NONE", ps{espP(cbc, none)}, ps{espP(cbc, none, noESN)}, 0, nil},
		{"IKE without a group", ps{ikeP(gcm, prf)}, ps{ikeP(gcm, prf)}, 0, nil},
		{"IKE without a PRF", ps{ikeP(gcm, x25519)}, ps{ikeP(gcm, x25519)}, 0, nil},
		{"ESN not said", ps{espP(gcm)}, ps{espP(gcm)}, 0, []ipsec.Transform{gcm}},
		{"ESN wanted, not offered", ps{espP(gcm, esn)}, ps{espP(gcm, noESN)}, 0, nil},
		{"ESN both", ps{espP(gcm, esn, noESN)}, ps{espP(gcm, noESN, esn)}, 0, []ipsec.Transform{gcm, esn}},
		{"peer wants PFS, we do not", ps{espP(gcm)}, ps{espP(gcm, p256, noESN)}, ipsec.GroupP256, nil},
		{"peer asks for PFS or none, we want none", ps{espP(gcm)}, ps{espP(gcm, p256, noGroup, noESN)}, ipsec.GroupP256, []ipsec.Transform{gcm, noGroup, noESN}},
		{"peer has a proposal with PFS and one without", ps{espP(gcm)}, ps{espP(gcm, p256, noESN), espP(gcm, noESN)}, ipsec.GroupP256, []ipsec.Transform{gcm, noESN}},
		{"we take PFS or none, peer wants it", ps{espP(gcm, p256, noGroup)}, ps{espP(gcm, p256, noESN)}, ipsec.GroupP256, []ipsec.Transform{gcm, p256, noESN}},
		{"we take PFS or none, peer does not ask", ps{espP(gcm, p256, noGroup)}, ps{espP(gcm, noESN)}, 0, []ipsec.Transform{gcm, noESN}},
		{"peer wants PFS with a group we lack", ps{espP(gcm, p256)}, ps{espP(gcm, ipsec.Transform{Type: ipsec.TypeGroup, ID: 2}, noESN)}, 2, nil},
		{"we want PFS, peer does not", ps{espP(gcm, p256)}, ps{espP(gcm, noESN)}, 0, nil},
		{"we want PFS, peer offers none in so many words", ps{espP(gcm, p256)}, ps{espP(gcm, noGroup, noESN)}, 0, nil},
		{"unknown transform type", ps{ikeP(gcm, prf, x25519)}, ps{ikeP(gcm, prf, x25519, ipsec.Transform{Type: 13, ID: 35})}, 0, nil},
		{"unknown transform type in one of two", ps{ikeP(gcm, prf, x25519)}, ps{ikeP(gcm, prf, x25519, ipsec.Transform{Type: 13, ID: 35}), ikeP(gcm, prf, p256, x25519)}, 0, []ipsec.Transform{gcm, prf, x25519}},
		{"additional key exchange", ps{ikeP(gcm, prf, x25519, kem768)}, ps{ikeP(gcm, prf, x25519, kem768)}, 0, []ipsec.Transform{gcm, prf, x25519, kem768}},
		{"additional key exchange for ESP", ps{espP(gcm, x25519, kem768)}, ps{espP(gcm, kem768, x25519, noESN)}, ipsec.GroupX25519, []ipsec.Transform{gcm, x25519, noESN, kem768}},
		{"peer has none and need not", ps{ikeP(gcm, prf, x25519, kem768, noKE1)}, ps{ikeP(gcm, prf, x25519)}, 0, []ipsec.Transform{gcm, prf, x25519}},
		{"peer says NONE", ps{ikeP(gcm, prf, x25519, kem768, noKE1)}, ps{ikeP(gcm, prf, x25519, noKE1)}, 0, []ipsec.Transform{gcm, prf, x25519, noKE1}},
		{"peer has none and must", ps{ikeP(gcm, prf, x25519, kem768)}, ps{ikeP(gcm, prf, x25519)}, 0, nil},
		{"peer insists on one", ps{ikeP(gcm, prf, x25519)}, ps{ikeP(gcm, prf, x25519, kem768)}, 0, nil},
		{"peer does not insist", ps{ikeP(gcm, prf, x25519)}, ps{ikeP(gcm, prf, x25519, kem768, noKE1)}, 0, []ipsec.Transform{gcm, prf, x25519, noKE1}},
		{"peer offers it with and without, we have it", ps{ikeP(gcm, prf, x25519, kem768), ikeP(gcm, prf, x25519)}, ps{ikeP(gcm, prf, x25519), ikeP(gcm, prf, x25519, kem768)}, 0, []ipsec.Transform{gcm, prf, x25519, kem768}},
		{"peer offers it with and without, we lack it", ps{ikeP(gcm, prf, x25519)}, ps{ikeP(gcm, prf, x25519, kem768), ikeP(gcm, prf, x25519)}, 0, []ipsec.Transform{gcm, prf, x25519}},
		{"another place for it", ps{ikeP(gcm, prf, x25519, ke(3, ipsec.GroupMLKEM768))}, ps{ikeP(gcm, prf, x25519, kem768)}, 0, nil},
		{"places left out", ps{ikeP(gcm, prf, x25519, ke(2, ipsec.GroupMLKEM768), ke(7, ipsec.GroupX448))}, ps{ikeP(gcm, prf, x25519, ke(7, ipsec.GroupX448), ke(2, ipsec.GroupMLKEM768))}, 0,
			[]ipsec.Transform{gcm, prf, x25519, ke(2, ipsec.GroupMLKEM768), ke(7, ipsec.GroupX448)}},
		{"post-quantum is worth another round", ps{ikeP(gcm, prf, x25519, kem768), ikeP(gcm, prf, p256)}, ps{ikeP(gcm, prf, p256, x25519, kem768), ikeP(gcm, prf, p256)}, ipsec.GroupP256, []ipsec.Transform{gcm, prf, x25519, kem768}},
		{"the KE payload's group for post-quantum", ps{ikeP(gcm, prf, x25519, p256, kem768)}, ps{ikeP(gcm, prf, x25519, p256, kem768)}, ipsec.GroupP256, []ipsec.Transform{gcm, prf, p256, kem768}},
		{"no method twice", ps{ikeP(gcm, prf, x25519, ke(1, ipsec.GroupX25519))}, ps{ikeP(gcm, prf, x25519, ke(1, ipsec.GroupX25519))}, 0, nil},
		{"no method twice, the second choice", ps{ikeP(gcm, prf, x25519, ke(1, ipsec.GroupX25519), ke(1, ipsec.GroupP256))}, ps{ikeP(gcm, prf, x25519, ke(1, ipsec.GroupX25519), ke(1, ipsec.GroupP256))}, 0,
			[]ipsec.Transform{gcm, prf, x25519, ke(1, ipsec.GroupP256)}},
		{"an earlier one gives way", ps{ikeP(gcm, prf, x25519, p256, ke(1, ipsec.GroupX25519))}, ps{ikeP(gcm, prf, x25519, p256, ke(1, ipsec.GroupX25519))}, 0,
			[]ipsec.Transform{gcm, prf, p256, ke(1, ipsec.GroupX25519)}},
		{"NONE twice", ps{ikeP(gcm, prf, x25519, noKE1, ke(2, 0))}, ps{ikeP(gcm, prf, x25519, noKE1, ke(2, 0))}, 0, []ipsec.Transform{gcm, prf, x25519, noKE1, ke(2, 0)}},
		{"other protocol", ps{espP(gcm)}, ps{{Protocol: ipsec.ProtoAH, Transforms: []ipsec.Transform{gcm}}}, 0, nil},
		{"nothing offered", ps{espP(gcm)}, nil, 0, nil},
		{"the defaults with themselves", DefaultProposals(), DefaultProposals(), 0, []ipsec.Transform{gcm, prf, x25519, kem768}},
		{"the defaults with a peer without RFC 9370", DefaultProposals(), WithoutAdditional(DefaultProposals()), ipsec.GroupX25519, []ipsec.Transform{gcm, prf, x25519}},
		{"the defaults of a peer, without IKE_INTERMEDIATE", WithoutAdditional(DefaultProposals()), DefaultProposals(), ipsec.GroupX25519, []ipsec.Transform{gcm, prf, x25519}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			offered := slices.Clone(tt.offered)
			for i := range offered {
				offered[i].Number = uint8(i + 1)
				offered[i].SPI = []byte{1, 2, 3, byte(i)}
			}
			got, ok := SelectProposal(tt.wanted, offered, tt.group)
			if ok != (tt.want != nil) || !slices.Equal(got.Transforms, tt.want) {
				t.Fatalf("got %v %s, want %v", ok, got, tt.want)
			}
			if !ok {
				return
			}
			if got.Number == 0 || len(got.SPI) != 4 {
				t.Errorf("number %d, SPI %x", got.Number, got.SPI)
			}
			// What a responder chooses, the initiator accepts.
			if _, err := CheckChoice(offered, []ipsec.Proposal{got}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCheckChoice(t *testing.T) {
	offered := Offer([]ipsec.Proposal{espP(gcm, gcm128), espP(cbc, hmac256),
		espP(gcm, x25519, kem768, ke(2, ipsec.GroupX25519), ke(2, ipsec.GroupP256), ke(2, ipsec.GroupMLKEM768), ke(2, ipsec.GroupNone))}, []byte{1, 2, 3, 4})
	choice := func(n uint8, ts ...ipsec.Transform) []ipsec.Proposal {
		return []ipsec.Proposal{{Number: n, Protocol: ipsec.ProtoESP, Transforms: ts}}
	}
	for _, tt := range []struct {
		name   string
		answer []ipsec.Proposal
		ok     bool
	}{
		{"first", choice(1, gcm, noESN), true},
		{"second", choice(2, cbc, hmac256, noESN), true},
		{"ESN left out", choice(1, gcm), true},
		{"two proposals", append(choice(1, gcm, noESN), choice(2, cbc, hmac256, noESN)...), false},
		{"none", nil, false},
		{"number not offered", choice(4, gcm, noESN), false},
		{"transform of another proposal", choice(1, cbc, hmac256, noESN), false},
		{"both ciphers", choice(1, gcm, gcm128, noESN), false},
		{"no cipher", choice(1, noESN), false},
		{"integrity dropped", choice(2, cbc, noESN), false},
		{"ESN not offered", choice(1, gcm, esn), false},
		{"group not offered", choice(1, gcm, noESN, x25519), false},
		{"unknown type", choice(1, gcm, noESN, ipsec.Transform{Type: 13, ID: 1}), false},
		{"additional key exchange not offered", choice(1, gcm, noESN, kem768), false},
		{"NONE not offered", choice(1, gcm, noESN, noKE1), false},
		{"additional key exchange", choice(3, gcm, x25519, noESN, kem768, ke(2, ipsec.GroupP256)), true},
		{"additional key exchange dropped", choice(3, gcm, x25519, noESN, ke(2, ipsec.GroupP256)), false},
		{"optional key exchange", choice(3, gcm, x25519, noESN, kem768, ke(2, ipsec.GroupNone)), true},
		{"optional key exchange left out", choice(3, gcm, x25519, noESN, kem768), true},
		{"the same group twice", choice(3, gcm, x25519, noESN, kem768, ke(2, ipsec.GroupX25519)), false},
		{"the same additional one twice", choice(3, gcm, x25519, noESN, kem768, ke(2, ipsec.GroupMLKEM768)), false},
		{"other protocol", []ipsec.Proposal{{Number: 1, Protocol: ipsec.ProtoAH, Transforms: []ipsec.Transform{gcm, noESN}}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := CheckChoice(offered, tt.answer)
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrNoProposal) {
				t.Errorf("error %v, want accepted %v", err, tt.ok)
			}
		})
	}
}

func TestOffer(t *testing.T) {
	in := []ipsec.Proposal{espP(gcm, p256), espP(gcm, esn)}
	got := Offer(in, []byte{1, 2, 3, 4})
	for i, want := range []string{"ESP:aes256gcm16-ecp256-noesn", "ESP:aes256gcm16-esn"} {
		if got[i].String() != want || got[i].Number != uint8(i+1) || len(got[i].SPI) != 4 {
			t.Errorf("proposal %d is %d %s %x, want %s", i, got[i].Number, got[i], got[i].SPI, want)
		}
	}
	if in[0].Number != 0 || len(in[0].Transforms) != 2 {
		t.Error("the policy's own proposal was changed")
	}
	if s := WithoutGroups(got)[0].String(); s != "ESP:aes256gcm16-noesn" {
		t.Errorf("without groups: %s", s)
	}
}

func TestWithoutGroups(t *testing.T) {
	in := []ipsec.Proposal{espP(gcm, x25519, kem768, esn), espP(gcm, x25519, esn), espP(cbc, hmac256, noGroup), espP(gcm, esn)}
	got := WithoutGroups(in)
	if want := "ESP:aes256gcm16-esn, ESP:aes256-sha256"; Proposals(got) != want {
		t.Errorf("%s, want %s", Proposals(got), want)
	}
	if len(in[0].Transforms) != 4 {
		t.Error("the policy's own proposal was changed")
	}
}

func TestWithoutAdditional(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []ipsec.Proposal
		want string
	}{
		{"none has any", []ipsec.Proposal{ikeP(gcm, prf, x25519)}, "IKE:aes256gcm16-prfsha256-x25519"},
		{"required", []ipsec.Proposal{ikeP(gcm, prf, x25519, kem768)}, ""},
		{"optional", []ipsec.Proposal{ikeP(gcm, prf, x25519, kem768, noKE1)}, "IKE:aes256gcm16-prfsha256-x25519"},
		{"one of two required", []ipsec.Proposal{ikeP(gcm, prf, x25519, kem768, noKE1, ke(2, ipsec.GroupX448))}, ""},
		{"NONE of another", []ipsec.Proposal{ikeP(gcm, prf, x25519, kem768, ke(2, ipsec.GroupNone))}, ""},
		{"with and without", []ipsec.Proposal{ikeP(gcm, prf, x25519, kem768), ikeP(gcm, prf, p256)}, "IKE:aes256gcm16-prfsha256-ecp256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Proposals(WithoutAdditional(tt.in)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
	if cnsa, _, _ := Suite("cnsa2"); len(WithoutAdditional(cnsa)) != 0 {
		t.Error("cnsa2 does without ML-KEM")
	}
}
