package ipsec

import (
	"fmt"
	"net/netip"
)

// SPI is a security parameter index (RFC 4301 section 4.1). Values below
// 256 are reserved and never name an SA.
type SPI uint32

// String writes the SPI as eight hexadecimal digits.
func (s SPI) String() string { return fmt.Sprintf("%08x", uint32(s)) }

// Mode is how ESP wraps a packet (RFC 4301 section 3.2). The zero value is
// invalid.
type Mode uint8

// The modes.
const (
	Transport Mode = iota + 1
	Tunnel
)

// String returns the rule file's keyword.
func (m Mode) String() string {
	switch m {
	case Transport:
		return "transport"
	case Tunnel:
		return "tunnel"
	}
	return "invalid mode"
}

// Keys is the keying material of one direction of a Child SA (RFC 7296
// section 2.17). Encr includes the salt of AEAD ciphers, which stands last
// (RFC 5282 section 7.1, RFC 7634 section 2). Integ is empty for an AEAD.
type Keys struct {
	Encr, Integ []byte
}

// Wipe overwrites the keys.
func (k *Keys) Wipe() {
	clear(k.Encr)
	clear(k.Integ)
}

// ChildSA is an agreed pair of SAs, one for each direction, with all that
// the data path needs to use them.
type ChildSA struct {
	Policy   string // the rule that it was negotiated for
	Mode     Mode
	Protocol ProtocolID
	Encr     Transform
	Integ    Transform // zero for an AEAD
	ESN      bool

	InSPI, OutSPI   SPI  // InSPI is ours: the peer puts it into what it sends to us
	InKeys, OutKeys Keys // wiped by the data path when the SA is removed

	// Local and Remote are the traffic selectors: what we send has its
	// source in Local and its destination in Remote.
	Local, Remote []TrafficSelector

	// LocalAddr and RemoteAddr are the outer addresses. The ports are those
	// of UDP encapsulation (RFC 3948), and 0 for protocol 50.
	LocalAddr, RemoteAddr netip.AddrPort
	UDPEncap              bool
}
