package space

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Conflict is two filters of the same weight that would do different things
// with the same packets.
type Conflict struct {
	A, B    *filter.Entry // in the order of the rule file
	Packets Set           // that both match, and no heavier filter
	Sample  Sample
}

// MaxConflicts bounds how many conflicts Conflicts returns.
const MaxConflicts = 100

// Conflicts returns the pairs of filters of equal weight that match the same
// packets with different outcomes, as outcome tells them, when such a packet
// meets no heavier filter and no exemption. A filter that has become several
// entries (of one name, list and index) does not contradict itself, and is
// named once for each other one. They are sorted by position. There may be
// more when it returns MaxConflicts. The error wraps ErrUndecided; the
// conflicts that come with it are real.
func Conflicts[T comparable](p *Policy, outcome func(*filter.Entry) T) ([]Conflict, error) {
	entries := p.spd.Entries()
	outcomes := make([]T, len(entries))
	for i := range entries {
		outcomes[i] = outcome(entries[i])
	}
	c := conflicts{policy: p, find: search{work: maxWork}, at: map[[2]int32]int{}}
	c.differ = func(i, j int32) bool { return outcomes[i] != outcomes[j] }
	var err error
	for first := 0; first < len(entries) && err == nil && len(c.list) < MaxConflicts; {
		weight, end, same := entries[first].Weight(), first+1, true
		for end < len(entries) && entries[end].Weight() == weight {
			same = same && outcomes[end] == outcomes[first]
			end++
		}
		if !same {
			err = c.among(int32(first), int32(end))
		}
		first = end
	}
	_, exempt := p.multicast()
	for i := range c.list {
		x := &c.list[i]
		x.Packets.unicast = exempt
		x.Sample = x.Packets.better(x.Sample)
	}
	slices.SortStableFunc(c.list, func(a, b Conflict) int {
		return cmp.Or(comparePositions(a.A.Position, b.A.Position), comparePositions(a.B.Position, b.B.Position))
	})
	return c.list, err
}

// conflicts collects them.
type conflicts struct {
	policy *Policy
	find   search
	differ func(i, j int32) bool // the outcomes of two entries
	list   []Conflict
	at     map[[2]int32]int // by the two filters' numbers
}

// maxDisputes bounds the boxes of one conflict's packets.
const maxDisputes = 64

// among looks for conflicts among entries of one weight, which stand from
// first to before end.
func (c *conflicts) among(first, end int32) error {
	for n := range c.policy.planes {
		l := &c.policy.planes[n]
		lowest, _ := slices.BinarySearchFunc(l.layers, 2*first, byHalf)
		highest, _ := slices.BinarySearchFunc(l.layers, 2*end, byHalf)
		group := l.layers[lowest:highest]
		if len(group) < 2 {
			continue
		}
		t := newTree(group, lowest)
		var others []int32
		for i := range group {
			a := &group[i]
			others = t.find(&a.box, lowest+i+1, everything, others[:0])
			if c.find.work -= len(others); c.find.work < 0 {
				return ErrUndecided
			}
			for _, at := range others {
				if err := c.dispute(l, a, &l.layers[at], lowest); err != nil {
					return err
				}
				if len(c.list) == MaxConflicts {
					return nil
				}
			}
		}
	}
	return nil
}

// byHalf orders layers, of which exemptions come first.
func byHalf(l layer, half int32) int { return cmp.Compare(max(l.half, -1), half) }

// dispute adds the packets that two layers of one weight match, if they
// decide them differently and no layer before the weight's first one does.
func (c *conflicts) dispute(l *plane, a, b *layer, heavier int) error {
	i, j := a.half/2, b.half/2
	if !c.differ(i, j) {
		return nil
	}
	filters := c.policy.filters()
	pair := [2]int32{filters[i], filters[j]}
	if pair[0] == pair[1] {
		return nil
	}
	if pair[0] > pair[1] {
		pair[0], pair[1] = pair[1], pair[0]
	}
	n, known := c.at[pair]
	if known && len(c.list[n].Packets.terms) == maxDisputes {
		return nil
	}
	common, ok := a.and(&b.box)
	if !ok {
		return nil
	}
	covers := l.covers(&common, heavier)
	part, ok, err := c.find.uncovered(common, covers)
	if !ok {
		return err
	}
	if !known {
		n = len(c.list)
		c.at[pair] = n
		x := Conflict{A: c.policy.entry(a), B: c.policy.entry(b), Sample: part.pick(likely)}
		if comparePositions(x.B.Position, x.A.Position) < 0 {
			x.A, x.B = x.B, x.A
		}
		c.list = append(c.list, x)
	}
	c.list[n].Packets.add(common, covers)
	return nil
}

// comparePositions orders places in rule files: numbers in them by value.
func comparePositions(a, b string) int {
	for a != "" && b != "" {
		x, y := a[:1], b[:1]
		if digit(x) && digit(y) {
			x, y = number10(a), number10(b)
			if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
				return c
			}
		} else if x != y {
			return strings.Compare(x, y)
		}
		a, b = a[len(x):], b[len(y):]
	}
	return cmp.Compare(len(a), len(b))
}

func digit(s string) bool { return unicode.IsDigit(rune(s[0])) }

// number10 returns the digits at the start of s.
func number10(s string) string {
	for i := range len(s) {
		if !digit(s[i:]) {
			return s[:i]
		}
	}
	return s
}
