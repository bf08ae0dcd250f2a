package ikev2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// authenticate is the initiator's IKE_AUTH, which brings a Child SA with it
// (RFC 7296 section 1.2), or does not (RFC 6023).
type authenticate struct {
	method ike.AuthMethod
	id     wire.ID
	proof  proof
	child  *childRequest // nil for an IKE SA without one
	sent   *request
}

// proof is how we prove who we are, or why we cannot.
type proof struct {
	auth  *wire.Auth
	certs []*wire.Cert
	plain *wire.Auth // what auth would be without a PPK, for NO_PPK_AUTH, or nil
	err   error
}

func (*authenticate) schedule() ike.Schedule { return ike.Patient }

// prove has the AUTH payload made, with the method that the peer is likeliest
// to accept, for IKE_AUTH.
func (s *SA) prove() {
	st, p := s.start, &s.cfg.Policy
	s.transition(Proving)
	s.until = s.now.Add(workTime)
	st.untried = ike.Promising(st.untried, st.requests)
	if !st.usePPK && len(p.PPKs) > 0 {
		if st.untried = provable(st.untried); len(st.untried) == 0 {
			s.die(s.authFailure(fmt.Errorf("%w: the peer uses none with us: %w", ike.ErrPPK, errPPKProof)))
			return
		}
	}
	t := &authenticate{method: st.untried[0]}
	st.untried = st.untried[1:]
	var err error
	if t.id, err = t.method.Identity(p.LocalID, s.local.Addr()); err != nil {
		s.nextMethod(t.method, ours(err))
		return
	}
	s.peer.LocalID = t.id.String()
	rand, err := s.source()
	if err != nil {
		s.die(err)
		return
	}
	signing := ike.Signing{PRF: s.cur.prf, Hashes: st.hashes, Requests: st.requests, Rand: rand, Now: s.now}
	without := s.side(true, &s.cur.keys)
	with, both := without, false
	if st.usePPK {
		k := p.PPKs[0]
		st.ppk = withPPK{k.ID, s.cur.keys.mixed(s.cur.prf, k)}
		with, both = s.side(true, st.ppk.keys), !p.PPKRequired && !isNull(t.method)
	}
	method, id := t.method, t.id
	work(s, func(ctx context.Context) (r proof) {
		if r.auth, r.certs, r.err = method.Sign(ctx, with.signing(signing, id)); r.err == nil && both {
			r.plain, _, r.err = method.Sign(ctx, without.signing(signing, id))
		}
		return r
	}, func(r proof) error {
		t.proof = r
		return s.sendAuth(t)
	}, func(err error) error {
		s.die(&ike.NegotiationError{Step: wire.IKEAuth.String(), Peer: s.remote.String(), Err: err})
		return err
	})
}

// sendAuth begins IKE_AUTH with the proof.
func (s *SA) sendAuth(t *authenticate) error {
	s.until = time.Time{}
	if t.proof.err != nil {
		s.nextMethod(t.method, ours(t.proof.err))
		return nil
	}
	x, ps, _, err := t.begin(s)
	if err != nil { // another method would not mend it
		s.die(s.authFailure(err))
		return nil
	}
	s.transition(AuthSent)
	if err := s.request(s.cur, x, ps, t); err != nil {
		s.die(fmt.Errorf("begin IKE_AUTH with %s: %w", s.remote, err))
		return err
	}
	t.sent = s.cur.ours.pending[0]
	return nil
}

// HDR, SK {IDi, [CERT…], [N(INITIAL_CONTACT)], [CERTREQ…], AUTH, SAi2, TSi, TSr,
// [N(PPK_IDENTITY)], [N(NO_PPK_AUTH)], [N(SET_WINDOW_SIZE)]} -->
func (t *authenticate) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	st, p := s.start, &s.cfg.Policy
	var err error
	if !p.Childless || !s.peer.Childless {
		if t.child, err = s.firstChildRequest(st.acquire); err != nil {
			return 0, nil, false, err
		}
	}
	ps := []wire.Payload{&t.id}
	for _, c := range t.proof.certs {
		ps = append(ps, c)
	}
	if s.cfg.FirstContact() {
		ps = append(ps, &wire.Notify{Kind: wire.InitialContact})
	}
	ps = append(ps, ike.RequestCerts(p.Auth)...)
	ps = append(ps, t.proof.auth)
	if t.child != nil {
		ps = append(ps, t.child.payloads()...)
	}
	if st.usePPK {
		ps = append(ps, &wire.Notify{Kind: wire.PPKIdentity, Data: ppkID(p.PPKs[0])})
	}
	if t.proof.plain != nil {
		ps = append(ps, &wire.Notify{Kind: wire.NoPPKAuth, Data: t.proof.plain.Data})
	}
	return wire.IKEAuth, append(ps, s.windowNotify()...), true, nil
}

// <-- HDR, SK {IDr, [CERT…], AUTH, SAr2, TSi, TSr, [N(PPK_IDENTITY)],
// [N(AUTH_LIFETIME)], [N(SET_WINDOW_SIZE)]}
func (t *authenticate) end(s *SA, ses *session, ps []wire.Payload) {
	st, p := s.start, &s.cfg.Policy
	auth, ok := wire.Find[*wire.Auth](ps)
	if !ok {
		s.nextMethod(t.method, s.refusedAuth(t, ps))
		return
	}
	keys := &ses.keys
	_, used := wire.FindNotify(ps, wire.PPKIdentity)
	switch {
	case st.usePPK && used:
		keys = st.ppk.keys
	case p.PPKRequired:
		s.disbelieve(t, fmt.Errorf("%w: the rule requires the PPK %q, and the peer did not use it", ike.ErrPPK, st.ppk.id))
		return
	case st.usePPK && (t.proof.plain == nil || auth.Method == wire.AuthNull):
		s.disbelieve(t, fmt.Errorf("%w: the peer did not use the PPK %q: %w", ike.ErrPPK, st.ppk.id, errPPKProof))
		return
	}
	v, err := s.verifying(ps, auth, false, keys)
	if err != nil {
		s.disbelieve(t, err)
		return
	}
	s.transition(Verifying)
	s.until = s.now.Add(workTime)
	policy := *p
	work(s, func(ctx context.Context) verdict { return verify(ctx, policy, v) }, func(r verdict) error {
		if r.err != nil {
			s.disbelieve(t, r.err)
			return nil
		}
		s.settlePPK(st.usePPK && used)
		s.believe(r.proof, ps)
		s.finishAuth(t, ps)
		return nil
	}, func(err error) error {
		// As if the answer had got lost: it comes again.
		s.transition(AuthSent)
		s.until = time.Time{}
		ses.ours.pending = append(ses.ours.pending, t.sent)
		return err
	})
}

// finishAuth comes to the Child SA for which the IKE SA was made.
func (s *SA) finishAuth(t *authenticate, ps []wire.Payload) {
	st := s.start
	s.forgetStart()
	if t.child == nil {
		s.ask(st.acquire)
		return
	}
	s.endChild(t.child, ps, st.ni, st.nr)
}

// refusedAuth says why an answer to IKE_AUTH proves nothing.
func (s *SA) refusedAuth(t *authenticate, ps []wire.Payload) error {
	n, ok := firstError(ps)
	switch {
	case !ok:
		return fmt.Errorf("%w: the answer has no AUTH payload", ike.ErrAuthentication)
	case n.Kind == wire.AuthenticationFailed:
		return fmt.Errorf("%w: %w: this host said that it is %s, and proved it by %s", ike.ErrRefusedByPeer, errTheirs, s.peer.LocalID, t.method)
	}
	return fmt.Errorf("%w: %w: %s", ike.ErrRefused, errTheirs, n.Kind)
}

// errTheirs marks what the peer refused, and errOurs why this host has no proof
// to show. Everything else is what we find wrong with the peer's.
var (
	errTheirs = errors.New("the peer knows why")
	errOurs   = errors.New("this host cannot prove who it is")
)

func ours(err error) error { return fmt.Errorf("%w: %w", errOurs, err) }

// disbelieve tells a responder, who believes in an SA that is none, that we do
// not (RFC 7296 section 2.21.2), and tries the next method.
func (s *SA) disbelieve(t *authenticate, why error) {
	bye := []wire.Payload{&wire.Notify{Kind: wire.AuthenticationFailed}}
	s.tell(s.cur, wire.Informational, bye)
	s.nextMethod(t.method, why)
}

// nextMethod begins a new IKE SA with the next authentication method, for the
// packets that wait, or gives up when there is none or another would not help.
func (s *SA) nextMethod(tried ike.AuthMethod, why error) {
	st := s.start
	st.tried = append(st.tried, fmt.Errorf("with %s: %w", tried, why))
	if len(st.untried) == 0 || errors.Is(why, ike.ErrPPK) {
		s.die(s.authFailure(joined(st.tried)))
		return
	}
	s.cur.wipe()
	st.forget()
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

// authFailure explains a failure of IKE_AUTH. What the error's cause tells to
// change is for whoever shows it; what only the peer knows is said here.
func (s *SA) authFailure(why error) error {
	e := &ike.NegotiationError{Step: wire.IKEAuth.String(), Peer: s.remote.String(), Identity: s.peer.RemoteID, Err: why}
	explainNAT(e)
	switch {
	case errors.Is(why, ike.ErrPPK):
		e.Hint = hintPPKKey
	case errors.Is(why, errOurs):
		e.Hint, e.Side = `give the rule an "authentication" by which this host can prove who it is`, ike.ThisSide
	case errors.Is(why, errTheirs):
		e.Hint, e.Side = s.hintRefused(), ike.PeerSide
		if s.start.ppk.keys != nil {
			e.Hint += `, and the same "ppk"`
		}
	case errors.Is(why, ike.ErrWrongKey) && s.start.ppk.keys != nil:
		// The proof depends on both, and does not tell which of them differs.
		e.Err = fmt.Errorf("%w: the key of the authentication, or what the ppk %q holds, differs", why, s.start.ppk.id)
		e.Hint = `give both ends the same key of their "authentication", and the same "ppk"`
	}
	return e
}

// hintRefused says where it stands why the peer does not believe this host.
func (s *SA) hintRefused() string {
	return fmt.Sprintf(`see "ipsecfw why" there, or the peer's log: it has to take the name of this host, %s ("peer-id", "peers"), and both ends need the same key, or authorities that issued the other's certificate`, s.peer.LocalID)
}

// party is one end's part in what AUTH payloads prove, a copy for a Work.
type party struct {
	prf     xform.PRF
	message []byte // its IKE_SA_INIT
	nonce   []byte // the other end's
	skp     []byte // its SK_pi or SK_pr
	intAuth []byte // of both ends, or empty
}

// side returns the part of the initiator or of the responder, with their keys.
func (s *SA) side(initiator bool, keys *ikeKeys) party {
	st := s.start
	p := party{prf: s.cur.prf, message: st.response, nonce: st.ni, skp: slices.Clone(keys.skp(initiator)), intAuth: st.intAuth.octets()}
	if initiator {
		p.message, p.nonce = st.request, st.nr
	}
	return p
}

// octets returns what the end with an identity signs (RFC 7296 section 2.15,
// RFC 9242 section 3.3.1):
//
//	InitiatorSignedOctets = RealMessage1 | NonceRData | MACedIDForI [| IntAuth]
//	ResponderSignedOctets = RealMessage2 | NonceIData | MACedIDForR [| IntAuth]
func (p party) octets(id wire.ID) []byte {
	return slices.Concat(ike.SignedOctets(p.prf, p.message, p.nonce, p.skp, id), p.intAuth)
}

func (p party) signing(s ike.Signing, id wire.ID) ike.Signing {
	s.Octets, s.SKp = p.octets(id), p.skp
	return s
}

// verifying returns what it takes to check the AUTH payload of the initiator
// or of the responder.
func (s *SA) verifying(ps []wire.Payload, auth *wire.Auth, initiator bool, keys *ikeKeys) (ike.Verifying, error) {
	id, ok := wire.FindID(ps, !initiator)
	if !ok {
		return ike.Verifying{}, fmt.Errorf("%w: the peer does not say who it is", ike.ErrAuthentication)
	}
	s.peer.RemoteID = id.String()
	p := s.side(initiator, keys)
	v := ike.Verifying{PRF: p.prf, Octets: p.octets(*id), SKp: p.skp, Auth: auth, ID: *id, Now: s.now}
	for _, x := range ps {
		if c, ok := x.(*wire.Cert); ok {
			v.Certs = append(v.Certs, c)
		}
	}
	return v, nil
}

// verdict is what a Work found out about the peer's proof.
type verdict struct {
	proof ike.Proof
	err   error
}

func verify(ctx context.Context, p ike.Policy, v ike.Verifying) (r verdict) {
	r.proof, r.err = ike.Authenticate(ctx, p.Auth, p.PeerID, p.Peers, v)
	return r
}

// believe begins the life of an IKE SA whose peer has proved who it is, in the
// message with these payloads.
func (s *SA) believe(p ike.Proof, ps []wire.Payload) {
	s.proof = p
	s.peer.RemoteID, s.peer.Auth, s.peer.Anonymous = p.ID.String(), p.How, p.Anonymous()
	s.peer.Revocation, s.peer.Unchecked = p.Checked()
	s.transition(Established)
	s.until = time.Time{}
	s.peer.Since = s.now
	s.scheduleRenewal()
	s.scheduleReauth()
	if n, ok := wire.FindNotify(ps, wire.AuthLifetime); ok && len(n.Data) == 4 {
		s.setAuthLifetime(time.Duration(binary.BigEndian.Uint32(n.Data)) * time.Second)
	}
	clear(s.cur.keys.pi) // they have served
	clear(s.cur.keys.pr)
	_, initialContact := wire.FindNotify(ps, wire.InitialContact)
	s.emit(ike.Established{Peer: s.info(), InitialContact: initialContact && !p.Anonymous()})
}

// entitled checks that what the peer proved when the IKE SA was made does for
// a rule, which may want other keys, authorities, names or groups than the one
// that the peer authenticated by. So must do what the IKE SA's keys come from.
func (s *SA) entitled(p ike.ChildPolicy) error {
	if err := ike.Entitled(p.Auth, p.PeerID, p.Peers, s.proof, s.now); err != nil {
		return fmt.Errorf("the rule %q wants another authentication than the one by which this peer's IKE SA was made: %w", p.Name, err)
	}
	if p.PPKRequired && s.peer.PPK == "" {
		return fmt.Errorf("%w: the rule %q requires one, and this peer's IKE SA was made without", ike.ErrPPK, p.Name)
	}
	if weak := ike.Weak(s.cur.proposal); len(weak) > 0 && !p.Legacy {
		return fmt.Errorf("%w: the rule %q allows no %w, and this peer's IKE SA has %v", ike.ErrNoProposal, p.Name, errWeak, weak)
	}
	return nil
}

var errWeak = errors.New("weak algorithms")

// scheduleRenewal sets when the IKE SA is to be rekeyed.
func (s *SA) scheduleRenewal() {
	s.renew, s.expire = time.Time{}, time.Time{}
	if l := s.cfg.Policy.Lifetime; l > 0 {
		s.renew, s.expire = s.now.Add(s.jitter(l)), s.now.Add(l)
	}
}

// forgetStart drops what only the first exchanges needed.
func (s *SA) forgetStart() {
	s.start.forget()
	s.start = nil
}
