package ike

import (
	"errors"
	"strings"
)

// What a NegotiationError wraps, for callers that decide by it.
var (
	ErrNoProposal     = errors.New("no proposal in common")
	ErrAuthentication = errors.New("authentication failed")
	ErrSelectors      = errors.New("traffic selectors do not fit")
	ErrRefused        = errors.New("the peer refused")
	ErrNoAnswer       = errors.New("the peer does not answer")
	ErrNoIKE          = errors.New("the peer does not speak IKE")
	ErrClosed         = errors.New("the IKE SA was closed")
)

// NegotiationError explains to an administrator why an SA did not come about.
type NegotiationError struct {
	Step    string // the exchange, as in "IKE_AUTH"
	Peer    string // the peer's address
	Offered string // what the one who asked offered; may be empty
	Wanted  string // what the one who answered would have taken; may be empty
	Hint    string // what to change; may be empty
	Err     error  // what happened
}

// Error writes all of it in one line.
func (e *NegotiationError) Error() string {
	var b strings.Builder
	b.WriteString(e.Step + " with " + e.Peer + ": " + e.Err.Error())
	for _, part := range []struct{ name, text string }{{"offered", e.Offered}, {"wanted", e.Wanted}} {
		if part.text != "" {
			b.WriteString("; " + part.name + ": " + part.text)
		}
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *NegotiationError) Unwrap() error { return e.Err }
