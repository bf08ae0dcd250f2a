package xform

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/mlkem"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"slices"
	"testing"

	"github.com/c2sp/wycheproof"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// hexBytes is a string of hexadecimal digits in JSON.
type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	var err error
	*h, err = hex.DecodeString(s)
	return err
}

// vectorGroup is a group of test vectors with one set of parameters.
type vectorGroup struct {
	KeySize, IVSize, TagSize int // bits
	Tests                    []vector
}

// vector has the members of the test vectors of all the primitives in use.
type vector struct {
	TcID    int
	Comment string
	Flags   []string
	Result  string // valid, invalid or acceptable

	Key, IV, AAD, Msg, CT, Tag hexBytes // ciphers and MACs
	Public, Private, Shared    hexBytes // Diffie-Hellman
	Seed, EK, C, K, M          hexBytes // ML-KEM
}

// eachVector runs check for all the vectors of a file whose group passes
// wanted, and fails when there are none.
func eachVector(t *testing.T, file string, wanted func(vectorGroup) bool, check func(t *testing.T, g vectorGroup, v vector)) {
	t.Helper()
	data, err := fs.ReadFile(wycheproof.TestVectors, file)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ TestGroups []vectorGroup }
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range doc.TestGroups {
		if wanted != nil && !wanted(g) {
			continue
		}
		for _, v := range g.Tests {
			n++
			check(t, g, v)
			if t.Failed() {
				t.Fatalf("%s: test %d (%s, %v, %s)", file, v.TcID, v.Comment, v.Flags, v.Result)
			}
		}
	}
	if n == 0 {
		t.Fatalf("%s has no vectors for us", file)
	}
	t.Logf("%s: %d vectors", file, n)
}

func TestWycheproofAEAD(t *testing.T) {
	tests := []struct {
		name, file string
		nonce, tag int // bits
		new        func(key []byte) (cipher.AEAD, error)
	}{
		{"AES-GCM-16", "aes_gcm_test.json", 96, 128, func(key []byte) (cipher.AEAD, error) { return aesAEAD(ipsec.EncrAESGCM16, key) }},
		{"AES-CCM-16", "aes_ccm_test.json", 88, 128, func(key []byte) (cipher.AEAD, error) { return aesAEAD(ipsec.EncrAESCCM16, key) }},
		{"ChaCha20-Poly1305", "chacha20_poly1305_test.json", 96, 128, chacha20poly1305.New},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wanted := func(g vectorGroup) bool { return g.IVSize == tt.nonce && g.TagSize == tt.tag }
			eachVector(t, tt.file, wanted, func(t *testing.T, _ vectorGroup, v vector) {
				aead, err := tt.new(v.Key)
				if err != nil {
					t.Fatal(err)
				}
				checkAEAD(t, aead, v)
			})
		})
	}
}

// Vectors of AES-GCM are those of shorter tags as well, which are the beginnings
// of the long ones (NIST SP 800-38D section 7.1).
func TestWycheproofShortGCM(t *testing.T) {
	for id, tagLen := range map[uint16]int{ipsec.EncrAESGCM12: 12, ipsec.EncrAESGCM8: 8} {
		wanted := func(g vectorGroup) bool { return g.IVSize == 96 && g.TagSize == 128 }
		eachVector(t, "aes_gcm_test.json", wanted, func(t *testing.T, _ vectorGroup, v vector) {
			aead, err := aesAEAD(id, v.Key)
			if err != nil {
				t.Fatal(err)
			}
			v.Tag = v.Tag[:tagLen]
			if slices.Contains(v.Flags, "ModifiedTag") {
				// What was changed may have been cut off: seal to know.
				whole, err := aesAEAD(ipsec.EncrAESGCM16, v.Key)
				if err != nil {
					t.Fatal(err)
				}
				sealed := whole.Seal(nil, v.IV, v.Msg, v.AAD)
				if bytes.Equal(sealed[len(v.Msg):len(v.Msg)+tagLen], v.Tag) {
					v.Result = "valid"
				}
			}
			checkAEAD(t, aead, v)
		})
	}
}

func aesAEAD(id uint16, key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return newAESAEAD(id, block)
}

func checkAEAD(t *testing.T, aead cipher.AEAD, v vector) {
	t.Helper()
	sealed := slices.Concat(v.CT, v.Tag)
	got, err := aead.Open(nil, v.IV, sealed, v.AAD)
	if v.Result == "invalid" {
		if err == nil {
			t.Errorf("opened to %x", got)
		}
		return
	}
	if err != nil || !bytes.Equal(got, v.Msg) {
		t.Errorf("Open = %x, %v", got, err)
	}
	if got := aead.Seal(nil, v.IV, v.Msg, v.AAD); !bytes.Equal(got, sealed) {
		t.Errorf("Seal = %x", got)
	}
	// In place, with no more room than it takes.
	buf := slices.Clip(slices.Concat(v.Msg, make([]byte, aead.Overhead())))
	if got := aead.Seal(buf[:0], v.IV, buf[:len(v.Msg)], v.AAD); !bytes.Equal(got, sealed) || &got[0] != &buf[0] {
		t.Errorf("Seal in place = %x", got)
	}
	if got, err := aead.Open(buf[:0], v.IV, buf, v.AAD); err != nil || !bytes.Equal(got, v.Msg) {
		t.Errorf("Open in place = %x, %v", got, err)
	}
}

func TestWycheproofCBC(t *testing.T) {
	eachVector(t, "aes_cbc_pkcs5_test.json", nil, func(t *testing.T, g vectorGroup, v vector) {
		c, err := NewCipher(ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: uint16(g.KeySize)}, v.Key)
		if err != nil {
			t.Fatal(err)
		}
		if v.Result != "valid" || len(v.CT) == 0 {
			return // a wrong padding, which is not the cipher's
		}
		data := bytes.Clone(v.CT)
		c.Decrypt(v.IV, data)
		pad := len(v.CT) - len(v.Msg)
		if want := slices.Concat(v.Msg, bytes.Repeat([]byte{byte(pad)}, pad)); !bytes.Equal(data, want) {
			t.Errorf("decrypted to %x, want %x", data, want)
		}
		c.Encrypt(v.IV, data)
		if !bytes.Equal(data, v.CT) {
			t.Errorf("encrypted to %x", data)
		}
	})
}

func TestWycheproofMAC(t *testing.T) {
	prf := func(id uint16) func(key []byte) hash.Hash {
		p, err := NewPRF(id)
		if err != nil {
			t.Fatal(err)
		}
		return p.new
	}
	for _, tt := range []struct {
		file string
		new  func(key []byte) hash.Hash
	}{
		{"aes_cmac_test.json", newCMAC},
		{"hmac_sha1_test.json", prf(ipsec.PRFHMACSHA1)},
		{"hmac_sha256_test.json", prf(ipsec.PRFHMACSHA256)},
		{"hmac_sha384_test.json", prf(ipsec.PRFHMACSHA384)},
		{"hmac_sha512_test.json", prf(ipsec.PRFHMACSHA512)},
	} {
		// Keys that are none of AES are refused before newCMAC.
		wanted := func(g vectorGroup) bool {
			return tt.file != "aes_cmac_test.json" || slices.Contains([]int{128, 192, 256}, g.KeySize)
		}
		eachVector(t, tt.file, wanted, func(t *testing.T, g vectorGroup, v vector) {
			h := tt.new(v.Key)
			h.Write(v.Msg)
			if got := h.Sum(nil)[:g.TagSize/8]; bytes.Equal(got, v.Tag) != (v.Result == "valid") {
				t.Errorf("%x", got)
			}
		})
	}
}

// The integrity algorithms are those MACs, cut to their ICV.
func TestWycheproofIntegrity(t *testing.T) {
	for file, integ := range map[string]uint16{
		"aes_cmac_test.json":    ipsec.IntegAESCMAC,
		"hmac_sha1_test.json":   ipsec.IntegHMACSHA1,
		"hmac_sha256_test.json": ipsec.IntegHMACSHA256,
		"hmac_sha384_test.json": ipsec.IntegHMACSHA384,
		"hmac_sha512_test.json": ipsec.IntegHMACSHA512,
	} {
		tr := ipsec.Transform{Type: ipsec.TypeInteg, ID: integ}
		spec, err := macOf(tr)
		if err != nil {
			t.Fatal(err)
		}
		wanted := func(g vectorGroup) bool { return g.KeySize == 8*spec.keyLen && g.TagSize >= 8*spec.icvLen }
		eachVector(t, file, wanted, func(t *testing.T, _ vectorGroup, v vector) {
			if v.Result != "valid" {
				return // the change may be in what is cut off
			}
			m, err := NewMAC(tr, v.Key)
			if err != nil {
				t.Fatal(err)
			}
			m.Write(v.Msg)
			if got := m.Sum(nil)[:m.ICVLen]; !bytes.Equal(got, v.Tag[:m.ICVLen]) {
				t.Errorf("%x", got)
			}
		})
	}
}

// AES-GMAC is the integrity of AH, and ESP's AEAD that encrypts nothing.
func TestWycheproofGMAC(t *testing.T) {
	for _, tr := range []struct {
		bits  int
		integ uint16
	}{{128, ipsec.IntegAES128GMAC}, {192, ipsec.IntegAES192GMAC}, {256, ipsec.IntegAES256GMAC}} {
		wanted := func(g vectorGroup) bool { return g.KeySize == tr.bits && g.IVSize == 96 && g.TagSize == 128 }
		eachVector(t, "aes_gmac_test.json", wanted, func(t *testing.T, _ vectorGroup, v vector) {
			valid, keymat := v.Result == "valid", slices.Concat(v.Key, v.IV[:4])
			i, err := NewIntegrity(ipsec.Transform{Type: ipsec.TypeInteg, ID: tr.integ}, keymat, false)
			if err != nil {
				t.Fatal(err)
			}
			half := len(v.Msg) / 2
			if i.Check(v.Tag, v.IV[4:], v.Msg[:half], v.Msg[half:], 7) != valid {
				t.Error("Check")
			}
			aead, salt, err := NewAEAD(ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrNullAESGMAC, KeyBits: uint16(tr.bits)}, keymat)
			if err != nil {
				t.Fatal(err)
			}
			nonce, sealed := slices.Concat(salt, v.IV[4:]), slices.Concat(v.Msg[half:], v.Tag)
			opened, err := aead.Open(nil, nonce, sealed, v.Msg[:half])
			if (err == nil) != valid || valid && !bytes.Equal(opened, v.Msg[half:]) {
				t.Errorf("Open = %x, %v", opened, err)
			}
			if got := aead.Seal(nil, nonce, v.Msg[half:], v.Msg[:half]); bytes.Equal(got, sealed) != valid {
				t.Errorf("Seal = %x", got)
			}
		})
	}
}

// checkExchange checks the secret of a private key and a public value that are
// as IKE has them.
func checkExchange(t *testing.T, group uint16, private, public []byte, v vector) {
	t.Helper()
	key, err := GenerateKey(group, bytes.NewReader(private))
	if err != nil {
		t.Fatal(err)
	}
	got, err := key.Shared(public)
	if v.Result == "invalid" {
		if !errors.Is(err, ErrPublicValue) || got != nil {
			t.Errorf("secret %x, %v", got, err)
		}
		return
	}
	if err != nil || !bytes.Equal(got, v.Shared) {
		t.Errorf("secret %x, %v, want %x", got, err, v.Shared)
	}
}

func TestWycheproofMontgomery(t *testing.T) {
	for file, group := range map[string]uint16{"x25519_test.json": ipsec.GroupX25519, "x448_test.json": ipsec.GroupX448} {
		eachVector(t, file, nil, func(t *testing.T, _ vectorGroup, v vector) {
			// The secret must be one that not everybody knows (RFC 8031 section 2.3).
			if bytes.Equal(v.Shared, make([]byte, len(v.Shared))) {
				v.Result = "invalid"
			}
			checkExchange(t, group, v.Private, v.Public, v)
		})
	}
}

// checkPoint checks a public value as SEC 1 writes it.
func checkPoint(t *testing.T, group uint16, size int, point []byte, v vector) {
	t.Helper()
	private := bytes.TrimLeft(v.Private, "\x00")
	private = slices.Concat(make([]byte, size-len(private)), private)
	switch {
	case len(point) > 0 && point[0] == 4:
		checkExchange(t, group, private, point[1:], v)
	default: // IKE has no compressed points
		v.Result = "invalid"
		checkExchange(t, group, private, point, v)
	}
}

// kinds counts vectors by their flags, where the arithmetic is slow and a few of
// each kind do.
type kinds map[string]int

func (k kinds) enough(v vector) bool {
	flags := fmt.Sprint(v.Flags)
	k[flags]++
	return k[flags] > 12
}

func TestWycheproofNIST(t *testing.T) {
	for _, tt := range []struct {
		file  string
		group uint16
		size  int
	}{
		{"ecdh_secp224r1_ecpoint_test.json", ipsec.GroupP224, 28},
		{"ecdh_secp256r1_ecpoint_test.json", ipsec.GroupP256, 32},
		{"ecdh_secp384r1_ecpoint_test.json", ipsec.GroupP384, 48},
		{"ecdh_secp521r1_ecpoint_test.json", ipsec.GroupP521, 66},
	} {
		seen := kinds{}
		eachVector(t, tt.file, nil, func(t *testing.T, _ vectorGroup, v vector) {
			if !seen.enough(v) {
				checkPoint(t, tt.group, tt.size, v.Public, v)
			}
		})
	}
}

func TestWycheproofBrainpool(t *testing.T) {
	for _, tt := range []struct {
		file  string
		group uint16
		size  int
		curve asn1.ObjectIdentifier // RFC 5639 section 4.1
	}{
		{"ecdh_brainpoolP256r1_test.json", ipsec.GroupBrainpoolP256, 32, asn1.ObjectIdentifier{1, 3, 36, 3, 3, 2, 8, 1, 1, 7}},
		{"ecdh_brainpoolP384r1_test.json", ipsec.GroupBrainpoolP384, 48, asn1.ObjectIdentifier{1, 3, 36, 3, 3, 2, 8, 1, 1, 11}},
		{"ecdh_brainpoolP512r1_test.json", ipsec.GroupBrainpoolP512, 64, asn1.ObjectIdentifier{1, 3, 36, 3, 3, 2, 8, 1, 1, 13}},
	} {
		seen := kinds{}
		eachVector(t, tt.file, nil, func(t *testing.T, _ vectorGroup, v vector) {
			var info struct {
				Algorithm struct{ ID, Curve asn1.ObjectIdentifier }
				Point     asn1.BitString
			}
			_, err := asn1.Unmarshal(v.Public, &info)
			if err != nil || slices.Contains(v.Flags, "InvalidAsn") || !info.Algorithm.Curve.Equal(tt.curve) {
				return // it is about the encoding, of which IKE has none
			}
			if !seen.enough(v) {
				checkPoint(t, tt.group, tt.size, info.Point.Bytes, v)
			}
		})
		if len(seen) < 8 {
			t.Errorf("%s: vectors of %v alone", tt.file, seen)
		}
	}
}

func TestWycheproofMLKEM(t *testing.T) {
	for size, group := range map[string]uint16{"768": ipsec.GroupMLKEM768, "1024": ipsec.GroupMLKEM1024} {
		eachVector(t, "mlkem_"+size+"_test.json", nil, func(t *testing.T, _ vectorGroup, v vector) {
			if len(v.Seed) != mlkem.SeedSize {
				return // no reader makes it longer or shorter
			}
			key, err := GenerateKey(group, bytes.NewReader(v.Seed))
			if err != nil {
				t.Fatal(err)
			}
			got, err := key.Shared(v.C)
			if v.Result == "invalid" {
				if !errors.Is(err, ErrPublicValue) {
					t.Errorf("secret %x, %v", got, err)
				}
				return
			}
			if err != nil || !bytes.Equal(got, v.K) {
				t.Errorf("secret %x, %v", got, err)
			}
		})
		eachVector(t, "mlkem_"+size+"_keygen_seed_test.json", nil, func(t *testing.T, _ vectorGroup, v vector) {
			key, err := GenerateKey(group, bytes.NewReader(v.Seed))
			if err != nil || !bytes.Equal(key.Public(), v.EK) {
				t.Errorf("public value, %v", err)
			}
		})
		eachVector(t, "mlkem_"+size+"_encaps_test.json", nil, func(t *testing.T, _ vectorGroup, v vector) {
			public, secret, err := Answer(group, v.EK, bytes.NewReader(v.M))
			if v.Result == "invalid" {
				if !errors.Is(err, ErrPublicValue) {
					t.Errorf("secret %x, %v", secret, err)
				}
				return
			}
			if err != nil || !bytes.Equal(public, v.C) || !bytes.Equal(secret, v.K) {
				t.Errorf("secret %x, %v", secret, err)
			}
		})
	}
}
