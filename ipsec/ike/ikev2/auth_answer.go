package ikev2

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// judgement is what a responder's Work brings: whether it believes the peer,
// and its own proof.
type judgement struct {
	verdict
	id    wire.ID
	proof proof
}

// answerAuth is the responder's side of IKE_AUTH.
//
//	HDR, SK {IDi, [CERT…], [CERTREQ…], AUTH, [SAi2, TSi, TSr], …} -->
func (s *SA) answerAuth(q *query) error {
	st := s.start
	if len(st.exchanges) > 0 {
		return s.reject(q, &wire.Notify{Kind: wire.InvalidSyntax}, errors.New("IKE_AUTH before the key exchanges that were agreed on"))
	}
	auth, err := s.acceptPPK(q.payloads)
	if err != nil {
		return s.denyAuth(q, err)
	}
	keys := &q.ses.keys
	if st.ppk.keys != nil {
		keys = st.ppk.keys
	}
	v, err := s.verifying(q.payloads, auth, true, keys)
	if err != nil {
		return s.denyAuth(q, err)
	}
	rand, err := s.source()
	if err != nil {
		return err
	}
	signing := ike.Signing{PRF: q.ses.prf, Hashes: st.hashes, Requests: st.requests, Rand: rand, Now: s.now}
	signing.Requests.Note(q.payloads)
	me, policy, local := s.side(false, keys), s.cfg.Policy, s.local.Addr()
	bare := st.usePPK && st.ppk.keys == nil
	s.transition(Verifying)
	work(s, func(ctx context.Context) (r judgement) {
		if r.verdict = verify(ctx, policy, v); r.err != nil {
			return r
		}
		m := ike.Answering(policy.Auth, r.verdict.proof.By, signing.Requests)
		if bare && isNull(m) {
			r.err = fmt.Errorf("%w: this host proves nothing else: %w", ike.ErrPPK, errPPKProof)
			return r
		}
		if r.id, r.err = m.Identity(policy.LocalID, local); r.err == nil {
			r.id.Responder = true
			r.proof.auth, r.proof.certs, r.err = m.Sign(ctx, me.signing(signing, r.id))
		}
		if r.err != nil {
			r.err = ours(r.err)
		}
		return r
	}, func(r judgement) error {
		return s.acceptAuth(q, r)
	}, func(err error) error {
		// As if the request had got lost: it comes again.
		s.transition(InitAnswered)
		st.ppk.wipe()
		q.ses.theirs.forget(q)
		return err
	})
	return nil
}

// acceptAuth answers IKE_AUTH, now that the peer's proof was looked at.
//
//	<-- HDR, SK {IDr, [CERT…], AUTH, [SAr2, TSi, TSr], [N(PPK_IDENTITY)],
//	    [N(AUTH_LIFETIME)], [N(SET_WINDOW_SIZE)]}
func (s *SA) acceptAuth(q *query, r judgement) error {
	if r.err != nil {
		return s.denyAuth(q, r.err)
	}
	st := s.start
	s.peer.LocalID = r.id.String()
	out := []wire.Payload{&r.id}
	for _, c := range r.proof.certs {
		out = append(out, c)
	}
	out = append(out, r.proof.auth)
	if st.ppk.keys != nil {
		out = append(out, &wire.Notify{Kind: wire.PPKIdentity})
	}
	s.settlePPK(st.ppk.keys != nil)
	s.believe(r.verdict.proof, q.payloads)
	answer, err := s.answerChild(q.payloads, st.ni, st.nr, true, nil)
	if err != nil {
		s.die(err)
		return err
	}
	s.forgetStart()
	out = append(append(out, answer...), s.lifetimeNotify()...)
	if err := s.respond(q, append(out, s.windowNotify()...)); err != nil {
		s.die(err)
		return err
	}
	return nil
}

// denyAuth tells the peer that it is not believed.
func (s *SA) denyAuth(q *query, why error) error {
	if err := s.respond(q, []wire.Payload{&wire.Notify{Kind: wire.AuthenticationFailed}}); err != nil {
		return err
	}
	s.refuse(why)
	return nil
}

// refuse ends a responder whose peer is not to be believed. It stays to
// repeat its answer, should that get lost.
func (s *SA) refuse(why error) {
	s.emit(ike.Failed{Whole: true, Why: s.authFailure(why)})
	s.transition(Refused)
	s.start.forget()
	s.cur.keys.wipe() // its answer is made
	s.until = s.now.Add(refusedTime)
}
