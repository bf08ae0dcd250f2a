package ike

import (
	"slices"
	"time"
)

// Two hosts may begin an IKE SA with each other at the same moment, and then
// have two. Both ends know which one stays: the one whose first message bore
// the lower SPI of its initiator. Whoever began the other asks for its Child
// SAs once more on the one that stays, and when they stand closes the other,
// whose Child SAs serve until then (make before break). Neither end asks for
// anything new on it meanwhile.

// twinTime is how long after one of them has come up the other may begin, in
// the eyes of one host: the peer may have begun before, and its message have
// been lost.
const twinTime = 3 * time.Second

// twins reports whether two IKE SAs are there because both hosts began at once.
func twins(e, o *entry) bool {
	usable := func(x *entry) bool {
		return x.established && !x.closing && !x.full && x.yields == nil && x.renewal == nil && x.policy.MaxChildren == 0
	}
	if e == o || e.weBegan() == o.weBegan() || !usable(e) || !usable(o) {
		return false
	}
	p, q := e.info, o.info
	return p.RemoteID == q.RemoteID && p.LocalID == q.LocalID && p.Auth == q.Auth &&
		e.began.Before(q.Since.Add(twinTime)) && o.began.Before(p.Since.Add(twinTime))
}

func (e *entry) weBegan() bool { return e.init == (initKey{}) }

// lookForTwin looks, as soon as all is done that the machine wants now, whether
// an IKE SA that has just come up has a twin.
func (m *Manager) lookForTwin(e *entry) {
	m.inbox.putCall(func() {
		if _, alive := m.entries[e]; !alive {
			return
		}
		for _, o := range slices.Clone(m.byPeer[pair{e.local, e.remote}]) {
			if !twins(e, o) {
				continue
			}
			stays, goes := e, o
			if o.info.SPIi < e.info.SPIi {
				stays, goes = o, e
			}
			m.merge(stays, goes)
			return
		}
	})
}

// wanter is a machine that can say what to ask for to get its Child SAs once
// more.
type wanter interface{ Wanted() []Acquire }

// merge has one of two twins take over what the other has.
func (m *Manager) merge(stays, goes *entry) {
	m.cfg.Log.Info("both hosts have begun an IKE SA, one of them stays", "peer", stays.remote, "stays", stays.info.SPIi, "goes", goes.info.SPIi)
	goes.yields = stays
	w, ok := goes.machine.(wanter)
	if !goes.weBegan() || !ok || stays.replaces != nil {
		return // the peer does it
	}
	wanted := w.Wanted()
	stays.replaces, stays.awaited = goes, len(wanted)+len(goes.flows)
	for _, a := range wanted {
		a.Sole = true // the peer has made its own for the same
		m.feed(stays, a)
	}
	m.moveFlows(goes)
	m.takeOver(stays)
}

// yielding reports whether another IKE SA is to be used in the place of one.
func (m *Manager) yielding(e *entry) bool {
	if e.yields == nil || e.yields.closing {
		return false
	}
	_, alive := m.entries[e.yields]
	return alive
}

// onStandby reports whether the peer is taking over what it has on a twin that
// it began: it may not have a Child SA yet that it has just asked for, and has
// the one before.
func (m *Manager) onStandby(e *entry) bool {
	return slices.ContainsFunc(m.byPeer[pair{e.local, e.remote}], func(o *entry) bool {
		return o.yields == e && !o.weBegan() && !o.closing
	})
}
