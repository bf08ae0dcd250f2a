package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
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
// ps inside. The error is an *Error when a payload cannot be encoded, else it
// is c's.
func EncodeEncrypted(h Header, ps []Payload, c Sealer) ([]byte, error) {
	first, plaintext, err := EncodePayloads(ps)
	if err != nil {
		return nil, err
	}
	return Seal(h, first, plaintext, c)
}

// Seal is EncodeEncrypted for payloads that EncodePayloads has written.
func Seal(h Header, first PayloadType, plaintext []byte, c Sealer) ([]byte, error) {
	return seal(h, TypeEncrypted, []byte{byte(first), 0, 0, 0}, plaintext, c)
}

// SealedSize is how many bytes a message has that Seal writes for n bytes of
// payloads.
func SealedSize(n int, c Sealer) int { return headerLen + genericLen + c.SealedLen(n) }

// seal writes a message whose only payload begins with head, a generic header
// and perhaps more, and goes on with the sealed plaintext. The length fields,
// which the ICV covers, stand before c seals.
func seal(h Header, t PayloadType, head, plaintext []byte, c Sealer) ([]byte, error) {
	n := len(head) + c.SealedLen(len(plaintext))
	if headerLen+n > maxMessage {
		return nil, cannotEncode(t, plaintext, "no datagram carries %d bytes", headerLen+n)
	}
	b, err := h.appendTo(make([]byte, 0, headerLen+n), t)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b[24:], uint32(headerLen+n))
	b = append(b, head...)
	binary.BigEndian.PutUint16(b[headerLen+2:], uint16(n))
	b, err = c.Seal(b, b, plaintext)
	if err != nil {
		return nil, fmt.Errorf("seal the %s payload of %s: %w", t, h.Exchange, err)
	}
	if len(b) != headerLen+n {
		return nil, fmt.Errorf("seal the %s payload of %s: the message has %d bytes, its length field says %d", t, h.Exchange, len(b), headerLen+n)
	}
	return b, nil
}

// SealedHead is how many bytes stand before the body of an SK or SKF payload
// that is the only one of its message: the IKE header and the generic header.
const SealedHead = headerLen + genericLen

// Unsealed returns a message as it would be if its SK payload held its contents
// and nothing else, neither IV nor padding nor ICV, with lengths that say so
// (RFC 9242 section 3.3.2). The head is SealedHead bytes of the message as they
// stand on the wire, reserved bits among them, or of its first fragment. The
// error is an *Error.
func Unsealed(head, plaintext []byte) ([]byte, error) {
	n := genericLen + len(plaintext)
	if len(head) != SealedHead || n > math.MaxUint16 {
		return nil, cannotEncode(TypeEncrypted, plaintext, "%d bytes behind a head of %d", len(plaintext), len(head))
	}
	b := slices.Concat(head, plaintext)
	b[16] = byte(TypeEncrypted)
	binary.BigEndian.PutUint32(b[24:], uint32(headerLen+n))
	binary.BigEndian.PutUint16(b[headerLen+2:], uint16(n))
	return b, nil
}

// OpenEncrypted decrypts e, the SK payload that Decode found in msg, and
// reads the payloads inside. An *Error says that the message is authentic and
// malformed, which the peer may be told; with any other error nothing is
// known of the sender, and the message has to be forgotten.
func OpenEncrypted(msg []byte, e *Encrypted, c Opener) ([]Payload, error) {
	plaintext, err := Unseal(msg, e.Body, c)
	if err != nil {
		return nil, err
	}
	return DecodePayloads(e.Inner, plaintext)
}

// Unseal decrypts the body of the SK or SKF payload that Decode found in msg.
// It returns what DecodePayloads reads, or a fragment of that. An error says
// that nothing is known of the sender.
func Unseal(msg, body []byte, c Opener) ([]byte, error) {
	n := len(msg) - len(body)
	if n < headerLen+genericLen {
		return nil, errors.New("open the message: its encrypted payload is not of this message")
	}
	plaintext, err := c.Open(msg[:n], body)
	if err != nil {
		return nil, fmt.Errorf("open the message: %w", err)
	}
	return plaintext, nil
}
