package ikev2

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// deleteTask tells the peer that a Child SA is gone (RFC 7296 section 1.4.1).
// One that was replaced stays installed until the peer has heard of it, for
// what is still on its way.
type deleteTask struct {
	protocol ipsec.ProtocolID
	in       ipsec.SPI
	sent     bool
}

func (*deleteTask) schedule() ike.Schedule { return ike.Patient }

// HDR, SK {D(SPI)} -->
func (t *deleteTask) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	if s.state != Established {
		return 0, nil, false, nil
	}
	t.sent = true
	return wire.Informational, []wire.Payload{&wire.Delete{Protocol: t.protocol, SPIs: []ipsec.SPI{t.in}}}, true, nil
}

// <-- HDR, SK {D(SPI)}, or nothing in it if the peer was deleting it itself
func (t *deleteTask) end(s *SA, _ *session, _ []wire.Payload) {
	if c := s.find(byIn(t.in)); c != nil {
		s.remove(c, "replaced")
	}
}

// deleteChild takes a Child SA out of the data path at once and then tells the
// peer.
func (s *SA) deleteChild(in ipsec.SPI, reason string) {
	c := s.find(byIn(in))
	if c == nil {
		return
	}
	told := c.leaving
	s.withdraw(c, reason, false)
	if !told {
		s.enqueue(&deleteTask{protocol: c.protocol, in: in})
	}
}

// gone removes a Child SA that the peer deletes, and reports whether it hears
// that from us in its answer, or in a deletion of our own that is on its way
// (RFC 7296 section 2.25.1).
func (s *SA) gone(c *child) (answer bool) {
	ours := func(t task) bool {
		d, ok := t.(*deleteTask)
		return ok && d.in == c.in
	}
	answer = !s.cur.ours.any(ours)
	s.queue = slices.DeleteFunc(s.queue, func(q queued) bool { return ours(q.task) })
	s.remove(c, "deleted by the peer")
	return answer
}

// unknown takes note that the peer deletes a Child SA that we do not have. We
// may have asked for it, and its deletion been faster than the answer.
func (s *SA) unknown(out ipsec.SPI) {
	if !s.expecting() {
		s.stillborn = nil
		return
	}
	if len(s.stillborn) < maxChildren {
		s.stillborn = append(s.stillborn, out)
	}
}

// deleteIKE tells the peer that the IKE SA is gone, and with it all of its
// Child SAs.
type deleteIKE struct{ reason string }

func (*deleteIKE) schedule() ike.Schedule { return ike.Quick }

func (t *deleteIKE) begin(*SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	return wire.Informational, []wire.Payload{&wire.Delete{Protocol: ipsec.ProtoIKE}}, true, nil
}

func (t *deleteIKE) end(s *SA, ses *session, _ []wire.Payload) {
	if ses != s.cur {
		s.drop(ses)
		return
	}
	s.finish(t.reason)
}

// close ends the SA at our wish.
func (s *SA) close(c ike.Close) {
	switch {
	case s.state == Refused:
		s.finish(c.Reason)
		return
	case s.state == Closing && !c.Silent:
		return
	case s.state != Established || c.Silent:
		s.die(fmt.Errorf("%w: %s", ike.ErrClosed, c.Reason))
		return
	}
	for _, rule := range s.waiting() {
		s.emit(ike.Failed{Policy: rule, Why: fmt.Errorf("%w: %s", ike.ErrClosed, c.Reason)})
	}
	for _, x := range slices.Clone(s.children) {
		if x.leave(); !c.Drain {
			s.withdraw(x, c.Reason, false)
			s.remove(x, c.Reason)
		}
	}
	s.transition(Closing)
	s.clearQueue()
	s.abandon(func(*unfinished) bool { return true })
	s.enqueue(&deleteIKE{reason: c.Reason})
	s.cur.ours.hurry(s.now)
}

// answerInformational is the responder's side of INFORMATIONAL: deletions,
// what the peer lets us know, and the question whether we live, which is empty
// (RFC 7296 section 1.4).
func (s *SA) answerInformational(q *query) error {
	ses, ps := q.ses, q.payloads
	whole := slices.ContainsFunc(ps, func(p wire.Payload) bool {
		del, ok := p.(*wire.Delete)
		return ok && del.Protocol == ipsec.ProtoIKE
	})
	if whole {
		return s.answerDeleteIKE(q)
	}
	s.adopt(ses) // the peer goes on with the IKE SA that it has made
	said := map[ipsec.ProtocolID][]ipsec.SPI{}
	for _, p := range ps {
		del, ok := p.(*wire.Delete)
		if !ok {
			continue
		}
		for _, out := range del.SPIs {
			switch c := s.find(byOut(del.Protocol, out)); {
			case c == nil:
				s.unknown(out)
			case s.gone(c):
				said[del.Protocol] = append(said[del.Protocol], c.in)
			}
		}
	}
	var answer []wire.Payload
	for _, p := range []ipsec.ProtocolID{ipsec.ProtoAH, ipsec.ProtoESP} {
		if len(said[p]) > 0 {
			answer = append(answer, &wire.Delete{Protocol: p, SPIs: said[p]})
		}
	}
	if err := s.respond(q, answer); err != nil {
		return err
	}
	if n, ok := wire.FindNotify(ps, wire.AuthLifetime); ok && len(n.Data) == 4 && s.state == Established {
		before := s.reauth.end
		s.setAuthLifetime(time.Duration(binary.BigEndian.Uint32(n.Data)) * time.Second)
		if !s.reauth.end.Equal(before) {
			s.emit(ike.Changed{Peer: s.info()})
		}
	}
	if _, failed := wire.FindNotify(ps, wire.AuthenticationFailed); failed && ses == s.cur {
		s.die(&ike.NegotiationError{
			Step: wire.IKEAuth.String(), Peer: s.remote.String(), Identity: s.peer.RemoteID,
			Err:  fmt.Errorf("%w: this host said that it is %s", ike.ErrRefusedByPeer, s.peer.LocalID),
			Hint: s.hintRefused(), Side: ike.PeerSide,
		})
	}
	return nil
}

// answerDeleteIKE is the responder's side of the deletion of an IKE SA: the one
// in use, one that was replaced, or one that has lost against another. If the
// peer has made one in the place of the one that it deletes while we were about
// to do so, it has not noticed, and ours is forgotten (RFC 7296 section 2.8.2).
func (s *SA) answerDeleteIKE(q *query) error {
	if err := s.respond(q, nil); err != nil {
		return err
	}
	switch ses := q.ses; {
	case ses == s.cur && s.rival != nil:
		s.adopt(s.rival)
		s.drop(ses)
	case ses == s.cur:
		s.die(fmt.Errorf("%w by the peer", ike.ErrClosed))
	case ses == s.rival:
		s.rival = nil
		s.drop(ses)
	default:
		s.drop(ses)
	}
	return nil
}
