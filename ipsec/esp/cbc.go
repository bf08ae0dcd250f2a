package esp

import (
	"crypto/cipher"
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"

	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// cbcSuite is AES-CBC (RFC 3602) with an HMAC (RFC 2404, RFC 4868) over
// header, IV and ciphertext, and over the upper half of an extended sequence
// number, which stands last and is not sent (RFC 4303 section 2.2.1).
type cbcSuite struct {
	block   cipher.Block
	icv     int // bytes
	esn     bool
	scratch sync.Pool // of *cbcScratch
}

// cbcScratch is the state of one packet's ciphers. They keep their keys, so
// that a packet costs no key schedule and no allocation.
type cbcScratch struct {
	mac      hash.Hash
	enc, dec cbcMode
	high     [4]byte
	sum      [64]byte // as long as the longest hash
}

// cbcMode is what the standard library's CBC mode of AES is: it can be used
// for another packet.
type cbcMode interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

func newCBCSuite(p Params) (*cbcSuite, error) {
	block, err := xform.NewBlock(p.Encr, p.Keys.Encr)
	if err != nil {
		return nil, err
	}
	mac, err := xform.NewMAC(p.Integ, p.Keys.Integ)
	if err != nil {
		return nil, err
	}
	s := &cbcSuite{block: block, icv: mac.ICVLen, esn: p.ESN}
	first, err := newCBCScratch(block, mac.Hash)
	if err != nil {
		return nil, fmt.Errorf("preparing %s with %s: %w", p.Encr, p.Integ, err)
	}
	s.scratch.New = func() any {
		x, _ := newCBCScratch(block, mac.Hash) // as the first one, it succeeds
		return x
	}
	s.scratch.Put(first)
	return s, nil
}

// newCBCScratch makes ciphers from a key schedule and an HMAC that is never
// written to, so that no copy of the keys themselves is kept.
func newCBCScratch(block cipher.Block, mac hash.Hash) (*cbcScratch, error) {
	iv := make([]byte, block.BlockSize())
	enc, encOK := cipher.NewCBCEncrypter(block, iv).(cbcMode)
	dec, decOK := cipher.NewCBCDecrypter(block, iv).(cbcMode)
	cloner, macOK := mac.(hash.Cloner)
	if !encOK || !decOK || !macOK {
		return nil, fmt.Errorf("%w: the ciphers of this build cannot be reused", xform.ErrUnsupported)
	}
	m, err := cloner.Clone()
	if err != nil {
		return nil, err
	}
	m.Reset() // the first Reset allocates
	return &cbcScratch{mac: m, enc: enc, dec: dec}, nil
}

func (s *cbcSuite) layout() layout {
	bs := s.block.BlockSize()
	return layout{iv: bs, icv: s.icv, align: bs}
}

// putIV makes an IV that nobody can predict from one that is never repeated,
// by encrypting the sequence number under the SA's key (NIST SP 800-38A
// appendix C).
func (s *cbcSuite) putIV(iv []byte, seq uint64) {
	clear(iv)
	binary.BigEndian.PutUint64(iv[len(iv)-8:], seq)
	s.block.Encrypt(iv, iv)
}

// split returns the parts of a packet: what the ICV covers, the IV, the
// contents and the ICV.
func (s *cbcSuite) split(pkt []byte) (covered, iv, contents, icv []byte) {
	start, end := headerLen+s.block.BlockSize(), len(pkt)-s.icv
	return pkt[:end], pkt[headerLen:start], pkt[start:end], pkt[end:]
}

// authenticate returns the ICV of a packet in x.
func (s *cbcSuite) authenticate(x *cbcScratch, covered []byte, high uint32) []byte {
	x.mac.Reset()
	x.mac.Write(covered)
	if s.esn {
		binary.BigEndian.PutUint32(x.high[:], high)
		x.mac.Write(x.high[:])
	}
	return x.mac.Sum(x.sum[:0])[:s.icv]
}

func (s *cbcSuite) seal(pkt []byte, high uint32) {
	x := s.scratch.Get().(*cbcScratch)
	covered, iv, contents, icv := s.split(pkt)
	x.enc.SetIV(iv)
	x.enc.CryptBlocks(contents, contents)
	copy(icv, s.authenticate(x, covered, high))
	s.scratch.Put(x)
}

func (s *cbcSuite) open(pkt []byte, high uint32) bool {
	x := s.scratch.Get().(*cbcScratch)
	covered, iv, contents, icv := s.split(pkt)
	ok := hmac.Equal(icv, s.authenticate(x, covered, high))
	if ok {
		x.dec.SetIV(iv)
		x.dec.CryptBlocks(contents, contents)
	}
	s.scratch.Put(x)
	return ok
}
