package xform

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"hash"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// MAC is an integrity algorithm with its key: a hash whose sum is cut to the
// length of an ICV. It is not safe for concurrent use.
type MAC struct {
	hash.Hash
	ICVLen int // bytes of the sum that are sent
}

// macSpec is an integrity algorithm: HMAC-SHA1-96 (RFC 2404), HMAC-SHA2 with
// half of the hash (RFC 4868), AES-XCBC-MAC-96 (RFC 3566), AES-CMAC-96
// (RFC 4494) or AES-GMAC (RFC 4543).
type macSpec struct {
	new            func(key []byte) hash.Hash
	keyLen, icvLen int // bytes
}

func macOf(t ipsec.Transform) (macSpec, error) {
	if t.Type == ipsec.TypeInteg {
		switch t.ID {
		case ipsec.IntegHMACSHA1:
			return macSpec{hmacOf(sha1.New), sha1.Size, 12}, nil
		case ipsec.IntegHMACSHA256:
			return macSpec{hmacOf(sha256.New), sha256.Size, 16}, nil
		case ipsec.IntegHMACSHA384:
			return macSpec{hmacOf(sha512.New384), sha512.Size384, 24}, nil
		case ipsec.IntegHMACSHA512:
			return macSpec{hmacOf(sha512.New), sha512.Size, 32}, nil
		case ipsec.IntegAESXCBC:
			return macSpec{newXCBC, blockKeyLen, 12}, nil
		case ipsec.IntegAESCMAC:
			return macSpec{newCMAC, blockKeyLen, 12}, nil
		case ipsec.IntegAES128GMAC:
			return macSpec{newGMACHash, 16 + gmacSaltLen, 16}, nil
		case ipsec.IntegAES192GMAC:
			return macSpec{newGMACHash, 24 + gmacSaltLen, 16}, nil
		case ipsec.IntegAES256GMAC:
			return macSpec{newGMACHash, 32 + gmacSaltLen, 16}, nil
		}
	}
	return macSpec{}, fmt.Errorf("%w %s for integrity", ErrUnsupported, t)
}

func hmacOf(h func() hash.Hash) func(key []byte) hash.Hash {
	return func(key []byte) hash.Hash { return hmac.New(h, key) }
}

// NewMAC returns an integrity algorithm with its key. Its hash is a
// hash.Cloner. The error wraps ErrUnsupported or ErrKeyLength.
func NewMAC(integ ipsec.Transform, key []byte) (MAC, error) {
	m, err := macOf(integ)
	if err != nil {
		return MAC{}, err
	}
	if len(key) != m.keyLen {
		return MAC{}, fmt.Errorf("%w for %s: %d bytes, not %d", ErrKeyLength, integ, len(key), m.keyLen)
	}
	return MAC{m.new(key), m.icvLen}, nil
}

// blockKeyLen is the length in bytes of the keys of AES-XCBC and AES-CMAC in
// IPsec.
const blockKeyLen = 16

// cbcMAC chains blocks. The last one stays open until more is written or step
// closes it, because the MACs treat it apart.
type cbcMAC struct {
	block cipher.Block
	sum   [aes.BlockSize]byte
	n     int // bytes of the open block
}

func (c *cbcMAC) reset() {
	clear(c.sum[:])
	c.n = 0
}

func (c *cbcMAC) write(p []byte) {
	for len(p) > 0 {
		if c.n == len(c.sum) {
			c.step()
		}
		n := subtle.XORBytes(c.sum[c.n:], c.sum[c.n:], p)
		c.n += n
		p = p[n:]
	}
}

// step closes the open block, filled up with zeros.
func (c *cbcMAC) step() {
	c.block.Encrypt(c.sum[:], c.sum[:])
	c.n = 0
}

// blockMAC is AES-CMAC (RFC 4493) or AES-XCBC-MAC (RFC 3566), which differ in
// their keys alone.
type blockMAC struct {
	chain         cbcMAC
	full, partial [aes.BlockSize]byte // for a last block that is one, and one that needs padding
	out           [aes.BlockSize]byte
}

// newCMAC panics for a key that is none of AES.
func newCMAC(key []byte) hash.Hash {
	m := &blockMAC{chain: cbcMAC{block: mustAES(key)}}
	m.chain.block.Encrypt(m.full[:], m.full[:])
	double(&m.full)
	m.partial = m.full
	double(&m.partial)
	return m
}

// newXCBC panics for a key that is none of AES.
func newXCBC(key []byte) hash.Hash {
	block := mustAES(key)
	derive := func(n byte) (out [aes.BlockSize]byte) {
		for i := range out {
			out[i] = n
		}
		block.Encrypt(out[:], out[:])
		return out
	}
	first := derive(1)
	defer clear(first[:])
	return &blockMAC{chain: cbcMAC{block: mustAES(first[:])}, full: derive(2), partial: derive(3)}
}

func mustAES(key []byte) cipher.Block {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("xform: " + err.Error())
	}
	return block
}

// double multiplies by x in GF(2^128), in constant time.
func double(b *[aes.BlockSize]byte) {
	carry := b[0] >> 7
	for i := range len(b) - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[len(b)-1] = b[len(b)-1]<<1 ^ 0x87*carry
}

func (m *blockMAC) Size() int      { return aes.BlockSize }
func (m *blockMAC) BlockSize() int { return aes.BlockSize }
func (m *blockMAC) Reset()         { m.chain.reset() }

func (m *blockMAC) Write(p []byte) (int, error) {
	m.chain.write(p)
	return len(p), nil
}

func (m *blockMAC) Sum(b []byte) []byte {
	m.out = m.chain.sum
	last := &m.full
	if m.chain.n < len(m.out) {
		m.out[m.chain.n] ^= 0x80
		last = &m.partial
	}
	subtle.XORBytes(m.out[:], m.out[:], last[:])
	m.chain.block.Encrypt(m.out[:], m.out[:])
	return append(b, m.out[:]...)
}

// Clone makes blockMAC a hash.Cloner.
func (m *blockMAC) Clone() (hash.Cloner, error) {
	clone := *m
	return &clone, nil
}
