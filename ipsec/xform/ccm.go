package xform

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync"
)

// ccm is AES-CCM (RFC 3610) as RFC 4309 uses it: with nonces of 11 bytes, which
// leave 4 bytes to count the contents with.
type ccm struct {
	block   cipher.Block
	tagLen  int
	scratch sync.Pool // of *ccmState
}

// ccmState is what would escape to the heap with every message, because the
// block cipher is called through an interface.
type ccmState struct {
	stream keystream
	mac    cbcMAC
	head   [6]byte // of the additional data
	tag    [aes.BlockSize]byte
}

const ccmNonceLen = 11

func newCCM(block cipher.Block, tagLen int) *ccm {
	c := &ccm{block: block, tagLen: tagLen}
	c.scratch.New = func() any {
		return &ccmState{stream: keystream{block: block}, mac: cbcMAC{block: block}}
	}
	return c
}

func (c *ccm) NonceSize() int { return ccmNonceLen }
func (c *ccm) Overhead() int  { return c.tagLen }

// errOpen is what a failed Open returns; its callers say what it means.
var errOpen = errors.New("message authentication failed")

func (c *ccm) Seal(dst, nonce, plaintext, aad []byte) []byte {
	c.check(nonce, len(plaintext))
	x := c.scratch.Get().(*ccmState)
	defer c.scratch.Put(x)
	c.authenticate(x, nonce, plaintext, aad)
	start, n := len(dst), len(plaintext)
	dst = slices.Grow(dst, n+c.tagLen)[:start+n+c.tagLen]
	x.stream.xor(dst[start:], plaintext)
	copy(dst[start+n:], x.tag[:c.tagLen])
	return dst
}

func (c *ccm) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	n := len(ciphertext) - c.tagLen
	if n < 0 {
		return nil, errOpen
	}
	c.check(nonce, n)
	x := c.scratch.Get().(*ccmState)
	defer c.scratch.Put(x)
	start, tag := len(dst), ciphertext[n:]
	dst = slices.Grow(dst, n)[:start+n]
	plaintext := dst[start:]
	x.begin(nonce)
	x.stream.counter[aes.BlockSize-1] = 1
	x.stream.xor(plaintext, ciphertext[:n])
	c.authenticate(x, nonce, plaintext, aad)
	if subtle.ConstantTimeCompare(x.tag[:c.tagLen], tag) != 1 {
		clear(plaintext)
		return nil, errOpen
	}
	return dst, nil
}

// check panics as the AEADs of the standard library do.
func (c *ccm) check(nonce []byte, n int) {
	if len(nonce) != ccmNonceLen {
		panic("xform: wrong length of a nonce for CCM")
	}
	if uint64(n) > math.MaxUint32 {
		panic("xform: message too long for CCM")
	}
}

// begin sets the counter of a message to 0.
func (x *ccmState) begin(nonce []byte) {
	clear(x.stream.counter[:])
	x.stream.counter[0] = 4 - 1 // bytes that count, minus 1
	copy(x.stream.counter[1:], nonce)
}

// authenticate leaves the tag in x, and the keystream at the contents.
func (c *ccm) authenticate(x *ccmState, nonce, plaintext, aad []byte) {
	x.begin(nonce)
	x.mac.reset()
	x.mac.sum = x.stream.counter
	x.mac.sum[0] |= byte((c.tagLen - 2) / 2 << 3)
	if len(aad) > 0 {
		x.mac.sum[0] |= 1 << 6
	}
	binary.BigEndian.PutUint32(x.mac.sum[aes.BlockSize-4:], uint32(len(plaintext)))
	x.mac.step()
	if len(aad) > 0 {
		head := binary.BigEndian.AppendUint16(x.head[:0], uint16(len(aad)))
		if len(aad) >= 0xff00 {
			head = binary.BigEndian.AppendUint32(append(x.head[:0], 0xff, 0xfe), uint32(len(aad)))
		}
		x.mac.write(head)
		x.mac.write(aad)
		x.mac.step()
	}
	if len(plaintext) > 0 {
		x.mac.write(plaintext)
		x.mac.step()
	}
	x.stream.xor(x.tag[:], x.mac.sum[:])
}
