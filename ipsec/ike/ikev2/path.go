package ikev2

import (
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// path is where our messages leave from and go to.
type path struct{ local, remote netip.AddrPort }

// trial is a path by which an authentic message of the peer came, and which is
// to be proved before anything else takes it: a request of ours goes there, and
// its answer has to come from there. Else whoever catches one message of the
// peer and sends it on from elsewhere could lead the SA astray.
type trial struct {
	path path
	by   *request // nil until it is on its way
	ses  *session // on which it is
}

// lost reports whether the request went with its session, which was replaced
// and deleted.
func (t trial) lost() bool { return t.by != nil && !slices.Contains(t.ses.ours.pending, t.by) }

// trialSends is how often the request of a trial goes to the new place, before
// it goes to the old one for the rest of its schedule.
const trialSends = 3

// authentic notes a sign of life, and where it came from: a peer behind a NAT
// may have got another address or port (RFC 7296 section 2.23). Until the peer
// is authenticated it is the initiator's move to port 4500.
func (s *SA) authentic(m *message) {
	s.heard = s.now
	if s.trial.lost() {
		s.trial = trial{}
	}
	at := path{m.local, m.remote}
	switch samePeer := at.remote.Addr() == s.remote.Addr() && at.local.Addr() == s.local.Addr(); {
	case at == path{s.local, s.remote}:
	case s.state == InitAnswered && !m.header.Response && samePeer:
		s.local, s.remote = at.local, at.remote
	default:
		s.seenAt(at)
	}
}

// moved begins a trial of where an authentic packet of a Child SA came from:
// the peer's NAT has given it another port, and it has nothing to say by IKE.
func (s *SA) moved(ev ike.Moved) {
	if s.trial.lost() {
		s.trial = trial{}
	}
	if s.udp {
		s.seenAt(path{ev.Local, ev.Remote})
	}
}

// seenAt begins a trial of where the peer seems to be, unless it is there, or
// could not have moved, or another place is being tried.
func (s *SA) seenAt(at path) {
	if s.state == Established && s.peer.NATRemote && s.trial.by == nil && at != (path{s.local, s.remote}) {
		s.try(at)
	}
}

// try begins a trial: with the oldest request under way, which has lost its way
// if the peer did move, or else with a question whether the peer lives.
func (s *SA) try(at path) {
	if s.cur.ours.idle() {
		s.trial.path = at
		asked := func(q queued) bool { _, is := q.task.(*question); return is }
		if !slices.ContainsFunc(s.queue, asked) {
			s.enqueueNext(&question{})
		}
		return
	}
	p := s.cur.ours.pending[0]
	if p.tried {
		return
	}
	s.trial = trial{path: at, by: p, ses: s.cur}
	p.sends, p.tried = 1, true
	wait, _ := p.schedule.Wait(1)
	p.at = s.now.Add(wait)
	s.transmitRequest(p, true)
}

// proved ends a trial with the answer to its request.
func (s *SA) proved(p *request, m *message) {
	if p != s.trial.by {
		return
	}
	if at := (path{m.local, m.remote}); at == s.trial.path && s.state == Established {
		s.local, s.remote = at.local, at.remote
		s.emit(ike.Changed{Peer: s.info()})
		s.leaveBehind()
	}
	s.trial = trial{}
}

// leaveBehind ends an IKE SA with Child SAs that could not follow the peer to
// another address: those of transport mode are for packets between two
// addresses. The peer gets others, by the rules of where it is now.
func (s *SA) leaveBehind() {
	transport := func(c *child) bool { return c.policy.Mode == ipsec.Transport }
	if s.local.Addr() == s.ends.Local && s.remote.Addr() == s.ends.Remote || s.find(transport) == nil {
		return
	}
	s.close(ike.Close{Reason: "the peer has another address now, for which its Child SAs in transport mode are not"})
}

// question is a liveness check that makes a trial.
type question struct{}

func (*question) schedule() ike.Schedule            { return ike.Patient }
func (*question) end(*SA, *session, []wire.Payload) {}

func (*question) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	return wire.Informational, nil, s.state == Established && s.trial.path != (path{}), nil
}
