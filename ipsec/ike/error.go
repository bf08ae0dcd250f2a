package ike

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ipsecfw/ipsecfw/ipsec"
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
	ErrMode           = errors.New("one end wants transport mode, the other a tunnel")
	ErrNAT            = errors.New("AH cannot pass a NAT")
	ErrNoRule         = errors.New("no rule concerns the peer")
	ErrPPK            = fmt.Errorf("%w: the post-quantum preshared keys do not fit", ErrAuthentication)

	// ErrRefusedByPeer means that it is the peer who does not believe this
	// host. It wraps ErrAuthentication.
	ErrRefusedByPeer error = refusedByPeer{}
)

type refusedByPeer struct{}

func (refusedByPeer) Error() string { return "the peer refused our authentication" }

func (refusedByPeer) Unwrap() error { return ErrAuthentication }

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
// All but Step, Peer and Err may be left out: the Manager, which saw the
// messages, makes a PostMortem of it.
type NegotiationError struct {
	Step     string // the exchange, as in "IKE_AUTH"
	Peer     string // the peer's address
	Identity string // whom the peer claims to be
	Cause    Cause  // what it comes down to, if Err does not say so by what it wraps
	Offered  string // what the one who asked offered, if Ours and Theirs do not say so
	Wanted   string // what the one who answered would have taken, likewise
	Ours     Terms  // what this host offered or would have taken
	Theirs   Terms  // what the peer offered or chose, as far as it said
	Hint     string // the one setting to change, in the words of the rule file
	Side     Side   // where to change it
	Err      error  // what happened
}

// Terms are what one end offers or would take. The zero value says that nothing
// is known of it.
type Terms struct {
	Proposals     []ipsec.Proposal
	Local, Remote []ipsec.TrafficSelector // as seen from this host, at either end
	Mode          ipsec.Mode
}

// Error writes all of it in one line, of a length that a peer does not choose.
func (e *NegotiationError) Error() string {
	var b strings.Builder
	b.WriteString(e.Step + " with " + e.Peer + ": " + clip(e.Err.Error()))
	for _, part := range []struct{ name, text string }{
		{"offered", e.Offered}, {"wanted", e.Wanted}, {"this host", e.Ours.String()}, {"the peer", e.Theirs.String()},
	} {
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

// String writes what is known of the terms, or nothing.
func (t Terms) String() string {
	var parts []string
	if len(t.Proposals) > 0 {
		parts = append(parts, Proposals(t.Proposals))
	}
	if len(t.Local)+len(t.Remote) > 0 {
		parts = append(parts, join(t.Local)+" to "+join(t.Remote))
	}
	if t.Mode != 0 {
		parts = append(parts, t.Mode.String())
	}
	return strings.Join(parts, ", ")
}

func join(ts []ipsec.TrafficSelector) string { return strings.Join(texts(ts), " or ") }

// texts writes each of some things.
func texts[T fmt.Stringer](xs []T) []string {
	var out []string
	for _, x := range xs {
		out = append(out, x.String())
	}
	return out
}

// maxText bounds a text that a peer has a part in, in bytes: what it offers
// and what it calls itself may fill a datagram, and would fill the log.
const maxText = 1024

// clip returns a text of at most maxText bytes, of which it says that it was
// longer.
func clip(s string) string { return cut(s, maxText) }

func cut(s string, most int) string {
	const more = "…"
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len(more)], "") + more
}
