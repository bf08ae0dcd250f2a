package filter

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Entry is one filter of a policy with the action of its rule.
type Entry struct {
	Name     string // the rule's name
	List     string // the filter list's name
	Index    int    // the filter's place in its list, from 0
	Position string // where it stands in the rule file, as in "payroll.yaml:7:7"
	Selector Selector
	Mirrored bool // also matches the answers: sides and ports exchanged
	Action   Action
}

// String names the filter by its rule, list and selector.
func (e *Entry) String() string {
	return fmt.Sprintf("rule %q, filter %d of list %q (%s)", e.Name, e.Index+1, e.List, e.Selector)
}

// SPD is a security policy database (RFC 4301 section 4.4.1): filters in the
// order in which they decide. It is immutable, and safe for concurrent use.
type SPD struct {
	generation uint64
	entries    []Entry // in order of decision
	directions [2]directed
}

// directed is the policy of one direction.
type directed struct {
	halves   []half
	groups   []Group
	families [2][]index // IPv4, IPv6; in order of their best rank
}

// half is an entry as it applies to one direction, straight or mirrored. Its
// place in directed.halves is its rank: the lowest that matches decides.
type half struct {
	entry  *Entry
	mirror bool
}

// index finds the best half among all tuples of one shape.
type index struct {
	mask  key
	ports bool   // packets without ports never match
	best  uint32 // the lowest rank in it
	ranks map[key]uint32
}

// New makes the SPD of the entries, which stand in the order of the rule
// file. The generation is the caller's number for this version of the
// policy. It fails when an entry has no valid action or selector; the error
// names the entry and wraps ErrSelector in the second case.
func New(entries []Entry, generation uint64) (*SPD, error) {
	s := &SPD{generation: generation, entries: slices.Clone(entries)}
	for i := range s.entries {
		e := &s.entries[i]
		if err := e.Selector.Check(); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", e.Position, e, err)
		}
		if e.Action < Permit || e.Action > Negotiate {
			return nil, fmt.Errorf("%s: %s: %s", e.Position, e, e.Action)
		}
	}
	slices.SortStableFunc(s.entries, func(a, b Entry) int {
		return cmp.Or(
			cmp.Compare(b.Selector.Weight(), a.Selector.Weight()),
			cmp.Compare(a.Action.precedence(), b.Action.precedence()),
		)
	})
	for i := range s.directions {
		s.compile(Direction(i + 1))
	}
	return s, nil
}

// compile cuts the entries into tuples, in order of decision, and files each
// under its shape and in its group.
func (s *SPD) compile(d Direction) {
	dir := &s.directions[d-1]
	shapes, groups := map[Shape]*index{}, groups{at: map[groupKey]int{}}
	for i := range s.entries {
		e := &s.entries[i]
		for _, mirror := range []bool{false, true} {
			if mirror && !e.Mirrored {
				continue
			}
			tuples := tuplesOf(e.Selector, d, mirror)
			if len(tuples) == 0 {
				continue
			}
			rank, h := uint32(len(dir.halves)), half{e, mirror}
			dir.halves = append(dir.halves, h)
			for _, t := range tuples {
				x := shapes[t.Shape]
				if x == nil {
					x = &index{mask: t.mask(), ports: t.Ports(), best: rank, ranks: map[key]uint32{}}
					shapes[t.Shape] = x
				}
				k := t.key()
				if _, decided := x.ranks[k]; !decided {
					x.ranks[k] = rank
					groups.add(h, t)
				}
			}
		}
	}
	dir.groups = groups.ordered()
	for shape, x := range shapes {
		f := &dir.families[0]
		if shape.V6 {
			f = &dir.families[1]
		}
		*f = append(*f, *x)
	}
	for _, f := range dir.families {
		slices.SortFunc(f, func(a, b index) int { return cmp.Compare(a.best, b.best) })
	}
}

// Generation returns the number that New was given.
func (s *SPD) Generation() uint64 { return s.generation }

// Entries returns the entries in the order in which they decide, the most
// specific first. The caller must not change them.
func (s *SPD) Entries() []Entry { return s.entries }

// Decision is the SPD's verdict on a packet.
type Decision struct {
	Action Action
	Entry  *Entry // the filter that decided; nil when none matched
	Mirror bool   // the packet matched the filter's mirrored half
}

// Why says in a sentence which filter decided, and why that one.
func (d Decision) Why() string {
	if d.Entry == nil {
		return d.Action.String() + ": no filter matches"
	}
	mirrored := ""
	if d.Mirror {
		mirrored = ", mirrored"
	}
	return fmt.Sprintf("%s: %s: %s%s is the most specific filter that matches, of weight %d",
		d.Action, d.Entry.Position, d.Entry, mirrored, d.Entry.Selector.Weight())
}

// Lookup returns the decision on a packet of the host that goes in a
// direction. It takes one map lookup for each shape that could still hold a
// better filter, however many filters there are, and allocates nothing.
func (s *SPD) Lookup(d Direction, p *packet.Packet) Decision {
	dir := &s.directions[d-1]
	family := 0
	if !p.Is4() {
		family = 1
	}
	k, found := packetKey(p), uint32(math.MaxUint32)
	for i := range dir.families[family] {
		x := &dir.families[family][i]
		if x.best >= found {
			break
		}
		if x.ports && !p.HasPorts {
			continue
		}
		if rank, ok := x.ranks[k.and(&x.mask)]; ok && rank < found {
			found = rank
		}
	}
	if found == math.MaxUint32 {
		return Decision{Action: Permit}
	}
	h := dir.halves[found]
	return Decision{Action: h.entry.Action, Entry: h.entry, Mirror: h.mirror}
}
