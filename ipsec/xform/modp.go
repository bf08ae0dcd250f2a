package xform

import (
	"fmt"
	"io"
	"math/big"
)

// modp2048 is the prime of group 14 (RFC 3526 section 3). It is a safe prime,
// and its generator is 2.
var modp2048 = mustPrime("" +
	"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74" +
	"020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437" +
	"4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED" +
	"EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05" +
	"98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB" +
	"9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B" +
	"E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718" +
	"3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF")

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

// exponentLen is the length of a private exponent in bytes: twice the upper
// estimate of the group's strength (RFC 3526 section 8).
const exponentLen = 320 / 8

// modpKey is a key of a group of integers modulo a safe prime.
//
// math/big takes a time that depends on its operands. A key serves a single
// exchange and its exponent has a fixed length, so a peer has one measurement
// of it and no more.
type modpKey struct {
	prime, exponent *big.Int
	public          []byte
}

func generateMODP(prime *big.Int, rand io.Reader) (PrivateKey, error) {
	b := make([]byte, exponentLen)
	defer clear(b)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("reading randomness for a MODP-%d key: %w", prime.BitLen(), err)
	}
	b[0] |= 0x80 // a fixed length
	x := new(big.Int).SetBytes(b)
	pub := new(big.Int).Exp(two, x, prime)
	return &modpKey{prime, x, pub.FillBytes(make([]byte, modpLen(prime)))}, nil
}

func modpLen(prime *big.Int) int { return (prime.BitLen() + 7) / 8 }

func (k *modpKey) Public() []byte { return append([]byte(nil), k.public...) }

func (k *modpKey) Shared(peer []byte) ([]byte, error) {
	n := modpLen(k.prime)
	if len(peer) != n {
		return nil, fmt.Errorf("%w of %d bytes for MODP-%d: it has %d", ErrPublicValue, len(peer), k.prime.BitLen(), n)
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
