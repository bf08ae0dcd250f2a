package xform

import (
	"crypto/aes"
	"crypto/cipher"
	"hash"
	"sync"
)

// gmac is AES-GMAC as an AEAD whose ciphertext is the plaintext, which is
// authenticated behind the additional data (RFC 4543 section 3.3).
type gmac struct {
	cipher.AEAD           // AES-GCM
	scratch     sync.Pool // of *[]byte
}

func newGMAC(block cipher.Block) (*gmac, error) {
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	g := &gmac{AEAD: gcm}
	g.scratch.New = func() any { return new([]byte) }
	return g, nil
}

func (g *gmac) Seal(dst, nonce, plaintext, aad []byte) []byte {
	buf := g.scratch.Get().(*[]byte)
	defer g.scratch.Put(buf)
	*buf = append(append((*buf)[:0], aad...), plaintext...)
	return g.AEAD.Seal(append(dst, plaintext...), nonce, nil, *buf)
}

func (g *gmac) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	n := len(ciphertext) - g.Overhead()
	if n < 0 {
		return nil, errOpen
	}
	buf := g.scratch.Get().(*[]byte)
	defer g.scratch.Put(buf)
	*buf = append(append((*buf)[:0], aad...), ciphertext[:n]...)
	if _, err := g.AEAD.Open(nil, nonce, ciphertext[n:], *buf); err != nil {
		return nil, err
	}
	return append(dst, ciphertext[:n]...), nil
}

// gmacHash is AES-GMAC as a hash, for AH (RFC 4543 section 4). It collects what
// is written, because the standard library's GCM wants it in one piece. Its key
// ends with the salt; each sum has an IV of its own.
type gmacHash struct {
	gcm   cipher.AEAD
	nonce [gmacSaltLen + ivLen]byte
	buf   []byte
}

const gmacSaltLen = 4

// newGMACHash panics for a key that is none of AES with a salt.
func newGMACHash(keymat []byte) hash.Hash {
	key, salt := keymat[:len(keymat)-gmacSaltLen], keymat[len(keymat)-gmacSaltLen:]
	gcm, err := cipher.NewGCM(mustAES(key))
	if err != nil {
		panic("xform: " + err.Error())
	}
	h := &gmacHash{gcm: gcm}
	copy(h.nonce[:], salt)
	return h
}

func (h *gmacHash) Size() int       { return h.gcm.Overhead() }
func (h *gmacHash) BlockSize() int  { return aes.BlockSize }
func (h *gmacHash) Reset()          { h.buf = h.buf[:0] }
func (h *gmacHash) setIV(iv []byte) { copy(h.nonce[gmacSaltLen:], iv) }

func (h *gmacHash) Write(p []byte) (int, error) {
	h.buf = append(h.buf, p...)
	return len(p), nil
}

func (h *gmacHash) Sum(b []byte) []byte { return h.gcm.Seal(b, h.nonce[:], nil, h.buf) }

// Clone makes gmacHash a hash.Cloner.
func (h *gmacHash) Clone() (hash.Cloner, error) {
	clone := *h
	clone.buf = append([]byte(nil), h.buf...)
	return &clone, nil
}
