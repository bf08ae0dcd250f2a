package xform

import (
	"crypto/ecdh"
	"fmt"
	"io"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// PrivateKey is our half of one key exchange. It is meant for one IKE SA or
// one rekeying, and to be dropped after Shared.
type PrivateKey interface {
	// Public returns our public value as the KE payload carries it.
	Public() []byte
	// Shared returns the shared secret g^ir. The error wraps ErrPublicValue
	// when the peer's value has the wrong length, is not a point of the
	// curve, or gives a secret that anybody can know (RFC 6989 section 2,
	// RFC 8031 section 2).
	Shared(peer []byte) ([]byte, error)
}

// GenerateKey returns a fresh key of a group: X25519 (RFC 8031), P-256 and
// P-384 (RFC 5903: public values are x|y, secrets are x) or MODP-2048
// (RFC 3526: both are 256 bytes, zeros first). All the key's randomness is
// read from rand. The error wraps ErrUnsupported or rand's error.
func GenerateKey(group uint16, rand io.Reader) (PrivateKey, error) {
	switch group {
	case ipsec.GroupX25519:
		return generateCurve(ecdh.X25519(), 32, nil, rand)
	case ipsec.GroupP256:
		return generateCurve(ecdh.P256(), 32, uncompressed, rand)
	case ipsec.GroupP384:
		return generateCurve(ecdh.P384(), 48, uncompressed, rand)
	case ipsec.GroupMODP2048:
		return generateMODP(modp2048, rand)
	}
	return nil, fmt.Errorf("%w %s", ErrUnsupported, ipsec.Transform{Type: ipsec.TypeGroup, ID: group})
}

// Answer makes the responder's part of a key exchange: the public value for
// its KE payload, which is the ciphertext of a key encapsulation mechanism, and
// the shared secret. The errors are those of GenerateKey and Shared.
func Answer(group uint16, peer []byte, rand io.Reader) (public, shared []byte, err error) {
	key, err := GenerateKey(group, rand)
	if err != nil {
		return nil, nil, err
	}
	if shared, err = key.Shared(peer); err != nil {
		return nil, nil, err
	}
	return key.Public(), shared, nil
}

// uncompressed is what SEC 1 writes before a point's coordinates and
// RFC 5903 does not.
var uncompressed = []byte{4}

// curveKey is a key of an elliptic curve.
type curveKey struct {
	key    *ecdh.PrivateKey
	prefix []byte // of a public value in crypto/ecdh, absent in IKE
}

// generateCurve draws scalars of size bytes until one is in the curve's
// range. A scalar of a NIST curve is out of range once in 2^32 draws; a
// reader that never yields a good one is broken.
func generateCurve(curve ecdh.Curve, size int, prefix []byte, rand io.Reader) (PrivateKey, error) {
	scalar := make([]byte, size)
	defer clear(scalar)
	const draws = 16
	for range draws {
		if _, err := io.ReadFull(rand, scalar); err != nil {
			return nil, fmt.Errorf("reading randomness for a %s key: %w", curve, err)
		}
		if key, err := curve.NewPrivateKey(scalar); err == nil {
			return curveKey{key, prefix}, nil
		}
	}
	return nil, fmt.Errorf("generating a %s key: %d random scalars in a row were out of range", curve, draws)
}

func (k curveKey) Public() []byte {
	return k.key.PublicKey().Bytes()[len(k.prefix):]
}

func (k curveKey) Shared(peer []byte) ([]byte, error) {
	point := make([]byte, 0, len(k.prefix)+len(peer))
	point = append(append(point, k.prefix...), peer...)
	pub, err := k.key.Curve().NewPublicKey(point)
	if err != nil {
		return nil, fmt.Errorf("%w of %d bytes for %s", ErrPublicValue, len(peer), k.key.Curve())
	}
	secret, err := k.key.ECDH(pub)
	if err != nil {
		return nil, fmt.Errorf("%w for %s: the secret would be zero", ErrPublicValue, k.key.Curve())
	}
	return secret, nil
}
