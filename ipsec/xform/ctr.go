package xform

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// keystream is AES in counter mode. The counter is the number in the last 4
// bytes of its block, which is how both RFC 3686 and CCM with messages of up to
// 2^32 bytes count. The standard library's counter mode is not used, because it
// allocates for each message.
type keystream struct {
	block        cipher.Block
	counter, pad [aes.BlockSize]byte
}

// xor writes src with the keystream to dst, which is src or does not overlap.
// What is left of the last block is thrown away.
func (k *keystream) xor(dst, src []byte) {
	for len(src) > 0 {
		k.block.Encrypt(k.pad[:], k.counter[:])
		n := subtle.XORBytes(dst, src, k.pad[:])
		dst, src = dst[n:], src[n:]
		count := k.counter[aes.BlockSize-4:]
		binary.BigEndian.PutUint32(count, binary.BigEndian.Uint32(count)+1)
	}
}

// ctr is AES-CTR: the first counter block of a message is nonce, IV and 1
// (RFC 3686 section 4).
type ctr struct{ stream keystream }

const ctrNonceLen = 4

func newCTR(block cipher.Block, nonce []byte) *ctr {
	c := &ctr{keystream{block: block}}
	copy(c.stream.counter[:ctrNonceLen], nonce)
	return c
}

func (c *ctr) IVLen() int     { return ivLen }
func (c *ctr) BlockSize() int { return 1 }

// PutIV makes the number the IV, which may be predictable and must never be
// repeated (RFC 3686 section 3.1).
func (c *ctr) PutIV(iv []byte, number uint64) { binary.BigEndian.PutUint64(iv, number) }

func (c *ctr) Encrypt(iv, data []byte) {
	copy(c.stream.counter[ctrNonceLen:], iv)
	binary.BigEndian.PutUint32(c.stream.counter[ctrNonceLen+ivLen:], 1)
	c.stream.xor(data, data)
}

func (c *ctr) Decrypt(iv, data []byte) { c.Encrypt(iv, data) }

func (c *ctr) Clone() Cipher {
	clone := *c
	return &clone
}
