package xform

import (
	"fmt"
	"io"
	"math/big"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// modpGroup is the group of integers modulo a safe prime. The length of a
// private exponent, in bytes, is twice the upper estimate of the group's
// strength (RFC 3526 section 8).
type modpGroup struct {
	prime       *big.Int
	exponentLen int
}

var modpGroups = map[uint16]modpGroup{
	ipsec.GroupMODP1024: {modp1024, 240 / 8},
	ipsec.GroupMODP1536: {modp1536, 240 / 8},
	ipsec.GroupMODP2048: {modp2048, 320 / 8},
	ipsec.GroupMODP3072: {modp3072, 424 / 8},
	ipsec.GroupMODP4096: {modp4096, 480 / 8},
	ipsec.GroupMODP6144: {modp6144, 544 / 8},
	ipsec.GroupMODP8192: {modp8192, 624 / 8},
}

var (
	one = big.NewInt(1)
	two = big.NewInt(2)
)

func mustPrime(hex string) *big.Int {
	p, ok := new(big.Int).SetString(hex, 16)
	if !ok {
		panic("xform: a prime is no hexadecimal number")
	}
	return p
}

// modpKey is a key of a group of integers modulo a safe prime.
//
// math/big takes a time that depends on its operands. A key serves a single
// exchange and its exponent has a fixed length, so a peer has one measurement
// of it and no more.
type modpKey struct {
	prime, exponent *big.Int
	public          []byte
}

func (g modpGroup) newKey(rand io.Reader) (PrivateKey, error) {
	b := make([]byte, g.exponentLen)
	defer clear(b)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("reading randomness for a MODP-%d key: %w", g.prime.BitLen(), err)
	}
	b[0] |= 0x80 // a fixed length
	x := new(big.Int).SetBytes(b)
	pub := new(big.Int).Exp(two, x, g.prime)
	return &modpKey{g.prime, x, pub.FillBytes(make([]byte, modpLen(g.prime)))}, nil
}

func modpLen(prime *big.Int) int { return (prime.BitLen() + 7) / 8 }

func (k *modpKey) Public() []byte { return append([]byte(nil), k.public...) }

func (k *modpKey) Shared(peer []byte) ([]byte, error) {
	n := modpLen(k.prime)
	if len(peer) != n {
		return nil, wrongLength(fmt.Sprintf("MODP-%d", k.prime.BitLen()), len(peer), n)
	}
	y := new(big.Int).SetBytes(peer)
	// A safe prime has no subgroups but those of 0, 1 and p-1 that are small
	// (RFC 6989 section 2.1).
	last := new(big.Int).Sub(k.prime, one)
	if y.Cmp(one) <= 0 || y.Cmp(last) >= 0 {
		return nil, fmt.Errorf("%w for MODP-%d: it is not between 1 and p-1", ErrPublicValue, k.prime.BitLen())
	}
	return y.Exp(y, k.exponent, k.prime).FillBytes(make([]byte, n)), nil
}
