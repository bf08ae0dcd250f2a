package ikev2

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// message is a message of the peer that has been opened: it is authentic.
type message struct {
	contents
	payloads      []wire.Payload
	malformed     error // why it cannot be read, or nil
	local, remote netip.AddrPort
	size          int // bytes of its datagrams
	fragments     int // in which it came, 0 for one piece
}

// query is a request of the peer. It is answered with respond, at once or
// when some Work is done; until then it is not processed again.
type query struct {
	message
	ses      *session
	cipher   xform.IKECipher // that opened it
	answer   *outgoing       // nil until there is one
	repeated int             // how often it was sent again
}

func (s *SA) datagram(d ike.Datagram) error {
	h, err := wire.ParseHeader(d.Data)
	if err != nil {
		return err
	}
	if h.Major() != wire.Version2>>4 {
		return s.otherVersion(h)
	}
	if h.Exchange == wire.IKESAInit {
		return s.saInit(d, h)
	}
	ses := s.session(h)
	switch {
	case ses == nil || ses.in == nil:
		return fmt.Errorf("%w: %s for the SPIs %016x and %016x", errIgnored, h.Exchange, h.SPIi, h.SPIr)
	case h.Initiator == ses.initiator:
		return fmt.Errorf("%w: %s that we sent ourselves, or that says so", errIgnored, h.Exchange)
	case h.Response:
		return s.response(ses, d, h)
	}
	return s.incoming(ses, d, h)
}

// response takes the answer to our request.
func (s *SA) response(ses *session, d ike.Datagram, h wire.Header) error {
	p := ses.ours.find(h)
	if p == nil {
		return fmt.Errorf("%w: response %d of %s, which nobody waits for", errIgnored, h.MessageID, h.Exchange)
	}
	if h.FirstPayload != wire.TypeEncrypted && h.FirstPayload != wire.TypeFragment {
		_, ps, err := wire.Decode(d.Data)
		if err != nil {
			return err
		}
		if _, ok := wire.FindNotify(ps, wire.InvalidIKESPI); ok {
			s.hint()
			return nil
		}
	}
	m, err := s.open(ses, d, h)
	if m == nil || err != nil {
		return err
	}
	s.traceReceived(m, false)
	s.proved(p, m)
	ses.ours.done(p)
	s.authentic(m)
	if p.small {
		ses.fragmentSize = least(m.remote.Addr()) // larger ones seem to get lost
	}
	if c, bad := critical(m.payloads); bad {
		m.malformed = fmt.Errorf("%s is critical and unknown", c.Kind)
	}
	if m.malformed != nil {
		// The same answer would come again and again (RFC 7296 section 2.21.3).
		s.giveUp(fmt.Errorf("the peer's answer to %s cannot be read: %w", h.Exchange, m.malformed))
		return nil
	}
	if n, ok := windowOf(m.payloads); ok {
		ses.ours.size = n
	}
	s.inner = m.contents
	p.task.end(s, ses, m.payloads)
	if _, fatal := wire.FindNotify(m.payloads, wire.InvalidSyntax); fatal && s.state == Established {
		s.broken(ses, fmt.Errorf("%w: the peer could not read our request of %s", ike.ErrClosed, h.Exchange))
	}
	return nil
}

// broken ends the IKE SA of a session that one end could not read: the one in
// use, or one that was replaced or made in vain, which has no Child SAs.
func (s *SA) broken(ses *session, why error) {
	switch ses {
	case s.cur:
		s.die(why)
		return
	case s.rival:
		s.rival = nil
	}
	s.drop(ses)
}

// giveUp ends the SA because of a peer that cannot be understood.
func (s *SA) giveUp(why error) {
	if s.state == Established {
		s.close(ike.Close{Reason: why.Error()})
	} else {
		s.die(why)
	}
}

// open decrypts a message, whose only payload must be an SK or SKF payload.
// It returns nil for a fragment of a message that has not come as a whole. An
// error says that the message is not authentic, or of no use.
func (s *SA) open(ses *session, d ike.Datagram, h wire.Header) (*message, error) {
	sealed, err := onlyPayload(d)
	if err != nil {
		return nil, err
	}
	switch sealed := sealed.(type) {
	case *wire.Fragment:
		return s.collect(ses, d, h, sealed)
	case *wire.Encrypted:
		m := &message{contents: contents{header: h, head: headOf(d), first: sealed.Inner}, local: d.Local, remote: d.Remote, size: len(d.Data)}
		if m.plain, err = wire.Unseal(d.Data, sealed.Body, ses.in); err != nil {
			return nil, err
		}
		delete(ses.partial, partialKey{h.Response, h.MessageID})
		m.read()
		return m, nil
	}
	return nil, fmt.Errorf("%w: the message is not protected", errIgnored)
}

// headOf returns the head of a message that onlyPayload takes.
func headOf(d ike.Datagram) []byte { return bytes.Clone(d.Data[:wire.SealedHead]) }

func onlyPayload(d ike.Datagram) (wire.Payload, error) {
	_, outer, err := wire.Decode(d.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errIgnored, err)
	}
	if len(outer) != 1 {
		return nil, fmt.Errorf("%w: the message is not protected as a whole", errIgnored)
	}
	return outer[0], nil
}

// read reads what was sealed.
func (m *message) read() {
	m.payloads, m.malformed = wire.DecodePayloads(m.first, m.plain)
}

func critical(ps []wire.Payload) (*wire.Unknown, bool) {
	for _, p := range ps {
		if u, ok := p.(*wire.Unknown); ok && u.Critical {
			return u, true
		}
	}
	return nil, false
}

// traceReceived tells of a message that was opened.
func (s *SA) traceReceived(m *message, again bool) {
	if s.cfg.Trace != nil {
		s.cfg.Trace(ike.Message{
			At: s.now, Again: again, Local: m.local, Remote: m.remote,
			Header: m.header, Payloads: m.payloads, Size: m.size, Fragments: m.fragments,
		})
	}
}

// traceInit tells of a message of IKE_SA_INIT that came.
func (s *SA) traceInit(d ike.Datagram, h wire.Header, again bool) {
	if s.cfg.Trace == nil {
		return
	}
	if _, ps, err := wire.Decode(d.Data); err == nil {
		s.traceReceived(&message{contents: contents{header: h}, payloads: ps, local: d.Local, remote: d.Remote, size: len(d.Data)}, again)
	}
}

// incoming takes a request of the peer.
func (s *SA) incoming(ses *session, d ike.Datagram, h wire.Header) error {
	if q := ses.theirs.find(h.MessageID); q != nil {
		return s.cameAgain(q, d)
	}
	if !ses.theirs.fits(h.MessageID) {
		return fmt.Errorf("%w: request %d, %d is the next", errIgnored, h.MessageID, ses.theirs.next)
	}
	if err := s.welcome(h.Exchange); err != nil {
		return err
	}
	m, err := s.open(ses, d, h)
	if m == nil || err != nil {
		return err
	}
	s.traceReceived(m, false)
	q := &query{message: *m, ses: ses, cipher: ses.in}
	ses.theirs.take(q)
	s.authentic(m)
	if n, ok := windowOf(m.payloads); ok {
		ses.ours.size = n
	}
	s.inner = m.contents
	if err := s.answer(q); err != nil {
		ses.theirs.forget(q)
		return err
	}
	return nil
}

// cameAgain repeats our answer to a request. Of one in fragments only the
// first asks for that (RFC 7383 section 2.6.1).
func (s *SA) cameAgain(q *query, d ike.Datagram) error {
	sealed, err := onlyPayload(d)
	if err != nil {
		return err
	}
	m := &message{contents: contents{header: q.header}, local: d.Local, remote: d.Remote, size: len(d.Data)}
	var body []byte
	switch sealed := sealed.(type) {
	case *wire.Encrypted:
		body, m.first = sealed.Body, sealed.Inner
	case *wire.Fragment:
		if sealed.Number != 1 {
			return nil
		}
		body, m.payloads = sealed.Body, []wire.Payload{sealed}
	default:
		return fmt.Errorf("%w: the message is not protected", errIgnored)
	}
	if m.plain, err = wire.Unseal(d.Data, body, q.cipher); err != nil {
		return err
	}
	if m.payloads == nil {
		m.read()
	}
	s.traceReceived(m, true)
	s.repeat(q, d.Local, d.Remote)
	return nil
}

// welcome refuses a request that the state does not allow.
func (s *SA) welcome(x wire.ExchangeType) error {
	switch s.state {
	case Established, Closing:
		return nil
	case InitAnswered:
		if x == wire.IKEAuth || x == wire.IKEIntermediate {
			return nil
		}
	}
	return fmt.Errorf("%w: %s while %s", errIgnored, x, s.state)
}

// answer answers a request, or begins to. An error is a fault of our own, and
// the request may come again.
func (s *SA) answer(q *query) error {
	switch c, bad := critical(q.payloads); {
	case q.malformed != nil:
		return s.reject(q, &wire.Notify{Kind: wire.InvalidSyntax}, q.malformed)
	case bad:
		n := &wire.Notify{Kind: wire.UnsupportedCriticalPayload, Data: []byte{byte(c.Kind)}}
		return s.reject(q, n, fmt.Errorf("%s is critical and unknown", c.Kind))
	}
	switch q.header.Exchange {
	case wire.IKEIntermediate:
		return s.answerIntermediate(q)
	case wire.IKEAuth:
		if s.state != InitAnswered {
			return s.reject(q, &wire.Notify{Kind: wire.InvalidSyntax}, errors.New("a second IKE_AUTH"))
		}
		return s.answerAuth(q)
	case wire.CreateChildSA:
		answer, err := s.answerCreate(q)
		if err != nil {
			return err
		}
		return s.respond(q, answer)
	case wire.IKEFollowupKE:
		return s.answerFollowup(q)
	case wire.Informational:
		return s.answerInformational(q)
	}
	return s.respond(q, []wire.Payload{&wire.Notify{Kind: wire.InvalidSyntax}})
}

// reject answers a request that cannot be understood. Before the peer is
// authenticated it ends the SA.
func (s *SA) reject(q *query, n *wire.Notify, why error) error {
	if err := s.respond(q, []wire.Payload{n}); err != nil {
		return err
	}
	if s.state == InitAnswered {
		s.refuse(why)
	}
	return nil
}
