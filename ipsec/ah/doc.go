// Package ah makes and checks packets of the IP Authentication Header (RFC
// 4302). What is protected is a payload with its next header, in transport mode
// an IP packet's payload with its protocol, in tunnel mode the whole IP packet,
// and with it the IP header before AH, but for what changes on the way. The
// caller makes that header and sets its protocol to Protocol; its mutable fields
// may have any value.
//
//	sa.go      the two directions of an SA
//	suite.go   the header itself, and what its ICV covers
//	mutable.go IP headers as the other end sees them
//
// An SA is safe for concurrent use, and the packet path allocates nothing.
// The package is pure: it does no I/O and reads no clock.
package ah

// Protocol is the number of AH among those of IP.
const Protocol uint8 = 51
