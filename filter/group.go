package filter

import (
	"cmp"
	"slices"
)

// Group is a set of tuples of one shape whose filters have the same weight
// and action. For a packet of the family the action of the first group with
// a tuple that it matches is the decision: the policy as a series of exact
// lookups.
//
// Which entry decides follows too, except between groups of the same weight
// and action: there it is the one that stands first in the file, and Lookup
// says which.
type Group struct {
	Weight  uint32
	Action  Action
	Shape   Shape
	Tuples  []Tuple  // in order of decision, no two equal
	Entries []*Entry // for each tuple, the entry that it came from
	Mirrors []bool   // for each tuple, whether it is of the entry's mirrored half
}

// Groups returns the policy of one direction in order of decision: by weight,
// then block before negotiate before permit, then IPv4 before IPv6, then the
// shape that fixes more. A tuple is left out when an earlier group has it.
// The caller must not change what is returned.
func (s *SPD) Groups(d Direction) []Group { return s.directions[d-1].groups }

// groupKey tells the groups of a direction apart.
type groupKey struct {
	weight uint32
	action Action
	shape  Shape
}

// groups collects tuples, which come in order of decision.
type groups struct {
	list []Group
	at   map[groupKey]int
}

func (g *groups) add(h half, t Tuple) {
	k := groupKey{h.entry.Selector.Weight(), h.entry.Action, t.Shape}
	i, ok := g.at[k]
	if !ok {
		i = len(g.list)
		g.at[k] = i
		g.list = append(g.list, Group{Weight: k.weight, Action: k.action, Shape: k.shape})
	}
	x := &g.list[i]
	x.Tuples = append(x.Tuples, t)
	x.Entries = append(x.Entries, h.entry)
	x.Mirrors = append(x.Mirrors, h.mirror)
}

// ordered returns the groups in order of decision.
func (g *groups) ordered() []Group {
	slices.SortFunc(g.list, func(a, b Group) int {
		return cmp.Or(
			cmp.Compare(b.Weight, a.Weight),
			cmp.Compare(a.Action.precedence(), b.Action.precedence()),
			a.Shape.compare(b.Shape),
		)
	})
	return g.list
}
