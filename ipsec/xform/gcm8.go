package xform

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"slices"
	"sync"
)

// gcm8 is AES-GCM with tags of 8 bytes, which the standard library does not
// make, and of which it does not tell what the whole tag would be. Sealing
// encrypts and decrypts alike, so that a message is opened by sealing its
// ciphertext, which yields the plaintext, and that again, which yields the tag.
type gcm8 struct {
	cipher.AEAD           // with whole tags
	scratch     sync.Pool // of *[]byte
}

const gcm8TagLen = 8

func newGCM8(block cipher.Block) (*gcm8, error) {
	whole, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	g := &gcm8{AEAD: whole}
	g.scratch.New = func() any { return new([]byte) }
	return g, nil
}

func (g *gcm8) Overhead() int { return gcm8TagLen }

func (g *gcm8) Seal(dst, nonce, plaintext, aad []byte) []byte {
	buf := g.scratch.Get().(*[]byte)
	defer g.scratch.Put(buf)
	*buf = g.AEAD.Seal((*buf)[:0], nonce, plaintext, aad)
	return append(dst, (*buf)[:len(plaintext)+gcm8TagLen]...)
}

func (g *gcm8) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	n := len(ciphertext) - gcm8TagLen
	if n < 0 {
		return nil, errOpen
	}
	buf := g.scratch.Get().(*[]byte)
	defer g.scratch.Put(buf)
	// What is sealed lies in place in the scratch, room for a tag included.
	b := append(slices.Grow((*buf)[:0], n+aes.BlockSize), ciphertext[:n]...)
	b = g.AEAD.Seal(b[:0], nonce, b, aad)[:n]
	start, tag := len(dst), ciphertext[n:]
	dst = slices.Grow(dst, n)[:start+n]
	copy(dst[start:], b)
	*buf = g.AEAD.Seal(b[:0], nonce, b, aad)
	if subtle.ConstantTimeCompare((*buf)[n:n+gcm8TagLen], tag) != 1 {
		clear(dst[start:])
		return nil, errOpen
	}
	return dst, nil
}
