package ike

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

var everyHash = []HashAlgo{HashSHA256, HashSHA384, HashSHA512, HashIdentity}

func TestSignatures(t *testing.T) {
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, err3 := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	rsa2048, err4 := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, err5 := ed25519.GenerateKey(rand.Reader)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// The algorithms as RFC 7427 appendix A and RFC 8420 write them.
	const (
		ecdsa256 = "300a06082a8648ce3d040302"
		ecdsa384 = "300a06082a8648ce3d040303"
		ecdsa512 = "300a06082a8648ce3d040304"
		eddsa    = "300506032b6570"
		pss256   = "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
	)
	for _, tt := range []struct {
		name   string
		key    crypto.Signer
		hashes []HashAlgo // nil without RFC 7427
		method wire.AuthMethod
		algo   string // hex, or empty
	}{
		{"P-256", p256, everyHash, wire.AuthDigitalSignature, ecdsa256},
		{"P-384", p384, everyHash, wire.AuthDigitalSignature, ecdsa384},
		{"P-521", p521, everyHash, wire.AuthDigitalSignature, ecdsa512},
		{"P-521 for a peer with SHA-256 only", p521, []HashAlgo{1, HashSHA256}, wire.AuthDigitalSignature, ecdsa256},
		{"RSA", rsa2048, everyHash, wire.AuthDigitalSignature, pss256},
		{"Ed25519", ed, everyHash, wire.AuthDigitalSignature, eddsa},
		{"P-256, RFC 4754", p256, nil, wire.AuthECDSA256, ""},
		{"P-384, RFC 4754", p384, nil, wire.AuthECDSA384, ""},
		{"P-521, RFC 4754", p521, nil, wire.AuthECDSA521, ""},
		{"RSA without RFC 7427", rsa2048, nil, 0, ""},
		{"Ed25519 without RFC 7427", ed, nil, 0, ""},
		{"a peer with SHA-1 only", p256, []HashAlgo{1}, 0, ""},
		{"a peer with no hash", p256, []HashAlgo{}, 0, ""},
		{"Ed25519 for a peer without identity", ed, everyHash[:3], 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			message := []byte("the signed octets")
			a, err := signatureAuth(tt.key, Signing{Octets: message, Hashes: tt.hashes, Rand: rand.Reader}, signatureRules{})
			if tt.method == 0 {
				if err == nil {
					t.Fatal("signed all the same")
				}
				return
			}
			if err != nil || a.Method != tt.method {
				t.Fatalf("method %d, %v", a.Method, err)
			}
			start := 0 // of the signature: of the algorithm's encoding, not every byte says something
			if tt.algo != "" {
				start = 1 + int(a.Data[0])
				want, err := hex.DecodeString(tt.algo)
				if err != nil {
					t.Fatal(err)
				}
				if n := int(a.Data[0]); !bytes.Equal(a.Data[1:1+n], want) {
					t.Errorf("algorithm %x, want %x", a.Data[1:1+n], want)
				}
			}
			pub := tt.key.Public()
			if err := verifySignature(pub, a, message, signatureRules{}); err != nil {
				t.Errorf("own signature: %v", err)
			}
			if verifySignature(pub, a, []byte("other octets"), signatureRules{}) == nil {
				t.Error("verifies something else")
			}
			for i := start; i < len(a.Data); i++ {
				b := &wire.Auth{Method: a.Method, Data: bytes.Clone(a.Data)}
				b.Data[i] ^= 1
				if verifySignature(pub, b, message, signatureRules{}) == nil {
					t.Errorf("verifies with byte %d changed", i)
				}
			}
			for n := range a.Data { // every prefix
				if verifySignature(pub, &wire.Auth{Method: a.Method, Data: a.Data[:n]}, message, signatureRules{}) == nil {
					t.Errorf("verifies with %d bytes", n)
				}
			}
			for _, other := range []crypto.Signer{p256, p384, p521, rsa2048, ed} {
				if !samePublic(other.Public(), pub) && verifySignature(other.Public(), a, message, signatureRules{}) == nil {
					t.Errorf("verifies with a %T of another", other)
				}
			}
		})
	}
	t.Run("RSA PKCS #1", func(t *testing.T) {
		d := digest(HashSHA384, []byte("message"))
		sig, err := rsa.SignPKCS1v15(rand.Reader, rsa2048, crypto.SHA384, d)
		if err != nil {
			t.Fatal(err)
		}
		algo, err := hex.DecodeString("300d06092a864886f70d01010c0500")
		if err != nil {
			t.Fatal(err)
		}
		a := &wire.Auth{Method: wire.AuthDigitalSignature, Data: append(append([]byte{byte(len(algo))}, algo...), sig...)}
		if err := verifySignature(rsa2048.Public(), a, []byte("message"), signatureRules{}); err != nil {
			t.Error(err)
		}
		if verifySignature(rsa2048.Public(), a, []byte("other"), signatureRules{}) == nil {
			t.Error("verifies something else")
		}
	})
	// DER leaves the salt's length out where it is the default, 20 (RFC 4055 section 3.1).
	t.Run("RSASSA-PSS with the default salt", func(t *testing.T) {
		algo, err := hex.DecodeString("303c06092a864886f70d01010a302fa00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500")
		if err != nil {
			t.Fatal(err)
		}
		for salt, want := range map[int]error{20: nil, 32: ErrWrongKey} {
			sig, err := rsa.SignPSS(rand.Reader, rsa2048, crypto.SHA256, digest(HashSHA256, []byte("message")), &rsa.PSSOptions{SaltLength: salt})
			if err != nil {
				t.Fatal(err)
			}
			a := &wire.Auth{Method: wire.AuthDigitalSignature, Data: append(append([]byte{byte(len(algo))}, algo...), sig...)}
			if err := verifySignature(rsa2048.Public(), a, []byte("message"), signatureRules{}); err != want {
				t.Errorf("a salt of %d bytes: %v, want %v", salt, err, want)
			}
		}
	})
	t.Run("RSA with SHA-1", func(t *testing.T) {
		a := &wire.Auth{Method: wire.AuthRSA, Data: make([]byte, 256)}
		if verifySignature(rsa2048.Public(), a, nil, signatureRules{}) == nil {
			t.Error("accepted")
		}
	})
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func TestMatchID(t *testing.T) {
	c := &x509.Certificate{
		RawSubject: []byte("a distinguished name"), DNSNames: []string{"host.example", "*.wild.example"},
		EmailAddresses: []string{"alice@host.example"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")},
		Subject: pkix.Name{CommonName: "cn.example"}, SerialNumber: big.NewInt(1),
	}
	for _, tt := range []struct {
		name string
		id   wire.ID
		ok   bool
	}{
		{"name", ParseID("host.example"), true},
		{"name in capitals", ParseID("HOST.Example"), true},
		{"name with the root's dot", ParseID("host.example."), true},
		{"other name", ParseID("other.example"), false},
		{"common name", ParseID("cn.example"), false},
		{"wildcard as it stands", ParseID("*.wild.example"), false},
		{"what the wildcard means", ParseID("x.wild.example"), false},
		{"empty name", wire.ID{Kind: wire.IDFQDN}, false},
		{"e-mail", ParseID("alice@host.example"), true},
		{"other e-mail", ParseID("bob@host.example"), false},
		{"IPv4", ParseID("192.0.2.1"), true},
		{"other IPv4", ParseID("192.0.2.2"), false},
		{"IPv6", ParseID("2001:db8::1"), true},
		{"address of no length", wire.ID{Kind: wire.IDIPv4}, false},
		{"subject", wire.ID{Kind: wire.IDDN, Data: []byte("a distinguished name")}, true},
		{"other subject", wire.ID{Kind: wire.IDDN, Data: []byte("another name")}, false},
		{"key ID", wire.ID{Kind: wire.IDKeyID, Data: []byte("host.example")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := MatchID(c, tt.id); (err == nil) != tt.ok {
				t.Errorf("got %v, want a match: %v", err, tt.ok)
			}
		})
	}
}

func TestCertID(t *testing.T) {
	for _, tt := range []struct {
		name string
		cert x509.Certificate
		kind wire.IDKind
	}{
		{"name and subject", x509.Certificate{DNSNames: []string{"a"}, RawSubject: []byte("dn")}, wire.IDFQDN},
		{"subject and address", x509.Certificate{RawSubject: []byte("dn"), IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)}}, wire.IDDN},
		{"address", x509.Certificate{RawSubject: []byte{0x30, 0}, IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)}}, wire.IDIPv4},
		{"e-mail", x509.Certificate{EmailAddresses: []string{"a@b"}}, wire.IDEmail},
		{"nobody", x509.Certificate{SerialNumber: big.NewInt(1)}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := CertID(&tt.cert)
			if id.Kind != tt.kind || (err == nil) != (tt.kind != 0) {
				t.Errorf("kind %d, %v; want %d", id.Kind, err, tt.kind)
			}
			if err == nil && MatchID(&tt.cert, id) != nil {
				t.Error("the certificate does not speak for its own identity")
			}
		})
	}
}

// TestSecretsStaySecret prints what holds secrets in every way.
func TestSecretsStaySecret(t *testing.T) {
	policy := Policy{Auth: []AuthMethod{PresharedKey{Secret: []byte("hunter2")}}}
	for _, s := range []string{fmt.Sprintf("%v", policy), fmt.Sprintf("%+v", policy), fmt.Sprintf("%#v", policy)} {
		if bytes.Contains([]byte(s), []byte("hunter2")) || bytes.Contains([]byte(s), []byte("104, 117, 110")) || bytes.Contains([]byte(s), []byte("0x68, 0x75")) {
			t.Errorf("the secret shows in %s", s)
		}
	}
}
