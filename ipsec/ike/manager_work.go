package ike

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

// Bounds of the work that machines give away.
const (
	maxWorkers   = 16  // that are done at a time: most of it waits for other hosts
	maxForeign   = 8   // of those, for peers that have begun and not authenticated
	maxWaiting   = 256 // of each of the two kinds that wait for a worker
	maxOfForeign = 4   // under way or waiting of one such IKE SA
)

// ErrDropped is the result of a Work for which there was no room, and that was
// not done: the machine goes on as if what made it necessary had got lost.
var ErrDropped = fmt.Errorf("%w: too much work waits", ErrBusy)

// workshop does Works. Its zero value is empty.
type workshop struct {
	busy            int
	foreign         []netip.Prefix // of the peers that have begun, each once: others wait meanwhile
	known, unproven []job          // that wait
}

// job is a Work of an entry.
type job struct {
	entry   *entry
	work    Work
	foreign bool         // the peer has begun, and had not authenticated then
	peer    netip.Prefix // what counts as one peer with its address
}

// work has a Work done on a goroutine of its own as soon as there is one free,
// and brings the machine the result.
func (m *Manager) work(e *entry, w Work) {
	j := job{entry: e, work: w, peer: near(e.remote), foreign: e.init != (initKey{}) && !e.established}
	queue := &m.works.known
	if j.foreign {
		queue = &m.works.unproven
	}
	if len(*queue) >= maxWaiting || j.foreign && e.works >= maxOfForeign {
		m.cfg.Log.Debug("too much work waits: a message is dropped", "peer", e.remote)
		m.inbox.putCall(func() { m.finish(e, w.ID, ErrDropped) }) // not before the effects that follow
		return
	}
	if e.works++; e.workable == nil {
		e.workable, e.cancel = context.WithCancel(m.base)
	}
	*queue = append(*queue, j)
	m.startWork()
}

// startWork gives waiting jobs to free workers.
func (m *Manager) startWork() {
	s := &m.works
	for s.busy < maxWorkers {
		var j job
		switch {
		case len(s.known) > 0:
			j, s.known = s.known[0], s.known[1:]
		case len(s.foreign) < maxForeign:
			i := slices.IndexFunc(s.unproven, func(x job) bool { return !slices.Contains(s.foreign, x.peer) })
			if i < 0 {
				return
			}
			j = s.unproven[i]
			s.unproven = slices.Delete(s.unproven, i, i+1)
		default:
			return
		}
		if _, alive := m.entries[j.entry]; !alive {
			continue
		}
		s.busy++
		if j.foreign {
			s.foreign = append(s.foreign, j.peer)
		}
		go m.do(j, j.entry.workable)
	}
}

// do is a worker. Its machine's memory is not its own.
func (m *Manager) do(j job, ctx context.Context) {
	result := j.work.Do(ctx)
	m.inbox.putCall(func() {
		m.works.busy--
		if j.foreign {
			i := slices.Index(m.works.foreign, j.peer)
			m.works.foreign = slices.Delete(m.works.foreign, i, i+1)
		}
		if j.entry.works--; j.entry.works == 0 {
			j.entry.rest()
		}
		m.finish(j.entry, j.work.ID, result)
		m.startWork()
	})
}

func (m *Manager) finish(e *entry, id uint64, result any) {
	if _, alive := m.entries[e]; alive {
		m.feed(e, Done{ID: id, Result: result})
	}
}

// rest ends what is being done for an entry.
func (e *entry) rest() {
	if e.cancel != nil {
		e.cancel()
		e.workable, e.cancel = nil, nil
	}
}
