package ikev2

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// task is an exchange that we begin. As many are under way as the peer's
// window takes.
type task interface {
	// begin returns the request. A task that has become needless returns ok
	// as false.
	begin(s *SA) (x wire.ExchangeType, ps []wire.Payload, ok bool, err error)
	// end takes the peer's answer, which is authentic.
	end(s *SA, ses *session, ps []wire.Payload)
	schedule() ike.Schedule
}

// alone reports whether a task waits for all others, and all others for it:
// nothing is to be begun on an IKE SA that is being replaced or deleted
// (RFC 7296 section 2.25).
func alone(t task) bool {
	switch t.(type) {
	case *rekeyIKE, *deleteIKE:
		return true
	}
	return false
}

// queued is a task that is to begin at a time, or as soon as it can.
type queued struct {
	task task
	at   time.Time
}

func (s *SA) enqueue(t task) { s.queue = append(s.queue, queued{task: t, at: s.now}) }

// enqueueNext has a task begin before all others, as what goes on with an
// exchange that another task waits for.
func (s *SA) enqueueNext(t task) {
	s.queue = slices.Insert(s.queue, 0, queued{task: t, at: s.now})
}

// retry is how long an exchange waits that the peer had no time for, which
// doubles with each time (RFC 7296 section 2.25). It is not the same for both
// ends, lest they meet again.
func (s *SA) retry(times int) time.Duration {
	d := min(500*time.Millisecond<<min(times-1, 10), 16*time.Second)
	if b, err := s.random(1); err == nil {
		d += d * time.Duration(b[0]) / 128
	}
	return d
}

func (s *SA) enqueueAfter(t task, times int) {
	s.queue = append(s.queue, queued{task: t, at: s.now.Add(s.retry(times))})
}

func (s *SA) enqueueLater(t task) { s.enqueueAfter(t, 1) }

// busyTime is for how long a peer may have no time for what we ask before it
// must be out of step with us.
const busyTime = 3 * time.Minute

// busy is how often, and since when, the peer has had no time for one task on
// the same IKE SA.
type busy struct {
	on    *session
	times int
	since time.Time
}

// askAgain tries what the peer had no time for once more, later each time. If
// it never has any, the IKE SA is closed (RFC 7296 section 2.25).
func (s *SA) askAgain(t task, b *busy) {
	if b.on != s.cur {
		*b = busy{on: s.cur, since: s.now}
	}
	b.times++
	s.enqueueAfter(t, b.times)
	if s.now.Sub(b.since) > busyTime {
		s.close(ike.Close{Reason: "the peer has had no time for minutes: it is out of step"})
	}
}

// tasks are all of ours: those whose requests wait for an answer, and the queue.
func (s *SA) tasks() iter.Seq[task] {
	return func(yield func(task) bool) {
		if s.cur != nil {
			for _, p := range s.cur.ours.pending {
				if !yield(p.task) {
					return
				}
			}
		}
		for _, q := range s.queue {
			if !yield(q.task) {
				return
			}
		}
	}
}

// underWay are those of our tasks that the peer has been asked for: their
// requests wait for an answer, or they go on with IKE_FOLLOWUP_KE.
func (s *SA) underWay() iter.Seq[task] {
	return func(yield func(task) bool) {
		for _, p := range s.cur.ours.pending {
			if !yield(p.task) {
				return
			}
		}
		for _, q := range s.queue {
			if goesOn(q.task) && !yield(q.task) {
				return
			}
		}
	}
}

// goesOn reports whether a task has got beyond CREATE_CHILD_SA, and has
// additional key exchanges to come.
func goesOn(t task) bool {
	switch t := t.(type) {
	case *createChild:
		return t.agreed != nil
	case *rekeyIKE:
		return t.agreed != nil
	}
	return false
}

// among reports whether any of some tasks fits.
func among(tasks iter.Seq[task], fits func(task) bool) bool {
	for t := range tasks {
		if fits(t) {
			return true
		}
	}
	return false
}

// clearQueue gives up what has not begun.
func (s *SA) clearQueue() {
	for _, q := range s.queue {
		wipeTask(q.task)
	}
	s.queue = nil
}

// wipeTask wipes the secrets of a task that is given up.
func wipeTask(t task) {
	if t, ok := t.(interface{ wipe() }); ok {
		t.wipe()
	}
}

// creates reports whether a task is about to begin with CREATE_CHILD_SA.
func creates(t task) bool {
	switch t.(type) {
	case *createChild, *rekeyIKE:
		return !goesOn(t)
	}
	return false
}

// ready returns the task of the queue that begins first, and when: -1 if none
// can before an answer comes. Those whose time has come begin in their order.
// While the peer is about to replace the IKE SA nothing is created on it
// (RFC 7296 section 1.3.2).
func (s *SA) ready() (first int) {
	first = -1
	if s.state != Established && s.state != Closing {
		return first
	}
	w := &s.cur.ours
	if w.full() || w.any(alone) {
		return first
	}
	replaced := s.theirRekeying(s.cur) != nil
	for i, q := range s.queue {
		may, due := w.idle() || !alone(q.task), !q.at.After(s.now)
		switch {
		case replaced && creates(q.task):
		case due && may:
			return i
		case due:
			return -1 // nothing passes it
		case may && (first < 0 || q.at.Before(s.queue[first].at)):
			first = i
		}
	}
	return first
}

// pump begins tasks for as long as they may.
func (s *SA) pump() {
	for {
		i := s.ready()
		if i < 0 || s.queue[i].at.After(s.now) {
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
