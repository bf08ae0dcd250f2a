package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sealer encrypts and authenticates the content of an SK payload
// (RFC 7296 section 3.14, RFC 5282).
type Sealer interface {
	// Seal appends IV, ciphertext (padding and pad length within) and ICV
	// to dst. The aad is all of the message before the IV.
	Seal(dst, aad, plaintext []byte) ([]byte, error)
	// SealedLen says how many bytes Seal appends for n bytes of plaintext.
	SealedLen(n int) int
}

// Opener is the reverse of Sealer.
type Opener interface {
	// Open returns the plaintext of an SK payload's body without padding,
	// or an error when the ICV is not right.
	Open(aad, body []byte) ([]byte, error)
}

// Type returns TypeEncrypted.
func (*Encrypted) Type() PayloadType { return TypeEncrypted }

func (e *Encrypted) appendBody(dst []byte) ([]byte, error) { return append(dst, e.Body...), nil }

// EncodeEncrypted writes a message whose only payload is an SK payload with
// ps inside. The length fields, which the ICV covers, stand before c seals.
// The error is an *Error when a payload cannot be encoded, else it is c's.
func EncodeEncrypted(h Header, ps []Payload, c Sealer) ([]byte, error) {
	first, plaintext, err := EncodePayloads(ps)
	if err != nil {
		return nil, err
	}
	n := genericLen + c.SealedLen(len(plaintext))
	if headerLen+n > maxMessage {
		return nil, cannotEncode(TypeEncrypted, plaintext, "no datagram carries %d bytes", headerLen+n)
	}
	b, err := h.appendTo(make([]byte, 0, headerLen+n), TypeEncrypted)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b[24:], uint32(headerLen+n))
	b = append(b, byte(first), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b, err = c.Seal(b, b, plaintext)
	if err != nil {
		return nil, fmt.Errorf("seal the SK payload of %s: %w", h.Exchange, err)
	}
	if len(b) != headerLen+n {
		return nil, fmt.Errorf("seal the SK payload of %s: the message has %d bytes, its length field says %d", h.Exchange, len(b), headerLen+n)
	}
	return b, nil
}

// OpenEncrypted decrypts e, the SK payload that Decode found in msg, and
// reads the payloads inside. An *Error says that the message is authentic and
// malformed, which the peer may be told; with any other error nothing is
// known of the sender, and the message has to be forgotten.
func OpenEncrypted(msg []byte, e *Encrypted, c Opener) ([]Payload, error) {
	n := len(msg) - len(e.Body)
	if n < headerLen+genericLen {
		return nil, errors.New("open the SK payload: it is not of this message")
	}
	plaintext, err := c.Open(msg[:n], e.Body)
	if err != nil {
		return nil, fmt.Errorf("open the SK payload: %w", err)
	}
	return DecodePayloads(e.Inner, plaintext)
}
