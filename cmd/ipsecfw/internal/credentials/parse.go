package credentials

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// minSecret is the shortest preshared key that is taken, in bytes: whoever
// records a handshake can try all shorter ones at home.
const minSecret = 8

// minRSA is the shortest RSA modulus that is taken, in bits
// (RFC 8247 section 4.1).
const minRSA = 2048

// secret reads the file of a preshared key. The line end that editors put
// at the end of a file is not part of it.
func secret(file []byte) ([]byte, error) {
	s := bytes.TrimSuffix(bytes.TrimSuffix(file, []byte("\n")), []byte("\r"))
	switch {
	case len(s) == 0:
		return nil, errors.New("the preshared key is empty: write at least 32 random characters")
	case len(s) < minSecret:
		return nil, fmt.Errorf("the preshared key is shorter than %d bytes: write at least 32 random characters", minSecret)
	}
	return bytes.Clone(s), nil
}

// certificates reads a PEM file that holds certificates and nothing else.
func certificates(file []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block %q stands where only certificates should: take it out", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d is broken: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New(`there is no certificate in it: write it as PEM, which begins with "-----BEGIN CERTIFICATE-----"`)
	}
	return certs, nil
}

// privateKey reads a PEM file with one private key: PKCS #8 (RFC 5958),
// PKCS #1 (RFC 8017) or an EC key (RFC 5915). No part of the file gets into
// an error.
func privateKey(file []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, errors.New(`the private key is encrypted, and nobody is there to type the password: decrypt it with "openssl pkey"`)
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default: // such as EC PARAMETERS, or the certificate in the same file
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the private key is broken: make it again, as PKCS #8 (%w)", err)
		}
		return usable(key)
	}
	return nil, errors.New(`there is no private key in it: write it as PEM, which begins with "-----BEGIN PRIVATE KEY-----"`)
}

// usable refuses a key that IKE cannot sign with.
func usable(key any) (crypto.Signer, error) {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	case *rsa.PrivateKey:
		if bits := k.N.BitLen(); bits < minRSA {
			return nil, fmt.Errorf("the RSA key has %d bits: make one of at least %d", bits, minRSA)
		}
		return k, nil
	}
	return nil, fmt.Errorf("the private key is a %T, which cannot sign here: make one of ECDSA, RSA or Ed25519", key)
}

// owns reports whether the key is that of the certificate.
func owns(key crypto.Signer, c *x509.Certificate) bool {
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(c.PublicKey)
}

// chained checks that each certificate was issued by the next.
func chained(chain []*x509.Certificate) error {
	for i, c := range chain[:len(chain)-1] {
		if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
			return fmt.Errorf("%q was not issued by %q, which follows it: put our own certificate first, then each issuer: %w", c.Subject, chain[i+1].Subject, err)
		}
	}
	return nil
}
