package packet

import "encoding/binary"

// UpdateChecksum makes the checksum of the upper-layer packet in b right again
// when some of what it covers has changed: from is the sum of what was there, to
// of what is there now (RFC 1624). A checksum that was wrong stays wrong. It
// knows TCP, UDP, UDP-Lite, ICMP and ICMPv6, and returns false and changes
// nothing for other protocols, and where the checksum is cut off. A UDP packet
// without one stays without one, and a fragment that is not the first has none.
func UpdateChecksum(b []byte, p *Packet, from, to uint64) bool {
	at, _, ok := checksumAt(p.Protocol)
	if !ok || p.Protocol == SCTP {
		return false
	}
	if p.FragmentOffset != 0 {
		return true
	}
	at += p.HeaderLen
	if at+2 > p.Len {
		return false
	}
	field := b[at : at+2]
	was := binary.BigEndian.Uint16(field)
	if was == 0 && p.Protocol == UDP {
		return true
	}
	sum := uint64(^was) + uint64(^Fold(from)) + uint64(Fold(to))
	binary.BigEndian.PutUint16(field, complement(p.Protocol, sum))
	return true
}

// UpdatePseudo is UpdateChecksum for a change of the addresses, which the
// checksums of some protocols cover and those of others do not: with the latter
// there is nothing to do, and it returns true.
func UpdatePseudo(b []byte, p *Packet, from, to uint64) bool {
	switch p.Protocol {
	case TCP, UDP, UDPLite, ICMPv6:
		return UpdateChecksum(b, p, from, to)
	}
	return true
}
