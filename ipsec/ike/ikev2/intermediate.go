package ikev2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// intermediate is the initiator's IKE_INTERMEDIATE (RFC 9242), one for each
// additional key exchange of the proposal (RFC 9370 section 2.2.2).
type intermediate struct {
	group uint16
	key   xform.PrivateKey
	sent  contents
}

func (*intermediate) schedule() ike.Schedule { return ike.Patient }

// HDR(IKE_INTERMEDIATE), SK {KEi(n)} -->
func (t *intermediate) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	var err error
	if t.key, err = xform.GenerateKey(t.group, s.cfg.Rand); err != nil {
		return 0, nil, false, err
	}
	return wire.IKEIntermediate, []wire.Payload{&wire.KE{Group: t.group, Data: t.key.Public()}}, true, nil
}

// proceed takes an initiator that has keys a step further: to the next of the
// additional key exchanges, or to IKE_AUTH.
func (s *SA) proceed() {
	if len(s.start.exchanges) == 0 {
		s.prove()
		return
	}
	if s.state != Intermediate {
		s.transition(Intermediate)
	}
	t := &intermediate{group: s.start.exchanges[0]}
	x, ps, _, err := t.begin(s)
	if err == nil {
		t.sent, err = s.requestContents(s.cur, x, ps, t)
	}
	if err != nil {
		s.die(fmt.Errorf("begin IKE_INTERMEDIATE with %s: %w", s.remote, err))
	}
}

// <-- HDR(IKE_INTERMEDIATE), SK {KEr(n)}
func (t *intermediate) end(s *SA, ses *session, ps []wire.Payload) {
	st := s.start
	fail := func(err error) {
		s.die(&ike.NegotiationError{Step: wire.IKEIntermediate.String(), Peer: s.remote.String(), Err: err})
	}
	if n, ok := firstError(ps); ok {
		fail(fmt.Errorf("%w: %s", ike.ErrRefused, n.Kind))
		return
	}
	ke, ok := wire.Find[*wire.KE](ps)
	if !ok || ke.Group != t.group {
		fail(fmt.Errorf("%w: the answer has no key exchange with %s", ike.ErrRefused, groupName(t.group)))
		return
	}
	shared, err := t.key.Shared(ke.Data)
	t.key = nil
	if err != nil {
		fail(fmt.Errorf("%w: %w", ike.ErrRefused, err))
		return
	}
	defer clear(shared)
	if err = st.intAuth.add(ses, t.sent, s.inner); err == nil {
		err = ses.mix(shared, st.ni, st.nr, s)
	}
	if err != nil {
		fail(err)
		return
	}
	st.exchanges = st.exchanges[1:]
	s.proceed()
}

// answerIntermediate is the responder's side. Nothing but the key exchange
// whose turn it is was agreed on, so anything else is a fault.
func (s *SA) answerIntermediate(q *query) error {
	st, ses := s.start, q.ses
	ke, ok := wire.Find[*wire.KE](q.payloads)
	switch {
	case s.state != InitAnswered || len(st.exchanges) == 0:
		return s.reject(q, &wire.Notify{Kind: wire.InvalidSyntax}, errors.New("an IKE_INTERMEDIATE that was not agreed on"))
	case !ok || ke.Group != st.exchanges[0]:
		return s.reject(q, &wire.Notify{Kind: wire.InvalidSyntax}, fmt.Errorf("an IKE_INTERMEDIATE without a key exchange with %s", groupName(st.exchanges[0])))
	}
	public, shared, err := xform.Answer(ke.Group, ke.Data, s.cfg.Rand)
	if errors.Is(err, xform.ErrPublicValue) {
		return s.reject(q, &wire.Notify{Kind: wire.InvalidSyntax}, err)
	}
	if err != nil {
		return err
	}
	defer clear(shared)
	sent, err := s.respondContents(q, []wire.Payload{&wire.KE{Group: ke.Group, Data: public}})
	if err != nil {
		return err
	}
	if err = st.intAuth.add(ses, q.contents, sent); err == nil {
		err = ses.mix(shared, st.ni, st.nr, s)
	}
	if err != nil {
		s.die(err)
		return err
	}
	st.exchanges = st.exchanges[1:]
	return nil
}

// intAuth is what IKE_AUTH signs of the IKE_INTERMEDIATE exchanges before it
// (RFC 9242 section 3.3.2):
//
//	IntAuth_iN = prf(SK_piN, IntAuth_iN-1 | IntAuth_iNA | IntAuth_iNP)
//	IntAuth_rN = prf(SK_prN, IntAuth_rN-1 | IntAuth_rNA | IntAuth_rNP)
type intAuth struct {
	i, r  []byte
	count uint32
}

// add continues with one exchange, whose messages were protected by the keys
// that the session still has.
func (a *intAuth) add(ses *session, request, response contents) error {
	i, err := request.unsealed()
	if err != nil {
		return err
	}
	r, err := response.unsealed()
	if err != nil {
		return err
	}
	a.i = ses.prf.Sum(ses.keys.pi, a.i, i)
	a.r = ses.prf.Sum(ses.keys.pr, a.r, r)
	a.count++
	return nil
}

// octets returns IntAuth_iN | IntAuth_rN | IKE_AUTH_MID, or nothing if there
// was no exchange. IKE_SA_INIT has the number 0.
func (a *intAuth) octets() []byte {
	if a.count == 0 {
		return nil
	}
	return binary.BigEndian.AppendUint32(slices.Concat(a.i, a.r), a.count+1)
}

// unsealed returns IntAuth_A | IntAuth_P.
func (c contents) unsealed() ([]byte, error) { return wire.Unsealed(c.head, c.plain) }

func groupName(id uint16) string { return ipsec.Transform{Type: ipsec.TypeGroup, ID: id}.String() }
