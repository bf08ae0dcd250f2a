package ike

import (
	"errors"
	"fmt"
	"strings"
)

// What a NegotiationError wraps, for callers that decide by it.
//
// ErrNoIKE and ErrNoAnswer differ in what the silence tells. ErrNoIKE means
// that nothing at all came in answer to IKE_SA_INIT, as when the peer does not
// speak IKE; only then may somebody think of talking to it in clear. A peer
// that answered IKE_SA_INIT once does speak IKE, even if only with a cookie,
// a refusal or nonsense, and what it leaves unanswered later is ErrNoAnswer
// and not ErrNoIKE. Whatever is ErrNoIKE is ErrNoAnswer too.
var (
	ErrNoProposal     = errors.New("no proposal in common")
	ErrAuthentication = errors.New("authentication failed")
	ErrSelectors      = errors.New("traffic selectors do not fit")
	ErrRefused        = errors.New("the peer refused")
	ErrNoAnswer       = errors.New("the peer does not answer")
	ErrNoIKE          = fmt.Errorf("%w: it seems to speak no IKE", ErrNoAnswer)
	ErrClosed         = errors.New("the IKE SA was closed")
	ErrFull           = errors.New("the IKE SA takes no more Child SAs")                                // another IKE SA does
	ErrBusy           = errors.New("this host has begun as many negotiations as it can have under way") // the peer was not asked
	ErrPolicyChanged  = errors.New("the rule is not what it was when this began")
)

// Side is where something is to be changed. The zero value says that it may be
// either end.
type Side uint8

// The sides.
const (
	EitherSide Side = iota
	ThisSide        // this host
	PeerSide
)

// String returns "either end", "this host" or "the peer".
func (s Side) String() string {
	return [...]string{"either end", "this host", "the peer"}[min(s, PeerSide)]
}

// NegotiationError explains to an administrator why an SA did not come about.
type NegotiationError struct {
	Step    string // the exchange, as in "IKE_AUTH"
	Peer    string // the peer's address
	Offered string // what the one who asked offered; may be empty
	Wanted  string // what the one who answered would have taken; may be empty
	Hint    string // the one setting to change; may be empty
	Side    Side   // where to change it
	Err     error  // what happened
}

// Error writes all of it in one line, of a length that a peer does not choose.
func (e *NegotiationError) Error() string {
	var b strings.Builder
	b.WriteString(e.Step + " with " + e.Peer + ": " + clip(e.Err.Error()))
	for _, part := range []struct{ name, text string }{{"offered", e.Offered}, {"wanted", e.Wanted}} {
		if part.text != "" {
			b.WriteString("; " + part.name + ": " + clip(part.text))
		}
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *NegotiationError) Unwrap() error { return e.Err }

// maxText bounds a text that a peer has a part in, in bytes: what it offers
// and what it calls itself may fill a datagram, and would fill the log.
const maxText = 1024

// clip returns a text of at most maxText bytes, of which it says that it was
// longer.
func clip(s string) string {
	const more = "…"
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText-len(more)], "") + more
}
