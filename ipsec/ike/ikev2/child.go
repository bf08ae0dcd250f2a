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

// child is one Child SA, from its installation until both ends know that it is
// gone.
type child struct {
	policy        ike.ChildPolicy
	protocol      ipsec.ProtocolID
	unpadded      bool // the peer takes no padding beyond that of ESP
	in, out       ipsec.SPI
	local, remote []ipsec.TrafficSelector
	original      ike.Ends  // as the peer knows them, in transport mode through a NAT
	rekey, end    time.Time // zero for never
	again         time.Time // before which it is not rekeyed, as that has just failed
	leaving       bool      // we are deleting it, or about to
	removed       bool      // it is not in the data path any more, while the peer is told
	// lowest is the lowest nonce of the exchange that made the child, and
	// rival the child that the peer made in its place while our own rekeying
	// was under way (RFC 7296 section 2.8.1).
	lowest []byte
	rival  *child

	received, sent uint64 // packets, when they were last looked at
}

// childRequest is what we ask for a Child SA, in IKE_AUTH or CREATE_CHILD_SA.
type childRequest struct {
	policy    ike.ChildPolicy
	acquire   ike.Acquire  // that it is for
	then      *ike.Acquire // what to ask for afterwards, or nil
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
	r := &childRequest{policy: p, acquire: a, replacing: replacing, in: s.cfg.NewSPI()}
	proposals, err := s.withoutAH(p)
	if err != nil {
		return nil, err
	}
	if first {
		proposals = ike.WithoutGroups(proposals)
	} else {
		if g, ok := s.cur.proposal.First(ipsec.TypeGroup); ok && s.exchanges {
			proposals = ike.WithExchange(proposals, g)
		}
		if err = s.entitled(p); err != nil {
			return nil, err
		}
		if r.ni, err = s.random(nonceLen); err != nil {
			return nil, err
		}
	}
	if len(proposals) == 0 {
		return nil, fmt.Errorf("the rule %q has no proposal for ESP or AH", p.Name)
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
			Protocol: r.replacing.protocol, Kind: wire.RekeySA,
			SPI: binary.BigEndian.AppendUint32(nil, uint32(r.replacing.in)),
		})
	}
	if r.policy.Mode == ipsec.Transport {
		ps = append(ps, &wire.Notify{Kind: wire.UseTransportMode})
	}
	ps = append(ps, padding(r.policy.Mode)...)
	ps = append(ps, &wire.SA{Proposals: r.offered})
	if r.ni != nil {
		ps = append(ps, &wire.Nonce{Data: r.ni})
	}
	if r.key != nil {
		ps = append(ps, &wire.KE{Group: r.group, Data: r.key.Public()})
	}
	return append(ps, &wire.TS{Selectors: r.tsi}, &wire.TS{Responder: true, Selectors: r.tsr})
}

// padding tells the peer that what it adds beyond the padding of ESP would
// arrive as a part of the packet. In tunnel mode it would not: the packet inside
// says how long it is.
//
// NON_FIRST_FRAGMENTS_ALSO is never sent, nor granted: fragments are put
// together before a rule is chosen for them, so none travels within an SA
// without its ports (RFC 4301 section 7.3).
func padding(m ipsec.Mode) []wire.Payload {
	if m == ipsec.Tunnel {
		return nil
	}
	return []wire.Payload{&wire.Notify{Kind: wire.ESPTFCPaddingNotSupported}}
}

// unpadded reports whether a peer takes no padding of that kind.
func unpadded(ps []wire.Payload) bool {
	_, ok := wire.FindNotify(ps, wire.ESPTFCPaddingNotSupported)
	return ok
}

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
	return narrow(host(s.ends.Local), p.Local), narrow(host(s.ends.Remote), p.Remote)
}

// endChild completes the Child SA of IKE_AUTH with the peer's answer. What
// fails concerns this Child SA only (RFC 7296 section 2.21.2).
func (s *SA) endChild(r *childRequest, ps []wire.Payload, ni, nr []byte) {
	if n, ok := firstError(ps); ok && n.Kind == wire.SinglePairRequired {
		s.enqueue(&createChild{acquire: r.acquire, single: true})
		return
	}
	a, exists, err := s.complete(r, ps, ni, nr)
	if err == nil {
		err = s.install(&a, s.cur, true)
	}
	if err != nil {
		s.childFailed(r, ps, exists, err)
		return
	}
	s.follow(r.then)
}

// childFailed says why there is no Child SA, and deletes it if the peer has it
// nevertheless.
func (s *SA) childFailed(r *childRequest, ps []wire.Payload, exists bool, err error) {
	why := s.explain(r, ps, err)
	failed := ike.Failed{Policy: r.policy.Name, Why: why}
	if r.replacing != nil {
		failed.Policy = "" // the packets have the old SA, and do not wait
	}
	s.emit(failed)
	if exists {
		s.enqueue(&deleteTask{protocol: r.protocol(ps), in: r.in})
	}
}

// protocol returns that of an SA that the peer has made by its answer.
func (r *childRequest) protocol(answer []wire.Payload) ipsec.ProtocolID {
	if sa, ok := wire.Find[*wire.SA](answer); ok {
		return sa.Proposals[0].Protocol
	}
	return r.offered[0].Protocol
}

// complete checks the answer. The agreement lacks nothing but its additional
// key exchanges, if it has any; exists says that the peer has the SA, or will
// have it, even though an error is returned.
func (s *SA) complete(r *childRequest, ps []wire.Payload, ni, nr []byte) (a agreement, exists bool, err error) {
	if n, ok := firstError(ps); ok {
		switch n.Kind {
		case wire.NoProposalChosen:
			return a, false, fmt.Errorf("%w: the peer answered %s", ike.ErrNoProposal, n.Kind)
		case wire.TSUnacceptable, wire.SinglePairRequired:
			return a, false, fmt.Errorf("%w: the peer answered %s", ike.ErrSelectors, n.Kind)
		case wire.NoAdditionalSAs:
			// Without even the first one, another IKE SA would be no better.
			if r.ni != nil {
				return a, false, fmt.Errorf("%w: the peer answered %s", ike.ErrFull, n.Kind)
			}
		}
		return a, false, fmt.Errorf("%w: %s", ike.ErrRefused, n.Kind)
	}
	sa, ok1 := wire.Find[*wire.SA](ps)
	tsi, ok2 := wire.FindTS(ps, false)
	tsr, ok3 := wire.FindTS(ps, true)
	if !ok1 || !ok2 || !ok3 {
		return a, ok1, fmt.Errorf("%w: the answer has no SA or no traffic selectors", ike.ErrRefused)
	}
	if err := s.entitled(r.policy); err != nil {
		return a, true, err
	}
	if err := checkNonce(nr, s.cur.proposal); err != nil {
		return a, true, err
	}
	chosen, err := ike.CheckChoice(r.offered, sa.Proposals)
	if err != nil {
		return a, true, err
	}
	if _, transport := wire.FindNotify(ps, wire.UseTransportMode); transport != (r.policy.Mode == ipsec.Transport) {
		return a, true, fmt.Errorf("%w: the peer does not agree to %s mode", ike.ErrMode, r.policy.Mode)
	}
	local, remote, original := tsi.Selectors, tsr.Selectors, ike.Ends{}
	if r.policy.Mode == ipsec.Transport {
		if local, remote, original, err = s.substitute(local, remote); err != nil {
			return a, true, err
		}
	}
	if !within(local, r.tsi) || !within(remote, r.tsr) {
		return a, true, fmt.Errorf("%w: the peer answered with %v to %v", ike.ErrSelectors, tsi.Selectors, tsr.Selectors)
	}
	if !r.serves(local, remote) {
		return a, true, fmt.Errorf("%w: the peer wants an SA for %v to %v only, which leaves out the packet that asked, from %s to %s",
			ike.ErrSelectors, local, remote, r.acquire.Local, r.acquire.Remote)
	}
	if err := s.inForce(r.policy, local, remote); err != nil {
		return a, true, err
	}
	out, err := espSPI(chosen.SPI)
	if err != nil {
		return a, true, err
	}
	var shared []byte
	if g, _ := chosen.First(ipsec.TypeGroup); g.ID != ipsec.GroupNone {
		ke, ok := wire.Find[*wire.KE](ps)
		if !ok || r.key == nil || ke.Group != g.ID || ke.Group != r.group {
			return a, true, fmt.Errorf("%w: the peer chose %s without a key exchange that fits", ike.ErrNoProposal, g)
		}
		if shared, err = r.key.Shared(ke.Data); err != nil {
			return a, true, err
		}
	}
	a = agreed(chosen, shared, ni, nr)
	a.child = &child{policy: r.policy, protocol: chosen.Protocol, unpadded: unpadded(ps), in: r.in, out: out, local: local, remote: remote, original: original, lowest: a.lowest()}
	a.replaced = r.replacing
	if err := a.follow(ps); err != nil {
		a.wipe()
		return a, false, err
	}
	return a, true, nil
}

// serves reports whether an SA with these selectors is for the packet that
// asked for it: one that is not would be of no use, and the next packet would
// ask again. What was not asked for by a packet may be narrowed at will.
func (r *childRequest) serves(local, remote []ipsec.TrafficSelector) bool {
	l, p := r.acquire.Local, r.acquire.Remote
	if r.replacing != nil || !ofPacket(l) || !ofPacket(p) {
		return true
	}
	return within([]ipsec.TrafficSelector{l}, local) && within([]ipsec.TrafficSelector{p}, remote)
}

// ofPacket reports whether a selector is one of a single packet.
func ofPacket(t ipsec.TrafficSelector) bool {
	return t.Protocol != 0 && t.Start == t.End && (t.AnyPort() || t.StartPort == t.EndPort)
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

// install derives the keys of a Child SA from an agreement, whose secrets it
// wipes, and gives it to the data path. The session is that of the exchange,
// which we began if initiator is set.
func (s *SA) install(a *agreement, ses *session, initiator bool) error {
	defer a.wipe()
	c, replaced := a.child, a.replaced
	encr, _ := a.chosen.First(ipsec.TypeEncr)
	integ, _ := a.chosen.First(ipsec.TypeInteg)
	esn, _ := a.chosen.First(ipsec.TypeESN)
	out, in, err := childKeys(ses.prf, ses.keys.d, a.seed, encr, integ)
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
	if len(s.children) == 0 {
		s.looked = s.now
	}
	s.children = append(s.children, c)
	around := c.policy.Outer
	if replaced == nil && !around { // it counts with that inside
		s.made++
	}
	local, remote := s.outer()
	name := s.peer.RemoteID
	if s.proof.Anonymous() {
		name = ""
	}
	e := ike.InstallChild{SA: &ipsec.ChildSA{
		Policy: c.policy.Name, Mode: c.policy.Mode, Protocol: c.protocol, Unpadded: c.unpadded, Nested: c.policy.Around != nil,
		Encr: encr, Integ: integ, ESN: esn.ID == ipsec.ESNYes,
		InSPI: c.in, OutSPI: c.out, InKeys: in, OutKeys: out,
		Local: slices.Clone(c.local), Remote: slices.Clone(c.remote),
		LocalAddr: local, RemoteAddr: remote, UDPEncap: s.udp,
		OriginalLocal: c.original.Local, OriginalRemote: c.original.Remote, BehindNAT: s.keepalive, PeerID: name,
	}}
	e.More = around && s.lacks(c)
	if replaced != nil && !replaced.removed && slices.Contains(s.children, replaced) {
		e.Rekeyed, e.Standby = replaced.in, !initiator
		if !initiator {
			replaced.superseded(s.now, c)
		}
	}
	if replaced != nil && initiator && s.redundant(c, replaced) {
		e.Standby = true // the peer may have heard of its end before our next packet comes
	}
	s.emit(e)
	return nil
}

// remove takes a Child SA out of the data path, if it is there, and forgets it.
func (s *SA) remove(c *child, reason string) {
	i := slices.Index(s.children, c)
	if i < 0 {
		return
	}
	s.withdraw(c, reason, true)
	s.children = slices.Delete(s.children, i, i+1)
}

// withdraw takes a Child SA out of the data path, late or at once. It is still
// known as one that is on its way out.
func (s *SA) withdraw(c *child, reason string, late bool) {
	c.leave()
	if !c.removed {
		c.removed = true
		s.emit(ike.RemoveChild{InSPI: c.in, Reason: reason, Late: late})
	}
}

// leave marks a Child SA as one that we are deleting.
func (c *child) leave() {
	c.leaving = true
	c.rekey, c.end = time.Time{}, time.Time{}
}

// answerChild is the responder's side of a Child SA. The answer is either the
// SA or a notification that says why there is none; an error is a fault of
// our own.
func (s *SA) answerChild(ps []wire.Payload, ni, nr []byte, first bool, replaced *child) ([]wire.Payload, error) {
	refuse := func(n wire.NotifyType, why error) ([]wire.Payload, error) {
		s.emit(ike.Failed{Why: why})
		return []wire.Payload{&wire.Notify{Kind: n}}, nil
	}
	sa, ok1 := wire.Find[*wire.SA](ps)
	tsi, ok2 := wire.FindTS(ps, false)
	tsr, ok3 := wire.FindTS(ps, true)
	if !ok1 && !ok2 && !ok3 && first {
		return nil, nil // an IKE SA without a child (RFC 6023)
	}
	if !ok1 || !ok2 || !ok3 {
		return refuse(wire.InvalidSyntax, errors.New("a request for a Child SA without SA, TSi or TSr"))
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
	var original ike.Ends
	if transport {
		local, remote, was, err := s.substitute(o.local, o.remote)
		if err != nil {
			return refuse(wire.TSUnacceptable, s.noTransport(o, err))
		}
		o.local, o.remote, original = local, remote, was
	}
	c, chosen, more, fail := s.choose(o, replaced)
	if fail != nil {
		kind := wire.TSUnacceptable
		if errors.Is(fail, ike.ErrNoProposal) {
			kind = wire.NoProposalChosen
		}
		return refuse(kind, fail)
	}
	out, err := espSPI(chosen.SPI)
	if err != nil {
		return refuse(wire.InvalidSyntax, err)
	}
	var shared []byte
	var ours *wire.KE
	if g, _ := chosen.First(ipsec.TypeGroup); g.ID != ipsec.GroupNone {
		if ke == nil || ke.Group != g.ID {
			// It is no failure: the peer asks again with this group.
			return []wire.Payload{&wire.Notify{Kind: wire.InvalidKEPayload, Data: binary.BigEndian.AppendUint16(nil, g.ID)}}, nil
		}
		if !s.effort.spend(g.ID, s.now) {
			return []wire.Payload{&wire.Notify{Kind: wire.TemporaryFailure}}, nil
		}
		var public []byte
		if public, shared, err = xform.Answer(g.ID, ke.Data, s.cfg.Rand); err != nil {
			return refuse(wire.InvalidSyntax, err)
		}
		ours = &wire.KE{Group: g.ID, Data: public}
	}
	a := agreed(chosen, shared, ni, nr)
	c.in, c.out, c.lowest, c.original = s.cfg.NewSPI(), out, a.lowest(), original
	c.protocol, c.unpadded = chosen.Protocol, unpadded(ps)
	a.child, a.replaced = c, replaced
	var answer []wire.Payload
	if transport {
		answer = append(answer, &wire.Notify{Kind: wire.UseTransportMode})
	}
	chosen.SPI = binary.BigEndian.AppendUint32(nil, uint32(c.in))
	answer = append(answer, padding(c.policy.Mode)...)
	answer = append(answer, &wire.SA{Proposals: []ipsec.Proposal{chosen}})
	if !first {
		answer = append(answer, &wire.Nonce{Data: nr})
	}
	if ours != nil {
		answer = append(answer, ours)
	}
	answer = append(answer, &wire.TS{Selectors: c.remote}, &wire.TS{Responder: true, Selectors: c.local})
	if more {
		answer = append(answer, &wire.Notify{Kind: wire.AdditionalTSPossible})
	}
	if len(a.left) > 0 {
		link, err := s.await(a, s.cur)
		if err != nil {
			return nil, err
		}
		return append(answer, link), nil
	}
	if err := s.install(&a, s.cur, false); err != nil {
		return refuse(wire.NoProposalChosen, err)
	}
	return answer, nil
}
