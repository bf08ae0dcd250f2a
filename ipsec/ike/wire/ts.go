package wire

import (
	"encoding/binary"
	"math"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Traffic selector types (section 3.13.1).
const (
	tsIPv4Range = 7
	tsIPv6Range = 8

	tsHeadLen = 4 // type, protocol and length, which every type has
)

// Type returns TypeTSi or TypeTSr.
func (t *TS) Type() PayloadType {
	if t.Responder {
		return TypeTSr
	}
	return TypeTSi
}

func decodeTS(t PayloadType, c cursor) (*TS, error) {
	ts := &TS{Responder: t == TypeTSr}
	head, err := c.take(4)
	if err != nil {
		return nil, err
	}
	for range head[0] {
		head, body, err := c.structure(tsHeadLen)
		if err != nil {
			return nil, err
		}
		size := 4
		switch head[0] {
		case tsIPv4Range:
		case tsIPv6Range:
			size = 16
		default:
			continue
		}
		s, err := decodeSelector(head[1], size, body)
		if err != nil {
			return nil, err
		}
		ts.Selectors = append(ts.Selectors, s)
	}
	return ts, c.end()
}

// decodeSelector reads the ports and the two addresses, of size bytes each.
func decodeSelector(protocol uint8, size int, c cursor) (s ipsec.TrafficSelector, err error) {
	at := c
	b, err := c.take(4 + 2*size)
	if err != nil {
		return s, err
	}
	if err := c.end(); err != nil {
		return s, err
	}
	s.Protocol = protocol
	s.StartPort, s.EndPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	s.Start, _ = netip.AddrFromSlice(b[4 : 4+size])
	s.End, _ = netip.AddrFromSlice(b[4+size:])
	if !ordered(s) {
		return s, at.fail("the selector %s ends before it starts", s)
	}
	return s, nil
}

// ordered reports whether a selector's ranges do not end before they start,
// or its ports are OPAQUE.
func ordered(s ipsec.TrafficSelector) bool {
	opaque := s.StartPort == math.MaxUint16 && s.EndPort == 0
	return s.Start.Compare(s.End) <= 0 && (s.StartPort <= s.EndPort || opaque)
}

func (t *TS) appendBody(dst []byte) ([]byte, error) {
	if len(t.Selectors) > math.MaxUint8 {
		return nil, cannotEncode(t.Type(), dst, "%d selectors, the most is %d", len(t.Selectors), math.MaxUint8)
	}
	dst = append(dst, byte(len(t.Selectors)), 0, 0, 0)
	for _, s := range t.Selectors {
		if s.Start.BitLen() != s.End.BitLen() || !s.Start.IsValid() {
			return nil, cannotEncode(t.Type(), dst, "a selector from %s to %s is no range of one family", s.Start, s.End)
		}
		if !ordered(s) {
			return nil, cannotEncode(t.Type(), dst, "the selector %s ends before it starts", s)
		}
		kind := byte(tsIPv4Range)
		if !s.Start.Is4() {
			kind = tsIPv6Range
		}
		start, end := s.Start.AsSlice(), s.End.AsSlice()
		dst = append(dst, kind, s.Protocol, 0, byte(tsHeadLen+4+len(start)+len(end)))
		dst = binary.BigEndian.AppendUint16(dst, s.StartPort)
		dst = binary.BigEndian.AppendUint16(dst, s.EndPort)
		dst = append(dst, start...)
		dst = append(dst, end...)
	}
	return dst, nil
}
