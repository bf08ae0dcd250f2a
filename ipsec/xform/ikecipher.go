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

// NewIKECipher returns the protection that two transforms give: AES-GCM-16
// (RFC 5282), ChaCha20-Poly1305 (RFC 7634 section 3), or AES-CBC with an HMAC
// (RFC 7296 section 3.14). The keys have the lengths that KeyLens gives and
// are not kept. IVs that must be unpredictable are read from rand. The error
// wraps ErrUnsupported or ErrKeyLength.
func NewIKECipher(encr, integ ipsec.Transform, encrKey, integKey []byte, rand io.Reader) (IKECipher, error) {
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
	block, err := NewBlock(encr, encrKey)
	if err != nil {
		return nil, err
	}
	mac, err := NewMAC(integ, integKey)
	if err != nil {
		return nil, err
	}
	return &ikeCBC{block: block, mac: mac, rand: rand}, nil
}

// ivLen is the length in bytes of an AEAD's explicit IV.
const ivLen = 8

// ikeAEAD pads nothing, but the Pad Length octet is there (RFC 5282
// section 3.1). The IV counts messages; IKE numbers them with 32 bits, so it
// never comes round.
type ikeAEAD struct {
	aead cipher.AEAD
	salt [SaltLen]byte
	sent uint64
}

func (c *ikeAEAD) SealedLen(n int) int { return ivLen + n + 1 + c.aead.Overhead() }

func (c *ikeAEAD) Seal(dst, aad, plaintext []byte) ([]byte, error) {
	dst = slices.Grow(dst, c.SealedLen(len(plaintext)))
	dst = binary.BigEndian.AppendUint64(dst, c.sent)
	c.sent++
	start := len(dst)
	nonce := append(c.salt[:], dst[start-ivLen:]...)
	dst = append(dst, plaintext...)
	dst = append(dst, 0)
	return c.aead.Seal(dst[:start], nonce, dst[start:], aad), nil
}

func (c *ikeAEAD) Open(aad, body []byte) ([]byte, error) {
	if len(body) < c.SealedLen(0) {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(body))
	}
	nonce := append(c.salt[:], body[:ivLen]...)
	plaintext, err := c.aead.Open(nil, nonce, body[ivLen:], aad)
	if err != nil {
		return nil, ErrIntegrity
	}
	return unpad(plaintext)
}

// ikeCBC encrypts, then authenticates the whole message up to the ICV.
type ikeCBC struct {
	block cipher.Block
	mac   MAC
	rand  io.Reader
}

func (c *ikeCBC) SealedLen(n int) int {
	bs := c.block.BlockSize()
	return bs + (n/bs+1)*bs + c.mac.ICVLen
}

func (c *ikeCBC) Seal(dst, aad, plaintext []byte) ([]byte, error) {
	bs, n := c.block.BlockSize(), c.SealedLen(len(plaintext))
	start := len(dst)
	out := slices.Grow(dst, n)[:start+n]
	iv, ct := out[start:start+bs], out[start+bs:start+n-c.mac.ICVLen]
	if _, err := io.ReadFull(c.rand, iv); err != nil {
		return nil, fmt.Errorf("reading randomness for an IV: %w", err)
	}
	copy(ct, plaintext)
	pad := ct[len(plaintext):]
	clear(pad)
	pad[len(pad)-1] = byte(len(pad) - 1)
	cipher.NewCBCEncrypter(c.block, iv).CryptBlocks(ct, ct)
	copy(out[start+n-c.mac.ICVLen:], c.icv(aad, out[start:start+n-c.mac.ICVLen]))
	return out, nil
}

func (c *ikeCBC) Open(aad, body []byte) ([]byte, error) {
	bs := c.block.BlockSize()
	if len(body) < c.SealedLen(0) || (len(body)-c.mac.ICVLen)%bs != 0 {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(body))
	}
	covered, icv := body[:len(body)-c.mac.ICVLen], body[len(body)-c.mac.ICVLen:]
	if !hmac.Equal(icv, c.icv(aad, covered)) {
		return nil, ErrIntegrity
	}
	plaintext := make([]byte, len(covered)-bs)
	cipher.NewCBCDecrypter(c.block, covered[:bs]).CryptBlocks(plaintext, covered[bs:])
	return unpad(plaintext)
}

// icv authenticates the message aad | covered.
func (c *ikeCBC) icv(aad, covered []byte) []byte {
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
