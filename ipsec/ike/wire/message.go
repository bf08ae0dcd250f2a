// Package wire encodes and decodes IKE messages (RFC 7296 section 3). It is
// pure and never panics on what a network brings. What it allocates is in
// proportion to the bytes that came, never to a number written in them.
//
// Decoding copies nothing: every byte slice of a decoded payload is a part of
// the input, which must not change for as long as the payload is in use. An
// empty field decodes to nil.
//
// Reserved bits and bytes are ignored when they arrive and zero when they
// leave.
package wire

import (
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// ExchangeType says which exchange a message belongs to, and so which payloads
// it has to carry (RFC 7296 section 3.1).
type ExchangeType uint8

// The exchanges of IKEv2.
const (
	IKESAInit       ExchangeType = 34
	IKEAuth         ExchangeType = 35
	CreateChildSA   ExchangeType = 36
	Informational   ExchangeType = 37
	IKEIntermediate ExchangeType = 43 // RFC 9242
	IKEFollowupKE   ExchangeType = 44 // RFC 9370
)

// Version2 is the header's version of IKEv2: major 2, minor 0.
const Version2 uint8 = 0x20

// Header is the fixed IKE header, 28 bytes (RFC 7296 section 3.1).
type Header struct {
	SPIi, SPIr   uint64
	Version      uint8 // major in the high four bits: Version2 is IKEv2
	Exchange     ExchangeType
	Initiator    bool // the I flag: the sender is the original initiator
	Response     bool // the R flag
	HigherMinor  bool // the V flag
	MessageID    uint32
	FirstPayload PayloadType // set by decoding; computed by encoding
}

// Major returns the major version: 1 or 2 for the versions of IKE that exist.
func (h Header) Major() uint8 { return h.Version >> 4 }

// PayloadType is the "Next Payload" number (RFC 7296 section 3.2).
type PayloadType uint8

// The payload types of IKEv2.
const (
	NoNextPayload PayloadType = 0
	TypeSA        PayloadType = 33
	TypeKE        PayloadType = 34
	TypeIDi       PayloadType = 35
	TypeIDr       PayloadType = 36
	TypeCert      PayloadType = 37
	TypeCertReq   PayloadType = 38
	TypeAuth      PayloadType = 39
	TypeNonce     PayloadType = 40
	TypeNotify    PayloadType = 41
	TypeDelete    PayloadType = 42
	TypeVendorID  PayloadType = 43
	TypeTSi       PayloadType = 44
	TypeTSr       PayloadType = 45
	TypeEncrypted PayloadType = 46
	TypeFragment  PayloadType = 53 // RFC 7383
)

// Payload is one payload of a message. Each kind is a struct below; a kind
// that is not known decodes to *Unknown.
type Payload interface {
	Type() PayloadType
	// appendBody appends the payload without its generic header.
	appendBody(dst []byte) ([]byte, error)
}

// SA is the Security Association payload (RFC 7296 section 3.3). A transform
// that came with an attribute that is not understood has Unusable as its ID.
type SA struct{ Proposals []ipsec.Proposal }

// KE is the Key Exchange payload (section 3.4).
type KE struct {
	Group uint16
	Data  []byte
}

// ID is an Identification payload (section 3.5).
type ID struct {
	Responder bool // IDr when true, IDi when false
	Kind      IDKind
	Data      []byte
}

// Cert is the Certificate payload (section 3.6).
type Cert struct {
	Encoding CertEncoding
	Data     []byte
}

// CertReq is the Certificate Request payload (section 3.7). For X.509 the
// data is the concatenation of the SHA-1 hashes, 20 bytes each, of the
// trusted authorities' SubjectPublicKeyInfo.
type CertReq struct {
	Encoding    CertEncoding
	Authorities []byte
}

// Auth is the Authentication payload (section 3.8).
type Auth struct {
	Method AuthMethod
	Data   []byte // for Digital Signature (RFC 7427): the length-prefixed AlgorithmIdentifier and the signature
}

// Nonce is Ni or Nr (section 3.9), 16 to 256 bytes.
type Nonce struct{ Data []byte }

// Notify is the Notify payload (section 3.10).
type Notify struct {
	Protocol ipsec.ProtocolID // 0 when the SPI is empty, sent and received
	SPI      []byte
	Kind     NotifyType
	Data     []byte
}

// Delete is the Delete payload (section 3.11). SPIs is empty for an IKE SA.
type Delete struct {
	Protocol ipsec.ProtocolID
	SPIs     []ipsec.SPI
}

// VendorID is the Vendor ID payload (section 3.12).
type VendorID struct{ Data []byte }

// TS is a Traffic Selector payload (section 3.13). Selectors of other types
// than TS_IPV4_ADDR_RANGE and TS_IPV6_ADDR_RANGE are left out, so that
// Selectors may be empty: nothing that the peer wants can then be granted.
// The ports of ICMP hold type and code as they came (section 3.13.1), and
// OPAQUE ports stand as StartPort 65535 with EndPort 0, which match nothing.
type TS struct {
	Responder bool // TSr when true, TSi when false
	Selectors []ipsec.TrafficSelector
}

// Encrypted is the SK payload as it stands on the wire (section 3.14): IV,
// ciphertext and ICV, and the type of the first payload inside.
type Encrypted struct {
	Inner PayloadType
	Body  []byte
}

// Unknown is a payload of a type that is not known here. With Critical set
// the message must be rejected (section 2.5).
type Unknown struct {
	Kind     PayloadType
	Critical bool
	Body     []byte
}
