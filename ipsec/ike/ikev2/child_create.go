package ikev2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// createChild is our CREATE_CHILD_SA for another Child SA, or for one that
// replaces an old one (RFC 7296 sections 1.3.1 and 1.3.3).
type createChild struct {
	acquire ike.Acquire
	old     *child // the one that is rekeyed, or nil
	request *childRequest
	group   uint16 // that the peer asked for, or 0
	tries   int
}

// maxTries bounds how often one exchange is tried anew.
const maxTries = 6

func (*createChild) schedule() ike.Schedule { return ike.Patient }

// HDR, SK {[N(REKEY_SA)], [N(USE_TRANSPORT_MODE)], SA, Ni, [KEi], TSi, TSr} -->
func (t *createChild) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	if s.state != Established || t.old != nil && (t.old.leaving || !slices.Contains(s.children, t.old)) {
		return 0, nil, false, nil
	}
	if t.old == nil && !s.room(0) { // the peer was faster
		s.emit(ike.Failed{Policy: t.acquire.Child.Name, Why: s.full()})
		return 0, nil, false, nil
	}
	r, err := s.newChildRequest(t.acquire, false, t.old)
	if err == nil {
		err = s.inForce(r.policy, r.tsi[:1], r.tsr[:1])
	}
	if err == nil && t.group != 0 {
		err = r.chooseGroup(t.group, s)
	}
	if err != nil {
		why := &ike.NegotiationError{Step: wire.CreateChildSA.String(), Peer: s.remote.String(), Err: err}
		if errors.Is(err, ike.ErrAuthentication) {
			why.Hint = hintSameAuth
		}
		if t.old != nil {
			s.emit(ike.Failed{Why: why})
			s.endRekey(t.old, nil)
		} else {
			s.emit(ike.Failed{Policy: t.acquire.Child.Name, Why: why})
		}
		return 0, nil, false, nil
	}
	t.request = r
	t.tries++
	return wire.CreateChildSA, r.payloads(), true, nil
}

// <-- HDR, SK {[N(USE_TRANSPORT_MODE)], SA, Nr, [KEr], TSi, TSr}
func (t *createChild) end(s *SA, _ *session, ps []wire.Payload) {
	if s.state != Established {
		return // the IKE SA is being deleted, and with it what the peer has made
	}
	if n, ok := firstError(ps); ok && t.tries < maxTries {
		switch n.Kind {
		case wire.InvalidKEPayload:
			if len(n.Data) != 2 {
				break
			}
			if g := binary.BigEndian.Uint16(n.Data); g != t.request.group && offersGroup(t.request.offered, g) {
				t.group = g
				s.enqueue(t)
				return
			}
		case wire.TemporaryFailure:
			s.enqueueLater(t)
			return
		case wire.ChildSANotFound:
			if t.old != nil {
				s.remove(t.old, "the peer does not have it any more")
				return
			}
		}
	}
	nr, ok := wire.Find[*wire.Nonce](ps)
	if !ok {
		nr = new(wire.Nonce) // of a refusal, which needs none
		if _, refused := firstError(ps); !refused {
			ps = nil
		}
	}
	c := s.endChild(t.request, ps, t.request.ni, nr.Data)
	if t.old != nil {
		s.endRekey(t.old, c)
	}
}

// room reports whether the policy lets the IKE SA carry one more Child SA, with
// some that have been asked for and may yet come about.
func (s *SA) room(asked int) bool {
	most := s.cfg.Policy.MaxChildren
	return most <= 0 || s.made+asked < most
}

// asking is how many Child SAs the request on its way asks for, replacements
// not counted.
func (s *SA) asking() int {
	if s.cur.pending != nil {
		if t, ok := s.cur.pending.task.(*createChild); ok && t.old == nil {
			return 1
		}
	}
	return 0
}

// retire deletes an IKE SA that has had all the Child SAs that it may and has
// none any more: it is of no use.
func (s *SA) retire() {
	idle := s.state == Established && len(s.children) == 0 && s.cur.pending == nil && len(s.queue) == 0
	if idle && !s.room(0) {
		s.close(ike.Close{Reason: "it has had all its Child SAs"})
		s.pump()
	}
}

// full says why a Child SA has to go to another IKE SA.
func (s *SA) full() error {
	return fmt.Errorf("%w: the policy allows %d", ike.ErrFull, s.cfg.Policy.MaxChildren)
}

// maxChildren bounds what an authenticated peer can make us hold.
const maxChildren = 512

// answerCreate is the responder's side of CREATE_CHILD_SA, whatever it is
// about.
func (s *SA) answerCreate(ses *session, ps []wire.Payload) ([]wire.Payload, error) {
	refuse := func(n wire.NotifyType) ([]wire.Payload, error) {
		return []wire.Payload{&wire.Notify{Kind: n}}, nil
	}
	// What is being replaced or closed takes nothing new (RFC 7296 section 2.25).
	if ses != s.cur || s.state != Established {
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
	if ses.pending != nil {
		if _, busy := ses.pending.task.(*rekeyIKE); busy {
			return refuse(wire.TemporaryFailure)
		}
	}
	if len(s.children) >= maxChildren {
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
