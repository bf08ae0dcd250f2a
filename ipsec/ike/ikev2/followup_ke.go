package ikev2

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// agreement is a new SA that both ends have agreed on with CREATE_CHILD_SA, a
// Child SA or an IKE SA, and what its keys come from: the key exchange in the
// KE payloads, the nonces, and additional key exchanges, each of which is an
// IKE_FOLLOWUP_KE (RFC 9370 section 2.2.4). The SA exists when they are done.
type agreement struct {
	chosen   ipsec.Proposal
	child    *child   // or else
	replaced *child   // that the child replaces, or nil
	fresh    *session // in place of the one on which it was agreed

	ni, nr []byte
	seed   []byte   // SK(0) | Ni | Nr | SK(1) | …
	left   []uint16 // the methods of the additional key exchanges to be done, in order
	link   []byte   // by which the responder knows the next of them
	key    xform.PrivateKey
}

// agreed returns an agreement whose first key exchange is done. It wipes its
// secret.
func agreed(chosen ipsec.Proposal, shared, ni, nr []byte) agreement {
	defer clear(shared)
	return agreement{
		chosen: chosen, ni: bytes.Clone(ni), nr: bytes.Clone(nr),
		seed: slices.Concat(shared, ni, nr), left: additional(chosen),
	}
}

// lowest returns the lower nonce, octet by octet (RFC 7296 section 2.8.1).
func (a *agreement) lowest() []byte { return lowest(a.ni, a.nr) }

// mix adds the secret of an additional key exchange, which it wipes.
func (a *agreement) mix(shared []byte) {
	seed := slices.Concat(a.seed, shared)
	clear(shared)
	clear(a.seed)
	a.seed, a.left, a.key = seed, a.left[1:], nil
}

// wipe forgets the secrets of an agreement that is kept or given up.
func (a *agreement) wipe() {
	if a != nil {
		clear(a.seed)
		a.seed, a.key = nil, nil
	}
}

// ask returns the initiator's request for the next key exchange.
//
//	HDR(IKE_FOLLOWUP_KE), SK {KEi(n), N(ADDITIONAL_KEY_EXCHANGE)(link)} -->
func (a *agreement) ask(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	var err error
	if a.key, err = xform.GenerateKey(a.left[0], s.cfg.Rand); err != nil {
		return 0, nil, false, err
	}
	return wire.IKEFollowupKE, []wire.Payload{
		&wire.KE{Group: a.left[0], Data: a.key.Public()},
		&wire.Notify{Kind: wire.AdditionalKeyExchange, Data: a.link},
	}, true, nil
}

// heard takes the responder's half.
//
//	<-- HDR(IKE_FOLLOWUP_KE), SK {KEr(n), [N(ADDITIONAL_KEY_EXCHANGE)(link)]}
func (a *agreement) heard(ps []wire.Payload) error {
	if n, ok := firstError(ps); ok {
		return fmt.Errorf("%w: %s in the key exchange with %s", ike.ErrRefused, n.Kind, groupName(a.left[0]))
	}
	ke, ok := wire.Find[*wire.KE](ps)
	if !ok || ke.Group != a.left[0] {
		return fmt.Errorf("%w: the answer has no key exchange with %s", ike.ErrRefused, groupName(a.left[0]))
	}
	shared, err := a.key.Shared(ke.Data)
	if err != nil {
		return err
	}
	a.mix(shared)
	return a.follow(ps)
}

// follow takes the link to the next exchange out of an answer, if one follows.
func (a *agreement) follow(ps []wire.Payload) error {
	if len(a.left) == 0 {
		return nil
	}
	n, ok := wire.FindNotify(ps, wire.AdditionalKeyExchange)
	if !ok || len(n.Data) == 0 {
		return fmt.Errorf("%w: the answer has no link to the key exchange with %s (RFC 9370 section 2.2.4)", ike.ErrRefused, groupName(a.left[0]))
	}
	a.link = bytes.Clone(n.Data)
	return nil
}

// hopeless reports whether a failure of one of our key exchanges is one that the
// IKE SA does not survive: the peer's public value was none, so that the peer is
// at fault (RFC 6989 section 2.5), or it forgets time and again what we agreed
// on (RFC 9370 section 2.2.4).
func hopeless(ps []wire.Payload, err error) bool {
	n, refused := firstError(ps)
	return errors.Is(err, xform.ErrPublicValue) || refused && n.Kind == wire.StateNotFound
}

// followupTime is how long a peer may take to begin the next key exchange.
const followupTime = 20 * time.Second

// maxUnfinished bounds the agreements that a peer may leave unfinished.
const maxUnfinished = 16

// unfinished is an agreement that a peer began and that lacks key exchanges.
type unfinished struct {
	agreement
	ses   *session // on which it began
	until time.Time
}

// await keeps an agreement for the peer's next key exchange, and returns what
// the answer says of it.
func (s *SA) await(a agreement, ses *session) (*wire.Notify, error) {
	u := &unfinished{agreement: a, ses: ses}
	s.unfinished = append(s.unfinished, u)
	return u.more(s)
}

// more gives an agreement a new link, and more time.
func (u *unfinished) more(s *SA) (*wire.Notify, error) {
	var err error
	if u.link, err = s.random(16); err != nil {
		return nil, err
	}
	u.until = s.now.Add(followupTime)
	return &wire.Notify{Kind: wire.AdditionalKeyExchange, Data: u.link}, nil
}

// abandon gives up the peer's agreements that fit.
func (s *SA) abandon(fits func(*unfinished) bool) {
	s.unfinished = slices.DeleteFunc(s.unfinished, func(u *unfinished) bool {
		if !fits(u) {
			return false
		}
		u.wipe()
		s.free(u.fresh)
		return true
	})
}

// giveUpUnfinished gives up the agreements that the peer has left for too long.
// What it was about to replace is then ours to replace.
func (s *SA) giveUpUnfinished() {
	late := func(u *unfinished) bool { return s.due(u.until) }
	for _, u := range slices.Clone(s.unfinished) {
		switch {
		case !late(u):
		case u.fresh != nil && s.renew.IsZero() && s.cfg.Policy.Lifetime > 0:
			s.renew = s.now.Add(s.jitter(rekeyAgain))
		case u.replaced != nil && u.replaced.rekey.IsZero() && u.replaced.policy.Lifetime > 0:
			s.endRekey(u.replaced, nil)
		}
	}
	s.abandon(late)
}

// theirRekeying returns the new IKE SA that the peer has begun to put in a
// session's place and has not finished, or nil.
func (s *SA) theirRekeying(ses *session) *unfinished {
	for _, u := range s.unfinished {
		if u.fresh != nil && u.ses == ses {
			return u
		}
	}
	return nil
}

// answerFollowup is the responder's side of IKE_FOLLOWUP_KE. What does not
// fit ends the whole series, which the peer may begin again.
func (s *SA) answerFollowup(q *query) error {
	refuse := func(kind wire.NotifyType) error { return s.respond(q, []wire.Payload{&wire.Notify{Kind: kind}}) }
	n, ok1 := wire.FindNotify(q.payloads, wire.AdditionalKeyExchange)
	ke, ok2 := wire.Find[*wire.KE](q.payloads)
	if !ok1 || !ok2 {
		return refuse(wire.InvalidSyntax)
	}
	i := slices.IndexFunc(s.unfinished, func(u *unfinished) bool { return u.ses == q.ses && bytes.Equal(u.link, n.Data) })
	if i < 0 || s.state != Established {
		return refuse(wire.StateNotFound)
	}
	u := s.unfinished[i]
	done := func(x *unfinished) bool { return x == u }
	if ke.Group != u.left[0] {
		s.abandon(done)
		return refuse(wire.InvalidSyntax)
	}
	public, shared, err := xform.Answer(ke.Group, ke.Data, s.cfg.Rand)
	if err != nil {
		s.abandon(done)
		return refuse(wire.InvalidSyntax)
	}
	u.mix(shared)
	answer := []wire.Payload{&wire.KE{Group: ke.Group, Data: public}}
	if len(u.left) > 0 {
		link, err := u.more(s)
		if err != nil {
			return err
		}
		return s.respond(q, append(answer, link))
	}
	err = s.conclude(&u.agreement, q.ses)
	s.abandon(done)
	if err != nil {
		s.emit(ike.Failed{Why: err})
		return refuse(wire.NoProposalChosen)
	}
	return s.respond(q, answer)
}

// conclude puts the SA of an agreement to work that the peer began.
func (s *SA) conclude(a *agreement, ses *session) error {
	if a.fresh != nil {
		return s.concludeIKE(a, ses)
	}
	if err := s.stillAllowed(a.child); err != nil {
		return err
	}
	return s.install(a, ses, false)
}
