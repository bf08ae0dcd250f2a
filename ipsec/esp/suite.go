package esp

import (
	"encoding/binary"
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/protect"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// headerLen is the length in bytes of SPI and sequence number.
const headerLen = 8

// trailerLen is the length in bytes of Pad Length and Next Header.
const trailerLen = 2

// suite is ESP with the protection that an SA's transforms give.
type suite struct {
	protection
	spi    uint32
	layout protect.Layout
}

// protection is what an SA's transforms do. Packets are whole: header, IV,
// contents and room for the ICV. It is safe for concurrent use.
type protection interface {
	// lens returns the lengths in bytes of IV and ICV, and of the blocks that
	// contents come in.
	lens() (iv, icv, block int)
	// putIV writes the IV of the packet with a sequence number.
	putIV(iv []byte, seq uint64)
	// seal encrypts a packet's contents in place and writes its ICV. high is
	// the upper half of an extended sequence number.
	seal(pkt []byte, high uint32)
	// open checks a packet's ICV and decrypts its contents in place. After a
	// failure the contents are undefined.
	open(pkt []byte, high uint32) bool
}

func newSuite(p ipsec.Params) (*suite, error) {
	_, integLen, err := xform.KeyLens(p.Encr, p.Integ)
	if err != nil {
		return nil, err
	}
	if len(p.Keys.Integ) != integLen {
		return nil, fmt.Errorf("%w for integrity: %d bytes, not %d", xform.ErrKeyLength, len(p.Keys.Integ), integLen)
	}
	s := &suite{spi: uint32(p.SPI)}
	if p.Encr.AEAD() {
		s.protection, err = newAEAD(p.Encr, p.Keys.Encr, p.ESN)
	} else {
		s.protection, err = newMAC(p)
	}
	if err != nil {
		return nil, err
	}
	iv, icv, block := s.lens()
	s.layout = protect.Layout{Header: headerLen + iv, Trailer: trailerLen, Align: max(4, block), ICV: icv}
	return s, nil
}

// Layout implements protect.Suite.
func (s *suite) Layout() protect.Layout { return s.layout }

// Seal implements protect.Suite.
func (s *suite) Seal(pkt []byte, n int, seq uint64, nextHeader uint8) {
	trailer := pkt[s.layout.Header+n : len(pkt)-s.layout.ICV]
	pad := len(trailer) - trailerLen
	for i := range pad {
		trailer[i] = byte(i + 1)
	}
	trailer[pad] = byte(pad)
	trailer[pad+1] = nextHeader

	binary.BigEndian.PutUint32(pkt, s.spi)
	binary.BigEndian.PutUint32(pkt[4:], uint32(seq))
	s.putIV(pkt[headerLen:s.layout.Header], seq)
	s.seal(pkt, uint32(seq>>32))
}

// Finish implements protect.Suite: ESP covers no IP header.
func (s *suite) Finish([]byte, int, uint64) {}

// Number implements protect.Suite.
func (s *suite) Number(_, pkt []byte) (low uint32, ok bool) {
	if _, ok := s.layout.Contents(len(pkt)); !ok {
		return 0, false
	}
	return binary.BigEndian.Uint32(pkt[4:]), true
}

// Open implements protect.Suite.
func (s *suite) Open(_, pkt []byte, high uint32) (payload []byte, nextHeader uint8, err error) {
	if !s.open(pkt, high) {
		return nil, 0, ipsec.ErrIntegrity
	}
	payload, nextHeader, ok := trim(pkt[s.layout.Header : len(pkt)-s.layout.ICV])
	if !ok {
		return nil, 0, ipsec.ErrMalformed
	}
	return payload, nextHeader, nil
}

// trim takes padding and trailer, which is at least there, from decrypted
// contents. The padding must be 1, 2, 3 … (RFC 4303 section 2.4).
func trim(contents []byte) (payload []byte, nextHeader uint8, ok bool) {
	end := len(contents) - trailerLen
	pad := int(contents[end])
	if pad > end {
		return nil, 0, false
	}
	payload = contents[:end-pad]
	for i, b := range contents[end-pad : end] {
		if int(b) != i+1 {
			return nil, 0, false
		}
	}
	return payload, contents[end+1], true
}
