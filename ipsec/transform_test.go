package ipsec

import (
	"bytes"
	"slices"
	"testing"
)

func TestTransformString(t *testing.T) {
	tests := []struct {
		transform Transform
		want      string
	}{
		{Transform{TypeEncr, EncrAESGCM16, 256}, "aes256gcm16"},
		{Transform{TypeEncr, EncrChaCha20Poly1305, 0}, "chacha20poly1305"},
		{Transform{TypePRF, PRFHMACSHA256, 0}, "prfsha256"},
		{Transform{TypeInteg, IntegHMACSHA256, 0}, "sha256"},
		{Transform{TypeGroup, GroupX25519, 0}, "x25519"},
		{Transform{TypeESN, ESNNo, 0}, "noesn"},
		{Transform{TypeEncr, EncrAESCCM12, 192}, "aes192ccm12"},
		{Transform{TypeEncr, EncrAESCTR, 128}, "aes128ctr"},
		{Transform{TypeEncr, Encr3DES, 0}, "3des"},
		{Transform{TypeInteg, IntegAESXCBC, 0}, "aesxcbc"},
		{Transform{TypeGroup, GroupMODP8192, 0}, "modp8192"},
		{Transform{TypeGroup, GroupNone, 0}, "none"},
		{Transform{TypeGroup, 35, 0}, "mlkem512"},
		{Transform{TypeEncr, EncrAESGCM16, 512}, "ENCR 20/512"},
		{Transform{TypeEncr, EncrAESGCM16, 0}, "ENCR 20"},
		{Transform{TypeGroup, 40, 0}, "KE 40"},
		{Transform{TypeADDKE1, GroupMLKEM768, 0}, "ke1_mlkem768"},
		{Transform{TypeADDKE7, GroupNone, 0}, "ke7_none"},
		{Transform{TransformType(19), 7, 0}, "type 19 7"},
		{Transform{TypeADDKE1 + 3, 7, 0}, "ADDKE4 7"},
		{Transform{TypeADDKE1 + 3, 32, 0}, "ke4_x448"},
	}
	for _, tt := range tests {
		if got := tt.transform.String(); got != tt.want {
			t.Errorf("%+v is %q, want %q", tt.transform, got, tt.want)
		}
	}
}

func TestTransformNamesAreUnique(t *testing.T) {
	type key struct {
		of   TransformType
		name string
	}
	names, numbers := map[key]Transform{}, map[Transform]bool{}
	for _, k := range append(slices.Clone(supported), foreign...) {
		if other, ok := names[key{k.transform.Type, k.name}]; ok {
			t.Errorf("%q names %+v and %+v", k.name, k.transform, other)
		}
		if numbers[k.transform] {
			t.Errorf("%+v stands twice", k.transform)
		}
		names[key{k.transform.Type, k.name}], numbers[k.transform] = k.transform, true
	}
	// Keywords of different types stand beside each other in a proposal.
	of := map[string]Transform{}
	for _, k := range supported {
		if other, ok := of[k.name]; ok {
			t.Errorf("%q names %+v and %+v", k.name, k.transform, other)
		}
		of[k.name] = k.transform
	}
}

func TestTransforms(t *testing.T) {
	for _, tt := range []struct {
		of          TransformType
		protocol    ProtocolID
		first, last string
		n           int
	}{
		{TypeEncr, ProtoIKE, "aes256gcm16", "3des", 26},
		{TypeEncr, ProtoESP, "aes256gcm16", "null", 30},
		{TypePRF, ProtoIKE, "prfsha256", "prfsha1", 6},
		{TypeInteg, ProtoIKE, "sha256", "sha1", 6},
		{TypeInteg, ProtoESP, "sha256", "sha1", 6},
		{TypeInteg, ProtoAH, "sha256", "sha1", 9},
		{TypeGroup, ProtoIKE, "x25519", "none", 19},
		{TypeGroup, ProtoAH, "x25519", "none", 19},
		{TypeESN, ProtoESP, "esn", "noesn", 2},
		{TypeESN, ProtoAH, "esn", "noesn", 2},
		{TypeADDKE1, ProtoIKE, "ke1_x25519", "ke1_none", 19},
		{TypeADDKE7, ProtoESP, "ke7_x25519", "ke7_none", 19},
	} {
		ts := Transforms(tt.protocol, tt.of)
		if len(ts) != tt.n || ts[0].String() != tt.first || ts[len(ts)-1].String() != tt.last {
			t.Errorf("%s of %s: %d from %s to %s", tt.of, tt.protocol, len(ts), ts[0], ts[len(ts)-1])
		}
		weak, clear := false, false
		for _, x := range ts {
			if x.Type != tt.of || !x.Suits(tt.protocol) {
				t.Errorf("%s among those of %s for %s", x, tt.of, tt.protocol)
			}
			if _, w := x.Weak(); w {
				weak = true
			} else if weak && x.ID != GroupNone && (x.Encrypts() || x.Type != TypeEncr) {
				t.Errorf("%s stands after a weak one", x)
			}
			if clear = clear || x.Type == TypeEncr && !x.Encrypts(); clear && x.Encrypts() {
				t.Errorf("%s stands after one that does not encrypt", x)
			}
		}
	}
	for _, tt := range []struct {
		of       TransformType
		protocol ProtocolID
	}{{TransformType(13), ProtoIKE}, {TypeEncr, ProtoAH}, {TypePRF, ProtoESP}, {TypeESN, ProtoIKE}} {
		if ts := Transforms(tt.protocol, tt.of); ts != nil {
			t.Errorf("%s of %s: %v", tt.of, tt.protocol, ts)
		}
	}
}

func TestWeak(t *testing.T) {
	for _, tt := range []struct {
		transform Transform
		weak      bool
	}{
		{Transform{TypeEncr, EncrAESGCM16, 128}, false},
		{Transform{TypeEncr, EncrAESGCM12, 256}, false},
		{Transform{TypeEncr, EncrAESGCM8, 256}, true},
		{Transform{TypeEncr, EncrAESCCM8, 192}, true},
		{Transform{TypeEncr, EncrAESCBC, 128}, false},
		{Transform{TypeEncr, EncrAESCTR, 128}, false},
		{Transform{TypeEncr, Encr3DES, 0}, true},
		{Transform{TypeEncr, EncrNull, 0}, false},
		{Transform{TypeEncr, EncrNullAESGMAC, 128}, false},
		{Transform{TypePRF, PRFHMACSHA1, 0}, true},
		{Transform{TypePRF, PRFAESXCBC, 0}, false},
		{Transform{TypeInteg, IntegHMACSHA1, 0}, true},
		{Transform{TypeInteg, IntegAESCMAC, 0}, false},
		{Transform{TypeInteg, IntegNone, 0}, false},
		{Transform{TypeGroup, GroupMODP1024, 0}, true},
		{Transform{TypeGroup, GroupMODP1536, 0}, true},
		{Transform{TypeGroup, GroupMODP2048, 0}, false},
		{Transform{TypeGroup, GroupP224, 0}, true},
		{Transform{TypeGroup, 22, 0}, true},
		{Transform{TypeGroup, GroupMLKEM768, 0}, false},
		{Transform{TypeADDKE1, GroupMODP1024, 0}, true},
		{Transform{TypeADDKE1, GroupNone, 0}, false},
		{Transform{TypeESN, ESNNo, 0}, false},
		{Transform{TypeGroup, 999, 0}, false},
	} {
		why, weak := tt.transform.Weak()
		if weak != tt.weak || (why != "") != weak {
			t.Errorf("%s: %q, %v", tt.transform, why, weak)
		}
	}
}

func TestPostQuantum(t *testing.T) {
	for _, tt := range []struct {
		transform Transform
		want      bool
	}{
		{Transform{TypeGroup, GroupMLKEM768, 0}, true},
		{Transform{TypeADDKE7, GroupMLKEM1024, 0}, true},
		{Transform{TypeADDKE1, GroupX25519, 0}, false},
		{Transform{TypeADDKE1, GroupNone, 0}, false},
		{Transform{TypeEncr, GroupMLKEM768, 0}, false}, // another registry
	} {
		if got := tt.transform.PostQuantum(); got != tt.want {
			t.Errorf("%s: %v", tt.transform, got)
		}
	}
}

func TestAEAD(t *testing.T) {
	tests := []struct {
		transform Transform
		want      bool
	}{
		{Transform{TypeEncr, EncrAESGCM16, 128}, true},
		{Transform{TypeEncr, EncrChaCha20Poly1305, 0}, true},
		{Transform{TypeEncr, EncrAESGCM8, 192}, true},
		{Transform{TypeEncr, EncrAESGCM12, 128}, true},
		{Transform{TypeEncr, EncrAESCCM8, 256}, true},
		{Transform{TypeEncr, EncrAESCCM12, 256}, true},
		{Transform{TypeEncr, EncrAESCCM16, 256}, true},
		{Transform{TypeEncr, EncrAESCBC, 128}, false},
		{Transform{TypeEncr, EncrAESCTR, 128}, false},
		{Transform{TypeEncr, Encr3DES, 0}, false},
		{Transform{TypeEncr, EncrNull, 0}, false},
		{Transform{TypeEncr, EncrNullAESGMAC, 256}, true},
		{Transform{TypeGroup, EncrAESGCM16, 0}, false}, // group 20 is P-384
		{Transform{}, false},
	}
	for _, tt := range tests {
		if got := tt.transform.AEAD(); got != tt.want {
			t.Errorf("%s: %v", tt.transform, got)
		}
	}
}

func TestProposal(t *testing.T) {
	gcm, cbc := Transform{TypeEncr, EncrAESGCM16, 128}, Transform{TypeEncr, EncrAESCBC, 256}
	esn := Transform{TypeESN, ESNYes, 0}
	p := Proposal{Number: 1, Protocol: ProtoESP, Transforms: []Transform{gcm, esn, cbc}}

	if got := p.Of(TypeEncr); !slices.Equal(got, []Transform{gcm, cbc}) {
		t.Errorf("Of(ENCR) = %v", got)
	}
	if got := p.Of(TypeGroup); len(got) != 0 {
		t.Errorf("Of(KE) = %v", got)
	}
	if got, ok := p.First(TypeEncr); !ok || got != gcm {
		t.Errorf("First(ENCR) = %v, %v", got, ok)
	}
	if got, ok := p.First(TypeInteg); ok || got != (Transform{}) {
		t.Errorf("First(INTEG) = %v, %v", got, ok)
	}
	if got, want := p.String(), "ESP:aes128gcm16-esn-aes256"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

func TestNames(t *testing.T) {
	tests := []struct{ got, want string }{
		{ProtoIKE.String(), "IKE"},
		{ProtoAH.String(), "AH"},
		{ProtoESP.String(), "ESP"},
		{ProtocolID(0).String(), "protocol 0"},
		{Transport.String(), "transport"},
		{Tunnel.String(), "tunnel"},
		{Mode(0).String(), "invalid mode"},
		{SPI(0xbeef).String(), "0000beef"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestKeysWipe(t *testing.T) {
	k := Keys{Encr: []byte{1, 2, 3}, Integ: []byte{4}}
	encr, integ := k.Encr, k.Integ
	k.Wipe()
	if !bytes.Equal(encr, make([]byte, 3)) || !bytes.Equal(integ, make([]byte, 1)) {
		t.Errorf("keys left: %x, %x", encr, integ)
	}
}
