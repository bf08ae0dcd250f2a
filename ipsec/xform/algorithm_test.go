package xform

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

var (
	cbc128   = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 128}
	cbc256   = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 256}
	gcm128   = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 128}
	gcm256   = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}
	chacha   = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrChaCha20Poly1305}
	noInteg  = ipsec.Transform{}
	sha1_96  = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA1}
	sha2_128 = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256}
	sha2_192 = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA384}
	sha2_256 = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA512}
)

func TestKeyLens(t *testing.T) {
	tests := []struct {
		encr, integ       ipsec.Transform
		encrLen, integLen int
		unsupported       bool
	}{
		{encr: gcm128, encrLen: 20},
		{encr: gcm256, encrLen: 36},
		{encr: gcm256, integ: ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegNone}, encrLen: 36},
		{encr: chacha, encrLen: 36},
		{encr: cbc128, integ: sha1_96, encrLen: 16, integLen: 20},
		{encr: cbc128, integ: sha2_128, encrLen: 16, integLen: 32},
		{encr: cbc256, integ: sha2_192, encrLen: 32, integLen: 48},
		{encr: cbc256, integ: sha2_256, encrLen: 32, integLen: 64},

		{encr: cbc128, unsupported: true},
		{encr: cbc128, integ: ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegNone}, unsupported: true},
		{encr: cbc128, integ: ipsec.Transform{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA1}, unsupported: true},
		{encr: gcm128, integ: sha2_128, unsupported: true},
		{encr: ipsec.Transform{}, unsupported: true},
		{encr: ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16}, unsupported: true},
		{encr: ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 192}, unsupported: true},
		{encr: ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrChaCha20Poly1305, KeyBits: 256}, unsupported: true},
		{encr: ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrNull}, integ: sha2_128, unsupported: true},
		{encr: ipsec.Transform{Type: ipsec.TypeGroup, ID: ipsec.EncrAESGCM16, KeyBits: 128}, unsupported: true},
	}
	for _, tt := range tests {
		t.Run(tt.encr.String()+" "+tt.integ.String(), func(t *testing.T) {
			e, i, err := KeyLens(tt.encr, tt.integ)
			if errors.Is(err, ErrUnsupported) != tt.unsupported || err != nil && !tt.unsupported {
				t.Errorf("error %v", err)
			}
			if e != tt.encrLen || i != tt.integLen {
				t.Errorf("lengths %d and %d, want %d and %d", e, i, tt.encrLen, tt.integLen)
			}
		})
	}
}

// Test cases 4 and 16 of the GCM specification (McGrew and Viega), whose
// first four bytes of IV stand for the salt.
func TestNewAEADVectors(t *testing.T) {
	const (
		plaintext = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
			"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
		aad = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
		iv  = "dbaddecaf888"
	)
	tests := []struct {
		name   string
		encr   ipsec.Transform
		keymat string
		sealed string
	}{
		{"case 4", gcm128, "feffe9928665731c6d6a8f9467308308 cafebabe",
			"42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e" +
				"21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091" +
				"5bc94fbc3221a5db94fae95ae7121a47"},
		{"case 16", gcm256, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308 cafebabe",
			"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" +
				"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" +
				"76fc6ece0f4e1768cddf8853bb2d551b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			aead, salt, err := NewAEAD(tt.encr, unhex(t, tt.keymat))
			if err != nil {
				t.Fatal(err)
			}
			nonce := append(salt[:], unhex(t, "face"+iv)...)
			if got := aead.Seal(nil, nonce, unhex(t, plaintext), unhex(t, aad)); !bytes.Equal(got, unhex(t, tt.sealed)) {
				t.Errorf("sealed %x", got)
			}
		})
	}
}

func TestKeysOfWrongLength(t *testing.T) {
	for _, encr := range []ipsec.Transform{gcm128, gcm256, chacha} {
		n, _, err := KeyLens(encr, noInteg)
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range []int{0, n - SaltLen, n - 1, n + 1} {
			if _, _, err := NewAEAD(encr, make([]byte, wrong)); !errors.Is(err, ErrKeyLength) {
				t.Errorf("%s with %d bytes: %v", encr, wrong, err)
			}
		}
	}
	for _, wrong := range []int{0, 15, 24, 32} {
		if _, err := NewBlock(cbc128, make([]byte, wrong)); !errors.Is(err, ErrKeyLength) {
			t.Errorf("%s with %d bytes: %v", cbc128, wrong, err)
		}
	}
	for _, wrong := range []int{0, 31, 33} {
		if _, err := NewMAC(sha2_128, make([]byte, wrong)); !errors.Is(err, ErrKeyLength) {
			t.Errorf("%s with %d bytes: %v", sha2_128, wrong, err)
		}
	}
	if _, _, err := NewAEAD(cbc128, make([]byte, 16)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("AEAD of %s: %v", cbc128, err)
	}
	if _, err := NewBlock(gcm128, make([]byte, 20)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("block cipher of %s: %v", gcm128, err)
	}
}
