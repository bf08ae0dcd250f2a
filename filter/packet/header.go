package packet

import (
	"encoding/binary"
	"net/netip"
)

// Lengths of the headers that AppendIPv4Header and AppendIPv6Header make, in
// bytes.
const (
	IPv4HeaderLen = 20
	IPv6HeaderLen = 40
)

// AppendIPv4Header appends an IPv4 header without options (RFC 791) for
// payloadLen bytes of payload, at most 65515. Its identification is 0: a
// packet with df set needs none (RFC 6864 section 4.1), and one without it
// must not be fragmented before it gets one. Both addresses must be IPv4.
func AppendIPv4Header(dst []byte, from, to netip.Addr, protocol, tos, ttl uint8, payloadLen int, df bool) []byte {
	var h [IPv4HeaderLen]byte
	h[0] = 0x45 // version 4, five words
	h[1] = tos
	binary.BigEndian.PutUint16(h[2:], uint16(IPv4HeaderLen+payloadLen))
	if df {
		h[6] = 0x40
	}
	h[8] = ttl
	h[9] = protocol
	src, dest := from.As4(), to.As4()
	copy(h[12:], src[:])
	copy(h[16:], dest[:])
	binary.BigEndian.PutUint16(h[10:], ^Fold(Sum(0, h[:])))
	return append(dst, h[:]...)
}

// AppendIPv6Header appends an IPv6 header (RFC 8200 section 3) for payloadLen
// bytes of payload, at most 65535, with flow label 0. Both addresses must be
// IPv6; their zones are not written.
func AppendIPv6Header(dst []byte, from, to netip.Addr, nextHeader, trafficClass, hopLimit uint8, payloadLen int) []byte {
	var h [IPv6HeaderLen]byte
	h[0] = 0x60 | trafficClass>>4
	h[1] = trafficClass << 4
	binary.BigEndian.PutUint16(h[4:], uint16(payloadLen))
	h[6] = nextHeader
	h[7] = hopLimit
	src, dest := from.As16(), to.As16()
	copy(h[8:], src[:])
	copy(h[24:], dest[:])
	return append(dst, h[:]...)
}
