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
	Encr3DES             uint16 = 3  // 3DES in CBC mode, RFC 2451
	EncrNull             uint16 = 11 // RFC 2410
	EncrAESCBC           uint16 = 12 // RFC 3602
	EncrAESCTR           uint16 = 13 // RFC 3686, 5930
	EncrAESCCM8          uint16 = 14 // RFC 4309, 5282; the number is the ICV's length in bytes
	EncrAESCCM12         uint16 = 15
	EncrAESCCM16         uint16 = 16
	EncrAESGCM8          uint16 = 18 // RFC 4106, 5282
	EncrAESGCM12         uint16 = 19
	EncrAESGCM16         uint16 = 20
	EncrNullAESGMAC      uint16 = 21 // ENCR_NULL_AUTH_AES_GMAC, RFC 4543: integrity alone
	EncrChaCha20Poly1305 uint16 = 28 // RFC 7634

	PRFHMACSHA1   uint16 = 2
	PRFAESXCBC    uint16 = 4 // AES-XCBC-PRF-128, RFC 4434
	PRFHMACSHA256 uint16 = 5 // RFC 4868
	PRFHMACSHA384 uint16 = 6
	PRFHMACSHA512 uint16 = 7
	PRFAESCMAC    uint16 = 8 // AES-CMAC-PRF-128, RFC 4615

	IntegNone       uint16 = 0
	IntegHMACSHA1   uint16 = 2 // HMAC-SHA1-96, RFC 2404
	IntegAESXCBC    uint16 = 5 // AES-XCBC-MAC-96, RFC 3566
	IntegAESCMAC    uint16 = 8 // AES-CMAC-96, RFC 4494
	IntegAES128GMAC uint16 = 9 // AUTH_AES_128_GMAC, RFC 4543, of AH alone
	IntegAES192GMAC uint16 = 10
	IntegAES256GMAC uint16 = 11
	IntegHMACSHA256 uint16 = 12 // HMAC-SHA2-256-128, RFC 4868
	IntegHMACSHA384 uint16 = 13 // HMAC-SHA2-384-192
	IntegHMACSHA512 uint16 = 14 // HMAC-SHA2-512-256

	GroupNone          uint16 = 0
	GroupMODP1024      uint16 = 2 // RFC 2409
	GroupMODP1536      uint16 = 5 // RFC 3526
	GroupMODP2048      uint16 = 14
	GroupMODP3072      uint16 = 15
	GroupMODP4096      uint16 = 16
	GroupMODP6144      uint16 = 17
	GroupMODP8192      uint16 = 18
	GroupP256          uint16 = 19 // RFC 5903
	GroupP384          uint16 = 20
	GroupP521          uint16 = 21
	GroupP224          uint16 = 26 // RFC 5114
	GroupBrainpoolP256 uint16 = 28 // RFC 6954
	GroupBrainpoolP384 uint16 = 29
	GroupBrainpoolP512 uint16 = 30
	GroupX25519        uint16 = 31 // RFC 8031
	GroupX448          uint16 = 32
	GroupMLKEM768      uint16 = 36 // draft-ietf-ipsecme-ikev2-mlkem
	GroupMLKEM1024     uint16 = 37

	ESNNo  uint16 = 0 // 32-bit sequence numbers
	ESNYes uint16 = 1 // 64-bit extended sequence numbers, RFC 4303 section 2.2.1
)

// Transform is one algorithm of a proposal.
type Transform struct {
	Type    TransformType
	ID      uint16
	KeyBits uint16 // the Key Length attribute, in bits; 0 when the attribute is absent
}

// String returns the keyword that a rule file uses for the transform, or
// its numbers when it has none.
func (t Transform) String() string {
	if k, ok := lookup(t); ok {
		if t.Type.Additional() {
			return fmt.Sprintf("ke%d_%s", t.Type-TypeADDKE1+1, k.name)
		}
		return k.name
	}
	if t.KeyBits != 0 {
		return fmt.Sprintf("%s %d/%d", t.Type, t.ID, t.KeyBits)
	}
	return fmt.Sprintf("%s %d", t.Type, t.ID)
}

// AEAD reports whether t is an encryption transform that brings its own
// integrity (RFC 4106, RFC 4309, RFC 4543, RFC 5282, RFC 7634); a proposal with
// it has no INTEG transform.
func (t Transform) AEAD() bool {
	if t.Type != TypeEncr {
		return false
	}
	switch t.ID {
	case EncrAESGCM8, EncrAESGCM12, EncrAESGCM16, EncrAESCCM8, EncrAESCCM12, EncrAESCCM16, EncrNullAESGMAC, EncrChaCha20Poly1305:
		return true
	}
	return false
}

// Encrypts reports whether t is an encryption transform that hides contents,
// and not one of integrity alone (RFC 2410, RFC 4543).
func (t Transform) Encrypts() bool {
	return t.Type == TypeEncr && t.ID != EncrNull && t.ID != EncrNullAESGMAC
}

// Suits reports whether a protocol may have t: IKE must encrypt (RFC 7296
// section 5), AH cannot, and AES-GMAC as an integrity is AH's alone (RFC 4543
// section 5.3).
func (t Transform) Suits(p ProtocolID) bool {
	switch t.Type {
	case TypeEncr:
		return p == ProtoESP || p == ProtoIKE && t.Encrypts()
	case TypePRF:
		return p == ProtoIKE
	case TypeInteg:
		return p == ProtoAH || t.ID < IntegAES128GMAC || t.ID > IntegAES256GMAC
	case TypeESN:
		return p != ProtoIKE
	}
	return true
}

// PostQuantum reports whether t is a key exchange that is meant to withstand a
// quantum computer, as an initial or as an additional one.
func (t Transform) PostQuantum() bool {
	return (t.Type == TypeGroup || t.Type.Additional()) && (t.ID == GroupMLKEM768 || t.ID == GroupMLKEM1024)
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
