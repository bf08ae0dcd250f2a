package ah

import (
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/protect"
)

// Outbound is an SA that we send with. Its packets have no ICV before Finish is
// given their IP header.
type Outbound struct{ *protect.Sender }

// NewOutbound returns an SA whose first packet has sequence number 1. There
// must be only one for its keys, ever. The error wraps xform.ErrUnsupported
// or xform.ErrKeyLength, or names a reserved SPI.
func NewOutbound(p ipsec.Params) (*Outbound, error) {
	s, err := newSuite(p)
	if err != nil {
		return nil, fmt.Errorf("outbound AH SA: %w", err)
	}
	o, err := protect.NewSender(p, s)
	if err != nil {
		return nil, fmt.Errorf("outbound AH SA: %w", err)
	}
	return &Outbound{o}, nil
}

// Protocol returns the number of the packets' IP protocol.
func (*Outbound) Protocol() uint8 { return Protocol }

// CoversHeader reports whether the ICV covers the IP header.
func (*Outbound) CoversHeader() bool { return true }

// Inbound is an SA that we receive with. Open takes the IP header as it was
// received, options and extension headers included, and reassembled.
type Inbound struct{ *protect.Receiver }

// NewInbound returns an SA that has received nothing yet. The error wraps
// xform.ErrUnsupported or xform.ErrKeyLength, or names a reserved SPI or a
// window out of bounds.
func NewInbound(p ipsec.Params) (*Inbound, error) {
	s, err := newSuite(p)
	if err != nil {
		return nil, fmt.Errorf("inbound AH SA: %w", err)
	}
	in, err := protect.NewReceiver(p, s)
	if err != nil {
		return nil, fmt.Errorf("inbound AH SA: %w", err)
	}
	return &Inbound{in}, nil
}
