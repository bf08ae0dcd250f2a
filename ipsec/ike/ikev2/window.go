package ikev2

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

const (
	maxWindow = 64 // the largest window that is told or believed
	maxOut    = 16 // how many requests we have under way at most
)

// outWindow is our own requests of a session that are not answered yet
// (RFC 7296 section 2.3).
type outWindow struct {
	next    uint32     // the number of our next request
	size    int        // how many the peer takes at a time; 0 for 1
	pending []*request // in the order of their numbers
}

// request is a request of ours that waits for its answer.
type request struct {
	outgoing
	task     task
	schedule ike.Schedule
	sends    int
	at       time.Time // to be sent again, or given up
	hurried  bool
	tried    bool // a trial of a path was made with it
	small    bool // it was cut anew, into smaller datagrams
}

// idle reports whether no request of ours is under way.
func (w *outWindow) idle() bool { return len(w.pending) == 0 }

// full reports whether our next request has to wait: the one a window's size
// before it, and all before that, must have been answered.
func (w *outWindow) full() bool {
	return !w.idle() && w.next-w.pending[0].header.MessageID >= uint32(min(max(w.size, 1), maxOut))
}

// any reports whether a task that fits is under way.
func (w *outWindow) any(fits func(task) bool) bool {
	return slices.ContainsFunc(w.pending, func(p *request) bool { return fits(p.task) })
}

// find returns the request that a response answers, or nil.
func (w *outWindow) find(h wire.Header) *request {
	for _, p := range w.pending {
		if p.header.MessageID == h.MessageID && p.header.Exchange == h.Exchange {
			return p
		}
	}
	return nil
}

// done forgets a request that was answered.
func (w *outWindow) done(p *request) {
	w.pending = slices.DeleteFunc(w.pending, func(q *request) bool { return q == p })
}

// hurry shortens what is left of the schedules, once each.
func (w *outWindow) hurry(now time.Time) {
	for _, p := range w.pending {
		if p.hurried {
			continue
		}
		p.hurried = true
		p.schedule, p.sends = ike.Quick, 1
		if soon := now.Add(ike.Quick.First); p.at.After(soon) {
			p.at = soon
		}
	}
}

// inWindow is the peer's requests of a session: those that came, with our
// answers for as long as the peer may ask for them again.
type inWindow struct {
	next    uint32   // the lowest number that has not been answered
	size    int      // how many the peer was told that it may have under way; 0 for 1
	queries []*query // in the order of their numbers
}

// find returns the request with a number, if it came before.
func (w *inWindow) find(id uint32) *query {
	for _, q := range w.queries {
		if q.header.MessageID == id {
			return q
		}
	}
	return nil
}

// fits reports whether a request with this number may come now.
func (w *inWindow) fits(id uint32) bool { return id-w.next < uint32(max(w.size, 1)) }

// take notes a request that came, and forgets those that the peer must have
// had our answer to before it could send this one.
func (w *inWindow) take(q *query) {
	i, _ := slices.BinarySearchFunc(w.queries, q, func(a, b *query) int {
		return int(int32(a.header.MessageID - b.header.MessageID))
	})
	for _, old := range w.queries {
		if old.answer != nil {
			old.first, old.plain, old.payloads = 0, nil, nil // only the answer is of use
		}
	}
	w.queries = slices.Insert(w.queries, i, q)
	newest := w.queries[len(w.queries)-1].header.MessageID
	w.queries = slices.DeleteFunc(w.queries, func(q *query) bool {
		return q.answer != nil && newest-q.header.MessageID >= uint32(max(w.size, 1))
	})
}

// forget has a request come again as if it had not come before.
func (w *inWindow) forget(q *query) {
	w.queries = slices.DeleteFunc(w.queries, func(x *query) bool { return x == q })
}

// answered moves the window past what has been answered.
func (w *inWindow) answered() {
	for _, q := range w.queries {
		if q.header.MessageID == w.next && q.answer != nil {
			w.next++
		}
	}
}

// announce tells the peer our window with the first message of a session that
// may bear it: the window of an IKE SA that was rekeyed is as it is at the
// beginning of any.
func (s *SA) announce(ses *session, x wire.ExchangeType, ps []wire.Payload) []wire.Payload {
	if x == wire.CreateChildSA && ses.theirs.size == 0 {
		ps = slices.Concat(ps, s.windowNotify())
	}
	if n, ok := windowOf(ps); ok {
		ses.theirs.size = n
	}
	return ps
}

// windowOf returns the size of a window that a message tells of.
func windowOf(ps []wire.Payload) (int, bool) {
	n, ok := wire.FindNotify(ps, wire.SetWindowSize)
	if !ok || len(n.Data) != 4 {
		return 0, false
	}
	return int(min(max(binary.BigEndian.Uint32(n.Data), 1), maxWindow)), true
}
