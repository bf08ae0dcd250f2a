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
	if c.leaving || s.replacing(c) {
		return
	}
	s.enqueue(&createChild{acquire: ike.Acquire{Child: c.policy}, old: c})
}

// replacing reports whether a Child SA is on its way out: the peer has
// replaced it, or we are about to ask for that.
func (s *SA) replacing(c *child) bool {
	if c.rival != nil && slices.Contains(s.children, c.rival) {
		return true
	}
	ours := func(t task) bool {
		x, ok := t.(*createChild)
		return ok && x.old == c
	}
	return s.cur.pending != nil && ours(s.cur.pending.task) || slices.ContainsFunc(s.queue, func(q queued) bool { return ours(q.task) })
}

// rekeyAgain is how long after a failure rekeying is tried once more.
const rekeyAgain = 30 * time.Second

// endRekey removes what our rekeying made redundant. If the peer rekeyed the
// same SA at the same time, the SA that came of the lowest nonce is closed by
// whom it was begun, and the old one by the other (RFC 7296 section 2.8.1).
func (s *SA) endRekey(old, fresh *child) {
	if fresh == nil {
		if slices.Contains(s.children, old) && !old.leaving {
			old.again = s.now.Add(rekeyAgain)
			old.rekey = old.again
		}
		return
	}
	loser := old
	if r := old.rival; r != nil && slices.Contains(s.children, r) && slices.Compare(fresh.lowest, r.lowest) < 0 {
		loser = fresh
	}
	loser.leaving = true
	s.enqueue(&deleteTask{in: loser.in})
}

// answerRekey is the responder's side.
func (s *SA) answerRekey(n *wire.Notify, ps []wire.Payload, ni, nr []byte) ([]wire.Payload, error) {
	var c *child
	if n.Protocol == ipsec.ProtoESP && len(n.SPI) == 4 {
		c = s.find(byOut(ipsec.SPI(binary.BigEndian.Uint32(n.SPI))))
	}
	switch {
	case c == nil:
		return []wire.Payload{&wire.Notify{Kind: wire.ChildSANotFound, Protocol: n.Protocol, SPI: n.SPI}}, nil
	case c.leaving:
		return []wire.Payload{&wire.Notify{Kind: wire.TemporaryFailure}}, nil
	}
	return s.answerChild(ps, ni, nr, false, c)
}
