package space

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ipsecfw/ipsecfw/filter"
)

// DeadFilter is a filter that decides no packet.
type DeadFilter struct {
	Filter *filter.Entry // the first of its entries, in order of decision
	// By are other filters that take its packets, one entry of each, at most
	// MaxTakers. With neither By nor Exempt there is no packet that it matches.
	By     []*filter.Entry
	More   bool // there are more than By
	Exempt bool // some of its packets are exempt
}

// MaxTakers bounds the filters that a DeadFilter names.
const MaxTakers = 3

// Dead returns the filters that decide no packet of the universe, in order of
// decision. A filter that has become several entries (of one name, list and
// index) is dead when all of them are. The error wraps ErrUndecided: the
// filters that come with it are dead, and others may be.
func (p *Policy) Dead() ([]DeadFilter, error) {
	filters, alive := p.filters(), p.plainlyAlive()
	var order []int32 // the numbers of the filters in doubt
	first, layers := map[int32]*filter.Entry{}, map[int32][]*layer{}
	for i, n := range filters {
		if alive[n].Load() {
			continue
		}
		if first[n] == nil {
			first[n] = p.spd.Entries()[i]
			order = append(order, n)
		}
		for k := range p.planes {
			l := &p.planes[k]
			for _, at := range l.at[2*i : 2*i+2] {
				if at >= 0 {
					layers[n] = append(layers[n], &l.layers[at])
				}
			}
		}
	}
	found := make([]DeadFilter, len(order))
	var undecided atomic.Bool
	share(len(order), 1, func() func(from, before int) {
		q := takers{policy: p, find: search{work: maxWork / runtime.GOMAXPROCS(0)}}
		return func(i, _ int) {
			q.of, q.dead, q.taken = order[i], DeadFilter{Filter: first[order[i]]}, nil
			switch dead, err := q.take(layers[order[i]]); {
			case err != nil:
				undecided.Store(true)
			case dead:
				found[i] = q.dead
			}
		}
	})
	found = slices.DeleteFunc(found, func(d DeadFilter) bool { return d.Filter == nil })
	if undecided.Load() {
		return found, ErrUndecided
	}
	return found, nil
}

// share does n pieces of work, some at a time, on all processors. Each has a
// worker of its own.
func share(n, chunk int, worker func() func(from, before int)) {
	var next atomic.Int64
	var working sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 1+n/chunk) {
		working.Go(func() {
			work := worker()
			for {
				from := int(next.Add(int64(chunk))) - chunk
				if from >= n {
					return
				}
				work(from, min(from+chunk, n))
			}
		})
	}
	working.Wait()
}

// plainlyAlive says of filters, by their numbers, whether they decide one of a
// few packets that they match. One that does not may be alive all the same.
func (p *Policy) plainlyAlive() []atomic.Bool {
	const chunk = 1024
	filters := p.filters()
	alive := make([]atomic.Bool, len(filters))
	look := func(l *plane, from, before int) {
		for at := from; at < before; at++ {
			a := &l.layers[at]
			if a.half < 0 || alive[filters[a.half/2]].Load() {
				continue
			}
			for ch := range choices {
				s := a.pick(ch)
				if b, ok := point(s.Context, &s.Packet); ok && l.tree().holder(&b, at) < 0 {
					alive[filters[a.half/2]].Store(true)
					break
				}
			}
		}
	}
	// One plane after the other: filters that live in one need no other.
	for k := range p.planes {
		l := &p.planes[k]
		share(len(l.layers), chunk, func() func(from, before int) {
			return func(from, before int) { look(l, from, before) }
		})
	}
	return alive
}

// takers finds out who takes the packets of one filter.
type takers struct {
	policy *Policy
	of     int32
	find   search
	dead   DeadFilter
	taken  []int32 // by which filters
	places []int32 // room for covered, as covers
	covers []*box
}

// take reports whether all packets of the filter's layers are taken by
// others. Its own entries do not make it dead.
func (q *takers) take(layers []*layer) (bool, error) {
	filters := q.policy.filters()
	for _, a := range layers {
		l := &q.policy.planes[a.plane()]
		before := int(l.at[a.half])
		if at := l.tree().holder(&a.box, before); at >= 0 {
			if x := &l.layers[at]; x.half < 0 || filters[x.half/2] != q.of {
				q.note(x)
				continue
			}
		}
		// Those that have all its addresses are few, and mostly enough.
		q.places = l.tree().around(&a.box, before, q.places[:0])
		taken, err := q.covered(l, a)
		if !taken && err == nil {
			q.places = l.tree().find(&a.box, 0, before, q.places[:0])
			taken, err = q.covered(l, a)
		}
		if !taken || err != nil {
			return false, err
		}
	}
	return true, nil
}

// covered reports whether the layers at q.places, less the filter's own, have
// all packets of a, and notes which do.
func (q *takers) covered(l *plane, a *layer) (bool, error) {
	if q.find.work -= len(q.places); q.find.work < 0 {
		return false, ErrUndecided
	}
	filters := q.policy.filters()
	q.covers = q.covers[:0]
	for _, at := range q.places {
		if x := &l.layers[at]; x.half < 0 || filters[x.half/2] != q.of {
			q.covers = append(q.covers, &x.box)
		}
	}
	hits := map[*box]bool{}
	q.find.hit = func(b *box) { hits[b] = true }
	if _, ok, err := q.find.uncovered(a.box, q.covers); ok || err != nil {
		return false, err
	}
	for _, at := range q.places {
		if x := &l.layers[at]; hits[&x.box] {
			q.note(x)
		}
	}
	return true, nil
}

func (q *takers) note(x *layer) {
	if x.half < 0 {
		q.dead.Exempt = true
		return
	}
	n := q.policy.filters()[x.half/2]
	switch {
	case slices.Contains(q.taken, n):
	case len(q.taken) == MaxTakers:
		q.dead.More = true
	default:
		q.taken = append(q.taken, n)
		q.dead.By = append(q.dead.By, q.policy.entry(x))
	}
}
