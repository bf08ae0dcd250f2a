package xform

import (
	"crypto/cipher"
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// IKECipher protects the Encrypted payload of IKE messages in one direction
// (RFC 7296 section 3.14). The body of the payload is IV, ciphertext and ICV;
// aad is the message before it: IKE header, unencrypted payloads and the
// Encrypted payload's generic header, lengths already filled in for
// SealedLen bytes to come.
//
// An IKECipher is not safe for concurrent use. There must be only one for a
// key that seals: its IVs are unique among its own messages.
type IKECipher interface {
	// Seal appends a body to dst. The slice aad may be dst itself; plaintext
	// must not lie in dst's spare capacity. An error comes from the source
	// of randomness, and nothing was sealed.
	Seal(dst, aad, plaintext []byte) ([]byte, error)
	// Open returns the plaintext of a body, without its padding, in new
	// memory; body is left as it was. The error wraps ErrIntegrity or
	// ErrMalformed.
	Open(aad, body []byte) ([]byte, error)
	// SealedLen returns the length in bytes of the body for n bytes of
	// plaintext.
	SealedLen(n int) int
}

// NewIKECipher returns the protection that two transforms give: AES-GCM or
// AES-CCM (RFC 5282), ChaCha20-Poly1305 (RFC 7634 section 3), or AES-CBC,
// 3DES-CBC (RFC 7296 section 3.14) or AES-CTR (RFC 5930) with a MAC. The keys
// have the lengths that KeyLens gives and are not kept. IVs that must be
// unpredictable are read from rand. The error wraps ErrUnsupported,
// ErrKeyLength or ErrWeakKey.
func NewIKECipher(encr, integ ipsec.Transform, encrKey, integKey []byte, rand io.Reader) (IKECipher, error) {
	if !encr.Suits(ipsec.ProtoIKE) {
		return nil, fmt.Errorf("%w %s for IKE, which encrypts", ErrUnsupported, encr)
	}
	_, integLen, err := KeyLens(encr, integ)
	if err != nil {
		return nil, err
	}
	if encr.AEAD() {
		if len(integKey) != integLen {
			return nil, fmt.Errorf("%w: %s takes no integrity key", ErrKeyLength, encr)
		}
		aead, salt, err := NewAEAD(encr, encrKey)
		if err != nil {
			return nil, err
		}
		return &ikeAEAD{aead: aead, salt: salt}, nil
	}
	c, err := NewCipher(encr, encrKey)
	if err != nil {
		return nil, err
	}
	mac, err := NewMAC(integ, integKey)
	if err != nil {
		return nil, err
	}
	return &ikeMAC{cipher: c, mac: mac, rand: rand}, nil
}

// ivLen is the length in bytes of the explicit IV of an AEAD and of AES-CTR.
const ivLen = 8

// ikeAEAD pads nothing, but the Pad Length octet is there (RFC 5282
// section 3.1). The IV counts messages; IKE numbers them with 32 bits, so it
// never comes round.
type ikeAEAD struct {
	aead cipher.AEAD
	salt []byte
	sent uint64
}

func (c *ikeAEAD) SealedLen(n int) int { return ivLen + n + 1 + c.aead.Overhead() }

func (c *ikeAEAD) Seal(dst, aad, plaintext []byte) ([]byte, error) {
	dst = slices.Grow(dst, c.SealedLen(len(plaintext)))
	dst = binary.BigEndian.AppendUint64(dst, c.sent)
	c.sent++
	start := len(dst)
	nonce := slices.Concat(c.salt, dst[start-ivLen:])
	dst = append(dst, plaintext...)
	dst = append(dst, 0)
	return c.aead.Seal(dst[:start], nonce, dst[start:], aad), nil
}

func (c *ikeAEAD) Open(aad, body []byte) ([]byte, error) {
	if len(body) < c.SealedLen(0) {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(body))
	}
	plaintext, err := c.aead.Open(nil, slices.Concat(c.salt, body[:ivLen]), body[ivLen:], aad)
	if err != nil {
		return nil, ErrIntegrity
	}
	return unpad(plaintext)
}

// ikeMAC encrypts, then authenticates the whole message up to the ICV.
type ikeMAC struct {
	cipher Cipher
	mac    MAC
	rand   io.Reader
	sent   uint64
}

func (c *ikeMAC) SealedLen(n int) int {
	bs := c.cipher.BlockSize()
	return c.cipher.IVLen() + (n/bs+1)*bs + c.mac.ICVLen
}

func (c *ikeMAC) Seal(dst, aad, plaintext []byte) ([]byte, error) {
	n := c.SealedLen(len(plaintext))
	start := len(dst)
	out := slices.Grow(dst, n)[:start+n]
	covered, icv := out[start:start+n-c.mac.ICVLen], out[start+n-c.mac.ICVLen:]
	iv, ct := covered[:c.cipher.IVLen()], covered[c.cipher.IVLen():]
	if err := c.putIV(iv); err != nil {
		return nil, err
	}
	copy(ct, plaintext)
	pad := ct[len(plaintext):]
	clear(pad)
	pad[len(pad)-1] = byte(len(pad) - 1)
	c.cipher.Encrypt(iv, ct)
	copy(icv, c.icv(aad, covered))
	return out, nil
}

// putIV writes the IV of the next message: a random one for CBC (RFC 7296
// section 3.14), a count for AES-CTR, whose IVs must never be repeated
// (RFC 3686 section 3.1).
func (c *ikeMAC) putIV(iv []byte) error {
	if c.cipher.BlockSize() == 1 {
		c.cipher.PutIV(iv, c.sent)
		c.sent++
		return nil
	}
	if _, err := io.ReadFull(c.rand, iv); err != nil {
		return fmt.Errorf("reading randomness for an IV: %w", err)
	}
	return nil
}

func (c *ikeMAC) Open(aad, body []byte) ([]byte, error) {
	ivLen := c.cipher.IVLen()
	if len(body) < c.SealedLen(0) || (len(body)-ivLen-c.mac.ICVLen)%c.cipher.BlockSize() != 0 {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(body))
	}
	covered, icv := body[:len(body)-c.mac.ICVLen], body[len(body)-c.mac.ICVLen:]
	if !hmac.Equal(icv, c.icv(aad, covered)) {
		return nil, ErrIntegrity
	}
	plaintext := slices.Clone(covered[ivLen:])
	c.cipher.Decrypt(covered[:ivLen], plaintext)
	return unpad(plaintext)
}

// icv authenticates the message aad | covered.
func (c *ikeMAC) icv(aad, covered []byte) []byte {
	c.mac.Reset()
	c.mac.Write(aad)
	c.mac.Write(covered)
	return c.mac.Sum(nil)[:c.mac.ICVLen]
}

// unpad removes the padding and the Pad Length octet, which both have been
// authenticated. The padding may have any contents and any length up to 255
// bytes (RFC 7296 section 3.14).
func unpad(b []byte) ([]byte, error) {
	last := len(b) - 1
	pad := int(b[last])
	if pad > last {
		return nil, fmt.Errorf("%w: %d bytes of padding in %d", ErrMalformed, pad, last)
	}
	return b[:last-pad], nil
}
