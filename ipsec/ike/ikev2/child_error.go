package ikev2

import (
	"errors"
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// hintSameAuth explains what entitled refuses.
const hintSameAuth = "give all rules that concern this peer the same authentication and peer-id"

// hintSameExchange does so where it is not the authentication.
const hintSameExchange = `give all rules that concern this peer the same "key-exchange" and "ppk"`

// hintUnentitled returns which of the two it is.
func hintUnentitled(err error) string {
	if errors.Is(err, ike.ErrPPK) || errors.Is(err, errWeak) {
		return hintSameExchange
	}
	return hintSameAuth
}

// explain tells an administrator why our request for a Child SA came to
// nothing, or our wish for one before it was asked for.
func (s *SA) explain(r *childRequest, answer []wire.Payload, err error) *ike.NegotiationError {
	step := wire.CreateChildSA
	if r.ni == nil && r.offered != nil {
		step = wire.IKEAuth
	}
	why := &ike.NegotiationError{
		Step: step.String(), Peer: s.remote.String(), Identity: s.peer.RemoteID,
		Err:  fmt.Errorf("rule %q: %w", r.policy.Name, err),
		Ours: ike.Terms{Proposals: r.offered, Local: r.tsi, Remote: r.tsr, Mode: r.policy.Mode},
	}
	if sa, ok := wire.Find[*wire.SA](answer); ok {
		why.Theirs.Proposals = sa.Proposals
	}
	if tsi, ok := wire.FindTS(answer, false); ok {
		why.Theirs.Local = tsi.Selectors
	}
	if tsr, ok := wire.FindTS(answer, true); ok {
		why.Theirs.Remote = tsr.Selectors
	}
	switch {
	case errors.Is(err, ike.ErrAuthentication), errors.Is(err, ike.ErrPPK), errors.Is(err, errWeak):
		why.Hint, why.Side = hintUnentitled(err), ike.ThisSide
	case errors.Is(err, ike.ErrMode):
		why.Cause = ike.CauseMode
		why.Theirs.Mode = otherMode(r.policy.Mode)
		why.Hint = fmt.Sprintf("allow %s mode there for what the rule %q covers, or ask for %s mode here", r.policy.Mode, r.policy.Name, why.Theirs.Mode)
		why.Side = ike.PeerSide
	case errors.Is(err, ike.ErrSelectors):
		why.Hint = "make the rules of both ends mirror each other in mode, addresses and ports"
	case errors.Is(err, ike.ErrNoProposal) && r.group != 0 && len(why.Theirs.Proposals) == 0:
		why.Hint = fmt.Sprintf("accept one of the offered proposals, with %s for its key exchange, or none at both ends", groupName(r.group))
		why.Side = ike.PeerSide
	}
	explainNAT(why)
	return why
}

func otherMode(m ipsec.Mode) ipsec.Mode {
	if m == ipsec.Transport {
		return ipsec.Tunnel
	}
	return ipsec.Transport
}
