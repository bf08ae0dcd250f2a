package ikev2

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// age rekeys or ends a Child SA whose time has come.
func (s *SA) age(c *child) {
	switch {
	case s.due(c.end) && c.rival != nil:
		s.deleteChild(c.in, "the peer has replaced it")
	case s.due(c.end):
		s.deleteChild(c.in, "its lifetime is over")
	case s.due(c.rekey):
		s.rekeyChild(c)
	}
}

// rekeyChild begins to replace a Child SA, unless we or the peer have done so,
// or it came to nothing a moment ago.
func (s *SA) rekeyChild(c *child) {
	if s.state != Established || s.now.Before(c.again) {
		return
	}
	c.rekey = time.Time{}
	if s.replaceable(c) && !s.replacing(c) {
		s.enqueue(&createChild{acquire: c.wanted(), old: c})
	}
}

// wanted is what to ask for to get another Child SA like this one.
func (c *child) wanted() ike.Acquire {
	return ike.Acquire{Child: c.policy, Local: c.local[0], Remote: c.remote[0]}
}

// replaceable reports whether a Child SA is there, and is to stay unless it is
// replaced.
func (s *SA) replaceable(c *child) bool {
	return !c.leaving && slices.Contains(s.children, c) && !s.succeeded(c)
}

// succeeded reports whether the peer has replaced a Child SA.
func (s *SA) succeeded(c *child) bool { return c.rival != nil && slices.Contains(s.children, c.rival) }

// replacing reports whether we have asked for a replacement of a Child SA, or
// are about to.
func (s *SA) replacing(c *child) bool {
	return among(s.tasks(), func(t task) bool {
		x, ok := t.(*createChild)
		return ok && x.old == c
	})
}

// supersededTime is how long the peer may take to delete a Child SA that it
// has replaced.
const supersededTime = time.Minute

// superseded notes that the peer has put another Child SA in the place of one.
func (c *child) superseded(now time.Time, by *child) {
	c.rival, c.rekey = by, time.Time{}
	if end := now.Add(supersededTime); c.end.IsZero() || end.Before(c.end) {
		c.end = end
	}
}

// rekeyAgain is how long after a failure rekeying is tried once more.
const rekeyAgain = 30 * time.Second

// endRekey removes what our rekeying made redundant. If the peer rekeyed the
// same SA at the same time, the SA that came of the lowest nonce is closed by
// whom it was begun, and the old one by the other (RFC 7296 section 2.8.1).
// There is no old one if the Child SA was not to replace any. One that cannot
// be replaced before it ends takes the IKE SA with it (section 2.8): another is
// made from scratch.
func (s *SA) endRekey(old, fresh *child) {
	switch {
	case old == nil:
	case fresh != nil && s.redundant(fresh, old):
		s.retireChild(fresh)
	case s.vanished(old):
	case fresh != nil:
		s.retireChild(old)
	case !s.succeeded(old):
		if s.lastTry(old.end) {
			s.renewAuth("a Child SA could not be rekeyed", old.end)
			return
		}
		old.again = s.now.Add(s.jitter(rekeyAgain))
		old.rekey = old.again
	}
}

// lastTry reports whether there is no time for another one before what could
// not be rekeyed ends: what remains is for its replacement.
func (s *SA) lastTry(end time.Time) bool {
	return !end.IsZero() && !s.now.Add(2*rekeyAgain).Before(end)
}

// vanished reports whether the peer has deleted a Child SA, or we have, or are
// about to.
func (s *SA) vanished(c *child) bool { return c.leaving || !slices.Contains(s.children, c) }

// redundant reports whether a Child SA that we have put in the place of another
// is to go: the peer has done so too, or the other one has ended meanwhile and
// what needed it has got yet another.
func (s *SA) redundant(fresh, old *child) bool {
	if s.succeeded(old) && slices.Compare(fresh.lowest, old.rival.lowest) < 0 {
		return true
	}
	return s.vanished(old) && slices.ContainsFunc(s.children, func(c *child) bool {
		return c != fresh && c != old.rival && !c.leaving && c.covers(fresh)
	})
}

// covers reports whether a Child SA is of the same rule as another, for all
// that the other is for.
func (c *child) covers(o *child) bool {
	return c.policy.Name == o.policy.Name && c.protocol == o.protocol && within(o.local, c.local) && within(o.remote, c.remote)
}

// supersede deletes the Child SAs that a fresh one is in the place of, without
// having been made by rekeying them: those that it covers.
func (s *SA) supersede(fresh *child) {
	for _, c := range s.children {
		if c != fresh && !c.leaving && fresh.covers(c) {
			s.retireChild(c)
		}
	}
}

// retireChild deletes a Child SA that has another in its place. It stays in the
// data path until the peer has heard of it.
func (s *SA) retireChild(c *child) {
	c.leave()
	s.enqueue(&deleteTask{protocol: c.protocol, in: c.in})
}

// loses reports whether an agreement of ours is the redundant one of two that
// replace the same Child SA.
func (s *SA) loses(a *agreement, old *child) bool {
	if s.succeeded(old) && slices.Compare(a.lowest(), old.rival.lowest) < 0 {
		return true
	}
	return slices.ContainsFunc(s.unfinished, func(u *unfinished) bool {
		return u.replaced == old && slices.Compare(a.lowest(), u.lowest()) < 0
	})
}

// followingUp reports whether our rekeying of a Child SA has got beyond
// CREATE_CHILD_SA.
func (s *SA) followingUp(c *child) bool {
	return among(s.tasks(), func(t task) bool {
		x, ok := t.(*createChild)
		return ok && x.old == c && goesOn(x)
	})
}

// expecting reports whether a Child SA that we have asked for may stand at the
// peer already, while its answer is on the way: the peer then knows an SPI that
// we have not heard of.
func (s *SA) expecting() bool {
	return s.cur.ours.any(func(t task) bool { _, is := t.(*createChild); return is })
}

// answerRekey is the responder's side.
func (s *SA) answerRekey(n *wire.Notify, ps []wire.Payload, ni, nr []byte) ([]wire.Payload, error) {
	var c *child
	if len(n.SPI) == 4 {
		c = s.find(byOut(n.Protocol, ipsec.SPI(binary.BigEndian.Uint32(n.SPI))))
	}
	switch {
	case c == nil && s.expecting():
		return []wire.Payload{&wire.Notify{Kind: wire.TemporaryFailure}}, nil
	case c == nil:
		return []wire.Payload{&wire.Notify{Kind: wire.ChildSANotFound, Protocol: n.Protocol, SPI: n.SPI}}, nil
	case c.leaving || s.followingUp(c):
		return []wire.Payload{&wire.Notify{Kind: wire.TemporaryFailure}}, nil
	}
	// One that the peer began before has come to nothing.
	s.abandon(func(u *unfinished) bool { return u.replaced == c })
	return s.answerChild(ps, ni, nr, false, c)
}
