package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
)

// Bounds of an RSA modulus, in bits. Shorter ones are not believed (RFC 8247
// section 4.1). Longer ones are not worked with: nobody vouches for a key that
// just came, and a datagram has room for one that takes seconds.
const (
	MinRSA = 2048
	MaxRSA = 8192
)

// CheckKey refuses public keys that are weak, or that take too long to work
// with.
func CheckKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		switch n := k.N.BitLen(); {
		case n < MinRSA:
			return fmt.Errorf("an RSA key of %d bits: %d are the least", n, MinRSA)
		case n > MaxRSA:
			return fmt.Errorf("an RSA key of %d bits: %d are the most", n, MaxRSA)
		}
		return nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("an ECDSA key on %s: use P-256, P-384 or P-521", k.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("a public key of type %T: use ECDSA, RSA or Ed25519", key)
}
