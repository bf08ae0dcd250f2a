package packet

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// Sum adds the 16-bit words of b to a one's-complement sum (RFC 1071) and
// returns the new sum, for Sum again or for Fold. A last odd byte counts as
// the high byte of a word, so that only the last part of what is summed may
// have an odd length.
func Sum(sum uint64, b []byte) uint64 {
	var c uint64
	for len(b) >= 64 {
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[8:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[16:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[24:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[32:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[40:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[48:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[56:]), c)
		b = b[64:]
	}
	for len(b) >= 8 {
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b), c)
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(last[:]), c)
	}
	// The carry goes round; it can carry once more, from all ones.
	sum, c = bits.Add64(sum, 0, c)
	return sum + c
}

// Fold reduces a sum to 16 bits. It is not complemented: a checksum field
// holds ^Fold(sum), and a sum over data with its correct checksum folds to
// 0xffff.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// PseudoSum returns the sum of the pseudo-header (RFC 9293 section 3.1, RFC
// 8200 section 8.1) of a payload of n bytes that has the header of packet b:
// the two addresses, the upper-layer protocol and the length.
func PseudoSum(b []byte, p *Packet, n int) uint64 {
	sum := uint64(p.Protocol) + uint64(n)
	if p.Is4() {
		return Sum(sum, b[12:20])
	}
	return Sum(sum, b[8:40])
}

// checksumAt returns the offset of the checksum in an upper-layer header, and
// the bytes that the header has at least. ok is false when the protocol has
// no checksum that the package knows.
func checksumAt(protocol uint8) (at, header int, ok bool) {
	switch protocol {
	case TCP:
		return 16, 20, true
	case UDP, UDPLite:
		return 6, 8, true
	case ICMP:
		return 2, 4, true
	case ICMPv6:
		return 2, 4, true
	case SCTP:
		return 8, 12, true
	}
	return 0, 0, false
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// coverage returns the part of the upper-layer packet u that its checksum
// covers, and the sum of what comes before it. ok is false when the length
// that UDP (RFC 768) or UDP-Lite (RFC 3828 section 3.1) writes into its
// header does not fit.
func coverage(b []byte, p *Packet, u []byte) (sum uint64, covered []byte, ok bool) {
	switch p.Protocol {
	case ICMP:
		return 0, u, true
	case UDP, UDPLite:
		n := int(binary.BigEndian.Uint16(u[4:]))
		if p.Protocol == UDPLite && n == 0 {
			n = len(u)
		}
		if n < 8 || n > len(u) {
			return 0, nil, false
		}
		covered = u[:n]
		if p.Protocol == UDP {
			u = covered
		}
		return PseudoSum(b, p, len(u)), covered, true
	}
	return PseudoSum(b, p, len(u)), u, true
}

// FinishChecksum writes the complete checksum of the upper-layer packet in b,
// whatever its field holds, as when the stack left it to hardware. It knows
// TCP, UDP, UDP-Lite, ICMP, ICMPv6 and SCTP, and returns false and changes
// nothing for other protocols, for fragments, whose checksum covers more than
// they hold, and for packets shorter than the protocol's header or than their own length.
func FinishChecksum(b []byte, p *Packet) bool {
	at, header, ok := checksumAt(p.Protocol)
	if !ok || p.Fragment || p.Len-p.HeaderLen < header {
		return false
	}
	u := b[p.HeaderLen:p.Len]
	if p.Protocol == SCTP {
		clear(u[at : at+4])
		binary.LittleEndian.PutUint32(u[at:], crc32.Checksum(u, castagnoli)) // RFC 9260 appendix A
		return true
	}
	sum, covered, ok := coverage(b, p, u)
	if !ok {
		return false
	}
	clear(u[at : at+2])
	sum = Sum(sum, covered)
	binary.BigEndian.PutUint16(u[at:], complement(p.Protocol, sum))
	return true
}

// complement returns what a checksum field holds for a sum. In UDP zero
// stands for no checksum, and the other zero takes its place (RFC 768).
func complement(protocol uint8, sum uint64) uint16 {
	c := ^Fold(sum)
	if c == 0 && (protocol == UDP || protocol == UDPLite) {
		return 0xffff
	}
	return c
}

// VerifyChecksum reports whether the checksum of the upper-layer packet in b
// is right. A UDP packet over IPv4 may have none (RFC 768). For a protocol
// whose checksum FinishChecksum does not know there is nothing to be wrong,
// and it returns true; for a fragment, and a packet shorter than the
// protocol's header, it returns false.
func VerifyChecksum(b []byte, p *Packet) bool {
	at, header, ok := checksumAt(p.Protocol)
	if p.Fragment {
		return false
	}
	if !ok {
		return true
	}
	if p.Len-p.HeaderLen < header {
		return false
	}
	u := b[p.HeaderLen:p.Len]
	if p.Protocol == SCTP {
		// The field itself counts as zero.
		crc := crc32.Update(0, castagnoli, u[:at])
		crc = crc32.Update(crc, castagnoli, zeros[:])
		crc = crc32.Update(crc, castagnoli, u[at+4:])
		return crc == binary.LittleEndian.Uint32(u[at:])
	}
	if binary.BigEndian.Uint16(u[at:]) == 0 {
		switch p.Protocol {
		case UDP:
			return p.Is4()
		case UDPLite:
			return false
		}
	}
	sum, covered, ok := coverage(b, p, u)
	return ok && Fold(Sum(sum, covered)) == 0xffff
}

var zeros [4]byte

// FinishHeaderChecksum writes the header checksum of the IPv4 packet at the
// start of b, which Parse has accepted. IPv6 has none.
func FinishHeaderChecksum(b []byte) {
	h := b[:int(b[0]&0xf)*4]
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], ^Fold(Sum(0, h)))
}
