package filter

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// noRank is behind every rank.
const noRank = math.MaxUint32

// compiler makes the policy of one direction.
type compiler struct {
	directed
	groups  groups
	shapes  map[Shape]*index
	tuples  []shaped        // of the half at hand
	last    *index          // of the last tuple's shape: the next one mostly has it too
	private map[*index]bool // the indices that may be changed; nil when all may
}

// compile makes the policy of entries, which come in order of decision.
func compile(d Direction, entries []*Entry) directed {
	c := compiler{groups: newGroups(d, nil), shapes: map[Shape]*index{}}
	c.halves = make([]half, 0, len(entries))
	c.numbers = make([][2]int32, len(entries))
	for i, e := range entries {
		c.numbers[i] = c.number(d, e)
		for _, n := range c.numbers[i] {
			if n >= 0 {
				c.halves[n].rank = uint32(n)
			}
		}
		c.add(d, e, c.numbers[i])
	}
	return c.finish()
}

// number gives numbers to the halves of an entry.
func (c *compiler) number(d Direction, e *Entry) [2]int32 {
	numbers := [2]int32{-1, -1}
	for i, mirror := range []bool{false, true} {
		if _, ok := e.Half(d, mirror); ok {
			numbers[i] = int32(len(c.halves))
			c.halves = append(c.halves, half{entry: e, mirror: mirror})
		}
	}
	return numbers
}

// add files the halves of an entry, by their numbers. Their ranks and those of
// all that are filed must be right.
func (c *compiler) add(d Direction, e *Entry, numbers [2]int32) {
	for i, n := range numbers {
		if n >= 0 {
			match, _ := e.Half(d, i == 1)
			c.file(&match, n)
		}
	}
}

// file files the tuples of a half under their shapes and in its groups. Where
// another half has a tuple, the better one has it.
func (c *compiler) file(match *Half, n int32) {
	c.tuples = match.appendTuples(c.tuples[:0])
	for j := range c.tuples {
		t := &c.tuples[j]
		x, k := c.index(t.shape), t.Tuple
		old, taken := x.halves[k]
		switch {
		case !taken:
		case old == n: // ranges that meet
			continue
		case c.halves[n].rank > c.halves[old].rank:
			x.putAside(k, n)
			continue
		default:
			c.groups.remove(c.halves[old], t)
			x.putAside(k, old)
		}
		x.halves[k] = n
		c.groups.add(c.halves[n], t)
	}
}

func (x *index) putAside(k Tuple, n int32) {
	if x.others == nil {
		x.others = map[Tuple][]int32{}
	}
	x.others[k] = append(slices.Clip(x.others[k]), n)
}

// index returns the index of a shape, for changing it.
func (c *compiler) index(s Shape) *index {
	if c.last != nil && c.last.shape == s {
		return c.last
	}
	x := c.shapes[s]
	switch {
	case x == nil:
		x = &index{shape: s, mask: s.mask(), halves: map[Tuple]int32{}}
	case c.private != nil && !c.private[x]:
		x = &index{shape: s, mask: x.mask, halves: maps.Clone(x.halves), others: maps.Clone(x.others)}
	}
	if c.private != nil {
		c.private[x] = true
	}
	c.shapes[s], c.last = x, x
	return x
}

// finish puts indices and groups in order.
func (c *compiler) finish() directed {
	d := c.directed
	d.groups = c.groups.ordered()
	d.families = [2][]*index{}
	for shape, x := range c.shapes {
		if len(x.halves) == 0 {
			continue
		}
		y := *x // its best rank is of this policy
		y.best = noRank
		for _, n := range x.halves {
			y.best = min(y.best, d.halves[n].rank)
		}
		f := &d.families[0]
		if shape.V6 {
			f = &d.families[1]
		}
		*f = append(*f, &y)
	}
	for _, f := range d.families {
		slices.SortFunc(f, func(a, b *index) int { return cmp.Compare(a.best, b.best) })
	}
	return d
}
