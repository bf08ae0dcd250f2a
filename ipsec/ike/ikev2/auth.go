package ikev2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// authenticate is the initiator's IKE_AUTH, which brings a Child SA with it
// (RFC 7296 section 1.2).
type authenticate struct {
	method ike.AuthMethod
	child  *childRequest
}

func (*authenticate) schedule() ike.Schedule { return ike.Patient }

// sendAuth begins IKE_AUTH with the method that the peer is likeliest to
// accept.
func (s *SA) sendAuth() {
	st := s.start
	st.untried = ike.Promising(st.untried, st.requests)
	t := &authenticate{method: st.untried[0]}
	st.untried = st.untried[1:]
	x, ps, _, err := t.begin(s)
	if err != nil {
		s.nextMethod(t.method, err)
		return
	}
	if err := s.request(s.cur, x, ps, t); err != nil {
		s.die(err)
	}
}

// HDR, SK {IDi, [CERT…], [CERTREQ], AUTH, [N(INITIAL_CONTACT)], SAi2, TSi, TSr} -->
func (t *authenticate) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	st := s.start
	id, err := t.method.Identity(s.cfg.Policy.LocalID, s.local.Addr())
	if err != nil {
		return 0, nil, false, err
	}
	s.peer.LocalID = id.String()
	auth, certs, err := t.method.Sign(context.Background(), ike.Signing{
		PRF: s.cur.prf, Hashes: st.hashes, Rand: s.cfg.Rand,
		Octets: ike.SignedOctets(s.cur.prf, st.request, st.nr, s.cur.keys.pi, id),
	})
	if err != nil {
		return 0, nil, false, err
	}
	if t.child, err = s.newChildRequest(st.acquire, true, nil); err != nil {
		return 0, nil, false, err
	}
	ps := []wire.Payload{&id}
	for _, c := range certs {
		ps = append(ps, c)
	}
	if s.cfg.FirstContact() {
		ps = append(ps, &wire.Notify{Kind: wire.InitialContact})
	}
	if req, ok := ike.CertRequest(s.cfg.Policy.Auth); ok {
		ps = append(ps, req)
	}
	ps = append(ps, auth)
	return wire.IKEAuth, append(ps, t.child.payloads()...), true, nil
}

// <-- HDR, SK {IDr, [CERT…], AUTH, SAr2, TSi, TSr}
func (t *authenticate) end(s *SA, ses *session, ps []wire.Payload) {
	if _, ok := wire.Find[*wire.Auth](ps); !ok {
		why := errors.New("the answer has no AUTH payload")
		if n, ok := firstError(ps); ok {
			why = fmt.Errorf("%w: %s", ike.ErrRefused, n.Kind)
			if n.Kind == wire.AuthenticationFailed {
				why = fmt.Errorf("%w: the peer did not accept %s as %s", ike.ErrAuthentication, s.peer.LocalID, t.method)
			}
		}
		s.nextMethod(t.method, why)
		return
	}
	st := s.start
	if _, err := s.verifyPeer(ps, st.response, st.ni, ses.keys.pr, true); err != nil {
		// The peer believes in an SA that is none (RFC 7296 section 2.21.2).
		bye := []wire.Payload{&wire.Notify{Kind: wire.AuthenticationFailed}}
		if data, e := wire.EncodeEncrypted(ses.header(wire.Informational, ses.nextOut, false), bye, ses.out); e == nil {
			s.send(data)
		}
		s.nextMethod(t.method, err)
		return
	}
	s.establish(false)
	s.endChild(t.child, ps, st.ni, st.nr)
	s.forgetStart()
}

// nextMethod begins a new IKE SA with the next authentication method, for the
// packets that wait, or gives up when there is none.
func (s *SA) nextMethod(tried ike.AuthMethod, why error) {
	st := s.start
	st.refused = append(st.refused, fmt.Errorf("with %s: %w", tried, why))
	if len(st.untried) == 0 {
		s.die(&ike.NegotiationError{
			Step: wire.IKEAuth.String(), Peer: s.remote.String(), Err: joined(st.refused),
			Hint: "make both ends accept one authentication method, with the same key or a common authority",
		})
		return
	}
	s.cur.wipe()
	s.begin()
}

// joined makes one error of several, in one line.
func joined(errs []error) error {
	err := errs[0]
	for _, e := range errs[1:] {
		err = fmt.Errorf("%w; then %w", err, e)
	}
	return err
}

// verifyPeer checks the peer's identity and AUTH payload with whichever of
// the policy's methods fits, and returns that method.
func (s *SA) verifyPeer(ps []wire.Payload, message, nonce, skp []byte, responder bool) (ike.AuthMethod, error) {
	id, ok := wire.FindID(ps, responder)
	if !ok {
		return nil, fmt.Errorf("%w: the peer does not say who it is", ike.ErrAuthentication)
	}
	auth, ok := wire.Find[*wire.Auth](ps)
	if !ok {
		return nil, fmt.Errorf("%w: %s sent no AUTH payload: EAP is not supported", ike.ErrAuthentication, id)
	}
	v := ike.Verifying{
		PRF: s.cur.prf, Auth: auth, ID: *id, Now: s.now,
		Octets: ike.SignedOctets(s.cur.prf, message, nonce, skp, *id),
	}
	for _, p := range ps {
		if c, ok := p.(*wire.Cert); ok {
			v.Certs = append(v.Certs, c)
		}
	}
	proof, err := ike.Authenticate(context.Background(), s.cfg.Policy.Auth, s.cfg.Policy.PeerID, s.cfg.Policy.Peers, v)
	if err != nil {
		return nil, err
	}
	s.peer.RemoteID, s.peer.Auth, s.proof = id.String(), proof.How, proof
	return proof.By, nil
}

// entitled checks that what the peer proved when the IKE SA was made does for
// a rule, which may want other keys, authorities, names or groups than the one
// that the peer authenticated by.
func (s *SA) entitled(p ike.ChildPolicy) error {
	if err := ike.Entitled(p.Auth, p.PeerID, p.Peers, s.proof, s.now); err != nil {
		return fmt.Errorf("the rule %q wants another authentication than the one by which this peer's IKE SA was made: %w", p.Name, err)
	}
	return nil
}

// establish begins the life of an IKE SA whose peer is authenticated.
func (s *SA) establish(initialContact bool) {
	s.transition(Established)
	s.until = time.Time{}
	s.peer.Since = s.now
	s.scheduleRenewal()
	s.emit(ike.Established{Peer: s.info(), InitialContact: initialContact})
}

// scheduleRenewal sets when the IKE SA is to be rekeyed.
func (s *SA) scheduleRenewal() {
	s.renew = time.Time{}
	if l := s.cfg.Policy.Lifetime; l > 0 {
		s.renew = s.now.Add(s.jitter(l))
	}
}

// forgetStart drops what only the first exchanges needed.
func (s *SA) forgetStart() { s.start = nil }

// answerAuth is the responder's side.
func (s *SA) answerAuth(d ike.Datagram, ps []wire.Payload) error {
	st, ses := s.start, s.cur
	used, err := s.verifyPeer(ps, st.request, st.nr, ses.keys.pi, false)
	var out []wire.Payload
	if err == nil {
		st.requests = append(st.requests, certRequests(ps)...)
		out, err = s.prove(ike.Answering(s.cfg.Policy.Auth, used, st.requests))
	}
	if err != nil {
		if e := s.respond(ses, d, wire.IKEAuth, []wire.Payload{&wire.Notify{Kind: wire.AuthenticationFailed}}); e != nil {
			return e
		}
		s.refuse(err)
		return nil
	}
	_, initialContact := wire.FindNotify(ps, wire.InitialContact)
	s.establish(initialContact)
	answer, err := s.answerChild(ps, st.ni, st.nr, true, nil)
	if err != nil {
		return err
	}
	s.forgetStart()
	return s.respond(ses, d, wire.IKEAuth, append(out, answer...))
}

// prove returns the responder's identity, certificates and AUTH payload.
func (s *SA) prove(m ike.AuthMethod) ([]wire.Payload, error) {
	id, err := m.Identity(s.cfg.Policy.LocalID, s.local.Addr())
	if err != nil {
		return nil, err
	}
	id.Responder = true
	s.peer.LocalID = id.String()
	auth, certs, err := m.Sign(context.Background(), ike.Signing{
		PRF: s.cur.prf, Hashes: s.start.hashes, Rand: s.cfg.Rand,
		Octets: ike.SignedOctets(s.cur.prf, s.start.response, s.start.ni, s.cur.keys.pr, id),
	})
	if err != nil {
		return nil, err
	}
	out := []wire.Payload{&id}
	for _, c := range certs {
		out = append(out, c)
	}
	return append(out, auth), nil
}

// refuse ends a responder whose peer is not to be believed. It stays to
// repeat its answer, should that get lost.
func (s *SA) refuse(why error) {
	s.transition(Refused)
	s.until = s.now.Add(halfOpenTime)
	s.emit(ike.Failed{Whole: true, Why: &ike.NegotiationError{
		Step: wire.IKEAuth.String(), Peer: s.remote.String(), Err: why,
		Hint: "make both ends accept one authentication method, with the same key or a common authority",
	}})
}
