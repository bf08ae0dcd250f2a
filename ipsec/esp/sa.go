package esp

import (
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/protect"
)

// Outbound is an SA that we send with. Its packets are whole when they are
// sealed, whatever IP header is put before them.
type Outbound struct{ *protect.Sender }

// NewOutbound returns an SA whose first packet has sequence number 1. There
// must be only one for its keys, ever. The error wraps xform.ErrUnsupported
// or xform.ErrKeyLength, or names a reserved SPI.
func NewOutbound(p ipsec.Params) (*Outbound, error) {
	s, err := newSuite(p)
	if err != nil {
		return nil, fmt.Errorf("outbound ESP SA: %w", err)
	}
	o, err := protect.NewSender(p, s)
	if err != nil {
		return nil, fmt.Errorf("outbound ESP SA: %w", err)
	}
	return &Outbound{o}, nil
}

// Protocol returns the number of the packets' IP protocol.
func (*Outbound) Protocol() uint8 { return Protocol }

// CoversHeader reports whether the ICV covers the IP header.
func (*Outbound) CoversHeader() bool { return false }

// Inbound is an SA that we receive with. It does not look at the header that is
// given to Open. In tunnel mode more bytes may follow the IP packet that Open
// returns than its own length tells, and so they may after UDP (RFC 4303 section
// 2.7).
type Inbound struct{ *protect.Receiver }

// NewInbound returns an SA that has received nothing yet. The error wraps
// xform.ErrUnsupported or xform.ErrKeyLength, or names a reserved SPI or a
// window out of bounds.
func NewInbound(p ipsec.Params) (*Inbound, error) {
	s, err := newSuite(p)
	if err != nil {
		return nil, fmt.Errorf("inbound ESP SA: %w", err)
	}
	in, err := protect.NewReceiver(p, s)
	if err != nil {
		return nil, fmt.Errorf("inbound ESP SA: %w", err)
	}
	return &Inbound{in}, nil
}
