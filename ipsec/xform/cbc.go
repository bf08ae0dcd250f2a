package xform

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// cbc is a block cipher in CBC mode.
type cbc struct {
	block    cipher.Block
	enc, dec cbcMode
}

// cbcMode is what the standard library's CBC modes are: they can be used for
// another message.
type cbcMode interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

func newCBC(block cipher.Block) (*cbc, error) {
	iv := make([]byte, block.BlockSize())
	enc, encOK := cipher.NewCBCEncrypter(block, iv).(cbcMode)
	dec, decOK := cipher.NewCBCDecrypter(block, iv).(cbcMode)
	if !encOK || !decOK {
		return nil, fmt.Errorf("%w: the ciphers of this build cannot be reused", ErrUnsupported)
	}
	return &cbc{block, enc, dec}, nil
}

func (c *cbc) IVLen() int     { return c.block.BlockSize() }
func (c *cbc) BlockSize() int { return c.block.BlockSize() }

// PutIV makes an IV that nobody can predict from one that is never repeated,
// by encrypting the number under the key (NIST SP 800-38A appendix C).
func (c *cbc) PutIV(iv []byte, number uint64) {
	clear(iv)
	binary.BigEndian.PutUint64(iv[len(iv)-8:], number)
	c.block.Encrypt(iv, iv)
}

func (c *cbc) Encrypt(iv, data []byte) {
	c.enc.SetIV(iv)
	c.enc.CryptBlocks(data, data)
}

func (c *cbc) Decrypt(iv, data []byte) {
	c.dec.SetIV(iv)
	c.dec.CryptBlocks(data, data)
}

func (c *cbc) Clone() Cipher {
	clone, _ := newCBC(c.block) // as the first one, it succeeds
	return clone
}
