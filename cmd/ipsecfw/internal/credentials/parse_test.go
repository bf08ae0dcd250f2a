package credentials

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
)

func TestSecret(t *testing.T) {
	for _, tt := range []struct {
		name, file, want, err string
	}{
		{"plain", "correct horse", "correct horse", ""},
		{"line end", "correct horse\n", "correct horse", ""},
		{"DOS line end", "correct horse\r\n", "correct horse", ""},
		{"one line end only", "correct horse\n\n", "correct horse\n", ""},
		{"blanks count", "  correct horse  ", "  correct horse  ", ""},
		{"any bytes", "\x00\xff\x00\xff\x00\xff\x00\xff", "\x00\xff\x00\xff\x00\xff\x00\xff", ""},
		{"empty", "", "", "is empty"},
		{"empty line", "\n", "", "is empty"},
		{"short", "1234567\n", "", "shorter than 8 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := secret([]byte(tt.file))
			if string(got) != tt.want || !says(err, tt.err) {
				t.Errorf("got %q, error %v; want %q, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

// says reports whether an error contains a text, or for no text whether
// there is no error.
func says(err error, text string) bool {
	if text == "" {
		return err == nil
	}
	return err != nil && strings.Contains(err.Error(), text)
}

func TestPrivateKey(t *testing.T) {
	ec, ed, rsa2048 := ecKey(t), edKey(t), rsaKey(t, 2048)
	agreement, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	agreementDER, err := x509.MarshalPKCS8PrivateKey(agreement)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, content []byte, headers ...string) []byte {
		b := &pem.Block{Type: kind, Bytes: content}
		if len(headers) == 2 {
			b.Headers = map[string]string{headers[0]: headers[1]}
		}
		return pem.EncodeToMemory(b)
	}
	for _, tt := range []struct {
		name string
		file []byte
		want crypto.Signer
		err  string
	}{
		{"EC in PKCS #8", keyPEM(t, "PRIVATE KEY", ec), ec, ""},
		{"EC", keyPEM(t, "EC PRIVATE KEY", ec), ec, ""},
		{"EC after its parameters", slices.Concat(block("EC PARAMETERS", []byte{6, 0}), keyPEM(t, "EC PRIVATE KEY", ec)), ec, ""},
		{"Ed25519", keyPEM(t, "PRIVATE KEY", ed), ed, ""},
		{"RSA in PKCS #8", keyPEM(t, "PRIVATE KEY", rsa2048), rsa2048, ""},
		{"RSA in PKCS #1", keyPEM(t, "RSA PRIVATE KEY", rsa2048), rsa2048, ""},
		{"RSA too short", keyPEM(t, "PRIVATE KEY", rsaKey(t, 1024)), nil, "an RSA key of 1024 bits: 2048 are the least"},
		{"X25519", block("PRIVATE KEY", agreementDER), nil, "cannot sign"},
		{"encrypted", block("ENCRYPTED PRIVATE KEY", []byte{1}), nil, "encrypted"},
		{"encrypted the old way", block("EC PRIVATE KEY", []byte{1}, "DEK-Info", "AES-256-CBC,00"), nil, "encrypted"},
		{"broken", block("PRIVATE KEY", []byte{1, 2, 3}), nil, "broken"},
		{"certificate only", certPEM(issue(t, "ca", ec, nil, true)), nil, "no private key"},
		{"DER", []byte{0x30, 0x82}, nil, "no private key"},
		{"empty", nil, nil, "no private key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := privateKey(tt.file)
			if !says(err, tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if tt.want != nil && !tt.want.(interface{ Equal(crypto.PrivateKey) bool }).Equal(got) {
				t.Error("it is another key")
			}
		})
	}
}

func TestCertificates(t *testing.T) {
	key := ecKey(t)
	a, b := issue(t, "a", key, nil, true), issue(t, "b", key, nil, true)
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})
	for _, tt := range []struct {
		name string
		file []byte
		want []*identity
		err  string
	}{
		{"one", certPEM(a), []*identity{a}, ""},
		{"two with words between", slices.Concat([]byte("The first\n"), certPEM(a), []byte("The second\n"), certPEM(b)), []*identity{a, b}, ""},
		{"a key among them", slices.Concat(certPEM(a), keyPEM(t, "PRIVATE KEY", key)), nil, `"PRIVATE KEY" stands where only certificates`},
		{"the second broken", slices.Concat(certPEM(a), broken), nil, "certificate 2 is broken"},
		{"none", []byte("ca.pem\n"), nil, "no certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := certificates(tt.file)
			if !says(err, tt.err) || len(got) != len(tt.want) {
				t.Fatalf("%d certificates, error %v; want %d, %q", len(got), err, len(tt.want), tt.err)
			}
			for i := range got {
				if !bytes.Equal(got[i].Raw, tt.want[i].cert.Raw) {
					t.Errorf("certificate %d is that of %s", i, got[i].Subject)
				}
			}
		})
	}
}
