package ikev2

import (
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// liveness asks the peer whether it lives, with an empty INFORMATIONAL
// (RFC 7296 section 2.4). If no answer comes the SA ends, as with every
// request.
type liveness struct{ quick bool }

func (t *liveness) schedule() ike.Schedule {
	if t.quick {
		return ike.Quick
	}
	return ike.Patient
}

func (t *liveness) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	needed := t.quick || s.due(s.heard.Add(s.cfg.Policy.Liveness))
	return wire.Informational, nil, needed && s.state == Established, nil
}

func (*liveness) end(*SA, *session, []wire.Payload) {}

// hintEvery is the least time between two questions that hints make us ask.
const hintEvery = 10 * time.Second

// hint follows up a sign, which anybody could have given, that the peer does
// not know the SA. It never ends an SA by itself; only silence does, and
// sooner.
func (s *SA) hint() {
	switch {
	case s.state == Closing:
		s.finish("closed; the peer does not know it any more")
	case s.state != Established || !s.probed.IsZero() && s.now.Sub(s.probed) < hintEvery:
	case s.cur.pending != nil:
		s.probed = s.now
		s.cur.pending.hurry(s.now)
	default:
		s.probed = s.now
		s.queue = append([]queued{{task: &liveness{quick: true}, at: s.now}}, s.queue...)
	}
}
