package packet

import (
	"encoding/binary"
	"errors"
)

// Why Reset refuses a packet.
var (
	ErrNotTCP   = errors.New("packet is no whole TCP packet, and cannot be cut into segments")
	ErrSegment  = errors.New("segments have no room for data behind the TCP header")
	ErrNoCutTCP = errors.New("packet is a TCP SYN or RST, and too large for one segment")
)

// Segmenter cuts one large TCP packet, as the stack hands it to hardware that
// segments, into packets that fit the path. Its checksum need not be
// complete; those of the segments are. The zero value has no segments, and a
// Segmenter is used again for the next packet.
type Segmenter struct {
	pkt  []byte // the packet without padding
	p    Packet
	tcp  int    // bytes of the TCP header
	size int    // bytes of data in each segment but the last
	pos  int    // bytes of data already cut
	n    uint16 // segments already cut
	more bool   // segments are left
}

// Reset makes s cut pkt, which Parse read into p, into segments whose IP
// payload (any TCP header and its data) is at most maxIPPayload bytes. A
// packet that already fits is one segment. The Segmenter refers to pkt until
// the next Reset.
//
// It fails with ErrNotTCP, ErrSegment or ErrNoCutTCP, and then has no
// segments.
func (s *Segmenter) Reset(pkt []byte, p *Packet, maxIPPayload int) error {
	*s = Segmenter{}
	h, ok := tcpHeader(pkt, p)
	if !ok || p.Fragment {
		return ErrNotTCP
	}
	size := maxIPPayload - len(h)
	data := p.Len - p.HeaderLen - len(h)
	switch {
	case data > size && size < 1:
		return ErrSegment
	case data > size && h[13]&(flagSYN|flagRST) != 0:
		return ErrNoCutTCP
	}
	*s = Segmenter{pkt: pkt[:p.Len], p: *p, tcp: len(h), size: size, more: true}
	return nil
}

// Next writes the next segment's IP payload, TCP header and data, to dst and
// returns its length in bytes; ok is false when there is no more. The IP
// header that goes in front is the packet's own, with another length.
//
// dst must have room for the maxIPPayload bytes of Reset.
func (s *Segmenter) Next(dst []byte) (n int, ok bool) {
	return s.next(dst, 0)
}

// NextPacket writes the next segment as a whole IP packet to dst and returns
// its length in bytes; ok is false when there is no more. The header is the
// packet's own, with the segment's length; in IPv4 the identification counts
// up from the packet's and the header checksum is complete.
//
// dst must have room for HeaderLen bytes more than the maxIPPayload of Reset.
func (s *Segmenter) NextPacket(dst []byte) (n int, ok bool) {
	i := s.n
	n, ok = s.next(dst, s.p.HeaderLen)
	if !ok {
		return 0, false
	}
	copy(dst, s.pkt[:s.p.HeaderLen])
	if s.p.Is4() {
		binary.BigEndian.PutUint16(dst[2:], uint16(n))
		binary.BigEndian.PutUint16(dst[4:], binary.BigEndian.Uint16(s.pkt[4:])+i)
		FinishHeaderChecksum(dst)
	} else {
		binary.BigEndian.PutUint16(dst[4:], uint16(n-40))
	}
	return n, true
}

// next writes the next segment's TCP header and data to dst[at:] and returns
// where they end.
func (s *Segmenter) next(dst []byte, at int) (end int, ok bool) {
	if !s.more {
		return 0, false
	}
	u := s.pkt[s.p.HeaderLen:]
	data := u[s.tcp+s.pos:]
	s.more = len(data) > s.size
	if s.more {
		data = data[:s.size]
	}
	end = at + s.tcp + len(data)
	seg := dst[at:end]
	copy(seg, u[:s.tcp])
	copy(seg[s.tcp:], data)

	binary.BigEndian.PutUint32(seg[4:], binary.BigEndian.Uint32(u[4:])+uint32(s.pos))
	if s.more {
		seg[13] &^= flagFIN | flagPSH
	}
	if s.pos > 0 {
		seg[13] &^= flagCWR // RFC 3168 section 6.1.2: once for each reduction
	}
	if seg[13]&flagURG != 0 {
		// The urgent pointer counts from the segment's sequence number.
		if urgent := int(binary.BigEndian.Uint16(u[18:])); urgent > s.pos {
			binary.BigEndian.PutUint16(seg[18:], uint16(urgent-s.pos))
		} else {
			seg[13] &^= flagURG
			seg[18], seg[19] = 0, 0
		}
	}
	seg[16], seg[17] = 0, 0
	sum := Sum(PseudoSum(s.pkt, &s.p, len(seg)), seg)
	binary.BigEndian.PutUint16(seg[16:], ^Fold(sum))

	s.pos += len(data)
	s.n++
	return end, true
}
