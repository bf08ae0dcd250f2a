package xform

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// SaltLen is the length in bytes of the salt that ends an AEAD's keying
// material and begins its nonce (RFC 4106 section 4, RFC 7634 section 2).
const SaltLen = 4

// KeyLens returns how many bytes of keying material one direction of an IKE
// SA or of an ESP SA takes: for encryption, the salt of an AEAD included, and
// for integrity, which is 0 with an AEAD. The error wraps ErrUnsupported.
func KeyLens(encr, integ ipsec.Transform) (encrLen, integLen int, err error) {
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
	if err != nil {
		return 0, 0, fmt.Errorf("integrity for %s: %w", encr, err)
	}
	return encrLen, m.keyLen, nil
}

func encrKeyLen(t ipsec.Transform) (int, error) {
	aesLen := t.KeyBits == 128 || t.KeyBits == 256
	switch {
	case t.Type != ipsec.TypeEncr:
	case t.ID == ipsec.EncrAESCBC && aesLen:
		return int(t.KeyBits) / 8, nil
	case t.ID == ipsec.EncrAESGCM16 && aesLen:
		return int(t.KeyBits)/8 + SaltLen, nil
	case t.ID == ipsec.EncrChaCha20Poly1305 && t.KeyBits == 0:
		return chacha20poly1305.KeySize + SaltLen, nil
	}
	return 0, fmt.Errorf("%w %s for encryption", ErrUnsupported, t)
}

// NewAEAD returns the AEAD of AES-GCM-16 (RFC 4106) or ChaCha20-Poly1305
// (RFC 7634), which takes nonces of 12 bytes and makes tags of 16, and the
// salt that begins every nonce. keymat is the key followed by the salt. The
// error wraps ErrUnsupported or ErrKeyLength.
func NewAEAD(encr ipsec.Transform, keymat []byte) (aead cipher.AEAD, salt [SaltLen]byte, err error) {
	if !encr.AEAD() {
		return nil, salt, fmt.Errorf("%w %s: it is no AEAD", ErrUnsupported, encr)
	}
	if err := checkEncrKey(encr, keymat); err != nil {
		return nil, salt, err
	}
	key := keymat[:len(keymat)-SaltLen]
	if encr.ID == ipsec.EncrChaCha20Poly1305 {
		aead, err = chacha20poly1305.New(key)
	} else {
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil {
			aead, err = cipher.NewGCM(block)
		}
	}
	if err != nil {
		return nil, salt, fmt.Errorf("preparing %s: %w", encr, err)
	}
	copy(salt[:], keymat[len(key):])
	return aead, salt, nil
}

// NewBlock returns the block cipher of AES-CBC (RFC 3602). The error wraps
// ErrUnsupported or ErrKeyLength.
func NewBlock(encr ipsec.Transform, key []byte) (cipher.Block, error) {
	if encr.ID != ipsec.EncrAESCBC {
		return nil, fmt.Errorf("%w %s: it is no block cipher in CBC mode", ErrUnsupported, encr)
	}
	if err := checkEncrKey(encr, key); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("preparing %s: %w", encr, err)
	}
	return block, nil
}

func checkEncrKey(encr ipsec.Transform, key []byte) error {
	n, err := encrKeyLen(encr)
	if err == nil && len(key) != n {
		err = fmt.Errorf("%w for %s: %d bytes, not %d", ErrKeyLength, encr, len(key), n)
	}
	return err
}

// MAC is an integrity algorithm with its key: a hash whose sum is cut to the
// length of an ICV. It is not safe for concurrent use.
type MAC struct {
	hash.Hash
	ICVLen int // bytes of the sum that are sent
}

// macSpec is an integrity algorithm: HMAC-SHA1-96 (RFC 2404), or HMAC-SHA2
// with half of the hash (RFC 4868).
type macSpec struct {
	hash           func() hash.Hash
	keyLen, icvLen int // bytes
}

func macOf(t ipsec.Transform) (macSpec, error) {
	if t.Type == ipsec.TypeInteg {
		switch t.ID {
		case ipsec.IntegHMACSHA1:
			return macSpec{sha1.New, sha1.Size, 12}, nil
		case ipsec.IntegHMACSHA256:
			return macSpec{sha256.New, sha256.Size, 16}, nil
		case ipsec.IntegHMACSHA384:
			return macSpec{sha512.New384, sha512.Size384, 24}, nil
		case ipsec.IntegHMACSHA512:
			return macSpec{sha512.New, sha512.Size, 32}, nil
		}
	}
	return macSpec{}, fmt.Errorf("%w %s for integrity", ErrUnsupported, t)
}

// NewMAC returns an integrity algorithm with its key. The error wraps
// ErrUnsupported or ErrKeyLength.
func NewMAC(integ ipsec.Transform, key []byte) (MAC, error) {
	m, err := macOf(integ)
	if err != nil {
		return MAC{}, err
	}
	if len(key) != m.keyLen {
		return MAC{}, fmt.Errorf("%w for %s: %d bytes, not %d", ErrKeyLength, integ, len(key), m.keyLen)
	}
	return MAC{hmac.New(m.hash, key), m.icvLen}, nil
}
