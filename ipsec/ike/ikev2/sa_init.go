package ikev2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// start is what only the first two exchanges need.
type start struct {
	forced bool // we pretend to be behind a NAT

	// The initiator's.
	acquire ike.Acquire
	untried []ike.AuthMethod // those that may still be used, in order
	refused []error          // why those that were tried did not do
	offered []ipsec.Proposal
	cookie  []byte
	restart int   // how often IKE_SA_INIT was changed and begun again
	spoke   bool  // something came in answer to IKE_SA_INIT
	trouble error // with an answer that was of no use

	// Of both.
	group             uint16
	key               xform.PrivateKey
	ni, nr            []byte
	request, response []byte          // IKE_SA_INIT as it was sent
	hashes            []ike.HashAlgo  // the peer's
	requests          []*wire.CertReq // the peer's
}

const (
	nonceLen     = 32
	maxRestarts  = 4 // a cookie and a group, each once more than it takes
	halfOpenTime = 30 * time.Second
)

// begin sends the first message of an initiator. It is also where another
// attempt, with another authentication method, begins anew.
func (s *SA) begin() {
	st := s.start
	s.local, s.remote = s.cfg.Local, s.cfg.Remote
	s.udp = false
	st.forced = s.cfg.Policy.ForceUDP || st.acquire.Child.ForceUDP
	st.offered = ike.Offer(s.cfg.Policy.Proposals, nil)
	st.cookie, st.restart, st.trouble = nil, 0, nil
	st.hashes, st.requests = nil, nil
	var err error
	if len(st.untried) == 0 {
		s.die(&ike.NegotiationError{
			Step: wire.IKESAInit.String(), Peer: s.remote.String(),
			Err: errors.New("the policy has no authentication method"), Hint: "give the rule a certificate or a preshared key",
		})
		return
	}
	if st.ni, err = s.random(nonceLen); err == nil {
		s.cur = &session{initiator: true, spiI: s.cfg.NewIKESPI()}
		g, _ := st.offered[0].First(ipsec.TypeGroup)
		if err = s.chooseGroup(g.ID); err == nil {
			s.transition(InitSent)
			if p := s.cfg.Policy.Patience; p > 0 && !st.spoke {
				s.until = s.now.Add(p)
			}
			err = s.sendInit()
		}
	}
	if err != nil {
		s.die(fmt.Errorf("begin IKE_SA_INIT with %s: %w", s.remote, err))
	}
}

func (s *SA) chooseGroup(group uint16) (err error) {
	s.start.group = group
	s.start.key, err = xform.GenerateKey(group, s.cfg.Rand)
	return err
}

// HDR, [N(COOKIE)], SAi1, KEi, Ni, N(NAT_DETECTION…), N(SIGNATURE_HASH_ALGORITHMS) -->
func (s *SA) sendInit() error {
	st := s.start
	var ps []wire.Payload
	if st.cookie != nil {
		ps = append(ps, &wire.Notify{Kind: wire.Cookie, Data: st.cookie})
	}
	ps = append(ps,
		&wire.SA{Proposals: st.offered},
		&wire.KE{Group: st.group, Data: st.key.Public()},
		&wire.Nonce{Data: st.ni})
	ps = append(ps, natNotifies(s.cur.spiI, 0, s.local, s.remote, st.forced)...)
	ps = append(ps, &wire.Notify{Kind: wire.SignatureHashAlgorithms, Data: ike.OurHashes()})
	data, err := wire.Encode(s.cur.header(wire.IKESAInit, 0, false), ps)
	if err != nil {
		return err
	}
	st.request = data
	s.cur.nextOut = 0
	s.dispatch(s.cur, wire.IKESAInit, data, initiating{})
	return nil
}

// initiating stands for IKE_SA_INIT among the tasks. Its answer bears no
// protection, and finds its way through saInit.
type initiating struct{}

func (initiating) begin(*SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	return 0, nil, false, nil
}
func (initiating) end(*SA, *session, []wire.Payload) {}
func (initiating) schedule() ike.Schedule            { return ike.Patient }

// saInit takes a message of IKE_SA_INIT, a request or a response.
func (s *SA) saInit(d ike.Datagram, h wire.Header) error {
	switch {
	case s.state == InitSent && h.Response && !h.Initiator && h.SPIi == s.cur.spiI && h.MessageID == 0:
		s.start.spoke, s.until = true, time.Time{} // whatever it says
		_, ps, err := wire.Decode(d.Data)
		if err != nil {
			return err
		}
		if c, bad := critical(ps); bad {
			return fmt.Errorf("%w: %s is critical and unknown", errIgnored, c.Kind)
		}
		if done := s.initRefusal(ps); done {
			return nil
		}
		if err := s.initAnswer(d, h, ps); err != nil {
			s.start.trouble = err
			return err
		}
		return nil
	case s.state == Idle && !h.Response && h.Initiator && h.SPIr == 0 && h.SPIi != 0 && h.MessageID == 0:
		_, ps, err := wire.Decode(d.Data)
		if err != nil {
			return err
		}
		return s.answerInit(d, h, ps)
	case s.state == InitAnswered && !h.Response && bytes.Equal(d.Data, s.start.request):
		s.emit(ike.Send{Local: d.Local, Remote: d.Remote, Data: s.start.response})
		return nil
	}
	return fmt.Errorf("%w: %s while %s", errIgnored, h.Exchange, s.state)
}

// initRefusal deals with an answer that is no agreement: the peer wants its
// cookie back, or another group, or nothing to do with us. Nobody vouches for
// it, but whoever could forge it could as well drop the good answer.
func (s *SA) initRefusal(ps []wire.Payload) (done bool) {
	st := s.start
	again := func() bool {
		if st.restart++; st.restart > maxRestarts {
			st.trouble = errors.New("the peer asks for another IKE_SA_INIT time and again")
			return true
		}
		if err := s.sendInit(); err != nil {
			s.die(err)
		}
		return true
	}
	if n, ok := wire.FindNotify(ps, wire.Cookie); ok && len(n.Data) > 0 && len(n.Data) <= 64 {
		st.cookie = bytes.Clone(n.Data)
		return again()
	}
	if n, ok := wire.FindNotify(ps, wire.InvalidKEPayload); ok && len(n.Data) == 2 {
		g := binary.BigEndian.Uint16(n.Data)
		if g == st.group || !offersGroup(st.offered, g) {
			st.trouble = fmt.Errorf("the peer asks for the group %s, which it was not offered anew", ipsec.Transform{Type: ipsec.TypeGroup, ID: g})
			return true
		}
		if err := s.chooseGroup(g); err != nil {
			s.die(err)
			return true
		}
		return again()
	}
	if n, ok := firstError(ps); ok {
		e := &ike.NegotiationError{Step: wire.IKESAInit.String(), Peer: s.remote.String(), Err: fmt.Errorf("%w: %s", ike.ErrRefused, n.Kind)}
		if n.Kind == wire.NoProposalChosen {
			e.Err = fmt.Errorf("%w: the peer answered %s", ike.ErrNoProposal, n.Kind)
			e.Offered = ike.Proposals(st.offered)
			e.Hint = "make both ends accept one IKE proposal"
		}
		s.die(e)
		return true
	}
	return false
}

func offersGroup(ps []ipsec.Proposal, g uint16) bool {
	return slices.ContainsFunc(ps, func(p ipsec.Proposal) bool {
		return slices.Contains(p.Transforms, ipsec.Transform{Type: ipsec.TypeGroup, ID: g})
	})
}

// firstError returns the first notification that refuses something.
func firstError(ps []wire.Payload) (*wire.Notify, bool) {
	for _, p := range ps {
		if n, ok := p.(*wire.Notify); ok && n.Kind.IsError() {
			return n, true
		}
	}
	return nil, false
}

// <-- HDR, SAr1, KEr, Nr, N(NAT_DETECTION…), N(SIGNATURE_HASH_ALGORITHMS), [CERTREQ]
//
// An error leaves everything as it was.
func (s *SA) initAnswer(d ike.Datagram, h wire.Header, ps []wire.Payload) error {
	st := s.start
	sa, ke, nonce, err := initPayloads(ps)
	if err != nil {
		return err
	}
	if h.SPIr == 0 {
		return errors.New("the peer's SPI is zero")
	}
	chosen, err := ike.CheckChoice(st.offered, sa.Proposals)
	if err != nil {
		return err
	}
	if g, _ := chosen.First(ipsec.TypeGroup); ke.Group != g.ID || ke.Group != st.group {
		return fmt.Errorf("%w: the peer chose the group %s, but its key exchange is of group %d and ours of %d", ike.ErrNoProposal, g, ke.Group, st.group)
	}
	if err := checkNonce(nonce.Data, chosen); err != nil {
		return err
	}
	ses := &session{initiator: true, spiI: s.cur.spiI, spiR: h.SPIr, proposal: chosen, nextOut: 1}
	if err := ses.agree(st.key, ke.Data, st.ni, nonce.Data, s); err != nil {
		return err
	}
	st.nr = bytes.Clone(nonce.Data)
	st.response = d.Data
	s.notePeer(ps)
	s.noteNAT(ps, ses, d.Local, d.Remote)
	s.cur = ses
	s.float()
	s.transition(AuthSent)
	s.sendAuth()
	return nil
}

// notePeer remembers what the peer's IKE_SA_INIT says about authentication.
func (s *SA) notePeer(ps []wire.Payload) {
	if n, ok := wire.FindNotify(ps, wire.SignatureHashAlgorithms); ok {
		s.start.hashes = ike.ParseHashes(n.Data)
	}
	s.start.requests = append(s.start.requests, certRequests(ps)...)
}

func certRequests(ps []wire.Payload) (out []*wire.CertReq) {
	for _, p := range ps {
		if r, ok := p.(*wire.CertReq); ok {
			out = append(out, r)
		}
	}
	return out
}

func initPayloads(ps []wire.Payload) (*wire.SA, *wire.KE, *wire.Nonce, error) {
	sa, ok1 := wire.Find[*wire.SA](ps)
	ke, ok2 := wire.Find[*wire.KE](ps)
	nonce, ok3 := wire.Find[*wire.Nonce](ps)
	if !ok1 || !ok2 || !ok3 {
		return nil, nil, nil, fmt.Errorf("%w: IKE_SA_INIT without SA, KE or Nonce", errIgnored)
	}
	return sa, ke, nonce, nil
}

// agree finishes the key exchange of a first session and derives its keys.
func (ses *session) agree(key xform.PrivateKey, peer, ni, nr []byte, s *SA) error {
	prf, _ := ses.proposal.First(ipsec.TypePRF)
	var err error
	if ses.prf, err = xform.NewPRF(prf.ID); err != nil {
		return err
	}
	shared, err := key.Shared(peer)
	if err != nil {
		return err
	}
	defer clear(shared)
	return ses.activate(firstSeed(ses.prf, ni, nr, shared), ni, nr, s.cfg.Rand)
}

// answerInit is the responder's side. Whatever it refuses leaves no state
// behind: the SA closes, and the peer's next attempt finds a new one.
//
//	HDR, SAi1, KEi, Ni -->
//	<-- HDR, SAr1, KEr, Nr, [CERTREQ]
func (s *SA) answerInit(d ike.Datagram, h wire.Header, ps []wire.Payload) error {
	sa, ke, nonce, err := initPayloads(ps)
	if err != nil {
		return err
	}
	if c, bad := critical(ps); bad {
		s.refuseInit(d, h, &wire.Notify{Kind: wire.UnsupportedCriticalPayload, Data: []byte{byte(c.Kind)}})
		s.finish(fmt.Sprintf("%s is critical and unknown", c.Kind))
		return nil
	}
	wanted := s.cfg.Policy.Proposals
	chosen, ok := ike.SelectProposal(wanted, sa.Proposals, ke.Group)
	if !ok {
		s.refuseInit(d, h, &wire.Notify{Kind: wire.NoProposalChosen})
		s.die(&ike.NegotiationError{
			Step: wire.IKESAInit.String(), Peer: d.Remote.String(), Err: ike.ErrNoProposal,
			Offered: ike.Proposals(sa.Proposals), Wanted: ike.Proposals(wanted), Hint: "make both ends accept one IKE proposal",
		})
		return nil
	}
	g, _ := chosen.First(ipsec.TypeGroup)
	if ke.Group != g.ID {
		s.refuseInit(d, h, &wire.Notify{Kind: wire.InvalidKEPayload, Data: binary.BigEndian.AppendUint16(nil, g.ID)})
		s.finish("the peer has to begin again with " + g.String())
		return nil
	}
	if err := checkNonce(nonce.Data, chosen); err != nil {
		s.refuseInit(d, h, &wire.Notify{Kind: wire.InvalidSyntax})
		s.finish(err.Error())
		return nil
	}
	st := s.start
	st.forced = s.cfg.Policy.ForceUDP
	chosen.SPI = nil
	st.ni, st.request = bytes.Clone(nonce.Data), d.Data
	if st.nr, err = s.random(nonceLen); err != nil {
		return err
	}
	if err = s.chooseGroup(g.ID); err != nil {
		return err
	}
	ses := &session{spiI: h.SPIi, spiR: s.cfg.NewIKESPI(), proposal: chosen, nextIn: 1}
	if err := ses.agree(st.key, ke.Data, st.ni, st.nr, s); err != nil {
		// A public value that is none is either a mistake or an attack.
		s.finish(err.Error())
		return nil
	}
	s.local, s.remote = d.Local, d.Remote
	s.notePeer(ps)
	// The peer computed its hashes before it knew our SPI.
	s.noteNAT(ps, &session{spiI: h.SPIi}, d.Local, d.Remote)
	out := []wire.Payload{
		&wire.SA{Proposals: []ipsec.Proposal{chosen}},
		&wire.KE{Group: g.ID, Data: st.key.Public()},
		&wire.Nonce{Data: st.nr},
	}
	out = append(out, natNotifies(ses.spiI, ses.spiR, d.Local, d.Remote, st.forced)...)
	if st.hashes != nil {
		out = append(out, &wire.Notify{Kind: wire.SignatureHashAlgorithms, Data: ike.OurHashes()})
	}
	if req, ok := ike.CertRequest(s.cfg.Policy.Auth); ok {
		out = append(out, req)
	}
	if st.response, err = wire.Encode(ses.header(wire.IKESAInit, 0, true), out); err != nil {
		return err
	}
	s.cur = ses
	s.until = s.now.Add(halfOpenTime)
	s.transition(InitAnswered)
	s.emit(ike.Send{Local: d.Local, Remote: d.Remote, Data: st.response})
	return nil
}

// refuseInit answers without an SPI of ours, as there will be no SA.
func (s *SA) refuseInit(d ike.Datagram, h wire.Header, n *wire.Notify) {
	answer := wire.Header{SPIi: h.SPIi, Version: wire.Version2, Exchange: wire.IKESAInit, Response: true}
	// A notification of this size can always be encoded.
	if data, err := wire.Encode(answer, []wire.Payload{n}); err == nil {
		s.emit(ike.Send{Local: d.Local, Remote: d.Remote, Data: data})
	}
}
