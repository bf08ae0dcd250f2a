// Package esp seals and opens packets of the Encapsulating Security Payload
// (RFC 4303). It sees keys and bytes: what is sealed is a payload with its
// next header, in transport mode an IP packet's payload with its protocol, in
// tunnel mode the whole IP packet with IPv4Packet or IPv6Packet. Outer
// headers, UDP encapsulation and policy are the caller's.
//
// An SA is safe for concurrent use, and the packet path allocates nothing.
// The package is pure: it does no I/O and reads no clock.
package esp

import (
	"errors"
	"sync/atomic"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Next headers that have a meaning to ESP itself.
const (
	IPv4Packet uint8 = 4  // a whole IPv4 packet (RFC 4303 section 2.6)
	IPv6Packet uint8 = 41 // a whole IPv6 packet
	Dummy      uint8 = 59 // a packet to be thrown away: it only hides that nothing was said
)

// What can become of a packet. Each is returned as it is, so that == works
// and nothing is allocated.
var (
	// ErrReplay says that a packet was received before, or is so old that
	// this cannot be told.
	ErrReplay = errors.New("esp: replayed or too old")
	// ErrIntegrity says that a packet is not from the holder of the keys or
	// was changed on its way.
	ErrIntegrity = errors.New("esp: integrity check failed")
	// ErrMalformed says that a packet has a length that the SA's transforms
	// never produce, or authentic contents with a wrong padding.
	ErrMalformed = errors.New("esp: malformed packet")
	// ErrSequenceExhausted says that the SA has used its last sequence
	// number: it must be replaced (RFC 4303 section 3.3.3).
	ErrSequenceExhausted = errors.New("esp: sequence numbers exhausted, the SA must be rekeyed")
	// ErrClosed says that the SA has been wiped.
	ErrClosed = errors.New("esp: SA is closed")
)

// Params is one direction of a Child SA.
type Params struct {
	SPI   ipsec.SPI
	Encr  ipsec.Transform
	Integ ipsec.Transform // zero for an AEAD
	ESN   bool            // 64-bit sequence numbers (RFC 4303 section 2.2.1)
	// Keys have the lengths of xform.KeyLens. The SA keeps the slices, and
	// its Wipe overwrites them.
	Keys ipsec.Keys
	// Window is how many packets an inbound SA looks back for replays, from
	// 32 to 65536; 0 means 1024. Outbound it means nothing.
	Window int
}

// Counters is what an SA has done. Dropped packets are counted by inbound SAs
// alone, and are in neither Packets nor Bytes.
type Counters struct {
	Packets uint64
	Bytes   uint64 // of payload, without all that ESP adds

	Replayed  uint64 // ErrReplay
	Forged    uint64 // ErrIntegrity
	Malformed uint64 // ErrMalformed
}

// headerLen is the length in bytes of SPI and sequence number.
const headerLen = 8

// trailerLen is the length in bytes of Pad Length and Next Header.
const trailerLen = 2

// secrets is what both kinds of SA hold until they are wiped.
type secrets struct {
	keys  ipsec.Keys
	suite atomic.Pointer[suite]
}

// Wipe makes the SA unusable: every Seal or Open that begins afterwards
// returns ErrClosed; one that is under way ends as it would have. It
// overwrites the keys in Params and forgets the ciphers made of them.
func (s *secrets) Wipe() {
	if s.suite.Swap(nil) != nil {
		s.keys.Wipe()
	}
}
