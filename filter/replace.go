package filter

import (
	"errors"
	"slices"
	"sync"
)

// Replace makes the SPD that has other entries in place of some: Replace of
// what New made is what New makes of the changed list, but takes no longer
// than the change is large. What both have in common they share.
//
// The entries to be removed are some of those of Entries. The added ones
// stand in the file where the first removed one stood; between them the order
// is that in which they are given only if their weights and actions differ.
func (s *SPD) Replace(removed []*Entry, added []Entry, settings Settings) (*SPD, error) {
	if len(removed) == 0 {
		return nil, errors.New("filters can only take the place of others")
	}
	gone := make(map[*Entry]bool, len(removed))
	for _, e := range removed {
		gone[e] = true
	}
	r := replacement{old: s, gone: gone, come: slices.Clone(added), at: -1}
	for i, e := range s.entries {
		if gone[e] && (r.at < 0 || s.places[i].index < r.at) {
			r.at = s.places[i].index
		}
	}
	next := &SPD{settings: settings}
	if err := r.merge(next); err != nil {
		return nil, err
	}
	var compiling sync.WaitGroup
	for _, d := range Directions {
		compiling.Go(func() { next.directions[d-1] = r.direction(d, next.entries) })
	}
	compiling.Wait()
	return next, nil
}

// replacement is a change of an SPD.
type replacement struct {
	old  *SPD
	gone map[*Entry]bool
	come []Entry
	at   int32   // where in the file they come
	from []int32 // for each new entry its place in the old order; -1 for one that has come
}

// merge makes the order of the new SPD.
func (r *replacement) merge(next *SPD) error {
	come := make([]int, len(r.come))
	places := make([]place, len(r.come))
	for i := range r.come {
		var err error
		if places[i], err = r.come[i].place(r.at); err != nil {
			return err
		}
		come[i] = i
	}
	slices.SortStableFunc(come, func(a, b int) int { return places[a].compare(places[b]) })
	put := func(e *Entry, p place, from int32) {
		next.entries, next.places, r.from = append(next.entries, e), append(next.places, p), append(r.from, from)
	}
	size := len(r.old.entries) + len(r.come)
	next.entries, next.places, r.from = make([]*Entry, 0, size), make([]place, 0, size), make([]int32, 0, size)
	for i, e := range r.old.entries {
		if r.gone[e] {
			continue
		}
		for len(come) > 0 && places[come[0]].compare(r.old.places[i]) <= 0 {
			put(&r.come[come[0]], places[come[0]], -1)
			come = come[1:]
		}
		put(e, r.old.places[i], int32(i))
	}
	for _, i := range come {
		put(&r.come[i], places[i], -1)
	}
	return nil
}

// direction makes the policy of one direction. Halves keep their numbers, so
// that what does not change need not be touched; their ranks are all anew.
func (r *replacement) direction(d Direction, entries []*Entry) directed {
	old := &r.old.directions[d-1]
	if len(old.halves) > 4*len(entries)+64 { // mostly of filters that are gone
		return compile(d, entries)
	}
	c := compiler{groups: newGroups(d, old.groups), shapes: map[Shape]*index{}, private: map[*index]bool{}}
	c.halves = slices.Clone(old.halves)
	c.numbers = make([][2]int32, len(entries))
	for _, f := range old.families {
		for _, x := range f {
			c.shapes[x.shape] = x
		}
	}
	// Numbers first, then ranks, then tuples: which of two halves has a tuple
	// depends on their ranks.
	rank := uint32(0)
	for i, e := range entries {
		if r.from[i] >= 0 {
			c.numbers[i] = old.numbers[r.from[i]]
		} else {
			c.numbers[i] = c.number(d, e)
		}
		for _, n := range c.numbers[i] {
			if n >= 0 {
				c.halves[n].rank = rank
				rank++
			}
		}
	}
	for i, e := range r.old.entries {
		if r.gone[e] {
			c.remove(d, e, old.numbers[i])
		}
	}
	for i, e := range entries {
		if r.from[i] < 0 {
			c.add(d, e, c.numbers[i])
		}
	}
	return c.finish()
}

// remove takes the tuples of an entry out. Where it had one that others have
// too, the best of these has it then.
func (c *compiler) remove(d Direction, e *Entry, numbers [2]int32) {
	for i, n := range numbers {
		if n < 0 {
			continue
		}
		match, _ := e.Half(d, i == 1)
		c.tuples = match.appendTuples(c.tuples[:0])
		for j := range c.tuples {
			t := &c.tuples[j]
			x, k := c.index(t.shape), t.Tuple
			others := x.others[k]
			if x.halves[k] != n {
				x.setAside(k, slices.DeleteFunc(slices.Clone(others), func(m int32) bool { return m == n }))
				continue
			}
			c.groups.remove(c.halves[n], t)
			delete(x.halves, k)
			if len(others) == 0 {
				continue
			}
			best := slices.MinFunc(others, func(a, b int32) int { return int(int64(c.halves[a].rank) - int64(c.halves[b].rank)) })
			x.setAside(k, slices.DeleteFunc(slices.Clone(others), func(m int32) bool { return m == best }))
			x.halves[k] = best
			c.groups.add(c.halves[best], t)
		}
		c.halves[n] = half{rank: noRank}
	}
}

func (x *index) setAside(k Tuple, others []int32) {
	if len(others) == 0 {
		delete(x.others, k)
		return
	}
	x.others[k] = others
}
