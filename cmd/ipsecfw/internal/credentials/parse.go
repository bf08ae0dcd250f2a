package credentials

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// minSecret is the shortest preshared key that is taken, in bytes: whoever
// records a handshake can try all shorter ones at home.
const minSecret = 8

// minPPK is the shortest post-quantum preshared key that is taken, in bytes: a
// quantum computer halves its bits (RFC 8784 section 6).
const minPPK = 32

// secret reads the file of a preshared key. The line end that editors put
// at the end of a file is not part of it.
func secret(file []byte) ([]byte, error) {
	s := withoutLineEnd(file)
	switch {
	case len(s) == 0:
		return nil, errors.New("the preshared key is empty: write at least 32 random characters")
	case len(s) < minSecret:
		return nil, fmt.Errorf("the preshared key is shorter than %d bytes: write at least 32 random characters", minSecret)
	}
	return bytes.Clone(s), nil
}

// ppk reads the file of a post-quantum preshared key, as that of a preshared
// key.
func ppk(file []byte) ([]byte, error) {
	s := withoutLineEnd(file)
	if len(s) < minPPK {
		return nil, fmt.Errorf("the post-quantum preshared key has %d bytes: write at least %d random ones", len(s), minPPK)
	}
	return bytes.Clone(s), nil
}

// withoutLineEnd leaves out the line end that editors put at the end of a file.
func withoutLineEnd(file []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(file, []byte("\n")), []byte("\r"))
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
			return nil, errors.New(`the private key is encrypted, and nobody is there to type the password: decrypt it with "openssl pkey", or write it into a PKCS #12 file with a password-file`)
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
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the private key is a %T, which cannot sign: make one of ECDSA, RSA or Ed25519", key)
	}
	if err := pki.CheckKey(signer.Public()); err != nil {
		return nil, fmt.Errorf("it is the private key of %w", err)
	}
	return signer, nil
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

// publicKeys reads a PEM file with public keys (SubjectPublicKeyInfo, RFC 5280
// section 4.1.2.7), or with certificates, of which only the keys count.
func publicKeys(file []byte) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		var key crypto.PublicKey
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = c.PublicKey
			}
		default:
			return nil, fmt.Errorf("a PEM block %q stands where only public keys should: take it out", block.Type)
		}
		if err == nil {
			err = pki.CheckKey(key)
		}
		if err != nil {
			return nil, fmt.Errorf("public key %d is of no use: %w", len(keys)+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New(`there is no public key in it: write it as PEM, which begins with "-----BEGIN PUBLIC KEY-----"`)
	}
	return keys, nil
}

// revocationLists reads lists of revoked certificates, one in DER or any
// number in PEM.
func revocationLists(file []byte) ([]*pki.CRL, error) {
	block, rest := pem.Decode(file)
	if block == nil {
		l, err := pki.ParseCRL(file)
		if err != nil {
			return nil, err
		}
		return []*pki.CRL{l}, nil
	}
	var lists []*pki.CRL
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("a PEM block %q stands where only lists of revoked certificates should: take it out", block.Type)
		}
		l, err := pki.ParseCRL(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("list %d: %w", len(lists)+1, err)
		}
		lists = append(lists, l)
	}
	return lists, nil
}
