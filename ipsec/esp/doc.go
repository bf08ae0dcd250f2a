// Package esp seals and opens packets of the Encapsulating Security Payload
// (RFC 4303). It sees keys and bytes: what is sealed is a payload with its
// next header, in transport mode an IP packet's payload with its protocol, in
// tunnel mode the whole IP packet with IPv4Packet or IPv6Packet. Outer
// headers, UDP encapsulation and policy are the caller's.
//
// An SA is safe for concurrent use, and the packet path allocates nothing.
// The package is pure: it does no I/O and reads no clock.
package esp

// Protocol is the number of ESP among those of IP.
const Protocol uint8 = 50

// Next headers that have a meaning to ESP itself.
const (
	IPv4Packet uint8 = 4  // a whole IPv4 packet (RFC 4303 section 2.6)
	IPv6Packet uint8 = 41 // a whole IPv6 packet
	Dummy      uint8 = 59 // a packet to be thrown away: it only hides that nothing was said
)
