package ike

import (
	"fmt"
	"time"
)

// renewal is that of an IKE SA whose peers have to authenticate anew: another
// one is made with the same Child SAs, and the first is closed when they stand
// (RFC 7296 section 2.8.3).
type renewal struct {
	Renew
	next    *entry    // that takes over; nil while none is on its way
	again   time.Time // when the next attempt begins; zero for none
	backoff time.Duration
	over    time.Time // when this one is closed, since the next has taken over; zero before
}

// lingering is for how long an IKE SA stays when another has taken over: what was
// sent under its Child SAs may come later than the word that they are gone.
const lingering = 500 * time.Millisecond

// renew begins to replace an IKE SA.
func (m *Manager) renew(e *entry, x Renew) {
	if e.renewal != nil || e.closing {
		return
	}
	e.renewal = &renewal{Renew: x}
	if len(x.Children) == 0 {
		return // it ends at At, and the next packet makes another
	}
	m.cfg.Log.Info("IKE SA to be renewed", "peer", e.remote, "reason", x.Reason, "before", x.At)
	m.replace(e)
}

// deadline returns when it is time to go on with a renewal; ok is false for never.
func (r *renewal) deadline() (at time.Time, ok bool) {
	switch {
	case r == nil:
	case !r.over.IsZero():
		return r.over, true
	case !r.again.IsZero():
		return r.again, true
	}
	return time.Time{}, false
}

// replace makes the IKE SA that is to take over from another.
func (m *Manager) replace(e *entry) {
	r := e.renewal
	r.again = time.Time{}
	policy, ok := m.cfg.Policies.Peer(e.local, e.remote)
	if !ok || e.closing || m.ending {
		return
	}
	if m.begun >= m.cfg.Begun {
		m.replaceLater(e, fmt.Errorf("%w: too many negotiations", ErrBusy))
		return
	}
	n := m.newEntry(e.local, e.remote, policy)
	m.count(n, 1)
	n.replaces, n.awaited, r.next = e, len(r.Children), n
	n.machine = m.cfg.Initiator(m.machineConfig(n, e.info.Local, e.info.Remote, policy))
	for _, a := range r.Children {
		if _, alive := m.entries[n]; alive && !n.closing {
			m.feed(n, a)
		}
	}
}

// replaceLater tries again after a while, unless it is too late then: the
// machine closes itself at At.
func (m *Manager) replaceLater(e *entry, why error) {
	r := e.renewal
	r.next = nil
	r.backoff = min(max(2*r.backoff, minBackoff), maxBackoff)
	r.again = m.cfg.Now().Add(r.backoff)
	if !r.again.Before(r.At) {
		r.again = time.Time{}
	}
	m.cfg.Log.Warn("IKE SA not renewed", "peer", e.remote, "error", why, "again", r.again, "before", r.At)
	m.clock.set(e)
}

// stands notes that a Child SA of an IKE SA that takes over stands, or never
// will, and closes the one before when it was the last.
func (m *Manager) stands(n *entry) {
	if n.awaited > 0 {
		n.awaited--
	}
	m.takeOver(n)
}

// takeOver closes the IKE SA before, once there is nothing to wait for.
func (m *Manager) takeOver(n *entry) {
	e := n.replaces
	if e == nil || n.awaited > 0 || !n.established || n.closing {
		return
	}
	n.replaces = nil
	if _, alive := m.entries[e]; alive && !e.closing {
		if e.yields == n {
			m.close(e, Close{Reason: "the one that the peer began at the same time stays", Drain: true})
			return
		}
		e.full = true
		e.renewal.over = m.cfg.Now().Add(lingering)
		m.clock.set(e)
	}
}

// goOn does what it is time for with an IKE SA that is renewed.
func (m *Manager) goOn(e *entry, now time.Time) {
	switch r := e.renewal; {
	case r == nil:
	case !r.over.IsZero() && !r.over.After(now) && !e.closing:
		m.close(e, Close{Reason: "the peers have authenticated anew", Drain: true})
	case !r.again.IsZero() && !r.again.After(now):
		m.replace(e)
	}
}

// abandonReplacement ends a renewal's attempt.
func (m *Manager) abandonReplacement(n *entry, why error) {
	e := n.replaces
	n.replaces = nil
	if e == nil || e.renewal == nil || e.renewal.next != n {
		return
	}
	if _, alive := m.entries[e]; alive && !e.closing {
		m.replaceLater(e, why)
	}
}
