package xform

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// KeyLens returns how many bytes of keying material one direction of an IKE
// SA, of an ESP SA or, with no encryption, of an AH SA takes: for encryption,
// the salt or nonce that follows the key included, and for integrity, which is 0
// with an AEAD. The error wraps ErrUnsupported.
func KeyLens(encr, integ ipsec.Transform) (encrLen, integLen int, err error) {
	if encr == (ipsec.Transform{}) {
		m, err := macOf(integ)
		return 0, m.keyLen, err
	}
	if encrLen, err = encrKeyLen(encr); err != nil {
		return 0, 0, err
	}
	if encr.AEAD() {
		if integ.ID != ipsec.IntegNone {
			return 0, 0, fmt.Errorf("%w: %s brings its own integrity, but %s was chosen as well", ErrUnsupported, encr, integ)
		}
		return encrLen, 0, nil
	}
	m, err := macOf(integ)
	if err == nil && !integ.Suits(ipsec.ProtoESP) {
		err = fmt.Errorf("%w %s, which AH alone may have", ErrUnsupported, integ)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("integrity for %s: %w", encr, err)
	}
	return encrLen, m.keyLen, nil
}

// encrKeyLen returns the length of the key with what follows it.
func encrKeyLen(t ipsec.Transform) (int, error) {
	aesLen := t.KeyBits == 128 || t.KeyBits == 192 || t.KeyBits == 256
	switch {
	case t.Type != ipsec.TypeEncr:
	case t.ID == ipsec.EncrNull && t.KeyBits == 0:
		return 0, nil
	case t.ID == ipsec.Encr3DES && t.KeyBits == 0:
		return 24, nil
	case t.ID == ipsec.EncrChaCha20Poly1305:
		if t.KeyBits == 0 {
			return chacha20poly1305.KeySize + saltLen(t), nil
		}
	case (t.ID == ipsec.EncrAESCBC || t.ID == ipsec.EncrAESCTR || t.AEAD()) && aesLen:
		return int(t.KeyBits)/8 + saltLen(t), nil
	}
	return 0, fmt.Errorf("%w %s for encryption", ErrUnsupported, t)
}

// saltLen is the length in bytes of what ends a cipher's keying material and
// begins its nonces: a salt in RFC 4106 section 4, RFC 4309 section 4, RFC 4543
// section 5.4 and RFC 7634 section 2, a nonce in RFC 3686 section 5.1.
func saltLen(t ipsec.Transform) int {
	switch t.ID {
	case ipsec.EncrAESCBC, ipsec.Encr3DES, ipsec.EncrNull:
		return 0
	case ipsec.EncrAESCCM8, ipsec.EncrAESCCM12, ipsec.EncrAESCCM16:
		return 3
	}
	return 4
}

// checkEncrKey returns the key and the salt of keying material.
func checkEncrKey(encr ipsec.Transform, keymat []byte) (key, salt []byte, err error) {
	n, err := encrKeyLen(encr)
	if err != nil {
		return nil, nil, err
	}
	if len(keymat) != n {
		return nil, nil, fmt.Errorf("%w for %s: %d bytes, not %d", ErrKeyLength, encr, len(keymat), n)
	}
	n -= saltLen(encr)
	return keymat[:n], append([]byte(nil), keymat[n:]...), nil
}

// NewAEAD returns the AEAD of AES-GCM (RFC 4106), AES-CCM (RFC 4309), AES-GMAC
// (RFC 4543), which encrypts nothing, or ChaCha20-Poly1305 (RFC 7634), and the salt that begins every nonce and that
// 8 bytes of IV follow. keymat is the key followed by the salt. The AEAD is
// safe for concurrent use and allocates nothing where dst has the room. The
// error wraps ErrUnsupported or ErrKeyLength.
func NewAEAD(encr ipsec.Transform, keymat []byte) (aead cipher.AEAD, salt []byte, err error) {
	if !encr.AEAD() {
		return nil, nil, fmt.Errorf("%w %s: it is no AEAD", ErrUnsupported, encr)
	}
	key, salt, err := checkEncrKey(encr, keymat)
	if err != nil {
		return nil, nil, err
	}
	if encr.ID == ipsec.EncrChaCha20Poly1305 {
		aead, err = chacha20poly1305.New(key)
	} else {
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil {
			aead, err = newAESAEAD(encr.ID, block)
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("preparing %s: %w", encr, err)
	}
	return aead, salt, nil
}

func newAESAEAD(id uint16, block cipher.Block) (cipher.AEAD, error) {
	switch id {
	case ipsec.EncrAESGCM8:
		return newGCM8(block)
	case ipsec.EncrAESGCM12:
		return cipher.NewGCMWithTagSize(block, 12)
	case ipsec.EncrAESCCM8:
		return newCCM(block, 8), nil
	case ipsec.EncrAESCCM12:
		return newCCM(block, 12), nil
	case ipsec.EncrAESCCM16:
		return newCCM(block, 16), nil
	case ipsec.EncrNullAESGMAC:
		return newGMAC(block)
	}
	return cipher.NewGCM(block)
}

// Cipher is encryption without integrity, with its key. PutIV and Clone are safe
// for concurrent use, the other methods are not. None of its methods but Clone allocates.
type Cipher interface {
	// IVLen returns the length in bytes of the IV that each message carries.
	IVLen() int
	// BlockSize returns what the length of data is a multiple of, in bytes.
	BlockSize() int
	// PutIV writes the IV of a message with a number. Messages with different
	// numbers have different IVs, and who does not hold the key can predict
	// none that must not be predicted.
	PutIV(iv []byte, number uint64)
	// Encrypt and Decrypt work in place.
	Encrypt(iv, data []byte)
	Decrypt(iv, data []byte)
	// Clone returns a cipher with the same key.
	Clone() Cipher
}

// NewCipher returns the cipher of AES-CBC (RFC 3602), 3DES-CBC (RFC 2451),
// AES-CTR (RFC 3686, whose keymat ends with the nonce) or NULL (RFC 2410). The error wraps
// ErrUnsupported, ErrKeyLength or ErrWeakKey.
func NewCipher(encr ipsec.Transform, keymat []byte) (Cipher, error) {
	if encr.AEAD() {
		return nil, fmt.Errorf("%w %s: it has no mode without integrity", ErrUnsupported, encr)
	}
	key, nonce, err := checkEncrKey(encr, keymat)
	if err != nil {
		return nil, err
	}
	var block cipher.Block
	switch encr.ID {
	case ipsec.EncrNull:
		return null{}, nil
	case ipsec.Encr3DES:
		block, err = new3DES(key)
	default:
		block, err = aes.NewCipher(key)
	}
	var c Cipher
	switch {
	case err != nil:
	case encr.ID == ipsec.EncrAESCTR:
		c = newCTR(block, nonce)
	default:
		c, err = newCBC(block)
	}
	if err != nil {
		return nil, fmt.Errorf("preparing %s: %w", encr, err)
	}
	return c, nil
}

// new3DES refuses keys with which 3DES is no more than DES, which RFC 2451
// section 2.3 wants. The lowest bit of a byte is its parity and no key.
func new3DES(key []byte) (cipher.Block, error) {
	same := func(a, b []byte) bool {
		var diff byte
		for i := range a {
			diff |= (a[i] ^ b[i]) >> 1
		}
		return diff == 0
	}
	if same(key[:8], key[8:16]) || same(key[8:16], key[16:]) {
		return nil, ErrWeakKey
	}
	return des.NewTripleDESCipher(key)
}

// null is the encryption that does nothing (RFC 2410).
type null struct{}

func (null) IVLen() int                { return 0 }
func (null) BlockSize() int            { return 1 }
func (null) PutIV(iv []byte, _ uint64) {}
func (null) Encrypt(iv, data []byte)   {}
func (null) Decrypt(iv, data []byte)   {}
func (null) Clone() Cipher             { return null{} }
