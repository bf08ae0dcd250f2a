package packet

// EnRoute returns how many bytes of the packet that Parse read from b belong to
// every hop: the IPv4 header, or the IPv6 header with the extension headers up
// to the last hop-by-hop, routing or fragment header. What follows, destination
// options too, is for the destination alone: it is what fragments carry (RFC
// 8200 section 4.5) and what ESP and AH protect in transport mode (RFC 4303
// section 3.1.1). The byte at nextAt names the protocol of it.
func EnRoute(b []byte, p *Packet) (length, nextAt int) {
	if p.Is4() {
		return p.HeaderLen, p.NextHeaderAt
	}
	length, nextAt = IPv6HeaderLen, 6
	at, pos := nextAt, length
	for pos < p.HeaderLen {
		kind, size := b[at], 8
		if kind != fragment {
			size += int(b[pos+1]) * 8
		}
		at, pos = pos, pos+size
		if kind != destOptions {
			length, nextAt = pos, at
		}
	}
	return length, nextAt
}
