package xform

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
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
	xcbc96   = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegAESXCBC}
	gmac128  = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegAES128GMAC}
	cmac96   = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegAESCMAC}
)

func encr(id, bits uint16) ipsec.Transform {
	return ipsec.Transform{Type: ipsec.TypeEncr, ID: id, KeyBits: bits}
}

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
		{encr: encr(ipsec.EncrAESGCM16, 192), encrLen: 28},
		{encr: encr(ipsec.EncrAESGCM12, 128), encrLen: 20},
		{encr: encr(ipsec.EncrAESGCM8, 256), encrLen: 36},
		{encr: encr(ipsec.EncrAESCCM16, 128), encrLen: 19},
		{encr: encr(ipsec.EncrAESCCM12, 192), encrLen: 27},
		{encr: encr(ipsec.EncrAESCCM8, 256), encrLen: 35},
		{encr: encr(ipsec.EncrAESCTR, 128), integ: xcbc96, encrLen: 20, integLen: 16},
		{encr: encr(ipsec.EncrAESCTR, 192), integ: sha2_128, encrLen: 28, integLen: 32},
		{encr: encr(ipsec.EncrAESCTR, 256), integ: cmac96, encrLen: 36, integLen: 16},
		{encr: encr(ipsec.EncrAESCBC, 192), integ: cmac96, encrLen: 24, integLen: 16},
		{encr: encr(ipsec.Encr3DES, 0), integ: sha1_96, encrLen: 24, integLen: 20},

		{encr: encr(ipsec.EncrNull, 0), integ: sha2_128, integLen: 32},
		{encr: encr(ipsec.EncrNullAESGMAC, 128), encrLen: 20},
		{encr: encr(ipsec.EncrNullAESGMAC, 256), encrLen: 36},
		{integ: sha2_128, integLen: 32},
		{integ: xcbc96, integLen: 16},
		{integ: gmac128, integLen: 20},
		{integ: ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegAES192GMAC}, integLen: 28},
		{integ: ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegAES256GMAC}, integLen: 36},

		{encr: cbc128, unsupported: true},
		{encr: cbc128, integ: ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegNone}, unsupported: true},
		{encr: cbc128, integ: ipsec.Transform{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA1}, unsupported: true},
		{encr: gcm128, integ: sha2_128, unsupported: true},
		{encr: ipsec.Transform{}, unsupported: true},
		{encr: ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16}, unsupported: true},
		{encr: encr(ipsec.EncrAESGCM16, 512), unsupported: true},
		{encr: encr(ipsec.EncrAESCTR, 128), unsupported: true},
		{encr: encr(ipsec.EncrAESCTR, 0), integ: sha2_128, unsupported: true},
		{encr: encr(ipsec.Encr3DES, 192), integ: sha2_128, unsupported: true},
		{encr: encr(ipsec.EncrAESCCM16, 128), integ: cmac96, unsupported: true},
		{encr: cbc128, integ: ipsec.Transform{Type: ipsec.TypeInteg, ID: 1}, unsupported: true}, // HMAC-MD5
		{encr: ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrChaCha20Poly1305, KeyBits: 256}, unsupported: true},
		{encr: encr(ipsec.EncrNull, 0), unsupported: true},
		{encr: encr(ipsec.EncrNull, 0), integ: ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegNone}, unsupported: true},
		{encr: encr(ipsec.EncrNull, 0), integ: gmac128, unsupported: true},
		{encr: encr(ipsec.EncrNull, 128), integ: sha2_128, unsupported: true},
		{encr: cbc128, integ: gmac128, unsupported: true},
		{encr: encr(ipsec.EncrNullAESGMAC, 0), unsupported: true},
		{encr: encr(ipsec.EncrNullAESGMAC, 128), integ: sha2_128, unsupported: true},
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
			nonce := append(salt, unhex(t, "face"+iv)...)
			if got := aead.Seal(nil, nonce, unhex(t, plaintext), unhex(t, aad)); !bytes.Equal(got, unhex(t, tt.sealed)) {
				t.Errorf("sealed %x", got)
			}
		})
	}
}

func TestKeysOfWrongLength(t *testing.T) {
	for _, tr := range ipsec.Transforms(ipsec.ProtoESP, ipsec.TypeEncr) {
		n, err := encrKeyLen(tr)
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range []int{0, n - 4, n - 1, n + 1} {
			if wrong < 0 || wrong == n {
				continue // no key at all is right for NULL
			}
			if tr.AEAD() {
				_, _, err = NewAEAD(tr, make([]byte, wrong))
			} else {
				_, err = NewCipher(tr, make([]byte, wrong))
			}
			if !errors.Is(err, ErrKeyLength) {
				t.Errorf("%s with %d bytes: %v", tr, wrong, err)
			}
		}
	}
	for _, tr := range ipsec.Transforms(ipsec.ProtoAH, ipsec.TypeInteg) {
		spec, err := macOf(tr)
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range []int{0, spec.keyLen - 1, spec.keyLen + 1} {
			if _, err := NewMAC(tr, make([]byte, wrong)); !errors.Is(err, ErrKeyLength) {
				t.Errorf("%s with %d bytes: %v", tr, wrong, err)
			}
		}
	}
	if _, _, err := NewAEAD(cbc128, make([]byte, 16)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("AEAD of %s: %v", cbc128, err)
	}
	if _, err := NewCipher(gcm128, make([]byte, 20)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("cipher of %s: %v", gcm128, err)
	}
}

// Whatever a rule file can name is there.
func TestEveryTransform(t *testing.T) {
	for _, tr := range ipsec.Transforms(ipsec.ProtoIKE, ipsec.TypePRF) {
		if _, err := NewPRF(tr.ID); err != nil {
			t.Errorf("%s: %v", tr, err)
		}
	}
	for _, tr := range ipsec.Transforms(ipsec.ProtoIKE, ipsec.TypeGroup) {
		if tr.ID == ipsec.GroupNone {
			continue
		}
		if _, err := GenerateKey(tr.ID, rand.NewChaCha8([32]byte{})); err != nil {
			t.Errorf("%s: %v", tr, err)
		}
	}
}

// Two parts of a key of 3DES may not be equal, parity aside.
func Test3DESKeys(t *testing.T) {
	tdes := encr(ipsec.Encr3DES, 0)
	key := testKey(24, 1)
	if _, err := NewCipher(tdes, key); err != nil {
		t.Error(err)
	}
	for name, at := range map[string][2]int{"first and second": {0, 8}, "second and third": {8, 16}} {
		bad := bytes.Clone(key)
		copy(bad[at[0]:at[0]+8], bad[at[1]:])
		bad[at[0]] ^= 1
		if _, err := NewCipher(tdes, bad); !errors.Is(err, ErrWeakKey) {
			t.Errorf("%s part equal: %v", name, err)
		}
	}
	first := bytes.Clone(key)
	copy(first[16:], first[:8]) // two keys are what they were made to be
	if _, err := NewCipher(tdes, first); err != nil {
		t.Error(err)
	}
}

// Test vectors 1, 2, 4 and 9 of RFC 3686 section 6.
func TestCTRVectors(t *testing.T) {
	for _, tt := range []struct{ name, keymat, iv, plaintext, ciphertext string }{
		{"1", "ae6852f8121067cc4bf7a5765577f39e 00000030", "0000000000000000",
			"53696e676c6520626c6f636b206d7367", "e4095d4fb7a7b3792d6175a3261311b8"},
		{"2", "7e24067817fae0d743d6ce1f32539163 006cb6db", "c0543b59da48d90b",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28"},
		{"4", "16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb78515 00000048", "36733c147d6d93cb",
			"53696e676c6520626c6f636b206d7367", "4b55384fe259c9c84e7935a003cbe928"},
		{"9", "ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d 001cc5b7", "51a51d70a1c11148",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223",
			"eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keymat := unhex(t, tt.keymat)
			c, err := NewCipher(encr(ipsec.EncrAESCTR, uint16(8*(len(keymat)-4))), keymat)
			if err != nil {
				t.Fatal(err)
			}
			data := unhex(t, tt.plaintext)
			c.Clone().Encrypt(unhex(t, tt.iv), data)
			if !bytes.Equal(data, unhex(t, tt.ciphertext)) {
				t.Errorf("encrypted to %x", data)
			}
			c.Decrypt(unhex(t, tt.iv), data)
			if !bytes.Equal(data, unhex(t, tt.plaintext)) {
				t.Errorf("decrypted to %x", data)
			}
		})
	}
}

// The sample of 3DES in CBC mode is what OpenSSL makes of it.
func Test3DESVector(t *testing.T) {
	c, err := NewCipher(encr(ipsec.Encr3DES, 0), unhex(t, "0123456789abcdef23456789abcdef01456789abcdef0123"))
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("The quick brown fox jump")
	c.Encrypt(unhex(t, "f69f2445df4f9b17"), data)
	if want := unhex(t, "63693c3d378a862f8051ae7c2934a296aa6c3102b6e5b79e"); !bytes.Equal(data, want) {
		t.Errorf("encrypted to %x", data)
	}
}

// Different messages have different IVs, and those of CBC cannot be guessed.
func TestPutIV(t *testing.T) {
	for _, tr := range ipsec.Transforms(ipsec.ProtoIKE, ipsec.TypeEncr) {
		if tr.AEAD() {
			continue
		}
		n, err := encrKeyLen(tr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewCipher(tr, testKey(n, 1))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for number := range uint64(100) {
			iv := make([]byte, c.IVLen())
			c.PutIV(iv, number)
			seen[string(iv)] = true
			counts := bytes.Equal(iv, binary.BigEndian.AppendUint64(make([]byte, len(iv)-8), number))
			if counts != (tr.ID == ipsec.EncrAESCTR) {
				t.Errorf("%s: IV %x of message %d", tr, iv, number)
			}
		}
		if len(seen) != 100 {
			t.Errorf("%s: 100 messages have %d IVs", tr, len(seen))
		}
	}
}
