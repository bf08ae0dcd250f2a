package ikev2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// child is one Child SA that is installed.
type child struct {
	policy        ike.ChildPolicy
	in, out       ipsec.SPI
	local, remote []ipsec.TrafficSelector
	rekey, end    time.Time // zero for never
	again         time.Time // before which it is not rekeyed, as that has just failed
	leaving       bool      // it is being deleted, or has been replaced
	// lowest is the lowest nonce of the exchange that made the child, and
	// rival the child that the peer made in its place while our own rekeying
	// was under way (RFC 7296 section 2.8.1).
	lowest []byte
	rival  *child
}

// childRequest is what we ask for a Child SA, in IKE_AUTH or CREATE_CHILD_SA.
type childRequest struct {
	policy    ike.ChildPolicy
	in        ipsec.SPI
	offered   []ipsec.Proposal
	tsi, tsr  []ipsec.TrafficSelector // as sent: TSi is our side
	group     uint16
	key       xform.PrivateKey // nil without a key exchange
	ni        []byte           // nil in IKE_AUTH
	replacing *child           // the one that is rekeyed, or nil
}

// newChildRequest prepares a request for the packet that asked. The packet's
// own selectors come first, so that the responder knows what it must not
// narrow away (RFC 7296 section 2.9).
func (s *SA) newChildRequest(a ike.Acquire, first bool, replacing *child) (*childRequest, error) {
	p := a.Child
	r := &childRequest{policy: p, replacing: replacing, in: s.cfg.NewSPI()}
	proposals := p.Proposals
	if first {
		proposals = ike.WithoutGroups(proposals)
	} else {
		var err error
		if err = s.entitled(p); err != nil {
			return nil, err
		}
		if r.ni, err = s.random(nonceLen); err != nil {
			return nil, err
		}
	}
	if len(proposals) == 0 {
		return nil, fmt.Errorf("the rule %q has no proposal for ESP", p.Name)
	}
	r.offered = ike.Offer(proposals, binary.BigEndian.AppendUint32(nil, uint32(r.in)))
	if g, ok := r.offered[0].First(ipsec.TypeGroup); ok && g.ID != ipsec.GroupNone {
		if err := r.chooseGroup(g.ID, s); err != nil {
			return nil, err
		}
	}
	if replacing != nil {
		r.tsi, r.tsr = replacing.local, replacing.remote
		return r, nil
	}
	local, remote := s.bounds(p)
	r.tsi, r.tsr = offerSelectors(a.Local, local), offerSelectors(a.Remote, remote)
	if len(r.tsi) == 0 || len(r.tsr) == 0 {
		return nil, fmt.Errorf("%w: the rule %q covers no packet from %s to %s", ike.ErrSelectors, p.Name, a.Local, a.Remote)
	}
	return r, nil
}

func (r *childRequest) chooseGroup(group uint16, s *SA) (err error) {
	r.group = group
	r.key, err = xform.GenerateKey(group, s.cfg.Rand)
	return err
}

// payloads returns the request's payloads, apart from the identities of
// IKE_AUTH.
func (r *childRequest) payloads() []wire.Payload {
	var ps []wire.Payload
	if r.replacing != nil {
		ps = append(ps, &wire.Notify{
			Protocol: ipsec.ProtoESP, Kind: wire.RekeySA,
			SPI: binary.BigEndian.AppendUint32(nil, uint32(r.replacing.in)),
		})
	}
	if r.policy.Mode == ipsec.Transport {
		ps = append(ps, &wire.Notify{Kind: wire.UseTransportMode})
	}
	ps = append(ps, &wire.SA{Proposals: r.offered})
	if r.ni != nil {
		ps = append(ps, &wire.Nonce{Data: r.ni})
	}
	if r.key != nil {
		ps = append(ps, &wire.KE{Group: r.group, Data: r.key.Public()})
	}
	return append(ps, &wire.TS{Selectors: r.tsi}, &wire.TS{Responder: true, Selectors: r.tsr})
}

// hintSameAuth explains what entitled refuses.
const hintSameAuth = "give all rules that concern this peer the same authentication and peer-id"

// bounds returns the selectors that a policy allows with this peer. In
// transport mode they cannot be wider than the two hosts: those for which the
// policy was chosen, wherever a NAT moves the peer afterwards.
func (s *SA) bounds(p ike.ChildPolicy) (local, remote []ipsec.TrafficSelector) {
	if p.Mode != ipsec.Transport {
		return p.Local, p.Remote
	}
	host := func(a netip.Addr) []ipsec.TrafficSelector {
		a = a.Unmap()
		return []ipsec.TrafficSelector{{Start: a, End: a, EndPort: 0xffff}}
	}
	return narrow(host(s.cfg.Local.Addr()), p.Local), narrow(host(s.cfg.Remote.Addr()), p.Remote)
}

// endChild completes a Child SA with the peer's answer. What fails concerns
// this Child SA only (RFC 7296 section 2.21.2). It returns the child, or nil.
func (s *SA) endChild(r *childRequest, ps []wire.Payload, ni, nr []byte) *child {
	c, exists, err := s.complete(r, ps, ni, nr)
	if err == nil {
		return c
	}
	step := wire.CreateChildSA
	if r.ni == nil {
		step = wire.IKEAuth
	}
	why := &ike.NegotiationError{Step: step.String(), Peer: s.remote.String(), Err: fmt.Errorf("rule %q: %w", r.policy.Name, err)}
	switch {
	case errors.Is(err, ike.ErrNoProposal):
		why.Offered = ike.Proposals(r.offered)
		why.Hint = "make both ends accept one ESP proposal"
	case errors.Is(err, ike.ErrAuthentication):
		why.Hint = hintSameAuth
	case errors.Is(err, ike.ErrSelectors):
		why.Offered = fmt.Sprintf("%v to %v", r.tsi, r.tsr)
		why.Hint = "make the rules of both ends mirror each other in mode, addresses and ports"
	}
	failed := ike.Failed{Policy: r.policy.Name, Why: why}
	if r.replacing != nil {
		failed.Policy = "" // the packets have the old SA, and do not wait
	}
	s.emit(failed)
	if exists {
		s.enqueue(&deleteTask{in: r.in})
	}
	return nil
}

// complete checks the answer and installs the SA; exists says that the peer
// has it even though an error is returned.
func (s *SA) complete(r *childRequest, ps []wire.Payload, ni, nr []byte) (c *child, exists bool, err error) {
	if n, ok := firstError(ps); ok {
		switch n.Kind {
		case wire.NoProposalChosen:
			return nil, false, fmt.Errorf("%w: the peer answered %s", ike.ErrNoProposal, n.Kind)
		case wire.TSUnacceptable, wire.SinglePairRequired:
			return nil, false, fmt.Errorf("%w: the peer answered %s", ike.ErrSelectors, n.Kind)
		case wire.NoAdditionalSAs:
			// Without even the first one, another IKE SA would be no better.
			if r.ni != nil {
				return nil, false, fmt.Errorf("%w: the peer answered %s", ike.ErrFull, n.Kind)
			}
		}
		return nil, false, fmt.Errorf("%w: %s", ike.ErrRefused, n.Kind)
	}
	sa, ok1 := wire.Find[*wire.SA](ps)
	tsi, ok2 := wire.FindTS(ps, false)
	tsr, ok3 := wire.FindTS(ps, true)
	if !ok1 || !ok2 || !ok3 {
		return nil, false, fmt.Errorf("%w: the answer has no SA or no traffic selectors", ike.ErrRefused)
	}
	if err := s.entitled(r.policy); err != nil {
		return nil, true, err
	}
	if err := checkNonce(nr, s.cur.proposal); err != nil {
		return nil, true, err
	}
	chosen, err := ike.CheckChoice(r.offered, sa.Proposals)
	if err != nil {
		return nil, true, err
	}
	if _, transport := wire.FindNotify(ps, wire.UseTransportMode); transport != (r.policy.Mode == ipsec.Transport) {
		return nil, true, fmt.Errorf("%w: the peer does not agree to %s mode", ike.ErrSelectors, r.policy.Mode)
	}
	if !within(tsi.Selectors, r.tsi) || !within(tsr.Selectors, r.tsr) {
		return nil, true, fmt.Errorf("%w: the peer answered with %v to %v", ike.ErrSelectors, tsi.Selectors, tsr.Selectors)
	}
	if err := s.inForce(r.policy, tsi.Selectors, tsr.Selectors); err != nil {
		return nil, true, err
	}
	var shared []byte
	if g, _ := chosen.First(ipsec.TypeGroup); g.ID != ipsec.GroupNone {
		ke, ok := wire.Find[*wire.KE](ps)
		if !ok || r.key == nil || ke.Group != g.ID || ke.Group != r.group {
			return nil, true, fmt.Errorf("%w: the peer chose %s without a key exchange that fits", ike.ErrNoProposal, g)
		}
		if shared, err = r.key.Shared(ke.Data); err != nil {
			return nil, true, err
		}
		defer clear(shared)
	}
	out, err := espSPI(chosen.SPI)
	if err != nil {
		return nil, true, err
	}
	c = &child{policy: r.policy, in: r.in, out: out, local: tsi.Selectors, remote: tsr.Selectors, lowest: lowest(ni, nr)}
	if err := s.install(c, chosen, shared, ni, nr, true, r.replacing); err != nil {
		return nil, true, err
	}
	return c, true, nil
}

func espSPI(b []byte) (ipsec.SPI, error) {
	if len(b) != 4 {
		return 0, fmt.Errorf("%w: an SPI of %d bytes", ike.ErrRefused, len(b))
	}
	spi := ipsec.SPI(binary.BigEndian.Uint32(b))
	if spi < 256 {
		return 0, fmt.Errorf("%w: the reserved SPI %s (RFC 4303 section 2.1)", ike.ErrRefused, spi)
	}
	return spi, nil
}

func lowest(a, b []byte) []byte {
	if slices.Compare(a, b) <= 0 {
		return a
	}
	return b
}

// install derives the keys of a Child SA and gives it to the data path. The
// nonces are those of the exchange, which we began if initiator is set.
func (s *SA) install(c *child, chosen ipsec.Proposal, shared, ni, nr []byte, initiator bool, replaced *child) error {
	encr, _ := chosen.First(ipsec.TypeEncr)
	integ, _ := chosen.First(ipsec.TypeInteg)
	esn, _ := chosen.First(ipsec.TypeESN)
	out, in, err := childKeys(s.cur.prf, s.cur.keys.d, shared, ni, nr, encr, integ)
	if err != nil {
		return err
	}
	if !initiator {
		out, in = in, out
	}
	if encr.AEAD() {
		integ = ipsec.Transform{}
	}
	if l := c.policy.Lifetime; l > 0 {
		c.rekey, c.end = s.now.Add(s.jitter(l)), s.now.Add(l)
	}
	s.children = append(s.children, c)
	if replaced == nil {
		s.made++
	}
	local, remote := s.outer()
	sa := &ipsec.ChildSA{
		Policy: c.policy.Name, Mode: c.policy.Mode, Protocol: ipsec.ProtoESP,
		Encr: encr, Integ: integ, ESN: esn.ID == ipsec.ESNYes,
		InSPI: c.in, OutSPI: c.out, InKeys: in, OutKeys: out,
		Local: slices.Clone(c.local), Remote: slices.Clone(c.remote),
		LocalAddr: local, RemoteAddr: remote, UDPEncap: s.udp,
	}
	e := ike.InstallChild{SA: sa}
	if replaced != nil {
		e.Rekeyed, e.Standby = replaced.in, !initiator
	}
	s.emit(e)
	return nil
}

// remove takes a Child SA out of the data path.
func (s *SA) remove(c *child, reason string) {
	i := slices.Index(s.children, c)
	if i < 0 {
		return
	}
	s.children = slices.Delete(s.children, i, i+1)
	s.emit(ike.RemoveChild{InSPI: c.in, Reason: reason})
}

// answerChild is the responder's side of a Child SA. The answer is either the
// SA or a notification that says why there is none; an error is a fault of
// our own.
func (s *SA) answerChild(ps []wire.Payload, ni, nr []byte, first bool, replaced *child) ([]wire.Payload, error) {
	refuse := func(n wire.NotifyType, data []byte, why error) ([]wire.Payload, error) {
		s.emit(ike.Failed{Why: why})
		return []wire.Payload{&wire.Notify{Kind: n, Data: data}}, nil
	}
	sa, ok1 := wire.Find[*wire.SA](ps)
	tsi, ok2 := wire.FindTS(ps, false)
	tsr, ok3 := wire.FindTS(ps, true)
	if !ok1 && !ok2 && !ok3 && first {
		return nil, nil // an IKE SA without a child (RFC 6023)
	}
	if !ok1 || !ok2 || !ok3 {
		return refuse(wire.InvalidSyntax, nil, errors.New("a request for a Child SA without SA, TSi or TSr"))
	}
	_, transport := wire.FindNotify(ps, wire.UseTransportMode)
	offered := sa.Proposals
	if first {
		offered = ike.WithoutGroups(offered)
	}
	o := childOffer{proposals: offered, local: tsr.Selectors, remote: tsi.Selectors, transport: transport, first: first}
	ke, exchange := wire.Find[*wire.KE](ps)
	if exchange {
		o.group = ke.Group
	}
	c, chosen, fail := s.choose(o, replaced)
	if fail != nil {
		kind := wire.TSUnacceptable
		if errors.Is(fail, ike.ErrNoProposal) {
			kind = wire.NoProposalChosen
		}
		return refuse(kind, nil, fail)
	}
	var shared []byte
	var ours *wire.KE
	if g, _ := chosen.First(ipsec.TypeGroup); g.ID != ipsec.GroupNone {
		if ke == nil || ke.Group != g.ID {
			return refuse(wire.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, g.ID), fmt.Errorf("the peer has to begin again with %s", g))
		}
		key, err := xform.GenerateKey(g.ID, s.cfg.Rand)
		if err != nil {
			return nil, err
		}
		if shared, err = key.Shared(ke.Data); err != nil {
			return refuse(wire.InvalidSyntax, nil, err)
		}
		defer clear(shared)
		ours = &wire.KE{Group: g.ID, Data: key.Public()}
	}
	out, err := espSPI(chosen.SPI)
	if err != nil {
		return refuse(wire.InvalidSyntax, nil, err)
	}
	c.in, c.out, c.lowest = s.cfg.NewSPI(), out, lowest(ni, nr)
	if err := s.install(c, chosen, shared, ni, nr, false, replaced); err != nil {
		return refuse(wire.NoProposalChosen, nil, err)
	}
	if replaced != nil {
		replaced.rival = c
	}
	chosen.SPI = binary.BigEndian.AppendUint32(nil, uint32(c.in))
	var answer []wire.Payload
	if transport {
		answer = append(answer, &wire.Notify{Kind: wire.UseTransportMode})
	}
	answer = append(answer, &wire.SA{Proposals: []ipsec.Proposal{chosen}})
	if !first {
		answer = append(answer, &wire.Nonce{Data: nr})
	}
	if ours != nil {
		answer = append(answer, ours)
	}
	return append(answer, &wire.TS{Selectors: c.remote}, &wire.TS{Responder: true, Selectors: c.local}), nil
}
