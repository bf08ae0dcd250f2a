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
		{Transform{TypeEncr, EncrAESGCM16, 192}, "ENCR 20/192"},
		{Transform{TypeEncr, EncrAESGCM16, 0}, "ENCR 20"},
		{Transform{TypeGroup, 2, 0}, "KE 2"},
		{Transform{TransformType(19), 7, 0}, "type 19 7"},
		{Transform{TypeADDKE1 + 3, 7, 0}, "ADDKE4 7"},
	}
	for _, tt := range tests {
		if got := tt.transform.String(); got != tt.want {
			t.Errorf("%+v is %q, want %q", tt.transform, got, tt.want)
		}
	}
}

func TestTransformNamesAreUnique(t *testing.T) {
	of := map[string]Transform{}
	for tr, name := range transformNames {
		if other, ok := of[name]; ok {
			t.Errorf("%q names %+v and %+v", name, tr, other)
		}
		of[name] = tr
	}
}

func TestAEAD(t *testing.T) {
	tests := []struct {
		transform Transform
		want      bool
	}{
		{Transform{TypeEncr, EncrAESGCM16, 128}, true},
		{Transform{TypeEncr, EncrChaCha20Poly1305, 0}, true},
		{Transform{TypeEncr, EncrAESCBC, 128}, false},
		{Transform{TypeEncr, EncrNull, 0}, false},
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
