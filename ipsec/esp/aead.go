package esp

import (
	"crypto/cipher"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// aead is AES-GCM (RFC 4106), AES-CCM (RFC 4309), AES-GMAC (RFC 4543) or
// ChaCha20-Poly1305 (RFC 7634).
type aead struct {
	cipher  cipher.AEAD
	saltLen int
	esn     bool
	scratch sync.Pool // of *aeadScratch
}

// aeadScratch is what would escape to the heap with every packet, because
// the AEAD is called through an interface.
type aeadScratch struct {
	nonce []byte   // salt, IV
	aad   [12]byte // SPI, extended sequence number
}

// ivLen is the length in bytes of an AEAD's IV.
const ivLen = 8

func newAEAD(encr ipsec.Transform, keymat []byte, esn bool) (*aead, error) {
	c, salt, err := xform.NewAEAD(encr, keymat)
	if err != nil {
		return nil, err
	}
	s := &aead{cipher: c, saltLen: len(salt), esn: esn}
	s.scratch.New = func() any { return &aeadScratch{nonce: slices.Concat(salt, make([]byte, ivLen))} }
	return s, nil
}

func (s *aead) lens() (iv, icv, block int) { return ivLen, s.cipher.Overhead(), 1 }

// putIV makes the sequence number the IV: like it, a nonce must never be
// repeated under one key, and may be predictable (RFC 4106 section 3.1,
// RFC 4309 section 3.1, RFC 4543 section 3.1, RFC 7634 section 2).
func (s *aead) putIV(iv []byte, seq uint64) { binary.BigEndian.PutUint64(iv, seq) }

// prepare fills in the nonce of a packet and returns its additional
// authenticated data (RFC 4106 section 5, RFC 4309 section 5, RFC 4543
// section 3.3, RFC 7634 section 2.1).
func (s *aead) prepare(x *aeadScratch, pkt []byte, high uint32) (aad []byte) {
	copy(x.nonce[s.saltLen:], pkt[headerLen:headerLen+ivLen])
	if !s.esn {
		return pkt[:headerLen]
	}
	copy(x.aad[:4], pkt)
	binary.BigEndian.PutUint32(x.aad[4:], high)
	copy(x.aad[8:], pkt[4:headerLen])
	return x.aad[:]
}

func (s *aead) seal(pkt []byte, high uint32) {
	x := s.scratch.Get().(*aeadScratch)
	aad := s.prepare(x, pkt, high)
	contents := pkt[headerLen+ivLen : len(pkt)-s.cipher.Overhead()]
	s.cipher.Seal(contents[:0], x.nonce, contents, aad)
	s.scratch.Put(x)
}

func (s *aead) open(pkt []byte, high uint32) bool {
	x := s.scratch.Get().(*aeadScratch)
	aad := s.prepare(x, pkt, high)
	sealed := pkt[headerLen+ivLen:]
	_, err := s.cipher.Open(sealed[:0], x.nonce, sealed, aad)
	s.scratch.Put(x)
	return err == nil
}
