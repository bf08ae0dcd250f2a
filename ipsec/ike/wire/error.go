package wire

import "fmt"

// Error says that a message is malformed, or cannot be encoded as it stands.
// A peer that has been authenticated is told with INVALID_SYNTAX
// (RFC 7296 section 2.21); nobody else is told anything.
type Error struct {
	Payload PayloadType // where it is, or NoNextPayload for the header and the chain of payloads
	Offset  int         // bytes from the start of the message, or of the decrypted payloads
	Reason  string      // never holds the payload's bytes
}

// Error returns the place and the reason.
func (e *Error) Error() string {
	if e.Payload == NoNextPayload {
		return fmt.Sprintf("IKE message at byte %d: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("IKE payload %s at byte %d: %s", e.Payload, e.Offset, e.Reason)
}

// cannotEncode is the error of a payload that would follow dst.
func cannotEncode(p PayloadType, dst []byte, format string, args ...any) error {
	return &Error{Payload: p, Offset: len(dst), Reason: "cannot encode: " + fmt.Sprintf(format, args...)}
}
