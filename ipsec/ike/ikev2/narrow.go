package ikev2

import (
	"fmt"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// maxSelectors bounds the selectors of one side of a Child SA.
const maxSelectors = 32

// narrow returns what both lists cover, in the order of the first one, and
// without what is contained in another result (RFC 7296 section 2.9).
func narrow(theirs, ours []ipsec.TrafficSelector) []ipsec.TrafficSelector {
	var out []ipsec.TrafficSelector
	for _, t := range theirs {
		for _, o := range ours {
			x, ok := t.Intersect(o)
			if !ok || within([]ipsec.TrafficSelector{x}, out) {
				continue
			}
			out = slices.DeleteFunc(out, x.Contains)
			if out = append(out, x); len(out) == maxSelectors {
				return out
			}
		}
	}
	return out
}

// within reports whether there are selectors, and each is contained in one of
// the others.
func within(inner, outer []ipsec.TrafficSelector) bool {
	for _, i := range inner {
		if !slices.ContainsFunc(outer, func(o ipsec.TrafficSelector) bool { return o.Contains(i) }) {
			return false
		}
	}
	return len(inner) > 0
}

// offerSelectors returns the selectors of a request: the packet's, if the
// policy covers it, and then the policy's. It returns none if it does not.
func offerSelectors(packet ipsec.TrafficSelector, policy []ipsec.TrafficSelector) []ipsec.TrafficSelector {
	if !within([]ipsec.TrafficSelector{packet}, policy) {
		return nil
	}
	out := []ipsec.TrafficSelector{packet}
	for _, p := range policy {
		if p != packet && len(out) < maxSelectors {
			out = append(out, p)
		}
	}
	return out
}

// childOffer is a peer's request for a Child SA from our point of view.
type childOffer struct {
	proposals     []ipsec.Proposal
	local, remote []ipsec.TrafficSelector
	transport     bool
	group         uint16 // of the KE payload, or 0
	first         bool   // it came with IKE_AUTH, where groups do not count
}

// mode returns the mode that the peer asked for.
func (o childOffer) mode() ipsec.Mode {
	if o.transport {
		return ipsec.Transport
	}
	return ipsec.Tunnel
}

// choose finds the rule that accepts an offer. A rule that covers the packet
// that the peer wants to send, whose selectors come first, goes before one
// that would narrow it away. A replacement belongs to the rule, and must not
// leave the selectors, of what it replaces. None goes to a peer that has not
// proved what the rule asks for.
func (s *SA) choose(o childOffer, replaced *child) (*child, ipsec.Proposal, error) {
	why := fmt.Errorf("%w: no rule covers them", ike.ErrSelectors)
	wanted := ""
	hint := "make the rules of both ends mirror each other in mode, addresses, ports and proposals"
	for _, partial := range []bool{false, true} {
		for _, p := range s.candidates(o, replaced) {
			if p.Mode != o.mode() {
				why = fmt.Errorf("%w: the peer asks for %s mode, the rule %q for %s mode", ike.ErrSelectors, o.mode(), p.Name, p.Mode)
				continue
			}
			local, remote := s.bounds(p)
			local, remote = narrow(o.local, local), narrow(o.remote, remote)
			if len(local) == 0 || len(remote) == 0 {
				continue
			}
			if !partial && !(within(o.local[:1], local) && within(o.remote[:1], remote)) {
				continue
			}
			if err := s.entitled(p); err != nil {
				why, hint = err, hintSameAuth
				continue
			}
			if replaced != nil {
				if err := s.inForce(p, local, remote); err != nil {
					why = err
					continue
				}
			}
			proposals := p.Proposals
			if o.first {
				proposals = ike.WithoutGroups(proposals)
			}
			chosen, ok := ike.SelectProposal(proposals, o.proposals, o.group)
			if !ok {
				why = fmt.Errorf("%w for the rule %q", ike.ErrNoProposal, p.Name)
				wanted = ike.Proposals(proposals)
				continue
			}
			return &child{policy: p, local: local, remote: remote}, chosen, nil
		}
	}
	step := wire.CreateChildSA
	if o.first {
		step = wire.IKEAuth
	}
	return nil, ipsec.Proposal{}, &ike.NegotiationError{
		Step: step.String(), Peer: s.remote.String(), Err: why, Wanted: wanted,
		Offered: fmt.Sprintf("%s for %v to %v", ike.Proposals(o.proposals), o.remote, o.local),
		Hint:    hint,
	}
}

// candidates returns the rules that may accept an offer.
func (s *SA) candidates(o childOffer, replaced *child) []ike.ChildPolicy {
	if replaced != nil {
		p := replaced.policy
		p.Local, p.Remote = replaced.local, replaced.remote
		return []ike.ChildPolicy{p}
	}
	// A peer behind a NAT, or one that says so, may move: not to the rules of
	// another address.
	return s.cfg.Policies.Child(s.cfg.Local.Addr(), s.cfg.Remote.Addr(), o.local, o.remote, o.transport)
}

// inForce checks that a rule by which a Child SA was asked for, or made, is
// still among the policies, means the same, and covers the SA's selectors.
// The error wraps ike.ErrPolicyChanged.
func (s *SA) inForce(p ike.ChildPolicy, local, remote []ipsec.TrafficSelector) error {
	for _, now := range s.cfg.Policies.Child(s.cfg.Local.Addr(), s.cfg.Remote.Addr(), local, remote, p.Mode == ipsec.Transport) {
		if now.SameMeaning(p) && within(local, now.Local) && within(remote, now.Remote) {
			return nil
		}
	}
	return fmt.Errorf("%w: %q", ike.ErrPolicyChanged, p.Name)
}
