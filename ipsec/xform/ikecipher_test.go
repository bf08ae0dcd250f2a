package xform

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

var ikeSuites = []struct {
	name        string
	encr, integ ipsec.Transform
}{
	{"aes128gcm16", gcm128, noInteg},
	{"aes256gcm16", gcm256, noInteg},
	{"chacha20poly1305", chacha, noInteg},
	{"aes128-sha1", cbc128, sha1_96},
	{"aes128-sha256", cbc128, sha2_128},
	{"aes256-sha384", cbc256, sha2_192},
	{"aes256-sha512", cbc256, sha2_256},
	{"aes192gcm16", encr(ipsec.EncrAESGCM16, 192), noInteg},
	{"aes256gcm12", encr(ipsec.EncrAESGCM12, 256), noInteg},
	{"aes128gcm8", encr(ipsec.EncrAESGCM8, 128), noInteg},
	{"aes256ccm16", encr(ipsec.EncrAESCCM16, 256), noInteg},
	{"aes192ccm12", encr(ipsec.EncrAESCCM12, 192), noInteg},
	{"aes128ccm8", encr(ipsec.EncrAESCCM8, 128), noInteg},
	{"aes128ctr-aesxcbc", encr(ipsec.EncrAESCTR, 128), xcbc96},
	{"aes256ctr-sha256", encr(ipsec.EncrAESCTR, 256), sha2_128},
	{"aes192-aescmac", encr(ipsec.EncrAESCBC, 192), cmac96},
	{"3des-sha1", encr(ipsec.Encr3DES, 0), sha1_96},
}

// testKey returns n bytes that follow from the first.
func testKey(n int, first byte) []byte {
	key := make([]byte, n)
	for i := range key {
		key[i] = first + 2*byte(i)
	}
	return key
}

// newTestCipher returns a cipher whose keys and IVs follow from a byte.
func newTestCipher(t testing.TB, encr, integ ipsec.Transform, key byte) IKECipher {
	t.Helper()
	e, i, err := KeyLens(encr, integ)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewIKECipher(encr, integ, testKey(e, key), testKey(i, key), rand.NewChaCha8([32]byte{key}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The message of RFC 7634 appendix B.
func TestIKECipherChaCha20Vector(t *testing.T) {
	const key = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f a0a1a2a3"
	aad := unhex(t, "c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029")
	plaintext := unhex(t, "0000000c000040010000000a")
	body := unhex(t, "1011121314151617 610394701f8d017f7c12924889 6b71bfe25236efd7cdc6706690 6315b2")
	c, err := NewIKECipher(chacha, noInteg, unhex(t, key), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Open(aad, body)
	if err != nil || !bytes.Equal(got, plaintext) {
		t.Fatalf("Open = %x, %v", got, err)
	}
	c.(*ikeAEAD).sent = 0x1011121314151617
	if got, err := c.Seal(nil, aad, plaintext); err != nil || !bytes.Equal(got, body) {
		t.Errorf("Seal = %x, %v", got, err)
	}
}

// The first block is case 1 of RFC 3602 section 4; the ICV covers all that
// precedes it.
func TestIKECipherCBCVector(t *testing.T) {
	iv := unhex(t, "3dafba429d9eb430b422da802c9fac41")
	macKey := bytes.Repeat([]byte{0x0b}, 32)
	c, err := NewIKECipher(cbc128, sha2_128, unhex(t, "06a9214036b8a15b512e03d534120006"), macKey, bytes.NewReader(iv))
	if err != nil {
		t.Fatal(err)
	}
	aad := []byte("header and all")
	msg, err := c.Seal(bytes.Clone(aad), aad, []byte("Single block msg"))
	if err != nil {
		t.Fatal(err)
	}
	body := msg[len(aad):]
	if len(body) != 16+32+16 {
		t.Fatalf("body of %d bytes", len(body))
	}
	if !bytes.Equal(body[:16], iv) {
		t.Errorf("IV %x", body[:16])
	}
	if want := unhex(t, "e353779c1079aeb82708942dbe77181a"); !bytes.Equal(body[16:32], want) {
		t.Errorf("first block %x", body[16:32])
	}
	mac := hmac.New(sha256.New, macKey)
	mac.Write(msg[:len(msg)-16])
	if want := mac.Sum(nil)[:16]; !bytes.Equal(msg[len(msg)-16:], want) {
		t.Errorf("ICV %x, want %x", msg[len(msg)-16:], want)
	}
	if _, err := c.Seal(nil, nil, nil); !errors.Is(err, io.EOF) {
		t.Errorf("Seal without randomness: %v", err)
	}
}

func TestIKECipherRoundTrip(t *testing.T) {
	for _, s := range ikeSuites {
		t.Run(s.name, func(t *testing.T) {
			seal, open := newTestCipher(t, s.encr, s.integ, 1), newTestCipher(t, s.encr, s.integ, 1)
			ivs := map[string]bool{}
			for n := range 70 {
				header := []byte("a header of some bytes")
				plaintext := bytes.Repeat([]byte{byte(n)}, n)
				// The header may be the slice that the body goes to.
				msg, err := seal.Seal(header, header, plaintext)
				if err != nil {
					t.Fatal(err)
				}
				body := msg[len(header):]
				if len(body) != seal.SealedLen(n) {
					t.Errorf("%d bytes of plaintext: body of %d bytes, SealedLen says %d", n, len(body), seal.SealedLen(n))
				}
				ivs[string(body[:8])] = true
				before := bytes.Clone(body)
				got, err := open.Open(header, body)
				if err != nil || !bytes.Equal(got, plaintext) {
					t.Fatalf("%d bytes: Open = %x, %v", n, got, err)
				}
				if !bytes.Equal(before, body) {
					t.Error("Open changed the body")
				}
			}
			if len(ivs) != 70 {
				t.Errorf("70 messages have %d IVs", len(ivs))
			}
		})
	}
}

func TestIKECipherRefuses(t *testing.T) {
	for _, s := range ikeSuites {
		t.Run(s.name, func(t *testing.T) {
			c := newTestCipher(t, s.encr, s.integ, 1)
			aad, plaintext := []byte("header"), []byte("plaintext that fills more than one block")
			body, err := c.Seal(nil, aad, plaintext)
			if err != nil {
				t.Fatal(err)
			}
			for i := range body {
				bad := bytes.Clone(body)
				bad[i] ^= 0x80
				if p, err := c.Open(aad, bad); !errors.Is(err, ErrIntegrity) || p != nil {
					t.Errorf("byte %d changed: %x, %v", i, p, err)
				}
			}
			for i := range body {
				p, err := c.Open(aad, body[:i])
				if !errors.Is(err, ErrIntegrity) && !errors.Is(err, ErrMalformed) || p != nil {
					t.Errorf("cut to %d bytes: %x, %v", i, p, err)
				}
			}
			if _, err := c.Open([]byte("Header"), body); !errors.Is(err, ErrIntegrity) {
				t.Errorf("other header: %v", err)
			}
			if _, err := newTestCipher(t, s.encr, s.integ, 2).Open(aad, body); !errors.Is(err, ErrIntegrity) {
				t.Errorf("other keys: %v", err)
			}
		})
	}
}

// A peer that holds the keys may pad as it likes (RFC 7296 section 3.14), but
// not beyond the contents.
func TestUnpad(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want string
		err  error
	}{
		{"nothing at all", "00", "", nil},
		{"no padding", "aabb00", "aabb", nil},
		{"any contents", "aa99ff02", "aa", nil},
		{"only padding", "000002", "", nil},
		{"too long by one", "000003", "", ErrMalformed},
		{"longest", "ff", "", ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := unpad(unhex(t, tt.in))
			if !errors.Is(err, tt.err) || !bytes.Equal(got, unhex(t, tt.want)) {
				t.Errorf("unpad = %x, %v", got, err)
			}
		})
	}
}

func TestNewIKECipherRefuses(t *testing.T) {
	tests := []struct {
		name           string
		encr, integ    ipsec.Transform
		encrLen, inLen int
		err            error
	}{
		{"AEAD with integrity", gcm128, sha2_128, 20, 32, ErrUnsupported},
		{"AEAD with an integrity key", gcm128, noInteg, 20, 32, ErrKeyLength},
		{"CBC without integrity", cbc128, noInteg, 16, 0, ErrUnsupported},
		{"CBC with a short integrity key", cbc128, sha2_128, 16, 20, ErrKeyLength},
		{"CBC with the other key", cbc128, sha2_128, 32, 32, ErrKeyLength},
		{"key without salt", gcm256, noInteg, 32, 0, ErrKeyLength},
		{"CCM with the salt of GCM", encr(ipsec.EncrAESCCM16, 128), noInteg, 20, 0, ErrKeyLength},
		{"CTR without integrity", encr(ipsec.EncrAESCTR, 128), noInteg, 20, 0, ErrUnsupported},
		{"CTR without its nonce", encr(ipsec.EncrAESCTR, 128), sha2_128, 16, 32, ErrKeyLength},
		{"3DES with equal parts", encr(ipsec.Encr3DES, 0), sha2_128, 24, 32, ErrWeakKey},
		{"null encryption", encr(ipsec.EncrNull, 0), sha2_128, 0, 32, ErrUnsupported},
		{"no encryption", ipsec.Transform{}, sha2_128, 0, 32, ErrUnsupported},
		{"AES-GMAC", encr(ipsec.EncrNullAESGMAC, 128), noInteg, 20, 0, ErrUnsupported},
		{"AES-GMAC as integrity", cbc128, gmac128, 16, 20, ErrUnsupported},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := NewIKECipher(tt.encr, tt.integ, make([]byte, tt.encrLen), make([]byte, tt.inLen), nil)
			if !errors.Is(err, tt.err) || c != nil {
				t.Errorf("%v, %v", c, err)
			}
		})
	}
}

// Open takes whatever a peer sends: it neither panics nor yields a plaintext
// for anything but what was sealed.
func FuzzIKECipherOpen(f *testing.F) {
	aad := []byte("header")
	ciphers := make([]IKECipher, len(ikeSuites))
	sealed := map[string]bool{}
	for i, s := range ikeSuites {
		ciphers[i] = newTestCipher(f, s.encr, s.integ, 1)
		for _, plaintext := range []string{"", "plaintext", "sixteen bytes or"} {
			body, err := ciphers[i].Seal(nil, aad, []byte(plaintext))
			if err != nil {
				f.Fatal(err)
			}
			sealed[string(body)] = true
			f.Add(uint8(i), body)
			f.Add(uint8(i), body[:len(body)-1])
			f.Add(uint8(i), body[1:])
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		before := bytes.Clone(body)
		plaintext, err := ciphers[int(which)%len(ciphers)].Open(aad, body)
		if !bytes.Equal(before, body) {
			t.Error("Open changed the body")
		}
		switch {
		case err == nil && !sealed[string(body)]:
			t.Errorf("opened to %x", plaintext)
		case err != nil && !errors.Is(err, ErrIntegrity) && !errors.Is(err, ErrMalformed):
			t.Error(err)
		}
	})
}
