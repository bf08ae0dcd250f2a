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

// start is what is needed only until the peer is authenticated.
type start struct {
	forced bool // we pretend to be behind a NAT

	// The initiator's.
	acquire ike.Acquire
	untried []ike.AuthMethod // those that may still be used, in order
	tried   []error          // why those that were tried did not do
	offered []ipsec.Proposal
	group   uint16
	key     xform.PrivateKey // until the peer's half has come
	cookie  []byte
	restart int   // how often IKE_SA_INIT was changed and begun again
	spoke   bool  // something came in answer to IKE_SA_INIT
	trouble error // with an answer that was of no use
	refusal error // that the peer wants no IKE SA with us, or somebody who says so

	// Of both.
	ni, nr            []byte
	request, response []byte   // IKE_SA_INIT as it was sent
	exchanges         []uint16 // the methods of the additional key exchanges to come, in order
	intAuth           intAuth
	hashes            []ike.HashAlgo   // the peer's
	requests          ike.CertRequests // the peer's
	usePPK            bool             // both ends said USE_PPK
	ppk               withPPK
}

// forget wipes what is secret in it.
func (st *start) forget() {
	if st != nil {
		st.key = nil
		st.ppk.wipe()
	}
}

const (
	nonceLen     = 32
	maxRestarts  = 4 // a cookie and a group, each once more than it takes
	halfOpenTime = 30 * time.Second
	refusedTime  = 10 * time.Second // for a peer that asks again, as it has not heard
)

// begin sends the first message of an initiator. It is also where another
// attempt, with another authentication method, begins anew.
func (s *SA) begin() {
	st := s.start
	*st = start{acquire: st.acquire, untried: st.untried, tried: st.tried, spoke: st.spoke}
	s.local, s.remote = s.cfg.Local, s.cfg.Remote
	s.peer, s.udp = ike.PeerInfo{}, false
	st.forced = s.cfg.Policy.ForceUDP || st.acquire.Child.ForceUDP
	st.offered = ike.Offer(s.cfg.Policy.Proposals, nil)
	if err := s.able(); err != nil {
		s.die(err)
		return
	}
	var err error
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

// able checks that the policy lets us begin at all.
func (s *SA) able() error {
	e := &ike.NegotiationError{Step: wire.IKESAInit.String(), Peer: s.remote.String(), Side: ike.ThisSide}
	switch p := &s.cfg.Policy; {
	case len(s.start.untried) == 0:
		e.Err = fmt.Errorf("%w: %w: the rule has none", ike.ErrAuthentication, ike.ErrNoMethod)
		e.Hint = `give the rule a certificate, a raw-key or a preshared-key under "authentication"`
	case p.PPKRequired && len(p.PPKs) == 0:
		e.Err = errPPKMissing
		e.Hint = hintPPKKey
	default:
		return nil
	}
	return e
}

func (s *SA) chooseGroup(group uint16) (err error) {
	s.start.group = group
	s.start.key, err = xform.GenerateKey(group, s.cfg.Rand)
	return err
}

// HDR, [N(COOKIE)], SAi1, KEi, Ni, N(NAT_DETECTION…), N(…_SUPPORTED)… -->
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
	ps = append(ps, s.extensions(true, nil)...)
	h := s.cur.header(wire.IKESAInit, 0, false)
	data, err := wire.Encode(h, ps)
	if err != nil {
		return err
	}
	st.request = data
	s.cur.ours = outWindow{}
	s.dispatch(s.cur, inClear(h, data), initiating{})
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
	case s.answers(h):
		s.hear()
		s.traceInit(d, h, false)
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
		s.traceInit(d, h, false)
		_, ps, err := wire.Decode(d.Data)
		if err != nil {
			return err
		}
		return s.answerInit(d, h, ps)
	case s.state == InitAnswered && !h.Response && bytes.Equal(d.Data, s.start.request):
		s.repeatInit(d, h)
		return nil
	}
	return fmt.Errorf("%w: %s while %s", errIgnored, h.Exchange, s.state)
}

// answers reports whether a message is, or pretends to be, the answer to our
// IKE_SA_INIT.
func (s *SA) answers(h wire.Header) bool {
	return s.state == InitSent && h.Response && !h.Initiator && h.SPIi == s.cur.spiI && h.MessageID == 0
}

// hear notes that the peer speaks IKE, whatever it says.
func (s *SA) hear() {
	s.start.spoke = true
	if s.start.refusal == nil {
		s.until = time.Time{}
	}
}

// otherVersion takes a message of another major version. A peer that answers
// our IKE_SA_INIT with one speaks IKE, and not ours (RFC 7296 section 2.5).
func (s *SA) otherVersion(h wire.Header) error {
	err := fmt.Errorf("%w: major version %d", errIgnored, h.Major())
	if s.state == InitSent && h.SPIi == s.cur.spiI {
		s.hear()
		s.reconsider(s.versionError(fmt.Errorf("%w: it answers with version %d of IKE", ike.ErrRefused, h.Major())))
	}
	return err
}

func (s *SA) versionError(err error) error {
	return &ike.NegotiationError{
		Step: wire.IKESAInit.String(), Peer: s.remote.String(), Err: err,
		Hint: "let the peer speak version 2 of IKE", Side: ike.PeerSide,
	}
}

// initRefusal deals with an answer that is no agreement: the peer wants its
// cookie back, or another group, or nothing to do with us. Nobody vouches for
// it.
func (s *SA) initRefusal(ps []wire.Payload) (done bool) {
	st := s.start
	again := func() bool {
		if st.restart++; st.restart > maxRestarts {
			st.trouble = errors.New("the peer asks for another IKE_SA_INIT time and again")
			return true
		}
		st.refusal, s.until = nil, time.Time{}
		if err := s.sendInit(); err != nil {
			s.die(err)
		}
		return true
	}
	if n, ok := wire.FindNotify(ps, wire.Cookie); ok && len(n.Data) > 0 && len(n.Data) <= 64 {
		// The rest of the message stays, the SPI and the nonce among it
		// (RFC 7296 section 2.6).
		st.cookie = bytes.Clone(n.Data)
		return again()
	}
	if n, ok := wire.FindNotify(ps, wire.InvalidKEPayload); ok && len(n.Data) == 2 {
		g := binary.BigEndian.Uint16(n.Data)
		if g == st.group || !offersGroup(st.offered, g) {
			st.trouble = fmt.Errorf("the peer asks for the group %s, which it was not offered anew", groupName(g))
			return true
		}
		if err := s.chooseGroup(g); err != nil {
			s.die(err)
			return true
		}
		// A cookie may be good for the other group too, and if it is not, the
		// peer gives another one (section 2.6.1).
		return again()
	}
	n, ok := firstError(ps)
	if !ok {
		return false
	}
	e := &ike.NegotiationError{Step: wire.IKESAInit.String(), Peer: s.remote.String(), Err: fmt.Errorf("%w: %s", ike.ErrRefused, n.Kind)}
	switch n.Kind {
	case wire.NoProposalChosen:
		e.Err = fmt.Errorf("%w: the peer answered %s", ike.ErrNoProposal, n.Kind)
		e.Ours.Proposals = st.offered
	case wire.InvalidMajorVersion:
		s.reconsider(s.versionError(e.Err))
		return true
	}
	s.reconsider(e)
	return true
}

// reconsider remembers why the peer wants no IKE SA with us. Whoever can forge
// that need not be able to keep the peer's own answer from us, which therefore
// gets a moment to arrive (RFC 7296 section 2.21.1). The request is not sent
// again meanwhile: an honest peer would only refuse it again.
func (s *SA) reconsider(why error) {
	if s.start.refusal != nil {
		return
	}
	s.start.refusal, s.until = why, s.now.Add(ike.Patient.First)
	for _, p := range s.cur.ours.pending {
		p.at = time.Time{}
	}
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

// <-- HDR, SAr1, KEr, Nr, N(NAT_DETECTION…), N(…_SUPPORTED)…, [CERTREQ]
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
	exchanges := additional(chosen)
	if _, ok := wire.FindNotify(ps, wire.IntermediateSupported); !ok && len(exchanges) > 0 {
		return fmt.Errorf("%w: the peer chose %s without support for IKE_INTERMEDIATE", ike.ErrNoProposal, chosen)
	}
	if err := checkNonce(nonce.Data, chosen); err != nil {
		return err
	}
	_, usesPPK := wire.FindNotify(ps, wire.UsePPK)
	usePPK, err := s.offerPPK(usesPPK)
	if err != nil {
		s.reconsider(&ike.NegotiationError{
			Step: wire.IKESAInit.String(), Peer: s.remote.String(), Err: err, Hint: hintPPKPeer, Side: ike.PeerSide,
		})
		return nil
	}
	ses := &session{initiator: true, spiI: s.cur.spiI, spiR: h.SPIr, proposal: chosen, ours: outWindow{next: 1}}
	shared, err := st.key.Shared(ke.Data)
	if err != nil {
		return err
	}
	defer clear(shared)
	if err := ses.agree(shared, st.ni, nonce.Data, s); err != nil {
		return err
	}
	st.key, st.exchanges, st.usePPK = nil, exchanges, usePPK
	st.nr, st.response = bytes.Clone(nonce.Data), d.Data
	st.refusal, s.until = nil, time.Time{}
	s.noteExtensions(ps, ses)
	s.noteNAT(ps, ses, d.Local, d.Remote)
	s.cur = ses
	s.float()
	s.proceed()
	return nil
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
