package ike

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

type signatureGroup struct {
	PublicKeyDer string
	Tests        []struct {
		TcID     int
		Comment  string
		Msg, Sig string
		Result   string // valid, invalid or acceptable
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWycheproof verifies the vectors of each primitive as the AUTH payload
// that they would come in.
func TestWycheproof(t *testing.T) {
	ecdsa := func(h HashAlgo) func(testing.TB) *wire.Auth { return digital(oidECDSA[h], nil) }
	old := func(m wire.AuthMethod) func(testing.TB) *wire.Auth {
		return func(testing.TB) *wire.Auth { return &wire.Auth{Method: m} }
	}
	pkcs1 := func(h HashAlgo) func(testing.TB) *wire.Auth { return digital(oidRSA[h], asn1.NullBytes) }
	for _, tt := range []struct {
		file string
		auth func(testing.TB) *wire.Auth // without the signature
	}{
		{"ecdsa_secp256r1_sha256", ecdsa(HashSHA256)},
		{"ecdsa_secp384r1_sha384", ecdsa(HashSHA384)},
		{"ecdsa_secp521r1_sha512", ecdsa(HashSHA512)},
		{"ecdsa_secp256r1_sha256_p1363", old(wire.AuthECDSA256)},
		{"ecdsa_secp384r1_sha384_p1363", old(wire.AuthECDSA384)},
		{"ecdsa_secp521r1_sha512_p1363", old(wire.AuthECDSA521)},
		{"ed25519", digital(oidEd25519, nil)},
		{"rsa_signature_2048_sha256", pkcs1(HashSHA256)},
		{"rsa_signature_3072_sha384", pkcs1(HashSHA384)},
		{"rsa_signature_4096_sha512", pkcs1(HashSHA512)},
		{"rsa_pss_2048_sha256_mgf1_32", pss(HashSHA256)},
		{"rsa_pss_2048_sha384_mgf1_48", pss(HashSHA384)},
		{"rsa_pss_4096_sha384_mgf1_48", pss(HashSHA384)},
	} {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			data, err := fs.ReadFile(wycheproof.TestVectors, tt.file+"_test.json")
			if err != nil {
				t.Fatal(err)
			}
			var doc struct{ TestGroups []signatureGroup }
			if err := json.Unmarshal(data, &doc); err != nil {
				t.Fatal(err)
			}
			valid, invalid := 0, 0
			for _, g := range doc.TestGroups {
				pub, err := x509.ParsePKIXPublicKey(unhex(t, g.PublicKeyDer))
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range g.Tests {
					a := tt.auth(t)
					a.Data = append(a.Data, unhex(t, v.Sig)...)
					err := verifySignature(pub, a, unhex(t, v.Msg), signatureRules{})
					switch {
					case v.Result == "valid" && err != nil:
						t.Errorf("%d, %s: %v", v.TcID, v.Comment, err)
					case v.Result == "invalid" && err == nil:
						t.Errorf("%d, %s: verifies", v.TcID, v.Comment)
					case v.Result == "valid":
						valid++
					case v.Result == "invalid":
						invalid++
					}
				}
			}
			if valid == 0 || invalid == 0 {
				t.Errorf("%d valid and %d invalid vectors", valid, invalid)
			}
		})
	}
}

// digital begins an AUTH payload of RFC 7427.
func digital(oid asn1.ObjectIdentifier, parameters []byte) func(testing.TB) *wire.Auth {
	return func(t testing.TB) *wire.Auth {
		der, err := asn1.Marshal(struct {
			Algorithm  asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}{oid, asn1.RawValue{FullBytes: parameters}})
		if err != nil {
			t.Fatal(err)
		}
		return &wire.Auth{Method: wire.AuthDigitalSignature, Data: append([]byte{byte(len(der))}, der...)}
	}
}

// pss takes the algorithm from a signature of ours.
func pss(h HashAlgo) func(testing.TB) *wire.Auth {
	return func(t testing.TB) *wire.Auth {
		algo, opts, err := algorithm((*rsa.PublicKey)(nil), h, false)
		if err != nil || opts.HashFunc() != cryptoHash[h] {
			t.Fatal(err)
		}
		der, err := asn1.Marshal(algo)
		if err != nil {
			t.Fatal(err)
		}
		return &wire.Auth{Method: wire.AuthDigitalSignature, Data: append([]byte{byte(len(der))}, der...)}
	}
}

// RSA with SHA-1 is for those who ask for it, and only where the peer does not
// know RFC 7427.
func TestLegacyRSA(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("the signed octets")
	a, err := signatureAuth(key, Signing{Octets: message, Rand: rand.Reader}, signatureRules{legacy: true})
	if err != nil || a.Method != wire.AuthRSA {
		t.Fatalf("%v, %v", a, err)
	}
	modern, err := signatureAuth(key, Signing{Octets: message, Rand: rand.Reader, Hashes: everyHash}, signatureRules{legacy: true})
	if err != nil || modern.Method != wire.AuthDigitalSignature {
		t.Errorf("SHA-1 for a peer that knows better: %v", err)
	}
	d := digest(HashSHA256, message)
	sha2, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, d)
	if err != nil {
		t.Fatal(err)
	}
	sha1In7427 := digital(oidRSAWithSHA1, asn1.NullBytes)(t)
	sha1In7427.Data = append(sha1In7427.Data, a.Data...)
	for _, tt := range []struct {
		name   string
		auth   *wire.Auth
		legacy bool
		octets string
		want   error
	}{
		{"SHA-1", a, true, "the signed octets", nil},
		{"SHA-1 refused", a, false, "the signed octets", ErrWeakMethod},
		{"SHA-1 of something else", a, true, "others", ErrWrongKey},
		{"SHA-1 of something else, refused", a, false, "others", ErrWrongKey},
		{"SHA-256", &wire.Auth{Method: wire.AuthRSA, Data: sha2}, false, "the signed octets", nil},
		{"SHA-1 in RFC 7427", sha1In7427, true, "the signed octets", ErrWeakMethod},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := verifySignature(key.Public(), tt.auth, []byte(tt.octets), signatureRules{legacy: tt.legacy})
			if tt.want == nil && err != nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// RSASSA-PKCS1-v1_5 for those who ask for it.
func TestPKCS1(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a, err := signatureAuth(key, Signing{Octets: []byte("octets"), Rand: rand.Reader, Hashes: everyHash}, signatureRules{pkcs1: true})
	if err != nil {
		t.Fatal(err)
	}
	// sha256WithRSAEncryption, as RFC 7427 appendix A.1.2 writes it.
	if want := unhex(t, "0f300d06092a864886f70d01010b0500"); string(a.Data[:len(want)]) != string(want) {
		t.Errorf("algorithm %x, want %x", a.Data[:len(want)], want)
	}
	if err := verifySignature(key.Public(), a, []byte("octets"), signatureRules{}); err != nil {
		t.Error(err)
	}
}

// FuzzAuth reads what a peer may put into an AUTH payload.
func FuzzAuth(f *testing.F) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(wire.AuthDigitalSignature), append(pss(HashSHA256)(f).Data, make([]byte, 256)...))
	f.Add(uint8(wire.AuthDigitalSignature), append(digital(oidEd25519, nil)(f).Data, make([]byte, 64)...))
	f.Add(uint8(wire.AuthECDSA256), make([]byte, 64))
	f.Fuzz(func(t *testing.T, method uint8, data []byte) {
		for _, pub := range []crypto.PublicKey{key.Public(), somebody.p256.Public(), somebody.ed.Public()} {
			if verifySignature(pub, &wire.Auth{Method: wire.AuthMethod(method), Data: data}, []byte("octets"), signatureRules{legacy: true}) == nil {
				t.Errorf("a signature of %T that nobody made", pub)
			}
		}
	})
}
