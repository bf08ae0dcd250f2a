package ipsec

import "errors"

// Params is one direction of a Child SA, as ESP and AH want it.
type Params struct {
	SPI   SPI
	Encr  Transform // zero for AH
	Integ Transform // zero for an AEAD
	ESN   bool      // 64-bit sequence numbers (RFC 4303 section 2.2.1)
	// Keys have the lengths of xform.KeyLens. The SA keeps the slices, and
	// its Wipe overwrites them.
	Keys Keys
	// Window is how many packets an inbound SA looks back for replays, from
	// 32 to 65536; 0 means 1024. Outbound it means nothing.
	Window int
	// Outer6 says that the IP header before the packets is one of IPv6, by
	// which AH aligns what follows it (RFC 4302 section 3.3.3.2.1).
	Outer6 bool
	Limit  Limit
	// Last is the last sequence number that was used under the keys; 0 for
	// none, as in every new SA.
	Last uint64
}

// Limit is how much an SA carries in one direction. 0 stands for no limit.
type Limit struct {
	Bytes, Packets         uint64 // after which it carries nothing more
	SoftBytes, SoftPackets uint64 // after which it is to be replaced
	// Reached, if set, is called when one of the soft limits is reached, and for
	// the first packet that is not carried any more. It must not block.
	Reached func()
}

// Outbound returns what the SA that we send with is made of.
func (c *ChildSA) Outbound() Params { return c.params(c.OutSPI, c.OutKeys) }

// Inbound returns what the SA that we receive with is made of.
func (c *ChildSA) Inbound() Params { return c.params(c.InSPI, c.InKeys) }

func (c *ChildSA) params(spi SPI, keys Keys) Params {
	return Params{
		SPI: spi, Encr: c.Encr, Integ: c.Integ, ESN: c.ESN, Keys: keys, Window: c.ReplayWindow,
		Outer6: c.RemoteAddr.Addr().Is6(),
	}
}

// Counters is what one direction of a Child SA has done. Dropped packets are
// counted inbound alone, and are in neither Packets nor Bytes.
type Counters struct {
	Packets uint64
	Bytes   uint64 // of payload, without all that ESP or AH adds

	Replayed  uint64 // ErrReplay
	Forged    uint64 // ErrIntegrity
	Malformed uint64 // ErrMalformed

	Over bool // the SA has carried all that it may: ErrLifetime, ErrSequenceExhausted
}

// What can become of a packet under an SA. Each is returned as it is, so that
// == works and nothing is allocated.
var (
	// ErrReplay says that a packet was received before, or is so old that
	// this cannot be told.
	ErrReplay = errors.New("replayed or too old")
	// ErrIntegrity says that a packet is not from the holder of the keys or
	// was changed on its way.
	ErrIntegrity = errors.New("integrity check failed")
	// ErrMalformed says that a packet has a form that the SA's transforms
	// never produce, or authentic contents with a wrong padding.
	ErrMalformed = errors.New("malformed packet")
	// ErrSequenceExhausted says that the SA has used its last sequence
	// number: it must be replaced (RFC 4302 section 3.3.2, RFC 4303 section
	// 3.3.3).
	ErrSequenceExhausted = errors.New("sequence numbers exhausted, the SA must be rekeyed")
	// ErrLifetime says that the SA has carried all that it may.
	ErrLifetime = errors.New("the lifetime of the SA is over")
	// ErrClosed says that the SA has been wiped.
	ErrClosed = errors.New("SA is closed")
)
