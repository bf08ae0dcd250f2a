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

	ReplayWindow int // packets that we look back for replays; 0 for the default
	DF           DF  // in tunnel mode over IPv4
	// TFC is how many bytes the packets in a tunnel are padded to (RFC 4303
	// section 2.7), as far as the path has room; 0 for none. TFCFull pads to all
	// that it has.
	TFC int
	// Unpadded says that the peer takes no such padding.
	Unpadded bool

	// Nested says that the packets of this ESP travel inside AH, of another Child SA
	// for the same rule: in transport mode, for protocol 50 between the two outer
	// addresses (RFC 4301 appendix E).
	Nested bool

	InSPI, OutSPI   SPI  // InSPI is ours: the peer puts it into what it sends to us
	InKeys, OutKeys Keys // wiped by the data path when the SA is removed

	// Local and Remote are the traffic selectors: what we send has its
	// source in Local and its destination in Remote.
	Local, Remote []TrafficSelector

	// LocalAddr and RemoteAddr are the outer addresses. The ports are those
	// of UDP encapsulation (RFC 3948), and 0 for protocol 50.
	LocalAddr, RemoteAddr netip.AddrPort
	UDPEncap              bool

	// PeerID is who the peer has proved to be, or empty if it has proved nothing.
	PeerID string

	// OriginalLocal and OriginalRemote are the two ends as the peer knows them,
	// in transport mode where there is a NAT between: the addresses of its
	// packets before they are translated, for which their checksums are right
	// (RFC 7296 section 2.23.1, RFC 3948 section 3.1.2). They are the zero
	// address otherwise.
	OriginalLocal, OriginalRemote netip.Addr

	// BehindNAT says that this host is behind a NAT, or pretends to be: the
	// keepalives are its affair (RFC 3948 section 4).
	BehindNAT bool
}

// Algorithms returns the keywords of what protects the packets, as in
// "aes256-sha256".
func (c *ChildSA) Algorithms() string {
	switch {
	case c.Protocol == ProtoAH:
		return c.Integ.String()
	case c.Encr.AEAD():
		return c.Encr.String()
	}
	return c.Encr.String() + "-" + c.Integ.String()
}

// Translated reports whether the SA is one of transport mode with a NAT on the
// way, or an end that pretends so.
func (c *ChildSA) Translated() bool { return c.OriginalRemote.IsValid() }
