package ikev2

import (
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// liveness asks the peer whether it lives, with an empty INFORMATIONAL
// (RFC 7296 section 2.4). If no answer comes the SA ends, as with every
// request.
type liveness struct {
	patience ike.Schedule
	idle     bool // it is needed only if the peer goes on being silent
}

func (t *liveness) schedule() ike.Schedule { return t.patience }

func (t *liveness) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	needed := !t.idle || s.due(s.heard.Add(s.cfg.Policy.Liveness))
	return wire.Informational, nil, needed && s.state == Established, nil
}

func (*liveness) end(*SA, *session, []wire.Payload) {}

// questioning reports whether the peer is being asked whether it lives.
func (s *SA) questioning(quick bool) bool {
	return among(s.tasks(), func(t task) bool {
		x, ok := t.(*liveness)
		return ok && !(quick && x.idle)
	})
}

// hintEvery is the least time between two questions that hints make us ask.
const hintEvery = 10 * time.Second

// hint follows up a sign, which anybody could have given, that the peer does
// not know the SA. It never ends an SA by itself; only silence does, and
// sooner.
func (s *SA) hint() {
	switch {
	case s.state != Established || !s.probed.IsZero() && s.now.Sub(s.probed) < hintEvery:
	case !s.cur.ours.idle():
		s.probed = s.now
		s.cur.ours.hurry(s.now)
	default:
		s.probed = s.now
		s.enqueueNext(&liveness{patience: ike.Quick})
	}
}

// unheard is the schedule of the question to a peer that packets are sent to
// and none come from. It gives up after 7 s.
var unheard = ike.Schedule{First: 500 * time.Millisecond, Factor: 1.6, Most: 2500 * time.Millisecond, Sends: 5}

// lookEvery is how often the packets of the Child SAs are looked at when none
// leave; when some do it is twice as often. With the default of 30 s it is
// every 5 s. What is sent into silence for half of that makes us ask, so that a
// dead peer is known as such 10 to 17 s after the first packet that it did not
// answer.
func (s *SA) lookEvery() time.Duration { return max(s.cfg.Policy.Liveness/6, 2*time.Second) }

// lookAt is when the Child SAs' packets are to be looked at, or zero for never.
func (s *SA) lookAt() time.Time {
	switch {
	case s.cfg.Traffic == nil || len(s.children) == 0:
		return time.Time{}
	case s.sending:
		return s.looked.Add(s.lookEvery() / 2)
	}
	return s.looked.Add(s.lookEvery())
}

// look notes whether packets came, which shows that the peer lives, or only
// left, and asks a peer that should have answered them.
func (s *SA) look() {
	s.looked = s.now
	came, left := false, false
	for _, c := range s.children {
		if c.removed {
			continue
		}
		received, sent := s.cfg.Traffic(c.in)
		came = came || received > c.received
		left = left || sent > c.sent
		c.received, c.sent = received, sent
	}
	s.sending = left
	if came {
		s.heard = s.now
	}
	if came || s.heard.After(s.unheard) {
		s.unheard = time.Time{}
	}
	if left && !came && s.unheard.IsZero() {
		s.unheard = s.now
	}
	if s.unheard.IsZero() || !s.due(s.unheard.Add(s.lookEvery()/2)) || s.questioning(true) {
		return
	}
	if s.cur.ours.full() || s.cur.ours.any(alone) {
		s.cur.ours.hurry(s.now)
		return
	}
	s.enqueueNext(&liveness{patience: unheard})
}
