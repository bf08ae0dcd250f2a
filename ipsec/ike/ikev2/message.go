package ikev2

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// task is an exchange that we begin. Only one at a time is under way.
type task interface {
	// begin returns the request. A task that has become needless returns ok
	// as false.
	begin(s *SA) (x wire.ExchangeType, ps []wire.Payload, ok bool, err error)
	// end takes the peer's answer, which is authentic.
	end(s *SA, ses *session, ps []wire.Payload)
	schedule() ike.Schedule
}

// queued is a task that is to begin at a time, or as soon as it can.
type queued struct {
	task task
	at   time.Time
}

func (s *SA) enqueue(t task) { s.queue = append(s.queue, queued{task: t, at: s.now}) }

// retry is how long an exchange waits that the peer had no time for
// (RFC 7296 section 2.25). It is not the same for both ends, lest they meet
// again.
func (s *SA) retry() time.Duration {
	d := 500 * time.Millisecond
	if b, err := s.random(1); err == nil {
		d += time.Duration(b[0]) * 4 * time.Millisecond
	}
	return d
}

func (s *SA) enqueueLater(t task) {
	s.queue = append(s.queue, queued{task: t, at: s.now.Add(s.retry())})
}

// pump begins tasks for as long as no request is under way.
func (s *SA) pump() {
	for (s.state == Established || s.state == Closing) && s.cur.pending == nil {
		i := slices.IndexFunc(s.queue, func(q queued) bool { return !q.at.After(s.now) })
		if i < 0 {
			return
		}
		t := s.queue[i].task
		s.queue = slices.Delete(s.queue, i, i+1)
		x, ps, ok, err := t.begin(s)
		if err == nil && ok {
			err = s.request(s.cur, x, ps, t)
		}
		if err != nil {
			s.die(fmt.Errorf("prepare a request: %w", err))
		}
	}
}

// request sends a protected request of a session.
func (s *SA) request(ses *session, x wire.ExchangeType, ps []wire.Payload, t task) error {
	data, err := wire.EncodeEncrypted(ses.header(x, ses.nextOut, false), ps, ses.out)
	if err != nil {
		return err
	}
	s.dispatch(ses, x, data, t)
	return nil
}

// dispatch sends a request for the first time.
func (s *SA) dispatch(ses *session, x wire.ExchangeType, data []byte, t task) {
	p := &request{id: ses.nextOut, exchange: x, data: data, task: t, schedule: t.schedule(), sends: 1}
	wait, _ := p.schedule.Wait(1)
	p.at = s.now.Add(wait)
	ses.pending = p
	ses.nextOut++
	s.send(data)
}

// respond answers the peer's request with number nextIn, to where it came
// from (RFC 7296 section 2.11).
func (s *SA) respond(ses *session, d ike.Datagram, x wire.ExchangeType, ps []wire.Payload) error {
	data, err := wire.EncodeEncrypted(ses.header(x, ses.nextIn, true), ps, ses.out)
	if err != nil {
		return err
	}
	ses.answer = data
	ses.nextIn++
	s.emit(ike.Send{Local: d.Local, Remote: d.Remote, Data: data})
	return nil
}

func (s *SA) datagram(d ike.Datagram) error {
	h, err := wire.ParseHeader(d.Data)
	if err != nil {
		return err
	}
	if h.Major() != wire.Version2>>4 {
		return fmt.Errorf("%w: major version %d", errIgnored, h.Major())
	}
	if h.Exchange == wire.IKESAInit {
		return s.saInit(d, h)
	}
	ses := s.cur
	if s.old.has(h) {
		ses = s.old
	}
	switch {
	case !ses.has(h) || ses.in == nil:
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
	p := ses.pending
	if p == nil || h.MessageID != p.id || h.Exchange != p.exchange {
		return fmt.Errorf("%w: response %d of %s, which nobody waits for", errIgnored, h.MessageID, h.Exchange)
	}
	if h.FirstPayload != wire.TypeEncrypted {
		_, ps, err := wire.Decode(d.Data)
		if err != nil {
			return err
		}
		if _, ok := wire.FindNotify(ps, wire.InvalidIKESPI); ok {
			s.hint()
			return nil
		}
	}
	ps, err := s.open(ses, d)
	if err != nil {
		return err
	}
	if c, bad := critical(ps); bad {
		return fmt.Errorf("%w: %s is critical and unknown", errIgnored, c.Kind)
	}
	ses.pending = nil
	s.authentic(d, h)
	p.task.end(s, ses, ps)
	return nil
}

// open decrypts a message, whose only payload must be an SK payload. The
// error is a *wire.Error inside of an authentic message, or another one.
func (s *SA) open(ses *session, d ike.Datagram) ([]wire.Payload, error) {
	_, outer, err := wire.Decode(d.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errIgnored, err) // not authentic: no *wire.Error
	}
	if len(outer) != 1 {
		return nil, fmt.Errorf("%w: the message is not protected as a whole", errIgnored)
	}
	e, ok := outer[0].(*wire.Encrypted)
	if !ok {
		return nil, fmt.Errorf("%w: the message is not protected", errIgnored)
	}
	return wire.OpenEncrypted(d.Data, e, ses.in)
}

func critical(ps []wire.Payload) (*wire.Unknown, bool) {
	for _, p := range ps {
		if u, ok := p.(*wire.Unknown); ok && u.Critical {
			return u, true
		}
	}
	return nil, false
}

// authentic notes a sign of life, and where it came from: a peer behind a NAT
// may have got another port (RFC 7296 section 2.23). Until the peer is
// authenticated it is the move to port 4500.
func (s *SA) authentic(d ike.Datagram, h wire.Header) {
	s.heard = s.now
	moved := d.Remote != s.remote || d.Local != s.local
	if !moved || h.Response && s.state != Established {
		return
	}
	samePeer := d.Remote.Addr() == s.remote.Addr() && d.Local.Addr() == s.local.Addr()
	if s.peer.NATRemote || s.state == InitAnswered && samePeer {
		s.local, s.remote = d.Local, d.Remote
		if s.state == Established {
			s.emit(ike.Changed{Peer: s.info()})
		}
	}
}

// incoming takes a request of the peer.
func (s *SA) incoming(ses *session, d ike.Datagram, h wire.Header) error {
	again := ses.answer != nil && h.MessageID == ses.nextIn-1
	if !again && h.MessageID != ses.nextIn {
		return fmt.Errorf("%w: request %d, %d is the next", errIgnored, h.MessageID, ses.nextIn)
	}
	if s.state == AuthSent || s.state == InitAnswered && h.Exchange != wire.IKEAuth && !again {
		return fmt.Errorf("%w: %s before the peer is authenticated", errIgnored, h.Exchange)
	}
	if s.state == Refused && !again {
		return fmt.Errorf("%w: %s after authentication failed", errIgnored, h.Exchange)
	}
	ps, err := s.open(ses, d)
	var malformed *wire.Error
	if err != nil && !errors.As(err, &malformed) {
		return err
	}
	if again {
		s.emit(ike.Send{Local: d.Local, Remote: d.Remote, Data: ses.answer})
		return nil
	}
	s.authentic(d, h)
	switch c, bad := critical(ps); {
	case malformed != nil:
		return s.reject(ses, d, h, &wire.Notify{Kind: wire.InvalidSyntax}, malformed)
	case bad:
		n := &wire.Notify{Kind: wire.UnsupportedCriticalPayload, Data: []byte{byte(c.Kind)}}
		return s.reject(ses, d, h, n, fmt.Errorf("%s is critical and unknown", c.Kind))
	}
	var answer []wire.Payload
	switch h.Exchange {
	case wire.IKEAuth:
		if s.state != InitAnswered {
			return s.reject(ses, d, h, &wire.Notify{Kind: wire.InvalidSyntax}, errors.New("a second IKE_AUTH"))
		}
		return s.answerAuth(d, ps)
	case wire.CreateChildSA:
		answer, err = s.answerCreate(ses, ps)
	case wire.Informational:
		return s.answerInformational(ses, d, ps)
	default:
		answer = []wire.Payload{&wire.Notify{Kind: wire.InvalidSyntax}}
	}
	if err != nil {
		return err
	}
	return s.respond(ses, d, h.Exchange, answer)
}

// reject answers a request that cannot be understood. Before the peer is
// authenticated it ends the SA.
func (s *SA) reject(ses *session, d ike.Datagram, h wire.Header, n *wire.Notify, why error) error {
	if err := s.respond(ses, d, h.Exchange, []wire.Payload{n}); err != nil {
		return err
	}
	if s.state == InitAnswered {
		s.refuse(why)
	}
	return nil
}
