package esp

import (
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"

	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// macSuite is AES-CBC (RFC 3602), 3DES-CBC (RFC 2451) or AES-CTR (RFC 3686)
// with a MAC (RFC 2404, RFC 4868, RFC 3566, RFC 4494) over header, IV and
// ciphertext, and over the upper half of an extended sequence number, which
// stands last and is not sent (RFC 4303 section 2.2.1).
type macSuite struct {
	cipher  xform.Cipher // for its PutIV alone
	iv, icv int          // bytes
	esn     bool
	scratch sync.Pool // of *macScratch
}

// macScratch is the state of one packet's ciphers. They keep their keys, so
// that a packet costs no key schedule and no allocation.
type macScratch struct {
	mac    hash.Hash
	cipher xform.Cipher
	high   [4]byte
	sum    [64]byte // as long as the longest hash
}

func newMACSuite(p Params) (*macSuite, error) {
	c, err := xform.NewCipher(p.Encr, p.Keys.Encr)
	if err != nil {
		return nil, err
	}
	mac, err := xform.NewMAC(p.Integ, p.Keys.Integ)
	if err != nil {
		return nil, err
	}
	s := &macSuite{cipher: c, iv: c.IVLen(), icv: mac.ICVLen, esn: p.ESN}
	first, err := newMACScratch(c, mac.Hash)
	if err != nil {
		return nil, fmt.Errorf("preparing %s with %s: %w", p.Encr, p.Integ, err)
	}
	s.scratch.New = func() any {
		x, _ := newMACScratch(c, mac.Hash) // as the first one, it succeeds
		return x
	}
	s.scratch.Put(first)
	return s, nil
}

// newMACScratch makes ciphers from some that are never written to, so that no
// copy of the keys themselves is kept.
func newMACScratch(c xform.Cipher, mac hash.Hash) (*macScratch, error) {
	cloner, ok := mac.(hash.Cloner)
	if !ok {
		return nil, fmt.Errorf("%w: the MACs of this build cannot be reused", xform.ErrUnsupported)
	}
	m, err := cloner.Clone()
	if err != nil {
		return nil, err
	}
	m.Reset() // the first Reset allocates
	return &macScratch{mac: m, cipher: c.Clone()}, nil
}

func (s *macSuite) layout() layout {
	return layout{iv: s.iv, icv: s.icv, align: max(4, s.cipher.BlockSize())}
}

func (s *macSuite) putIV(iv []byte, seq uint64) { s.cipher.PutIV(iv, seq) }

// split returns the parts of a packet: what the ICV covers, the IV, the
// contents and the ICV.
func (s *macSuite) split(pkt []byte) (covered, iv, contents, icv []byte) {
	start, end := headerLen+s.iv, len(pkt)-s.icv
	return pkt[:end], pkt[headerLen:start], pkt[start:end], pkt[end:]
}

// authenticate returns the ICV of a packet in x.
func (s *macSuite) authenticate(x *macScratch, covered []byte, high uint32) []byte {
	x.mac.Reset()
	x.mac.Write(covered)
	if s.esn {
		binary.BigEndian.PutUint32(x.high[:], high)
		x.mac.Write(x.high[:])
	}
	return x.mac.Sum(x.sum[:0])[:s.icv]
}

func (s *macSuite) seal(pkt []byte, high uint32) {
	x := s.scratch.Get().(*macScratch)
	covered, iv, contents, icv := s.split(pkt)
	x.cipher.Encrypt(iv, contents)
	copy(icv, s.authenticate(x, covered, high))
	s.scratch.Put(x)
}

func (s *macSuite) open(pkt []byte, high uint32) bool {
	x := s.scratch.Get().(*macScratch)
	covered, iv, contents, icv := s.split(pkt)
	ok := hmac.Equal(icv, s.authenticate(x, covered, high))
	if ok {
		x.cipher.Decrypt(iv, contents)
	}
	s.scratch.Put(x)
	return ok
}
