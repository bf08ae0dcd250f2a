package ike

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
)

// Fingerprint is the SHA-256 hash of a certificate, or of the
// SubjectPublicKeyInfo of a public key (RFC 5280 section 4.1.2.7).
type Fingerprint [sha256.Size]byte

// ParseFingerprint reads 64 hexadecimal digits, which may stand after
// "sha256:" and have colons between the bytes, as OpenSSL writes them.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	digits := s
	if len(s) >= len("sha256:") && strings.EqualFold(s[:len("sha256:")], "sha256:") {
		digits = s[len("sha256:"):]
	}
	b, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	if err != nil || len(b) != len(f) {
		return f, fmt.Errorf("%q is no SHA-256 fingerprint: write sha256: and %d hexadecimal digits", s, 2*len(f))
	}
	return Fingerprint(b), nil
}

// String writes the fingerprint as ParseFingerprint reads it.
func (f Fingerprint) String() string { return "sha256:" + hex.EncodeToString(f[:]) }

// CertFingerprint returns the fingerprint of a certificate.
func CertFingerprint(c *x509.Certificate) Fingerprint { return sha256.Sum256(c.Raw) }

// KeyFingerprint returns the fingerprint of a public key, the same for a raw
// key and for a certificate that holds it.
func KeyFingerprint(key crypto.PublicKey) (Fingerprint, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return Fingerprint{}, fmt.Errorf("the fingerprint of a public key: %w", err)
	}
	return sha256.Sum256(der), nil
}
