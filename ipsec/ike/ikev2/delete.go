package ikev2

import (
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// deleteTask tells the peer that a Child SA is gone (RFC 7296 section 1.4.1).
// One that was replaced stays installed until the peer has heard of it, for
// what is still on its way.
type deleteTask struct{ in ipsec.SPI }

func (*deleteTask) schedule() ike.Schedule { return ike.Patient }

func (t *deleteTask) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	if s.state != Established {
		return 0, nil, false, nil
	}
	return wire.Informational, []wire.Payload{&wire.Delete{Protocol: ipsec.ProtoESP, SPIs: []ipsec.SPI{t.in}}}, true, nil
}

func (t *deleteTask) end(s *SA, _ *session, _ []wire.Payload) {
	if c := s.find(byIn(t.in)); c != nil {
		s.remove(c, "replaced")
	}
}

// deleteChild removes a Child SA at once and then tells the peer.
func (s *SA) deleteChild(in ipsec.SPI, reason string) {
	c := s.find(byIn(in))
	if c == nil {
		return
	}
	s.remove(c, reason)
	s.enqueue(&deleteTask{in: in})
}

// deleteIKE tells the peer that the IKE SA is gone, and with it all of its
// Child SAs.
type deleteIKE struct{ reason string }

func (*deleteIKE) schedule() ike.Schedule { return ike.Quick }

func (t *deleteIKE) begin(*SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	return wire.Informational, []wire.Payload{&wire.Delete{Protocol: ipsec.ProtoIKE}}, true, nil
}

func (t *deleteIKE) end(s *SA, ses *session, _ []wire.Payload) {
	if ses == s.old {
		s.dropOld()
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
	for len(s.children) > 0 {
		s.remove(s.children[0], c.Reason)
	}
	s.transition(Closing)
	s.queue = nil
	s.enqueue(&deleteIKE{reason: c.Reason})
	if p := s.cur.pending; p != nil {
		p.hurry(s.now)
	}
}

// answerInformational is the responder's side of INFORMATIONAL: deletions,
// and the question whether we live, which is empty (RFC 7296 section 1.4).
func (s *SA) answerInformational(ses *session, d ike.Datagram, ps []wire.Payload) error {
	_, failed := wire.FindNotify(ps, wire.AuthenticationFailed)
	var gone []ipsec.SPI
	whole := false
	for _, p := range ps {
		del, ok := p.(*wire.Delete)
		switch {
		case !ok:
		case del.Protocol == ipsec.ProtoIKE:
			whole = true
		case del.Protocol == ipsec.ProtoESP && ses == s.cur:
			for _, out := range del.SPIs {
				if c := s.find(byOut(out)); c != nil {
					gone = append(gone, c.in)
					s.remove(c, "deleted by the peer")
				}
			}
		}
	}
	var answer []wire.Payload
	if len(gone) > 0 && !whole {
		answer = append(answer, &wire.Delete{Protocol: ipsec.ProtoESP, SPIs: gone})
	}
	if err := s.respond(ses, d, wire.Informational, answer); err != nil {
		return err
	}
	switch {
	case whole && ses == s.old:
		s.dropOld()
	case whole:
		s.die(fmt.Errorf("%w by the peer", ike.ErrClosed))
	case failed && ses == s.cur:
		s.die(&ike.NegotiationError{
			Step: wire.IKEAuth.String(), Peer: s.remote.String(), Err: fmt.Errorf("%w: the peer does not believe %s", ike.ErrAuthentication, s.peer.LocalID),
			Hint: "make the peer trust our key or certificate",
		})
	}
	return nil
}
