package ike

import (
	"errors"

	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// Cause is what the failure of a negotiation comes down to. The list is
// closed, and its words are stable: programs read them.
type Cause string

// The causes.
const (
	CauseNoProposal        Cause = "no-proposal"                   // no algorithms in common
	CauseSelectors         Cause = "selectors"                     // no packets in common
	CauseMode              Cause = "mode"                          // one end wants transport mode, the other a tunnel
	CauseIdentity          Cause = "identity"                      // the peer is not whom a rule names
	CauseExpired           Cause = "certificate-expired"           // or somebody's clock is fast
	CauseNotYetValid       Cause = "certificate-not-yet-valid"     // or somebody's clock is slow
	CauseUnknownAuthority  Cause = "certificate-unknown-authority" // nobody whom the rule believes issued it
	CauseRevoked           Cause = "certificate-revoked"           // by its authority
	CauseRevocationUnknown Cause = "revocation-unknown"            // and the rule wants to know
	CauseCertificate       Cause = "certificate"                   // it is not good in another way
	CauseKeyMismatch       Cause = "key-mismatch"                  // wrong key, as far as one may say so
	CauseRefusedByPeer     Cause = "refused-by-peer"               // the peer does not believe this host, and says no more
	CauseAuthMethod        Cause = "auth-method"                   // no way to authenticate in common
	CausePPK               Cause = "ppk"                           // the post-quantum preshared keys do not fit
	CauseNoAnswer          Cause = "no-answer"                     // silence
	CauseNoAnswerLarge     Cause = "no-answer-large"               // silence after a message that was large
	CauseUnreachable       Cause = "unreachable"                   // silence, and ICMP says why
	CauseNAT               Cause = "nat"                           // silence after the move to port 4500
	CauseAHNAT             Cause = "ah-nat"                        // AH cannot pass the NAT that there is
	CauseRefused           Cause = "refused"                       // the peer would not, and says no more
	CausePolicyChanged     Cause = "policy-changed"                // this host's rules, meanwhile
	CauseFull              Cause = "full"                          // the IKE SA, or the peer, takes no more Child SAs
	CauseBusy              Cause = "busy"                          // this host has too much under way
	CauseNoRule            Cause = "no-rule"                       // no rule of this host concerns the peer
	CauseClosed            Cause = "closed"                        // the IKE SA ended meanwhile
	CauseFault             Cause = "fault"                         // something else went wrong on this host
)

// causes are what errors come down to, the most specific ones first.
var causes = []struct {
	err   error
	cause Cause
}{
	{ErrWrongKey, CauseKeyMismatch}, {ErrNoMethod, CauseAuthMethod}, {ErrWeakMethod, CauseAuthMethod}, {ErrPPK, CausePPK},
	{ErrNAT, CauseAHNAT}, {ErrNoProposal, CauseNoProposal}, {ErrSelectors, CauseSelectors}, {ErrMode, CauseMode},
	{ErrPolicyChanged, CausePolicyChanged}, {ErrFull, CauseFull}, {ErrBusy, CauseBusy}, {ErrNoRule, CauseNoRule},
	{ErrNoAnswer, CauseNoAnswer}, {ErrRefusedByPeer, CauseRefusedByPeer}, {ErrAuthentication, CauseKeyMismatch}, {ErrRefused, CauseRefused}, {ErrClosed, CauseClosed},
}

// certificateCauses are what the errors of certificates come down to.
var certificateCauses = map[pki.Reason]Cause{
	pki.Expired:           CauseExpired,
	pki.NotYetValid:       CauseNotYetValid,
	pki.UnknownAuthority:  CauseUnknownAuthority,
	pki.Revoked:           CauseRevoked,
	pki.RevocationUnknown: CauseRevocationUnknown,
	pki.NotForIdentity:    CauseIdentity,
}

// CauseOf returns what an error comes down to: what a NegotiationError says,
// or else by what it wraps.
func CauseOf(err error) Cause {
	var n *NegotiationError
	if errors.As(err, &n) && n.Cause != "" {
		return n.Cause
	}
	var c *pki.CertificateError
	if errors.As(err, &c) {
		if cause, ok := certificateCauses[c.Reason]; ok {
			return cause
		}
		return CauseCertificate
	}
	var a *AuthorizationError
	if errors.As(err, &a) {
		return CauseIdentity
	}
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return c.cause
		}
	}
	return CauseFault
}
