package xform

import (
	"crypto/ecdh"
	"crypto/elliptic"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/brainpool"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// PrivateKey is our half of one key exchange. It is meant for one IKE SA or
// one rekeying, and to be dropped after Shared.
type PrivateKey interface {
	// Public returns our public value as the KE payload carries it.
	Public() []byte
	// Shared returns the shared secret of ours and of the responder's public
	// value: g^ir, or what the ciphertext of a key encapsulation mechanism
	// holds. The error wraps ErrPublicValue when the peer's value has the wrong
	// length, is not a point of the curve, or gives a secret that anybody can
	// know (RFC 6989 section 2, RFC 8031 section 2).
	Shared(peer []byte) ([]byte, error)
}

// GenerateKey returns a fresh key of a group. All the key's randomness is read
// from rand. The error wraps ErrUnsupported or rand's error.
//
//   - MODP-1024 (RFC 2409) and MODP-1536 to -8192 (RFC 3526): public values and
//     secrets are as long as the prime, zeros first.
//   - P-224 (RFC 5114), P-256, P-384 and P-521 (RFC 5903), brainpoolP256r1, -384
//     and -512 (RFC 6954): public values are x|y, secrets are x.
//   - X25519 and X448 (RFC 8031).
//   - ML-KEM-768 and -1024 (draft-ietf-ipsecme-ikev2-mlkem): the key of an
//     initiator, whose public value is the encapsulation key. Who answers it
//     needs Answer.
func GenerateKey(group uint16, rand io.Reader) (PrivateKey, error) {
	switch group {
	case ipsec.GroupX25519:
		return generateCurve(ecdh.X25519(), 32, nil, rand)
	case ipsec.GroupX448:
		return generateX448(rand)
	case ipsec.GroupP256:
		return generateCurve(ecdh.P256(), 32, uncompressed, rand)
	case ipsec.GroupP384:
		return generateCurve(ecdh.P384(), 48, uncompressed, rand)
	case ipsec.GroupP521:
		return generateCurve(ecdh.P521(), 66, uncompressed, rand)
	case ipsec.GroupP224:
		return generateWeierstrass(elliptic.P224(), rand)
	case ipsec.GroupBrainpoolP256:
		return generateWeierstrass(brainpool.P256r1(), rand)
	case ipsec.GroupBrainpoolP384:
		return generateWeierstrass(brainpool.P384r1(), rand)
	case ipsec.GroupBrainpoolP512:
		return generateWeierstrass(brainpool.P512r1(), rand)
	}
	if g, ok := modpGroups[group]; ok {
		return g.newKey(rand)
	}
	if g, ok := mlkemGroups[group]; ok {
		return g.newKey(rand)
	}
	return nil, fmt.Errorf("%w %s", ErrUnsupported, ipsec.Transform{Type: ipsec.TypeGroup, ID: group})
}

// Answer makes the responder's part of a key exchange: the public value for
// its KE payload, which is the ciphertext of a key encapsulation mechanism, and
// the shared secret. The errors are those of GenerateKey and Shared; an
// encapsulation key is also refused with ErrPublicValue when its numbers are
// not below the modulus (FIPS 203 section 7.2).
func Answer(group uint16, peer []byte, rand io.Reader) (public, shared []byte, err error) {
	if g, ok := mlkemGroups[group]; ok {
		return g.answer(peer, rand)
	}
	key, err := GenerateKey(group, rand)
	if err != nil {
		return nil, nil, err
	}
	if shared, err = key.Shared(peer); err != nil {
		return nil, nil, err
	}
	return key.Public(), shared, nil
}

// wrongLength is the error for a peer's public value.
func wrongLength(name string, got, want int) error {
	return fmt.Errorf("%w of %d bytes for %s: it has %d", ErrPublicValue, got, name, want)
}
