package filter

import (
	"cmp"
	"slices"
)

// Group is a set of tuples of one shape whose filters have the same weight,
// action and options. For a packet of the family the action of the first group
// with a tuple that it matches is the decision: the policy as a series of exact
// lookups.
//
// Which entry decides follows too, except between groups of the same weight
// and action: there it is the one that stands first in the file, and Lookup
// says which.
type Group struct {
	Weight  uint32
	Action  Action
	Options Options
	Shape   Shape
	Name    string // the rule's name, with Options.Log; otherwise empty
	// Mirror says in direction Forward, of a group that negotiates, that its
	// packets come from the far end of the tunnel.
	Mirror  bool
	Tuples  []Tuple  // no two equal
	Entries []*Entry // for each tuple, the entry that it came from
	Mirrors []bool   // for each tuple, whether it is of the entry's mirrored half
}

// Groups returns the policy of one direction in order of decision: by weight,
// then block before negotiate before permit, then IPv4 before IPv6, then the
// shape that fixes more, then the order of the file. A filter with a limit has
// groups of its own. A tuple is left out when an earlier group has it. What
// did not change by Replace is the same slice as before.
// The caller must not change what is returned.
func (s *SPD) Groups(d Direction) []Group { return s.directions[d-1].groups }

// groupKey tells the groups of a direction apart.
type groupKey struct {
	weight  uint32
	action  Action
	options Options
	shape   Shape
	name    string
	mirror  bool
	limited *Entry
}

// groups collects tuples.
type groups struct {
	direction Direction
	list      []Group
	at        map[groupKey]int
	private   []bool   // of each of the list, whether its slices may be changed; nil when all may
	last      groupKey // the key of the last tuple, and where its group is
	lastAt    int
	free      map[int][]int // by place in the list, the places of tuples that are gone
}

// newGroups begins with what an SPD before has.
func newGroups(d Direction, before []Group) groups {
	g := groups{direction: d, at: map[groupKey]int{}, lastAt: -1}
	if before == nil {
		return g
	}
	g.list, g.private = slices.Clone(before), make([]bool, len(before))
	for i := range g.list {
		x := &g.list[i]
		g.at[g.key(half{entry: x.Entries[0], mirror: x.Mirrors[0]}, x.Shape)] = i
	}
	return g
}

// key returns the key of a tuple's group.
func (g *groups) key(h half, s Shape) groupKey {
	e := h.entry
	k := groupKey{weight: e.Weight(), action: e.Action, options: e.Options, shape: s}
	if e.Options.Log {
		k.name = e.Name
	}
	if e.Options.Limit != (Limit{}) {
		k.limited = e
	}
	k.mirror = g.direction == Forward && e.Action == Negotiate && h.mirror
	return k
}

func (g *groups) add(h half, t *shaped) {
	k := g.key(h, t.shape)
	if g.lastAt < 0 || k != g.last {
		g.last, g.lastAt = k, g.find(k)
	}
	x := g.change(g.lastAt)
	// What takes another's place stands where that stood: most of two policies
	// is then in the same place.
	if free := g.free[g.lastAt]; len(free) > 0 {
		i := free[len(free)-1]
		g.free[g.lastAt] = free[:len(free)-1]
		x.Tuples[i], x.Entries[i], x.Mirrors[i] = t.Tuple, h.entry, h.mirror
		return
	}
	x.Tuples = append(x.Tuples, t.Tuple)
	x.Entries = append(x.Entries, h.entry)
	x.Mirrors = append(x.Mirrors, h.mirror)
}

// find returns where the group of a key is, which it makes if need be.
func (g *groups) find(k groupKey) int {
	i, ok := g.at[k]
	if !ok {
		i = len(g.list)
		g.at[k] = i
		g.list = append(g.list, Group{Weight: k.weight, Action: k.action, Options: k.options, Shape: k.shape, Name: k.name, Mirror: k.mirror})
		if g.private != nil {
			g.private = append(g.private, true)
		}
	}
	return i
}

// change returns a group of the list, for changing it.
func (g *groups) change(i int) *Group {
	x := &g.list[i]
	if g.private != nil && !g.private[i] {
		g.private[i] = true
		x.Tuples, x.Entries, x.Mirrors = slices.Clone(x.Tuples), slices.Clone(x.Entries), slices.Clone(x.Mirrors)
	}
	return x
}

// remove takes a tuple of a half out of its group, which has it.
func (g *groups) remove(h half, t *shaped) {
	at := g.find(g.key(h, t.shape))
	x := g.change(at)
	if g.free == nil {
		g.free = map[int][]int{}
	}
	for i := range x.Tuples { // of several that are equal all but one are gone
		if x.Tuples[i] == t.Tuple && !slices.Contains(g.free[at], i) {
			g.free[at] = append(g.free[at], i)
			return
		}
	}
}

// compact closes the gaps that are left.
func (g *groups) compact() {
	for at, free := range g.free {
		x := &g.list[at]
		slices.Sort(free)
		for _, i := range slices.Backward(free) {
			x.Tuples, x.Entries, x.Mirrors = slices.Delete(x.Tuples, i, i+1), slices.Delete(x.Entries, i, i+1), slices.Delete(x.Mirrors, i, i+1)
		}
	}
	g.free = nil
}

// ordered returns the groups in order of decision.
func (g *groups) ordered() []Group {
	g.compact()
	list := slices.DeleteFunc(g.list, func(x Group) bool { return len(x.Tuples) == 0 })
	slices.SortStableFunc(list, func(a, b Group) int {
		return cmp.Or(
			cmp.Compare(b.Weight, a.Weight),
			cmp.Compare(a.Action.precedence(), b.Action.precedence()),
			a.Shape.compare(b.Shape),
		)
	})
	return list
}
