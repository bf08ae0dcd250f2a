package ikev2

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// createChild is our CREATE_CHILD_SA for another Child SA, or for one that
// replaces an old one (RFC 7296 sections 1.3.1 and 1.3.3), with the
// IKE_FOLLOWUP_KE exchanges that belong to it.
type createChild struct {
	acquire  ike.Acquire
	then     *ike.Acquire // what to ask for afterwards, or nil
	old      *child       // the one that is rekeyed, or nil
	single   bool         // the peer wants each pair of addresses to have an SA of its own
	exchange bool         // it did not take an SA without a key exchange of its own
	request  *childRequest
	agreed   *agreement // once the peer has answered CREATE_CHILD_SA
	group    uint16     // that the peer asked for, or 0
	tries    int
	busy     busy
}

// maxTries bounds how often one exchange is tried anew.
const maxTries = 6

func (*createChild) schedule() ike.Schedule { return ike.Patient }

func (t *createChild) wipe() { t.agreed.wipe() }

// HDR, SK {[N(REKEY_SA)], [N(USE_TRANSPORT_MODE)], SA, Ni, [KEi], TSi, TSr} -->
func (t *createChild) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	if s.state != Established {
		t.wipe()
		return 0, nil, false, nil
	}
	if t.agreed != nil {
		return t.agreed.ask(s)
	}
	if t.old != nil && !s.replaceable(t.old) {
		return 0, nil, false, nil
	}
	if t.old == nil && !s.room(0) { // the peer was faster
		s.emit(ike.Failed{Policy: t.acquire.Child.Name, Why: s.full()})
		return 0, nil, false, nil
	}
	r, err := s.newChildRequest(t.acquire, false, t.old)
	if err == nil && t.single {
		r.tsi, r.tsr = r.tsi[:1], r.tsr[:1]
	}
	if err == nil {
		err = s.inForce(r.policy, r.tsi[:1], r.tsr[:1])
	}
	if err == nil && t.group != 0 {
		err = r.chooseGroup(t.group, s)
	}
	if err != nil {
		if r == nil {
			r = &childRequest{policy: t.acquire.Child, replacing: t.old}
		}
		s.childFailed(r, nil, false, err)
		s.endRekey(t.old, nil)
		return 0, nil, false, nil
	}
	t.request = r
	t.tries++
	return wire.CreateChildSA, r.payloads(), true, nil
}

// <-- HDR, SK {[N(USE_TRANSPORT_MODE)], SA, Nr, [KEr], TSi, TSr, [N(ADDITIONAL_KEY_EXCHANGE)]}
func (t *createChild) end(s *SA, ses *session, ps []wire.Payload) {
	if s.state != Established {
		t.wipe()
		return // the IKE SA is being deleted, and with it what the peer has made
	}
	if t.agreed != nil {
		t.endFollowup(s, ses, ps)
		return
	}
	if n, ok := firstError(ps); ok && t.again(s, n) {
		return
	}
	nr, ok := wire.Find[*wire.Nonce](ps)
	if !ok {
		nr = new(wire.Nonce) // which only a refusal may lack
	}
	a, exists, err := s.complete(t.request, ps, t.request.ni, nr.Data)
	if err != nil {
		t.fail(s, ps, exists, err)
		return
	}
	if len(a.left) > 0 && t.old != nil && s.loses(&a, t.old) {
		a.wipe() // there is nothing to delete yet (RFC 9370 section 2.2.4)
		return
	}
	t.agreed = &a
	t.proceed(s, ses)
}

// proceed takes up the next key exchange, or the SA when all are done.
func (t *createChild) proceed(s *SA, ses *session) {
	if len(t.agreed.left) > 0 {
		s.enqueueNext(t)
		return
	}
	a := t.agreed
	if slices.Contains(s.stillborn, a.child.out) {
		t.wipe()
		t.fail(s, nil, false, fmt.Errorf("%w: it has deleted the Child SA again", ike.ErrRefused))
		return
	}
	err := s.stillAllowed(a.child)
	if err == nil {
		err = s.install(a, ses, true)
	}
	if err != nil {
		t.wipe()
		t.fail(s, nil, true, err)
		return
	}
	s.endRekey(t.old, a.child)
	if t.acquire.Sole {
		s.supersede(a.child)
	}
	s.follow(t.then)
}

// <-- HDR(IKE_FOLLOWUP_KE), SK {KEr(n), [N(ADDITIONAL_KEY_EXCHANGE)]}
func (t *createChild) endFollowup(s *SA, ses *session, ps []wire.Payload) {
	err := t.agreed.heard(ps)
	if err == nil {
		t.proceed(s, ses)
		return
	}
	t.wipe()
	if n, ok := firstError(ps); ok && n.Kind == wire.StateNotFound && t.tries < maxTries {
		t.agreed = nil
		s.enqueueLater(t) // we were too slow for the peer
		return
	}
	// The peer has made nothing if it refused, and it has if we do.
	_, refused := firstError(ps)
	t.fail(s, ps, !refused && len(t.agreed.left) <= 1, err)
}

func (t *createChild) fail(s *SA, ps []wire.Payload, exists bool, err error) {
	if t.exchange {
		s.exchanges = false // that was not it
	}
	s.childFailed(t.request, ps, exists, err)
	s.endRekey(t.old, nil)
	if hopeless(ps, err) {
		s.close(ike.Close{Reason: err.Error()})
		return
	}
	if n, ok := firstError(ps); ok && n.Kind == wire.NoAdditionalSAs && t.old != nil {
		s.renewAuth("the peer replaces no Child SA on this IKE SA", t.old.end)
	}
}

// again reports whether a refusal is one that is dealt with by asking once
// more, or by not asking any more.
func (t *createChild) again(s *SA, n *wire.Notify) bool {
	switch n.Kind {
	case wire.TemporaryFailure:
		s.askAgain(t, &t.busy)
		return true
	case wire.ChildSANotFound:
		if t.old == nil {
			return false
		}
		t.afresh(s)
		return true
	}
	if t.tries >= maxTries {
		return false
	}
	switch n.Kind {
	case wire.InvalidKEPayload:
		if len(n.Data) != 2 {
			return false
		}
		g := binary.BigEndian.Uint16(n.Data)
		if g == t.request.group || !offersGroup(t.request.offered, g) {
			return false
		}
		t.group = g
		s.enqueue(t)
		return true
	case wire.NoProposalChosen:
		none := func(p ipsec.Proposal) bool { _, ok := p.First(ipsec.TypeGroup); return !ok }
		if t.exchange || !slices.ContainsFunc(t.request.offered, none) {
			return false
		}
		t.exchange, s.exchanges = true, true
		s.enqueue(t)
		return true
	case wire.SinglePairRequired:
		if t.single || t.old != nil {
			return false
		}
		t.single = true
		s.enqueue(t)
		return true
	}
	return false
}

// afresh takes note that the peer does not have what we wanted to replace. If
// it has replaced that itself, which we know from its request, all is well;
// else we ask for another one (RFC 7296 section 2.25).
func (t *createChild) afresh(s *SA) {
	old := t.old
	if !slices.Contains(s.children, old) || old.leaving {
		return
	}
	a := old.wanted()
	needed := !s.succeeded(old)
	s.remove(old, "the peer does not have it any more")
	if needed {
		s.made-- // the new one is in its place
		s.ask(a)
	}
}

// room reports whether the policy lets the IKE SA carry one more Child SA, with
// some that have been asked for and may yet come about.
func (s *SA) room(asked int) bool {
	most := s.cfg.Policy.MaxChildren
	return most <= 0 || s.made+asked < most
}

// asking is how many Child SAs have been asked for, by either end, and may yet
// come about, replacements not counted.
func (s *SA) asking() int {
	n := 0
	for t := range s.underWay() {
		if t, ok := t.(*createChild); ok && t.old == nil {
			n++
		}
	}
	for _, u := range s.unfinished {
		if u.child != nil && u.replaced == nil {
			n++
		}
	}
	return n
}

// retire deletes an IKE SA that has had all the Child SAs that it may and has
// none any more: it is of no use.
func (s *SA) retire() {
	idle := s.state == Established && len(s.children)+len(s.queue)+len(s.unfinished) == 0 && s.cur.ours.idle()
	if idle && !s.room(0) {
		s.close(ike.Close{Reason: "it has had all its Child SAs"})
		s.pump()
	}
}

// full says why a Child SA has to go to another IKE SA.
func (s *SA) full() error {
	return fmt.Errorf("%w: the policy allows %d", ike.ErrFull, s.cfg.Policy.MaxChildren)
}

// maxChildren bounds what an authenticated peer can make us hold, and
// maxAnonymous what one can that may be anybody.
const (
	maxChildren  = 512
	maxAnonymous = 8
)

// mostChildren is how many Child SAs the peer may make.
func (s *SA) mostChildren() int {
	if s.proof.Anonymous() {
		return maxAnonymous
	}
	return maxChildren
}

// answerCreate is the responder's side of CREATE_CHILD_SA, whatever it is
// about.
func (s *SA) answerCreate(q *query) ([]wire.Payload, error) {
	refuse := func(n wire.NotifyType) ([]wire.Payload, error) {
		return []wire.Payload{&wire.Notify{Kind: n}}, nil
	}
	s.adopt(q.ses) // the peer goes on with the IKE SA that it has made
	ses, ps := q.ses, q.payloads
	// What is being replaced or closed takes nothing new (RFC 7296 section 2.25.2).
	if ses != s.cur || s.state != Established || len(s.unfinished) >= maxUnfinished {
		return refuse(wire.TemporaryFailure)
	}
	sa, ok1 := wire.Find[*wire.SA](ps)
	ni, ok2 := wire.Find[*wire.Nonce](ps)
	if !ok1 || !ok2 || checkNonce(ni.Data, ses.proposal) != nil {
		return refuse(wire.InvalidSyntax)
	}
	if sa.Proposals[0].Protocol == ipsec.ProtoIKE {
		return s.answerRekeyIKE(ses, sa, ni, ps)
	}
	if s.renewing() || s.theirRekeying(ses) != nil {
		return refuse(wire.TemporaryFailure)
	}
	if len(s.children)+len(s.unfinished) >= s.mostChildren() {
		s.emit(ike.Failed{Why: fmt.Errorf("%s has %d Child SAs and gets no more", s.remote, len(s.children))})
		return refuse(wire.NoAdditionalSAs)
	}
	nr, err := s.random(nonceLen)
	if err != nil {
		return nil, err
	}
	n, rekey := wire.FindNotify(ps, wire.RekeySA)
	if !rekey && !s.room(s.asking()) {
		return refuse(wire.NoAdditionalSAs)
	}
	if !rekey {
		return s.answerChild(ps, ni.Data, nr, false, nil)
	}
	return s.answerRekey(n, ps, ni.Data, nr)
}
