package filter

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

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
	Stateful bool // matches From's connections only: answers to them, and no others
	Forward  bool // matches what the host forwards, and not its own packets
	Action   Action
	Options  Options
}

// Weight says how specific the filter is, as the package's comment defines it:
// of two filters that match a packet the heavier one decides.
func (e *Entry) Weight() uint32 {
	w := e.Selector.weight()
	if e.Stateful {
		w |= 1
	}
	return w
}

// String names the filter by its rule, list and selector.
func (e *Entry) String() string {
	return fmt.Sprintf("rule %q, filter %d of list %q (%s)", e.Name, e.Index+1, e.List, e.Selector)
}

// SPD is a security policy database (RFC 4301 section 4.4.1): filters in the
// order in which they decide. It is immutable, and safe for concurrent use.
type SPD struct {
	settings   Settings
	entries    []*Entry // in order of decision
	places     []place  // of the entries, in the same order
	directions [len(Directions)]directed
}

// Settings is what an SPD has besides its filters.
type Settings struct {
	Generation uint64 // the caller's number for this version of the policy
	Exemptions Exemptions
}

// directed is the policy of one direction.
type directed struct {
	halves   []half     // by number; one without an entry is of a filter that is gone
	numbers  [][2]int32 // of the halves of each of SPD.entries, straight and mirrored; -1 for none
	groups   []Group
	families [2][]*index // IPv4, IPv6; in order of their best rank
}

// half is an entry as it applies to one direction, straight or mirrored.
type half struct {
	entry  *Entry
	mirror bool
	rank   uint32 // the lowest that matches decides
}

// index finds the best half among all tuples of one shape. It is shared by
// SPDs that have it in common, and not changed once it is made.
type index struct {
	shape  Shape
	mask   Tuple
	best   uint32 // the lowest rank in it
	halves map[Tuple]int32
	others map[Tuple][]int32 // halves that have a tuple too and are no better
}

// New makes the SPD of the entries, which stand in the order of the rule
// file. It fails when an entry has no valid action or selector; the error
// names the entry and wraps ErrSelector in the second case.
func New(entries []Entry, settings Settings) (*SPD, error) {
	entries = slices.Clone(entries)
	s := &SPD{settings: settings, entries: make([]*Entry, len(entries)), places: make([]place, len(entries))}
	for i := range entries {
		var err error
		if s.places[i], err = entries[i].place(int32(i)); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(s.places, place.compare)
	for i, at := range s.places {
		s.entries[i] = &entries[at.index]
	}
	var compiling sync.WaitGroup
	for _, d := range Directions {
		compiling.Go(func() { s.directions[d-1] = compile(d, s.entries) })
	}
	compiling.Wait()
	return s, nil
}

// place is what of an entry says when it decides: the lowest comes first.
type place struct {
	lightness  uint32 // the complement of the weight
	precedence uint8
	index      int32 // in the file
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.lightness, q.lightness), cmp.Compare(p.precedence, q.precedence), cmp.Compare(p.index, q.index))
}

// place returns the place of an entry that stands somewhere in the file, or an
// error unless it is one that an SPD accepts.
func (e *Entry) place(index int32) (place, error) {
	if err := e.check(); err != nil {
		return place{}, fmt.Errorf("%s: %s: %w", e.Position, e, err)
	}
	return place{^e.Weight(), e.Action.precedence(), index}, nil
}

// check returns an error unless the entry is one that an SPD accepts.
func (e *Entry) check() error {
	if err := e.Selector.Check(); err != nil {
		return err
	}
	o := e.Options
	switch {
	case e.Action < Permit || e.Action > Negotiate:
		return errors.New(e.Action.String())
	case e.Forward && (e.Selector.From.kind == SideMe || e.Selector.To.kind == SideMe):
		return fmt.Errorf("%w: forwarded packets have no end here; write addresses, or any, for me", ErrSelector)
	case e.Stateful && e.Action != Permit:
		return fmt.Errorf("%w: a stateful filter can only permit", ErrSelector)
	case o.Reject && e.Action != Block,
		(o.AcceptUnsecured || o.AllowUnsecured) && e.Action != Negotiate,
		o.Limit != (Limit{}) && (e.Action != Permit || o.Limit.Packets == 0 || o.Limit.Per < PerSecond || o.Limit.Per > PerHour):
		return fmt.Errorf("the options do not fit the action to %s", e.Action)
	}
	return nil
}

// Settings returns what New was given.
func (s *SPD) Settings() Settings { return s.settings }

// Entries returns the entries in the order in which they decide, the most
// specific first. The caller must not change them.
func (s *SPD) Entries() []*Entry { return s.entries }

// Decision is the SPD's verdict on a packet.
type Decision struct {
	Action Action
	Entry  *Entry // the filter that decided; nil when none did
	Mirror bool   // the packet matched the filter's mirrored half
	Exempt string // why no filter was asked; otherwise empty
}

// Why says in a sentence which filter decided, and why that one.
func (d Decision) Why() string {
	switch {
	case d.Exempt != "":
		return d.Action.String() + ": " + d.Exempt + " is exempt"
	case d.Entry == nil:
		return d.Action.String() + ": no filter matches"
	}
	mirrored := ""
	if d.Mirror {
		mirrored = ", mirrored"
	}
	return fmt.Sprintf("%s: %s: %s%s is the most specific filter that matches, of weight %d",
		d.Action, d.Entry.Position, d.Entry, mirrored, d.Entry.Weight())
}

// Decide returns the decision on a packet as the kernel takes it: by the
// exemptions, then by Lookup.
func (s *SPD) Decide(c Context, p *packet.Packet) Decision {
	if why, ok := s.settings.Exemptions.Exempt(c, p); ok {
		return Decision{Action: Permit, Exempt: why}
	}
	return s.Lookup(c, p)
}

// Lookup returns the decision of the filters on a packet. It takes one map
// lookup for each shape that could still hold a better filter, however many
// filters there are, and allocates nothing.
func (s *SPD) Lookup(c Context, p *packet.Packet) Decision {
	dir := &s.directions[c.Direction-1]
	family := 0
	if !p.Is4() {
		family = 1
	}
	k, best := tupleOf(p), half{rank: noRank}
	for i := range dir.families[family] {
		x := dir.families[family][i]
		if x.best >= best.rank {
			break
		}
		if x.shape.Ports() && !p.HasPorts && !p.HasICMP || !x.shape.Connection.Contains(c.Interface) || !x.shape.Stage.Contains(c.State) {
			continue
		}
		if n, ok := x.halves[k.and(&x.mask)]; ok && dir.halves[n].rank < best.rank {
			best = dir.halves[n]
		}
	}
	if best.entry == nil {
		return Decision{Action: Permit}
	}
	return Decision{Action: best.entry.Action, Entry: best.entry, Mirror: best.mirror}
}

// Matching returns the decisions that the filters would take which match a
// packet, in order of decision: the first is what Lookup returns, the second
// what would be decided without that filter, and so on. It looks at every
// filter.
func (s *SPD) Matching(c Context, p *packet.Packet) []Decision {
	var out []Decision
	for _, e := range s.entries {
		if mirror, ok := e.Match(c, p); ok {
			out = append(out, Decision{Action: e.Action, Entry: e, Mirror: mirror})
		}
	}
	return out
}
