package ipsec

import (
	"fmt"
	"strconv"
	"strings"
)

// ProtocolID is the "Security Protocol Identifier" of a proposal
// (RFC 7296 section 3.3.1).
type ProtocolID uint8

// The protocols of a proposal.
const (
	ProtoIKE ProtocolID = 1
	ProtoAH  ProtocolID = 2
	ProtoESP ProtocolID = 3
)

// String returns the protocol's usual name.
func (p ProtocolID) String() string {
	switch p {
	case ProtoIKE:
		return "IKE"
	case ProtoAH:
		return "AH"
	case ProtoESP:
		return "ESP"
	}
	return "protocol " + strconv.Itoa(int(p))
}

// TransformType says which property of an SA a transform chooses
// (RFC 7296 section 3.3.2).
type TransformType uint8

// The transform types.
const (
	TypeEncr  TransformType = 1
	TypePRF   TransformType = 2
	TypeInteg TransformType = 3
	TypeGroup TransformType = 4
	TypeESN   TransformType = 5
	// TypeADDKE1 to TypeADDKE7 are the additional key exchanges of RFC 9370.
	// Their transform IDs are those of TypeGroup; GroupNone leaves one out.
	TypeADDKE1 TransformType = 6
	TypeADDKE7 TransformType = 12
)

// String returns the type's name in the IANA registry, shortened.
func (t TransformType) String() string {
	switch t {
	case TypeEncr:
		return "ENCR"
	case TypePRF:
		return "PRF"
	case TypeInteg:
		return "INTEG"
	case TypeGroup:
		return "KE"
	case TypeESN:
		return "ESN"
	}
	if t.Additional() {
		return "ADDKE" + strconv.Itoa(int(t-TypeADDKE1)+1)
	}
	return "type " + strconv.Itoa(int(t))
}

// Additional reports whether t is one of the additional key exchanges of
// RFC 9370.
func (t TransformType) Additional() bool { return t >= TypeADDKE1 && t <= TypeADDKE7 }

// Transform IDs by type, from the IANA registry "IKEv2 Parameters".
const (
	EncrAESCBC           uint16 = 12 // RFC 3602
	EncrNull             uint16 = 11 // RFC 2410
	EncrAESGCM16         uint16 = 20 // RFC 4106, 5282
	EncrChaCha20Poly1305 uint16 = 28 // RFC 7634

	PRFHMACSHA1   uint16 = 2
	PRFHMACSHA256 uint16 = 5 // RFC 4868
	PRFHMACSHA384 uint16 = 6
	PRFHMACSHA512 uint16 = 7

	IntegNone       uint16 = 0
	IntegHMACSHA1   uint16 = 2  // HMAC-SHA1-96, RFC 2404
	IntegHMACSHA256 uint16 = 12 // HMAC-SHA2-256-128, RFC 4868
	IntegHMACSHA384 uint16 = 13 // HMAC-SHA2-384-192
	IntegHMACSHA512 uint16 = 14 // HMAC-SHA2-512-256

	GroupNone      uint16 = 0
	GroupMODP2048  uint16 = 14 // RFC 3526
	GroupP256      uint16 = 19 // RFC 5903
	GroupP384      uint16 = 20
	GroupX25519    uint16 = 31 // RFC 8031
	GroupMLKEM768  uint16 = 36 // draft-ietf-ipsecme-ikev2-mlkem
	GroupMLKEM1024 uint16 = 37

	ESNNo  uint16 = 0 // 32-bit sequence numbers
	ESNYes uint16 = 1 // 64-bit extended sequence numbers, RFC 4303 section 2.2.1
)

// Transform is one algorithm of a proposal.
type Transform struct {
	Type    TransformType
	ID      uint16
	KeyBits uint16 // the Key Length attribute, in bits; 0 when the attribute is absent
}

var transformNames = map[Transform]string{
	{TypeEncr, EncrAESCBC, 128}:         "aes128",
	{TypeEncr, EncrAESCBC, 256}:         "aes256",
	{TypeEncr, EncrAESGCM16, 128}:       "aes128gcm16",
	{TypeEncr, EncrAESGCM16, 256}:       "aes256gcm16",
	{TypeEncr, EncrChaCha20Poly1305, 0}: "chacha20poly1305",
	{TypeEncr, EncrNull, 0}:             "null",
	{TypePRF, PRFHMACSHA1, 0}:           "prfsha1",
	{TypePRF, PRFHMACSHA256, 0}:         "prfsha256",
	{TypePRF, PRFHMACSHA384, 0}:         "prfsha384",
	{TypePRF, PRFHMACSHA512, 0}:         "prfsha512",
	{TypeInteg, IntegHMACSHA1, 0}:       "sha1",
	{TypeInteg, IntegHMACSHA256, 0}:     "sha256",
	{TypeInteg, IntegHMACSHA384, 0}:     "sha384",
	{TypeInteg, IntegHMACSHA512, 0}:     "sha512",
	{TypeGroup, GroupMODP2048, 0}:       "modp2048",
	{TypeGroup, GroupP256, 0}:           "ecp256",
	{TypeGroup, GroupP384, 0}:           "ecp384",
	{TypeGroup, GroupX25519, 0}:         "x25519",
	{TypeGroup, GroupMLKEM768, 0}:       "mlkem768",
	{TypeGroup, GroupMLKEM1024, 0}:      "mlkem1024",
	{TypeESN, ESNNo, 0}:                 "noesn",
	{TypeESN, ESNYes, 0}:                "esn",
}

// String returns the keyword that a rule file uses for the transform, or
// its numbers when it has none.
func (t Transform) String() string {
	if s, ok := transformNames[t]; ok {
		return s
	}
	if t.KeyBits != 0 {
		return fmt.Sprintf("%s %d/%d", t.Type, t.ID, t.KeyBits)
	}
	return fmt.Sprintf("%s %d", t.Type, t.ID)
}

// AEAD reports whether t is an encryption transform that brings its own
// integrity (RFC 5282, RFC 7634); a proposal with it has no INTEG transform.
func (t Transform) AEAD() bool {
	return t.Type == TypeEncr && (t.ID == EncrAESGCM16 || t.ID == EncrChaCha20Poly1305)
}

// Proposal is one choice that a peer offers: for each transform type the
// acceptable transforms in order of preference (RFC 7296 section 3.3).
type Proposal struct {
	Number     uint8
	Protocol   ProtocolID
	SPI        []byte // the sender's SPI, network byte order: 0 bytes in IKE_SA_INIT, 8 for a rekeyed IKE SA, 4 for ESP and AH
	Transforms []Transform
}

// Of returns the proposal's transforms of one type, in order.
func (p Proposal) Of(t TransformType) []Transform {
	var out []Transform
	for _, x := range p.Transforms {
		if x.Type == t {
			out = append(out, x)
		}
	}
	return out
}

// First returns the first transform of type t; ok is false when there is none.
func (p Proposal) First(t TransformType) (tr Transform, ok bool) {
	for _, x := range p.Transforms {
		if x.Type == t {
			return x, true
		}
	}
	return Transform{}, false
}

// String returns the proposal as keywords joined with "-", as in
// "ESP:aes256gcm16-noesn".
func (p Proposal) String() string {
	names := make([]string, len(p.Transforms))
	for i, t := range p.Transforms {
		names[i] = t.String()
	}
	return p.Protocol.String() + ":" + strings.Join(names, "-")
}
