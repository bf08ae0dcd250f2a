package filter

import (
	"cmp"
	"slices"
)

// Group is a set of tuples of one shape whose filters have the same weight,
// action and options. For a packet of the family the action of the first group with
// a tuple that it matches is the decision: the policy as a series of exact
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
	Tuples  []Tuple  // in order of decision, no two equal
	Entries []*Entry // for each tuple, the entry that it came from
	Mirrors []bool   // for each tuple, whether it is of the entry's mirrored half
}

// Groups returns the policy of one direction in order of decision: by weight,
// then block before negotiate before permit, then IPv4 before IPv6, then the
// shape that fixes more, then the order of the file. A filter with a limit has
// groups of its own. A tuple is left out when an earlier group has it.
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

// groups collects tuples, which come in order of decision.
type groups struct {
	direction Direction
	list      []Group
	at        map[groupKey]int
	last      groupKey // of the last tuple, and where its group is
	lastAt    int
}

func (g *groups) add(h half, weight uint32, t *Tuple) {
	e := h.entry
	k := groupKey{weight: weight, action: e.Action, options: e.Options, shape: t.Shape}
	if e.Options.Log {
		k.name = e.Name
	}
	if e.Options.Limit != (Limit{}) {
		k.limited = e
	}
	k.mirror = g.direction == Forward && e.Action == Negotiate && h.mirror
	i := g.lastAt
	if len(g.list) == 0 || k != g.last {
		i = g.find(k, weight)
	}
	x := &g.list[i]
	x.Tuples = append(x.Tuples, *t)
	x.Entries = append(x.Entries, e)
	x.Mirrors = append(x.Mirrors, h.mirror)
}

// find returns where the group of a key is, which it makes if need be.
func (g *groups) find(k groupKey, weight uint32) int {
	i, ok := g.at[k]
	if !ok {
		i = len(g.list)
		g.at[k] = i
		g.list = append(g.list, Group{Weight: weight, Action: k.action, Options: k.options, Shape: k.shape, Name: k.name, Mirror: k.mirror})
	}
	g.last, g.lastAt = k, i
	return i
}

// ordered returns the groups in order of decision.
func (g *groups) ordered() []Group {
	slices.SortStableFunc(g.list, func(a, b Group) int {
		return cmp.Or(
			cmp.Compare(b.Weight, a.Weight),
			cmp.Compare(a.Action.precedence(), b.Action.precedence()),
			a.Shape.compare(b.Shape),
		)
	})
	return g.list
}
