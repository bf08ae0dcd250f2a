package esp

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// layout says how a suite's packets look, in bytes.
type layout struct {
	iv    int
	icv   int
	align int // payload, padding and trailer together are a multiple of it
}

// contentsLen returns the length of n bytes of payload with padding and
// trailer.
func (l layout) contentsLen(n int) int {
	return (n + trailerLen + l.align - 1) / l.align * l.align
}

// fixed returns what a packet has besides its contents.
func (l layout) fixed() int { return headerLen + l.iv + l.icv }

// suite is the protection that an SA's transforms give. Packets are whole:
// header, IV, contents and room for the ICV. It is safe for concurrent use.
type suite interface {
	layout() layout
	// putIV writes the IV of the packet with a sequence number.
	putIV(iv []byte, seq uint64)
	// seal encrypts a packet's contents in place and writes its ICV. high is
	// the upper half of an extended sequence number.
	seal(pkt []byte, high uint32)
	// open checks a packet's ICV and decrypts its contents in place. After a
	// failure the contents are undefined.
	open(pkt []byte, high uint32) bool
}

// newSuite returns the suite of an SA, with or without extended sequence
// numbers under the ICV.
func newSuite(p Params) (suite, error) {
	if p.SPI < 256 {
		return nil, fmt.Errorf("SPI %s is reserved (RFC 4303 section 2.1)", p.SPI)
	}
	_, integLen, err := xform.KeyLens(p.Encr, p.Integ)
	if err != nil {
		return nil, err
	}
	if len(p.Keys.Integ) != integLen {
		return nil, fmt.Errorf("%w for integrity: %d bytes, not %d", xform.ErrKeyLength, len(p.Keys.Integ), integLen)
	}
	if p.Encr.AEAD() {
		return newAEADSuite(p.Encr, p.Keys.Encr, p.ESN)
	}
	return newMACSuite(p)
}

// aeadSuite is AES-GCM (RFC 4106), AES-CCM (RFC 4309) or ChaCha20-Poly1305
// (RFC 7634).
type aeadSuite struct {
	aead    cipher.AEAD
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

func newAEADSuite(encr ipsec.Transform, keymat []byte, esn bool) (*aeadSuite, error) {
	aead, salt, err := xform.NewAEAD(encr, keymat)
	if err != nil {
		return nil, err
	}
	s := &aeadSuite{aead: aead, saltLen: len(salt), esn: esn}
	s.scratch.New = func() any { return &aeadScratch{nonce: slices.Concat(salt, make([]byte, ivLen))} }
	return s, nil
}

func (s *aeadSuite) layout() layout { return layout{iv: ivLen, icv: s.aead.Overhead(), align: 4} }

// putIV makes the sequence number the IV: like it, a nonce must never be
// repeated under one key, and may be predictable (RFC 4106 section 3.1,
// RFC 4309 section 3.1, RFC 7634 section 2).
func (s *aeadSuite) putIV(iv []byte, seq uint64) { binary.BigEndian.PutUint64(iv, seq) }

// prepare fills in the nonce of a packet and returns its additional
// authenticated data (RFC 4106 section 5, RFC 4309 section 5, RFC 7634
// section 2.1).
func (s *aeadSuite) prepare(x *aeadScratch, pkt []byte, high uint32) (aad []byte) {
	copy(x.nonce[s.saltLen:], pkt[headerLen:headerLen+ivLen])
	if !s.esn {
		return pkt[:headerLen]
	}
	copy(x.aad[:4], pkt)
	binary.BigEndian.PutUint32(x.aad[4:], high)
	copy(x.aad[8:], pkt[4:headerLen])
	return x.aad[:]
}

func (s *aeadSuite) seal(pkt []byte, high uint32) {
	x := s.scratch.Get().(*aeadScratch)
	aad := s.prepare(x, pkt, high)
	contents := pkt[headerLen+ivLen : len(pkt)-s.aead.Overhead()]
	s.aead.Seal(contents[:0], x.nonce, contents, aad)
	s.scratch.Put(x)
}

func (s *aeadSuite) open(pkt []byte, high uint32) bool {
	x := s.scratch.Get().(*aeadScratch)
	aad := s.prepare(x, pkt, high)
	sealed := pkt[headerLen+ivLen:]
	_, err := s.aead.Open(sealed[:0], x.nonce, sealed, aad)
	s.scratch.Put(x)
	return err == nil
}
