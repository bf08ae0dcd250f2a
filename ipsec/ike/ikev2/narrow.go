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
// proved what the rule asks for. More says that another rule would take what
// this one narrows away (ADDITIONAL_TS_POSSIBLE, RFC 7296 section 2.9).
func (s *SA) choose(o childOffer, replaced *child) (c *child, chosen ipsec.Proposal, more bool, err error) {
	step := wire.CreateChildSA
	if o.first {
		step = wire.IKEAuth
	}
	why := &ike.NegotiationError{
		Step: step.String(), Peer: s.remote.String(), Identity: s.peer.RemoteID,
		Err:    fmt.Errorf("%w: no rule covers them", ike.ErrSelectors),
		Theirs: ike.Terms{Proposals: o.proposals, Local: o.local, Remote: o.remote, Mode: o.mode()},
		Hint:   "make the rules of both ends mirror each other in mode, addresses, ports and proposals",
	}
	// refuse keeps the reason of the rule that came closest to an agreement.
	best := 0
	refuse := func(how int, err error, ours ike.Terms) {
		if how > best {
			best, why.Err, why.Ours = how, err, ours
		}
	}
	rules := s.candidates(o, replaced)
	for _, partial := range []bool{false, true} {
		for _, p := range rules {
			ours := ike.Terms{Local: p.Local, Remote: p.Remote, Mode: p.Mode}
			boundL, boundR := s.bounds(p)
			local, remote := narrow(o.local, boundL), narrow(o.remote, boundR)
			if len(local) == 0 || len(remote) == 0 {
				continue
			}
			if p.Mode != o.mode() {
				refuse(1, fmt.Errorf("%w: the peer asks for %s mode, the rule %q for %s mode", ike.ErrMode, o.mode(), p.Name, p.Mode), ours)
				continue
			}
			if !partial && !(within(o.local[:1], local) && within(o.remote[:1], remote)) {
				continue
			}
			if err := s.entitled(p); err != nil {
				refuse(2, err, ike.Terms{})
				continue
			}
			if replaced != nil {
				if err := s.inForce(p, local, remote); err != nil {
					refuse(3, err, ike.Terms{})
					continue
				}
			}
			proposals, err := s.withoutAH(p)
			if err != nil {
				refuse(4, err, ike.Terms{})
				continue
			}
			if o.first {
				proposals = ike.WithoutGroups(proposals)
			} else {
				own, _ := s.cur.proposal.First(ipsec.TypeGroup)
				proposals = ike.WithExchange(proposals, ike.AnyExchange(own)...)
			}
			chosen, ok := ike.SelectProposal(proposals, o.proposals, o.group)
			if !ok {
				refuse(4, fmt.Errorf("%w for the rule %q", ike.ErrNoProposal, p.Name), ike.Terms{Proposals: proposals})
				continue
			}
			c := &child{policy: p, local: local, remote: remote}
			return c, chosen, replaced == nil && s.wouldTakeMore(o, rules, c), nil
		}
	}
	switch best {
	case 1:
		why.Cause, why.Hint = ike.CauseMode, "make both ends want the same mode, transport or tunnel"
	case 2:
		why.Hint, why.Side = hintUnentitled(why.Err), ike.ThisSide
	case 3, 4:
		why.Hint = ""
	}
	explainNAT(why)
	return nil, ipsec.Proposal{}, false, why
}

// wouldTakeMore reports whether one of the rules covers a part of an offer that
// a Child SA does not.
func (s *SA) wouldTakeMore(o childOffer, rules []ike.ChildPolicy, c *child) bool {
	return slices.ContainsFunc(rules, func(p ike.ChildPolicy) bool {
		boundL, boundR := s.bounds(p)
		local, remote := narrow(o.local, boundL), narrow(o.remote, boundR)
		return p.Mode == o.mode() && len(local) > 0 && len(remote) > 0 && !(within(local, c.local) && within(remote, c.remote))
	})
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
	return s.cfg.Policies.Child(s.ends.Local, s.ends.Remote, o.local, o.remote, o.transport)
}

// inForce checks that a rule by which a Child SA was asked for, or made, is
// still among the policies, means the same, and covers the SA's selectors.
// The error wraps ike.ErrPolicyChanged.
func (s *SA) inForce(p ike.ChildPolicy, local, remote []ipsec.TrafficSelector) error {
	for _, now := range s.cfg.Policies.Child(s.ends.Local, s.ends.Remote, local, remote, p.Mode == ipsec.Transport) {
		if now.SameMeaning(p) && within(local, now.Local) && within(remote, now.Remote) {
			return nil
		}
	}
	return fmt.Errorf("%w: %q", ike.ErrPolicyChanged, p.Name)
}

// stillAllowed checks a Child SA whose key exchanges have taken several
// messages, during which policies may have changed.
func (s *SA) stillAllowed(c *child) error {
	if err := s.entitled(c.policy); err != nil {
		return err
	}
	return s.inForce(c.policy, c.local, c.remote)
}
