// Package packet reads and edits IPv4 and IPv6 packets in place, without
// allocating.
//
// Parse finds what a filter decides by: the addresses, the upper-layer
// protocol behind any IPv6 extension headers, and the ports. The other files
// do what offloading hardware does to a packet, for packets that never meet
// such hardware: they complete checksums, cut a large TCP packet into
// segments, merge segments into a large packet, and lower the MSS option. Others do
// what routers do: they cut packets into fragments, tell senders of an MTU and
// read who tells of one, and take the outer header's ECN over.
//
// All lengths and offsets are in bytes, and all numbers of a packet are in
// network byte order. The package is pure: it does no I/O.
package packet

// Protocol numbers (IANA, "Assigned Internet Protocol Numbers") that the
// package treats specially.
const (
	ICMP    = 1
	TCP     = 6
	UDP     = 17
	ESP     = 50
	AH      = 51
	ICMPv6  = 58
	SCTP    = 132
	UDPLite = 136
)

// IPv6 extension headers (RFC 8200 section 4.1).
const (
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	destOptions = 60
)

// HasPorts reports whether packets of an upper-layer protocol begin with a
// source and a destination port: TCP, UDP, UDP-Lite and SCTP.
func HasPorts(protocol uint8) bool {
	switch protocol {
	case TCP, UDP, SCTP, UDPLite:
		return true
	}
	return false
}
