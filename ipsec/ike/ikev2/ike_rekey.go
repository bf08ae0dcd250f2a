package ikev2

import (
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

// rekeyIKE is our CREATE_CHILD_SA for a new IKE SA, which inherits the Child
// SAs (RFC 7296 sections 1.3.2 and 2.18), with the IKE_FOLLOWUP_KE exchanges
// that belong to it. While it is under way nothing else is.
//
// If both ends begin at once there are three IKE SAs for a while: the old one
// and two new ones, of which the one that came of the lowest nonce is deleted
// by whom it was begun, and the old one by the other (section 2.8.2).
type rekeyIKE struct {
	of      *session // to be replaced
	spi     uint64
	group   uint16 // 0 for the group that is in use
	offered []ipsec.Proposal
	key     xform.PrivateKey
	ni      []byte
	agreed  *agreement // once the peer has answered CREATE_CHILD_SA
	tries   int
	busy    busy
}

func (*rekeyIKE) schedule() ike.Schedule { return ike.Patient }

func (t *rekeyIKE) wipe() { t.agreed.wipe() }

// rekeyIKE begins to replace the IKE SA, unless that is on its way already.
func (s *SA) rekeyIKE() {
	s.renew = time.Time{}
	if s.state == Established && s.rival == nil && !among(s.tasks(), rekeysIKE) {
		s.enqueue(&rekeyIKE{of: s.cur})
	}
}

// renewing reports whether our own rekeying of the IKE SA is under way.
func (s *SA) renewing() bool {
	return among(s.underWay(), rekeysIKE)
}

func rekeysIKE(t task) bool { _, ok := t.(*rekeyIKE); return ok }

// HDR, SK {SA, Ni, KEi} -->
func (t *rekeyIKE) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	if s.state != Established || t.of != s.cur {
		t.wipe()
		s.freeSPI(t.spi)
		return 0, nil, false, nil // the peer was faster
	}
	if t.agreed != nil {
		return t.agreed.ask(s)
	}
	t.tries++
	s.freeSPI(t.spi) // of the last try
	t.spi = s.cfg.NewIKESPI()
	t.offered = ike.Offer(s.proposals(), binary.BigEndian.AppendUint64(nil, t.spi))
	if t.group == 0 {
		g, _ := s.cur.proposal.First(ipsec.TypeGroup)
		if !offersGroup(t.offered, g.ID) { // not any more
			g, _ = t.offered[0].First(ipsec.TypeGroup)
		}
		t.group = g.ID
	}
	var err error
	if t.ni, err = s.random(nonceLen); err != nil {
		return 0, nil, false, err
	}
	if t.key, err = xform.GenerateKey(t.group, s.cfg.Rand); err != nil {
		return 0, nil, false, err
	}
	return wire.CreateChildSA, []wire.Payload{
		&wire.SA{Proposals: t.offered},
		&wire.Nonce{Data: t.ni},
		&wire.KE{Group: t.group, Data: t.key.Public()},
	}, true, nil
}

// <-- HDR, SK {SA, Nr, KEr, [N(ADDITIONAL_KEY_EXCHANGE)]}, or a later answer
func (t *rekeyIKE) end(s *SA, ses *session, ps []wire.Payload) {
	first := t.agreed == nil
	if first && t.again(s, ses, ps) {
		return
	}
	var err error
	if first {
		t.agreed, err = t.complete(ses, ps)
		t.key = nil
	} else {
		err = t.agreed.heard(ps)
	}
	if err != nil {
		t.fail(s, ps, err)
		return
	}
	a := t.agreed
	lost := ses != s.cur || first && s.rekeyingLost(a, ses)
	switch {
	case len(a.left) > 0 && (lost || s.state != Established):
		a.wipe() // there is nothing to delete yet (RFC 9370 section 2.2.4)
		s.free(a.fresh)
	case len(a.left) > 0:
		if first {
			s.abandon(func(u *unfinished) bool { return u.fresh != nil })
		}
		s.enqueueNext(t)
		return
	default:
		if err := a.fresh.inherit(ses, a, s); err != nil {
			t.fail(s, nil, err)
			return
		}
		if lost {
			s.discard(a.fresh)
			break
		}
		s.win(ses, a.fresh)
		return
	}
	if ses == s.cur && s.rival != nil {
		s.adopt(s.rival)
	}
}

// again reports whether an answer is dealt with by asking once more. It is not
// if the peer makes an IKE SA of its own in the place of the old one.
func (t *rekeyIKE) again(s *SA, ses *session, ps []wire.Payload) bool {
	n, ok := firstError(ps)
	if !ok || ses != s.cur || s.rival != nil || s.theirRekeying(ses) != nil {
		return false
	}
	switch {
	case n.Kind == wire.TemporaryFailure:
		s.askAgain(t, &t.busy)
		return true
	case n.Kind == wire.InvalidKEPayload && len(n.Data) == 2 && t.tries < maxTries:
		if g := binary.BigEndian.Uint16(n.Data); g != t.group && offersGroup(t.offered, g) {
			t.group = g
			s.enqueue(t)
			return true
		}
	}
	return false
}

// fail gives up. What the peer has made meanwhile takes the place of what we
// wanted.
func (t *rekeyIKE) fail(s *SA, ps []wire.Payload, err error) {
	t.wipe()
	s.freeSPI(t.spi)
	if t.of != s.cur || s.theirRekeying(s.cur) != nil {
		return
	}
	if s.rival != nil {
		s.adopt(s.rival)
		return
	}
	n, refused := firstError(ps)
	switch {
	case s.state != Established:
		return
	case refused && n.Kind == wire.StateNotFound && t.tries < maxTries:
		t.agreed = nil
		s.enqueueLater(t) // we were too slow for the peer
		return
	}
	if s.lastTry(s.expire) {
		s.renewAuth("the IKE SA could not be rekeyed", s.expire)
	} else {
		s.renew = s.now.Add(s.jitter(rekeyAgain))
	}
	s.emit(ike.Failed{Why: &ike.NegotiationError{
		Step: "rekeying of the IKE SA", Peer: s.remote.String(), Identity: s.peer.RemoteID,
		Err: err, Ours: ike.Terms{Proposals: t.offered},
	}})
	if hopeless(ps, err) {
		s.close(ike.Close{Reason: err.Error()})
		return
	}
	if refused && n.Kind == wire.NoAdditionalSAs {
		s.renewAuth("the peer does not rekey this IKE SA", time.Time{})
	}
}

// complete checks the answer to CREATE_CHILD_SA.
func (t *rekeyIKE) complete(ses *session, ps []wire.Payload) (*agreement, error) {
	if n, ok := firstError(ps); ok {
		if n.Kind == wire.NoProposalChosen {
			return nil, fmt.Errorf("%w: the peer answered %s", ike.ErrNoProposal, n.Kind)
		}
		return nil, fmt.Errorf("%w: %s", ike.ErrRefused, n.Kind)
	}
	sa, ke, nr, err := initPayloads(ps)
	if err != nil {
		return nil, err
	}
	chosen, err := ike.CheckChoice(t.offered, sa.Proposals)
	if err != nil {
		return nil, err
	}
	g, _ := chosen.First(ipsec.TypeGroup)
	if ke.Group != g.ID || ke.Group != t.group || len(chosen.SPI) != 8 {
		return nil, fmt.Errorf("%w: the answer's key exchange or SPI does not fit", ike.ErrNoProposal)
	}
	if err := errors.Join(checkNonce(nr.Data, chosen), checkNonce(nr.Data, ses.proposal)); err != nil {
		return nil, err
	}
	fresh, err := ses.heir(true, t.spi, binary.BigEndian.Uint64(chosen.SPI), chosen)
	if err != nil {
		return nil, err
	}
	shared, err := t.key.Shared(ke.Data)
	if err != nil {
		return nil, err
	}
	a := agreed(chosen, shared, t.ni, nr.Data)
	a.fresh = fresh
	return &a, a.follow(ps)
}

// heir returns the session, without keys, that is to replace another. Its
// message numbers and windows are new (RFC 7296 section 2.18).
func (ses *session) heir(initiator bool, spiI, spiR uint64, chosen ipsec.Proposal) (*session, error) {
	if spiI == 0 || spiR == 0 {
		return nil, fmt.Errorf("%w: the new IKE SA's SPI is zero", ike.ErrRefused)
	}
	chosen.SPI = nil
	t, _ := chosen.First(ipsec.TypePRF)
	prf, err := xform.NewPRF(t.ID)
	if err != nil {
		return nil, err
	}
	return &session{
		initiator: initiator, spiI: spiI, spiR: spiR, proposal: chosen, prf: prf, fragmentSize: ses.fragmentSize,
	}, nil
}

// inherit derives the keys of a session that replaces another:
//
//	SKEYSEED = prf(SK_d (old), SK(0) | Ni | Nr | SK(1) | …)
//
// (RFC 7296 section 2.18, RFC 9370 section 2.2.4.) It wipes the agreement.
func (ses *session) inherit(from *session, a *agreement, s *SA) error {
	defer a.wipe()
	return ses.activate(from.prf.Sum(from.keys.d, a.seed), a.ni, a.nr, &s.cfg)
}

// rekeyingLost reports whether the IKE SA that we have agreed on is the
// redundant one of two.
func (s *SA) rekeyingLost(a *agreement, ses *session) bool {
	if s.rival != nil {
		return slices.Compare(a.lowest(), s.rival.lowest) < 0
	}
	u := s.theirRekeying(ses)
	return u != nil && slices.Compare(a.lowest(), u.lowest()) < 0
}

// proposals returns those for a new IKE SA in the place of the one in use: what
// the policy says now, which may be something else than when that began.
func (s *SA) proposals() []ipsec.Proposal {
	p, ok := s.cfg.Policies.Peer(s.ends.Local, s.ends.Remote)
	switch {
	case !ok:
		return s.cfg.Policy.Proposals // the Manager closes the IKE SA
	case len(p.Proposals) == 0:
		return ike.DefaultProposals()
	}
	return p.Proposals
}

// formerTime is how long the peer may take to delete a session that it has
// replaced, or made in vain, and maxFormer how many it may leave behind.
const (
	formerTime = 30 * time.Second
	maxFormer  = 4
)

// replace puts a fresh session in the place of another, which stays to hear
// of its deletion.
func (s *SA) replace(ses, fresh *session) {
	s.keep(ses)
	s.cur = fresh
	s.abandon(func(*unfinished) bool { return true })
	s.scheduleRenewal()
	s.emit(ike.Changed{Peer: s.info()})
}

// keep goes on hearing a session that is not in use.
func (s *SA) keep(ses *session) {
	ses.expire = s.now.Add(formerTime)
	if len(s.former) == maxFormer {
		s.drop(s.former[0])
	}
	s.former = append(s.former, ses)
}

// drop forgets a session that is not in use.
func (s *SA) drop(ses *session) {
	s.former = slices.DeleteFunc(s.former, func(x *session) bool { return x == ses })
	for _, p := range ses.ours.pending {
		if d, ok := p.task.(*deleteTask); ok { // of a Child SA that has moved to the one in use
			s.enqueue(d)
		}
	}
	ses.wipe()
	s.free(ses)
}

// free gives the SPI of a session back that is not in use, or not any more.
func (s *SA) free(ses *session) {
	switch {
	case ses == nil:
	case ses.initiator:
		s.freeSPI(ses.spiI)
	default:
		s.freeSPI(ses.spiR)
	}
}

func (s *SA) freeSPI(spi uint64) {
	for ses := range s.sessions() {
		if ses.initiator && ses.spiI == spi || !ses.initiator && ses.spiR == spi {
			return
		}
	}
	if spi != 0 && s.cfg.FreeIKESPI != nil {
		s.cfg.FreeIKESPI(spi)
	}
}

// win puts the IKE SA that we have made in the place of the old one, whose
// deletion is the last that is said on it (RFC 7296 section 2.8). If the peer
// has made one too, it deletes that.
func (s *SA) win(old, fresh *session) {
	if s.rival != nil {
		s.keep(s.rival)
		s.rival = nil
	}
	s.replace(old, fresh)
	s.sayDeleted(old)
}

// discard deletes an IKE SA that we have made in vain.
func (s *SA) discard(fresh *session) {
	s.keep(fresh)
	s.sayDeleted(fresh)
}

func (s *SA) sayDeleted(ses *session) {
	if err := s.request(ses, wire.Informational, []wire.Payload{&wire.Delete{Protocol: ipsec.ProtoIKE}}, &deleteIKE{}); err != nil {
		s.drop(ses)
	}
}

// adopt takes up the IKE SA that the peer has made while our own rekeying was
// under way, which has come to nothing or does not matter any more.
func (s *SA) adopt(ses *session) {
	if ses == nil || ses != s.rival {
		return
	}
	s.rival = nil
	s.replace(s.cur, ses)
}

// answerRekeyIKE is the responder's side.
func (s *SA) answerRekeyIKE(ses *session, sa *wire.SA, ni *wire.Nonce, ps []wire.Payload) ([]wire.Payload, error) {
	refuse := func(n wire.NotifyType, data []byte) ([]wire.Payload, error) {
		return []wire.Payload{&wire.Notify{Kind: n, Data: data}}, nil
	}
	if s.rival != nil || s.busyForRekeying() {
		return refuse(wire.TemporaryFailure, nil)
	}
	// One that the peer began before has come to nothing.
	s.abandon(func(u *unfinished) bool { return u.fresh != nil })
	ke, ok := wire.Find[*wire.KE](ps)
	if !ok {
		return refuse(wire.InvalidSyntax, nil)
	}
	wanted := s.proposals()
	chosen, ok := ike.SelectProposal(wanted, sa.Proposals, ke.Group)
	if !ok {
		s.emit(ike.Failed{Why: &ike.NegotiationError{
			Step: "rekeying of the IKE SA", Peer: s.remote.String(), Identity: s.peer.RemoteID, Err: ike.ErrNoProposal,
			Ours: ike.Terms{Proposals: wanted}, Theirs: ike.Terms{Proposals: sa.Proposals},
		}})
		return refuse(wire.NoProposalChosen, nil)
	}
	g, _ := chosen.First(ipsec.TypeGroup)
	if ke.Group != g.ID {
		return refuse(wire.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, g.ID))
	}
	if len(chosen.SPI) != 8 || checkNonce(ni.Data, chosen) != nil {
		return refuse(wire.InvalidSyntax, nil)
	}
	if !s.effort.take(rekeyEffort, s.now) || !s.effort.spend(g.ID, s.now) {
		return refuse(wire.TemporaryFailure, nil)
	}
	nr, err := s.random(nonceLen)
	if err != nil {
		return nil, err
	}
	public, shared, err := xform.Answer(g.ID, ke.Data, s.cfg.Rand)
	if err != nil {
		return refuse(wire.InvalidSyntax, nil)
	}
	spi := s.cfg.NewIKESPI()
	fresh, err := ses.heir(false, binary.BigEndian.Uint64(chosen.SPI), spi, chosen)
	if err != nil {
		clear(shared)
		s.freeSPI(spi)
		return refuse(wire.InvalidSyntax, nil)
	}
	a := agreed(chosen, shared, ni.Data, nr)
	a.fresh = fresh
	fresh.lowest = a.lowest()
	chosen.SPI = binary.BigEndian.AppendUint64(nil, fresh.spiR)
	answer := []wire.Payload{
		&wire.SA{Proposals: []ipsec.Proposal{chosen}},
		&wire.Nonce{Data: nr},
		&wire.KE{Group: g.ID, Data: public},
	}
	if len(a.left) > 0 {
		link, err := s.await(a, ses)
		if err != nil {
			return nil, err
		}
		return append(answer, link), nil
	}
	if err := s.concludeIKE(&a, ses); err != nil {
		return refuse(wire.InvalidSyntax, nil)
	}
	return answer, nil
}

// busyForRekeying reports whether the peer's wish to rekey the IKE SA has to
// wait: we are creating, rekeying or deleting a Child SA (RFC 7296 section
// 2.25.1), or our own rekeying has got beyond CREATE_CHILD_SA (RFC 9370
// section 2.2.4).
func (s *SA) busyForRekeying() bool {
	return among(s.underWay(), func(t task) bool {
		switch t.(type) {
		case *createChild, *deleteTask, *deleteIKE:
			return true
		}
		return goesOn(t)
	})
}

// concludeIKE puts the IKE SA to work that the peer has made. While our own
// rekeying is under way it waits for what comes of that.
func (s *SA) concludeIKE(a *agreement, ses *session) error {
	fresh := a.fresh
	if err := fresh.inherit(ses, a, s); err != nil {
		return err
	}
	if s.renewing() {
		s.rival = fresh
		return nil
	}
	s.replace(ses, fresh)
	return nil
}
