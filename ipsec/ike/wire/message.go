// Package wire encodes and decodes IKE messages (RFC 7296 section 3). It is
// pure, allocates no more than the message it decodes is long, and never
// panics on what a network brings.
package wire

import (
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// ExchangeType is the third octet pair of the header (RFC 7296 section 3.1).
type ExchangeType uint8

// The exchanges of IKEv2.
const (
	IKESAInit     ExchangeType = 34
	IKEAuth       ExchangeType = 35
	CreateChildSA ExchangeType = 36
	Informational ExchangeType = 37
)

// Header is the fixed IKE header, 28 bytes (RFC 7296 section 3.1).
type Header struct {
	SPIi, SPIr   uint64
	Version      uint8 // major in the high four bits: 0x20 is IKEv2
	Exchange     ExchangeType
	Initiator    bool // the I flag: the sender is the original initiator
	Response     bool // the R flag
	HigherMinor  bool // the V flag
	MessageID    uint32
	FirstPayload PayloadType // set by decoding; computed by encoding
}

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
)

// Payload is one payload of a message. Each kind is a struct below; a kind
// that is not known decodes to *Unknown.
type Payload interface {
	Type() PayloadType
	// appendBody appends the payload without its generic header.
	appendBody(dst []byte) ([]byte, error)
}

// SA is the Security Association payload (RFC 7296 section 3.3).
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
	Protocol ipsec.ProtocolID // 0 when the SPI is empty
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

// TS is a Traffic Selector payload (section 3.13).
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
