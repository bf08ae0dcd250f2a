package xform

import (
	"crypto/ecdh"
	"crypto/elliptic"
	"fmt"
	"io"
	"math/big"

	"github.com/cloudflare/circl/dh/x448"
)

// uncompressed is what SEC 1 writes before a point's coordinates and
// RFC 5903 does not.
var uncompressed = []byte{4}

// draws is how many scalars are drawn until one is in a curve's range. It is
// every second one with some of the brainpool curves and nearly every one with
// those of NIST: a reader that never yields a good one is broken.
const draws = 128

// drawScalar reads a scalar of size bytes, without the bits of its first byte
// that are not in mask, until accept takes one.
func drawScalar(name string, size int, mask byte, rand io.Reader, accept func(scalar []byte) bool) error {
	scalar := make([]byte, size)
	defer clear(scalar)
	for range draws {
		if _, err := io.ReadFull(rand, scalar); err != nil {
			return fmt.Errorf("reading randomness for a %s key: %w", name, err)
		}
		scalar[0] &= mask
		if accept(scalar) {
			return nil
		}
	}
	return fmt.Errorf("generating a %s key: %d random scalars in a row were out of range", name, draws)
}

// curveKey is a key of an elliptic curve of package ecdh.
type curveKey struct {
	key    *ecdh.PrivateKey
	prefix []byte // of a public value in crypto/ecdh, absent in IKE
}

func generateCurve(curve ecdh.Curve, size int, prefix []byte, rand io.Reader) (PrivateKey, error) {
	mask := byte(0xff)
	if curve == ecdh.P521() {
		mask = 1 // 521 bits are 65 bytes and 1 bit
	}
	k := curveKey{prefix: prefix}
	err := drawScalar(fmt.Sprint(curve), size, mask, rand, func(scalar []byte) (ok bool) {
		var err error
		k.key, err = curve.NewPrivateKey(scalar)
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	return k, nil
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

// weierstrassKey is a key of a curve that package ecdh does not have.
//
// The arithmetic of the brainpool curves takes a time that depends on its
// operands. A key serves a single exchange, so a peer has one measurement of it
// and no more.
type weierstrassKey struct {
	curve  elliptic.Curve
	scalar []byte
	public []byte // x|y
}

func generateWeierstrass(curve elliptic.Curve, rand io.Reader) (PrivateKey, error) {
	p := curve.Params()
	k := &weierstrassKey{curve: curve}
	err := drawScalar(p.Name, coordinateLen(curve), 0xff, rand, func(scalar []byte) bool {
		n := new(big.Int).SetBytes(scalar)
		if n.Sign() == 0 || n.Cmp(p.N) >= 0 {
			return false
		}
		k.scalar = append([]byte(nil), scalar...)
		return true
	})
	if err != nil {
		return nil, err
	}
	//lint:ignore SA1019 crypto/ecdh has no curve but P-256, P-384 and P-521
	x, y := curve.ScalarBaseMult(k.scalar)
	k.public = appendCoordinate(appendCoordinate(nil, curve, x), curve, y)
	return k, nil
}

func coordinateLen(curve elliptic.Curve) int { return (curve.Params().BitSize + 7) / 8 }

func appendCoordinate(b []byte, curve elliptic.Curve, x *big.Int) []byte {
	return append(b, x.FillBytes(make([]byte, coordinateLen(curve)))...)
}

func (k *weierstrassKey) Public() []byte { return append([]byte(nil), k.public...) }

func (k *weierstrassKey) Shared(peer []byte) ([]byte, error) {
	p, n := k.curve.Params(), coordinateLen(k.curve)
	if len(peer) != 2*n {
		return nil, wrongLength(p.Name, len(peer), 2*n)
	}
	x, y := new(big.Int).SetBytes(peer[:n]), new(big.Int).SetBytes(peer[n:])
	// The orders of all these curves are prime: a point of the curve is in the
	// group (RFC 6989 section 2.3).
	//lint:ignore SA1019 crypto/ecdh has no curve but P-256, P-384 and P-521
	if x.Cmp(p.P) >= 0 || y.Cmp(p.P) >= 0 || !k.curve.IsOnCurve(x, y) {
		return nil, fmt.Errorf("%w for %s: it is no point of the curve", ErrPublicValue, p.Name)
	}
	//lint:ignore SA1019 crypto/ecdh has no curve but P-256, P-384 and P-521
	x, _ = k.curve.ScalarMult(x, y, k.scalar)
	return appendCoordinate(nil, k.curve, x), nil
}

// x448Key is a key of X448.
type x448Key struct{ secret, public x448.Key }

func generateX448(rand io.Reader) (PrivateKey, error) {
	k := new(x448Key)
	if _, err := io.ReadFull(rand, k.secret[:]); err != nil {
		return nil, fmt.Errorf("reading randomness for an X448 key: %w", err)
	}
	x448.KeyGen(&k.public, &k.secret)
	return k, nil
}

func (k *x448Key) Public() []byte { return append([]byte(nil), k.public[:]...) }

func (k *x448Key) Shared(peer []byte) ([]byte, error) {
	if len(peer) != x448.Size {
		return nil, wrongLength("X448", len(peer), x448.Size)
	}
	public, secret := x448.Key(peer), new(x448.Key)
	if !x448.Shared(secret, &k.secret, &public) {
		return nil, fmt.Errorf("%w for X448: the secret would be zero", ErrPublicValue)
	}
	return secret[:], nil
}
