package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

const (
	headerLen  = 28 // section 3.1
	genericLen = 4  // generic payload header, section 3.2

	maxMessage = math.MaxUint16 // what a datagram can carry

	flagInitiator   = 0x08
	flagHigherMinor = 0x10
	flagResponse    = 0x20

	flagCritical = 0x80
)

// ParseHeader reads the header of the message b, which must be exactly as
// long as its length field says. It accepts every version: a responder owes
// INVALID_MAJOR_VERSION to a higher one (RFC 7296 section 2.5). The error is
// an *Error.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < headerLen {
		return Header{}, &Error{Offset: len(b), Reason: "the message ends within its header"}
	}
	if n := binary.BigEndian.Uint32(b[24:]); uint64(n) != uint64(len(b)) {
		return Header{}, &Error{Offset: 24, Reason: fmt.Sprintf("the length field says %d bytes, %d came", n, len(b))}
	}
	flags := b[19]
	return Header{
		SPIi:         binary.BigEndian.Uint64(b),
		SPIr:         binary.BigEndian.Uint64(b[8:]),
		FirstPayload: PayloadType(b[16]),
		Version:      b[17],
		Exchange:     ExchangeType(b[18]),
		Initiator:    flags&flagInitiator != 0,
		HigherMinor:  flags&flagHigherMinor != 0,
		Response:     flags&flagResponse != 0,
		MessageID:    binary.BigEndian.Uint32(b[20:]),
	}, nil
}

func (h Header) appendTo(dst []byte, first PayloadType) ([]byte, error) {
	if h.Major() != Version2>>4 {
		return nil, cannotEncode(NoNextPayload, dst, "major version %d: set Version to Version2", h.Major())
	}
	var flags byte
	if h.Initiator {
		flags |= flagInitiator
	}
	if h.HigherMinor {
		flags |= flagHigherMinor
	}
	if h.Response {
		flags |= flagResponse
	}
	dst = binary.BigEndian.AppendUint64(dst, h.SPIi)
	dst = binary.BigEndian.AppendUint64(dst, h.SPIr)
	dst = append(dst, byte(first), h.Version, byte(h.Exchange), flags)
	dst = binary.BigEndian.AppendUint32(dst, h.MessageID)
	return append(dst, 0, 0, 0, 0), nil // the length, when it is known
}

// Decode reads an IKEv2 message with its payloads. An SK payload, which has
// to be the last one, becomes *Encrypted; OpenEncrypted reads what is inside.
// An SKF payload becomes *Fragment in the same way; Unseal and a Reassembly
// read what is inside.
// The error is an *Error; the header is valid all the same, for the answer,
// unless ParseHeader refuses it.
func Decode(b []byte) (Header, []Payload, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Header{}, nil, err
	}
	if h.Major() != Version2>>4 {
		return h, nil, &Error{Offset: 17, Reason: "the payloads are not those of IKEv2"}
	}
	ps, err := decodeChain(h.FirstPayload, cursor{off: headerLen, rest: b[headerLen:]}, true)
	return h, ps, err
}

// DecodePayloads reads a chain of payloads that begins with one of type
// first, as it stands inside an SK payload after decryption. It rejects bytes
// behind the last payload, and an SK payload. The error is an *Error.
func DecodePayloads(first PayloadType, b []byte) ([]Payload, error) {
	return decodeChain(first, cursor{rest: b}, false)
}

func decodeChain(first PayloadType, c cursor, outer bool) ([]Payload, error) {
	var ps []Payload
	for next := first; next != NoNextPayload; {
		c.payload = next
		head, body, err := c.structure(genericLen)
		if err != nil {
			return nil, err
		}
		if next == TypeEncrypted || next == TypeFragment {
			// Its next payload field names the first payload inside, so
			// that nothing can follow it (section 3.14).
			if !outer {
				return nil, body.fail("an %s payload inside of another", next)
			}
			if err := c.end(); err != nil {
				return nil, err
			}
			p, err := decodeSealed(next, PayloadType(head[0]), body)
			if err != nil {
				return nil, err
			}
			return append(ps, p), nil
		}
		p, err := decodeBody(next, head[1]&flagCritical != 0, body)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
		next = PayloadType(head[0])
	}
	c.payload = NoNextPayload
	if err := c.end(); err != nil {
		return nil, err
	}
	return ps, nil
}

func decodeSealed(t, inner PayloadType, c cursor) (Payload, error) {
	if t == TypeFragment {
		return decodeFragment(inner, c)
	}
	return &Encrypted{Inner: inner, Body: c.takeRest()}, nil
}

// decodeBody reads one payload. The critical bit says something only about a
// type that is not known (section 2.5).
func decodeBody(t PayloadType, critical bool, c cursor) (Payload, error) {
	switch t {
	case TypeSA:
		return decodeSA(c)
	case TypeKE:
		return decodeKE(c)
	case TypeIDi, TypeIDr:
		return decodeID(t, c)
	case TypeCert:
		return decodeCert(c)
	case TypeCertReq:
		return decodeCertReq(c)
	case TypeAuth:
		return decodeAuth(c)
	case TypeNonce:
		return decodeNonce(c)
	case TypeNotify:
		return decodeNotify(c)
	case TypeDelete:
		return decodeDelete(c)
	case TypeVendorID:
		return &VendorID{Data: c.takeRest()}, nil
	case TypeTSi, TypeTSr:
		return decodeTS(t, c)
	}
	return &Unknown{Kind: t, Critical: critical, Body: c.takeRest()}, nil
}

// Encode writes a message that is not encrypted, or one whose last payload is
// an *Encrypted or a *Fragment that was sealed before. It computes lengths and next payload
// fields. The error is an *Error: a payload or the header holds what the
// format cannot carry.
func Encode(h Header, ps []Payload) ([]byte, error) {
	first := NoNextPayload
	if len(ps) > 0 {
		first = ps[0].Type()
	}
	b, err := h.appendTo(nil, first)
	if err != nil {
		return nil, err
	}
	if b, err = appendChain(b, ps, true); err != nil {
		return nil, err
	}
	if len(b) > maxMessage {
		return nil, cannotEncode(NoNextPayload, b, "no datagram carries %d bytes", len(b))
	}
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	return b, nil
}

// EncodePayloads writes the payloads that go inside an SK payload; first is
// the type of the first one. The error is an *Error.
func EncodePayloads(ps []Payload) (first PayloadType, b []byte, err error) {
	if len(ps) == 0 {
		return NoNextPayload, nil, nil
	}
	b, err = appendChain(nil, ps, false)
	if err != nil {
		return NoNextPayload, nil, err
	}
	return ps[0].Type(), b, nil
}

func appendChain(dst []byte, ps []Payload, outer bool) ([]byte, error) {
	for i, p := range ps {
		last := i == len(ps)-1
		var next PayloadType
		if !last {
			next = ps[i+1].Type()
		}
		var flags byte
		switch p := p.(type) {
		case *Encrypted:
			if !outer || !last {
				return nil, cannotEncode(TypeEncrypted, dst, "an SK payload is the last one of a message")
			}
			next = p.Inner
		case *Fragment:
			if !outer || !last {
				return nil, cannotEncode(TypeFragment, dst, "an SKF payload is the last one of a message")
			}
			next = p.Inner
		case *Unknown:
			if p.Critical {
				flags = flagCritical
			}
		}
		start := len(dst)
		dst = append(dst, byte(next), flags, 0, 0)
		var err error
		if dst, err = p.appendBody(dst); err != nil {
			return nil, err
		}
		if err := putLength(p.Type(), dst, start); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// putLength fills in the length of the structure that begins at start and
// ends with dst; its bytes 2 and 3 hold it.
func putLength(p PayloadType, dst []byte, start int) error {
	n := len(dst) - start
	if n > math.MaxUint16 {
		return cannotEncode(p, dst[:start], "%d bytes, the most is %d", n, math.MaxUint16)
	}
	binary.BigEndian.PutUint16(dst[start+2:], uint16(n))
	return nil
}
