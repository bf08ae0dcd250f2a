package ah

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/protect"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// fixedLen is the length in bytes of what precedes the Integrity Check Value
// field: next header, payload length, reserved, SPI and sequence number.
const fixedLen = 12

// suite is AH with an SA's integrity algorithm.
type suite struct {
	spi       uint32
	integrity *xform.Integrity
	headerLen int       // of what we send
	scratch   sync.Pool // of *scratch
}

// scratch is what a packet is checked with.
type scratch struct {
	header []byte   // the IP header, as the ICV covers it
	icv    [64]byte // as received, as long as the longest hash
}

func newSuite(p ipsec.Params) (*suite, error) {
	if p.Encr != (ipsec.Transform{}) || len(p.Keys.Encr) != 0 {
		return nil, fmt.Errorf("%w %s: AH does not encrypt", xform.ErrUnsupported, p.Encr)
	}
	i, err := xform.NewIntegrity(p.Integ, p.Keys.Integ, p.ESN)
	if err != nil {
		return nil, err
	}
	s := &suite{spi: uint32(p.SPI), integrity: i}
	s.headerLen = s.lenFor(align(p.Outer6))
	s.scratch.New = func() any { return new(scratch) }
	return s, nil
}

// align is what the length of AH is a multiple of, in bytes (RFC 4302 section
// 3.3.3.2.1).
func align(outer6 bool) int {
	if outer6 {
		return 8
	}
	return 4
}

// lenFor returns the length of AH, which is padded to a multiple of align.
func (s *suite) lenFor(align int) int {
	return (fixedLen + s.integrity.IVLen + s.integrity.ICVLen + align - 1) / align * align
}

// fields returns the IV and the ICV of an AH. An IV is a part of the Integrity
// Check Value field (RFC 4543 section 4).
func (s *suite) fields(pkt []byte) (iv, icv []byte) {
	field := pkt[fixedLen:]
	return field[:s.integrity.IVLen], field[s.integrity.IVLen:][:s.integrity.ICVLen]
}

// Layout implements protect.Suite.
func (s *suite) Layout() protect.Layout { return protect.Layout{Header: s.headerLen, Align: 1} }

// Seal implements protect.Suite: all but the ICV.
func (s *suite) Seal(pkt []byte, _ int, seq uint64, nextHeader uint8) {
	h := pkt[:s.headerLen]
	clear(h)
	h[0] = nextHeader
	h[1] = uint8(len(h)/4 - 2)
	binary.BigEndian.PutUint32(h[4:], s.spi)
	binary.BigEndian.PutUint32(h[8:], uint32(seq))
	if iv, _ := s.fields(h); len(iv) > 0 {
		binary.BigEndian.PutUint64(iv, seq) // it must not be repeated, and may be predictable (RFC 4543 section 3.1)
	}
}

// Finish implements protect.Suite. The upper half of the sequence number is
// that of the last number so far that ends like the packet's.
func (s *suite) Finish(ip []byte, headerLen int, last uint64) {
	header, pkt := ip[:headerLen], ip[headerLen:]
	seq := last - uint64(uint32(last)-binary.BigEndian.Uint32(pkt[8:]))
	x := s.scratch.Get().(*scratch)
	defer s.scratch.Put(x)
	var ok bool
	if x.header, ok = appendCovered(x.header[:0], header, true); !ok {
		return // nobody can check it
	}
	iv, icv := s.fields(pkt)
	clear(icv)
	s.integrity.Put(icv, iv, x.header, pkt, uint32(seq>>32))
}

// Number implements protect.Suite. Padding beyond what is needed is against RFC
// 4302 section 3.3.3.2.1, but Linux pads to 64 bits with IPv4 too unless it is
// told otherwise.
func (s *suite) Number(header, pkt []byte) (low uint32, ok bool) {
	if len(header) == 0 || len(pkt) < fixedLen {
		return 0, false
	}
	n := lenOf(pkt)
	if n > len(pkt) || n != s.lenFor(align(true)) && (n != s.lenFor(align(false)) || header[0]>>4 == 6) {
		return 0, false
	}
	return binary.BigEndian.Uint32(pkt[8:]), true
}

// lenOf returns the length that an AH says it has.
func lenOf(pkt []byte) int { return (int(pkt[1]) + 2) * 4 }

// Open implements protect.Suite.
func (s *suite) Open(header, pkt []byte, high uint32) (payload []byte, nextHeader uint8, err error) {
	x := s.scratch.Get().(*scratch)
	defer s.scratch.Put(x)
	var ok bool
	if x.header, ok = appendCovered(x.header[:0], header, false); !ok {
		return nil, 0, ipsec.ErrMalformed
	}
	iv, field := s.fields(pkt)
	icv := x.icv[:copy(x.icv[:], field)]
	clear(field) // the ICV covers itself as zeros
	if !s.integrity.Check(icv, iv, x.header, pkt, high) {
		return nil, 0, ipsec.ErrIntegrity
	}
	return pkt[lenOf(pkt):], pkt[0], nil
}
