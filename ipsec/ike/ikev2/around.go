package ikev2

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// ESP inside AH is two Child SAs of one rule (RFC 4301 appendix E), since IKEv2
// agrees on one protocol at a time (RFC 7296 section 3.3): that of ESP for the
// rule's packets, and that of AH, in transport mode, for the ESP between the two
// hosts. Several of ESP have the same one of AH around them. It is asked for
// first: without it the others are of no use.

// protocolESP is the number of ESP among those of IP.
const protocolESP = 50

// aroundFirst returns what to ask for first to get a Child SA: that of the AH
// around it, if that is not there, and then what is to follow.
func (s *SA) aroundFirst(a ike.Acquire) (first ike.Acquire, then *ike.Acquire) {
	p := a.Child.Around
	if p == nil || s.find(func(c *child) bool { return c.policy.SameMeaning(*p) && !c.leaving }) != nil {
		return a, nil
	}
	esp := func(host netip.Addr) ipsec.TrafficSelector {
		host = host.Unmap()
		return ipsec.TrafficSelector{Protocol: protocolESP, Start: host, End: host, EndPort: 0xffff}
	}
	return ike.Acquire{Child: *p, Local: esp(s.ends.Local), Remote: esp(s.ends.Remote)}, &a
}

// firstChildRequest prepares the request for the Child SA of IKE_AUTH.
func (s *SA) firstChildRequest(a ike.Acquire) (*childRequest, error) {
	first, then := s.aroundFirst(a)
	r, err := s.newChildRequest(first, true, nil)
	if r != nil {
		r.then = then
	}
	return r, err
}

// ask asks for a Child SA by CREATE_CHILD_SA.
func (s *SA) ask(a ike.Acquire) {
	first, then := s.aroundFirst(a)
	s.enqueue(&createChild{acquire: first, then: then})
}

// follow asks for what was to follow a Child SA of AH, unless one that serves
// is there.
func (s *SA) follow(then *ike.Acquire) {
	if then == nil {
		return
	}
	serves := func(c *child) bool {
		return !c.leaving && c.policy.SameMeaning(then.Child) &&
			within([]ipsec.TrafficSelector{then.Local}, c.local) && within([]ipsec.TrafficSelector{then.Remote}, c.remote)
	}
	if s.find(serves) == nil {
		s.enqueue(&createChild{acquire: *then})
	}
}

// lacks reports whether a Child SA of AH that goes around others of its rule has
// none in it.
func (s *SA) lacks(around *child) bool {
	return s.find(func(c *child) bool {
		return c.policy.Around != nil && !c.leaving && c.policy.Around.SameMeaning(around.policy)
	}) == nil
}

// withoutAH returns what is left of the proposals of a rule where a NAT changes
// what AH protects (RFC 3715 section 2.1), or ESP is to go inside UDP, as AH
// cannot. The error is ike.ErrNAT if nothing is.
func (s *SA) withoutAH(p ike.ChildPolicy) ([]ipsec.Proposal, error) {
	if !s.udp && !s.peer.NATLocal && !s.peer.NATRemote {
		return p.Proposals, nil
	}
	out := slices.DeleteFunc(slices.Clone(p.Proposals), func(x ipsec.Proposal) bool { return x.Protocol == ipsec.ProtoAH })
	if len(out) > 0 || len(p.Proposals) == 0 {
		return out, nil
	}
	where := "before the peer"
	switch {
	case s.peer.NATLocal && s.peer.NATRemote:
		where = "before each end"
	case s.peer.NATLocal:
		where = "before this host"
	case !s.peer.NATRemote:
		where = "that one end pretends"
	}
	return nil, fmt.Errorf("%w: there is one %s, which changes addresses that AH protects", ike.ErrNAT, where)
}

// explainNAT says what to do about AH where there is a NAT.
func explainNAT(why *ike.NegotiationError) {
	if errors.Is(why.Err, ike.ErrNAT) {
		why.Cause, why.Side = ike.CauseAHNAT, ike.EitherSide
		why.Hint = "write methods with esp and without ah, at both ends, for peers behind a NAT"
	}
}
