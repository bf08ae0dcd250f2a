package xform

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// sealCCM does what RFC 3610 section 2 says, word for word, with the standard
// library's modes: the tag is the last block of CBC with an IV of zeros.
func sealCCM(t *testing.T, block cipher.Block, tagLen int, nonce, plaintext, aad []byte) []byte {
	t.Helper()
	flags := byte(8*(tagLen-2)/2 + 3)
	var header []byte
	switch {
	case len(aad) == 0:
	case len(aad) < 0xff00:
		header = binary.BigEndian.AppendUint16(nil, uint16(len(aad)))
	default:
		header = binary.BigEndian.AppendUint32([]byte{0xff, 0xfe}, uint32(len(aad)))
	}
	if len(aad) > 0 {
		flags += 64
	}
	zeroPad := func(b []byte) []byte { return append(b, make([]byte, (16-len(b)%16)%16)...) }
	blocks := slices.Concat([]byte{flags}, nonce, binary.BigEndian.AppendUint32(nil, uint32(len(plaintext))))
	blocks = append(blocks, zeroPad(slices.Concat(header, aad))...)
	blocks = append(blocks, zeroPad(slices.Clone(plaintext))...)
	cipher.NewCBCEncrypter(block, make([]byte, 16)).CryptBlocks(blocks, blocks)
	tag := blocks[len(blocks)-16:]

	out := slices.Concat(tag, plaintext)
	first := slices.Concat([]byte{3}, nonce, make([]byte, 4))
	// Block 0 is for the tag, and the contents begin with block 1.
	cipher.NewCTR(block, first).XORKeyStream(out, out)
	return slices.Concat(out[16:], out[:tagLen])
}

func TestCCM(t *testing.T) {
	block, err := aes.NewCipher(testKey(16, 3))
	if err != nil {
		t.Fatal(err)
	}
	nonce := testKey(ccmNonceLen, 9)
	for _, id := range []uint16{ipsec.EncrAESCCM8, ipsec.EncrAESCCM12, ipsec.EncrAESCCM16} {
		c, err := newAESAEAD(id, block)
		if err != nil {
			t.Fatal(err)
		}
		if c.NonceSize() != ccmNonceLen {
			t.Errorf("nonces of %d bytes", c.NonceSize())
		}
		for _, aadLen := range []int{0, 1, 8, 12, 13, 14, 15, 30, 0xfeff, 0xff00, 0x10001} {
			for _, n := range []int{0, 1, 15, 16, 17, 100} {
				t.Run(fmt.Sprintf("tag %d, aad %d, %d bytes", c.Overhead(), aadLen, n), func(t *testing.T) {
					aad, plaintext := testKey(aadLen, 1), testKey(n, 2)
					want := sealCCM(t, block, c.Overhead(), nonce, plaintext, aad)
					sealed := c.Seal([]byte("before"), nonce, plaintext, aad)
					if !bytes.Equal(sealed, slices.Concat([]byte("before"), want)) {
						t.Errorf("sealed %x, want %x", sealed, want)
					}
					got, err := c.Open([]byte("before"), nonce, want, aad)
					if err != nil || !bytes.Equal(got, slices.Concat([]byte("before"), plaintext)) {
						t.Errorf("opened %x, %v", got, err)
					}
				})
			}
		}
	}
}

// What cannot be authentic is refused, and leaves no plaintext behind.
func TestShortTagsRefuse(t *testing.T) {
	for _, id := range []uint16{ipsec.EncrAESCCM8, ipsec.EncrAESCCM16, ipsec.EncrAESGCM8, ipsec.EncrAESGCM12} {
		aead, err := aesAEAD(id, testKey(16, 5))
		if err != nil {
			t.Fatal(err)
		}
		nonce, plaintext := testKey(aead.NonceSize(), 1), []byte("a plaintext of some length")
		sealed := aead.Seal(nil, nonce, plaintext, nil)
		if len(sealed) != len(plaintext)+aead.Overhead() {
			t.Errorf("%d: sealed to %d bytes", id, len(sealed))
		}
		for i := range sealed {
			bad := bytes.Clone(sealed)
			bad[i] ^= 4
			if got, err := aead.Open(bad[:0], nonce, bad, nil); err == nil {
				t.Errorf("%d: byte %d changed: opened to %q", id, i, got)
			}
			if bytes.Contains(bad, plaintext[:4]) {
				t.Errorf("%d: byte %d changed: %q is left", id, i, bad)
			}
		}
		for n := range aead.Overhead() {
			if _, err := aead.Open(nil, nonce, sealed[:n], nil); err == nil {
				t.Errorf("%d: %d bytes opened", id, n)
			}
		}
	}
}

func TestAEADAllocs(t *testing.T) {
	for _, tr := range ipsec.Transforms(ipsec.ProtoESP, ipsec.TypeEncr) {
		if !tr.AEAD() {
			continue
		}
		n, _, err := KeyLens(tr, noInteg)
		if err != nil {
			t.Fatal(err)
		}
		aead, salt, err := NewAEAD(tr, testKey(n, 1))
		if err != nil {
			t.Fatal(err)
		}
		nonce, aad := slices.Concat(salt, make([]byte, 8)), make([]byte, 12)
		buf := make([]byte, 1400+aead.Overhead())
		got := testing.AllocsPerRun(20, func() {
			sealed := aead.Seal(buf[:0], nonce, buf[:1400], aad)
			if _, err := aead.Open(sealed[:0], nonce, sealed, aad); err != nil {
				t.Fatal(err)
			}
		})
		// The race detector makes sync.Pool forget at random.
		if got != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", tr, got)
		}
	}
}
