package esp

import (
	"sync"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// mac is AES-CBC (RFC 3602), 3DES-CBC (RFC 2451), AES-CTR (RFC 3686) or no
// encryption (RFC 2410), with a MAC (RFC 2404, RFC 4868, RFC 3566, RFC 4494)
// over header, IV and ciphertext.
type mac struct {
	integrity *xform.Integrity
	cipher    xform.Cipher // for its PutIV and lengths alone
	ciphers   sync.Pool    // of xform.Cipher
}

func newMAC(p ipsec.Params) (*mac, error) {
	c, err := xform.NewCipher(p.Encr, p.Keys.Encr)
	if err != nil {
		return nil, err
	}
	i, err := xform.NewIntegrity(p.Integ, p.Keys.Integ, p.ESN)
	if err != nil {
		return nil, err
	}
	s := &mac{integrity: i, cipher: c}
	s.ciphers.New = func() any { return c.Clone() }
	return s, nil
}

func (s *mac) lens() (iv, icv, block int) {
	return s.cipher.IVLen(), s.integrity.ICVLen, s.cipher.BlockSize()
}

func (s *mac) putIV(iv []byte, seq uint64) { s.cipher.PutIV(iv, seq) }

// split returns the parts of a packet: what the ICV covers, the IV, the
// contents and the ICV.
func (s *mac) split(pkt []byte) (covered, iv, contents, icv []byte) {
	start, end := headerLen+s.cipher.IVLen(), len(pkt)-s.integrity.ICVLen
	return pkt[:end], pkt[headerLen:start], pkt[start:end], pkt[end:]
}

func (s *mac) seal(pkt []byte, high uint32) {
	covered, iv, contents, icv := s.split(pkt)
	c := s.ciphers.Get().(xform.Cipher)
	c.Encrypt(iv, contents)
	s.ciphers.Put(c)
	s.integrity.Put(icv, nil, nil, covered, high)
}

func (s *mac) open(pkt []byte, high uint32) bool {
	covered, iv, contents, icv := s.split(pkt)
	if !s.integrity.Check(icv, nil, nil, covered, high) {
		return false
	}
	c := s.ciphers.Get().(xform.Cipher)
	c.Decrypt(iv, contents)
	s.ciphers.Put(c)
	return true
}
