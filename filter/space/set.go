package space

import (
	"slices"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Set is a set of packets of the universe, as the package's comment has it.
// It is exact, and immutable. The zero value is the empty set.
//
// It is a union of terms, each a box without others. What is left of a box
// is worked out no sooner than asked for, so that all packets but those of
// 100,000 filters are one term.
type Set struct {
	terms []term
	// unicast says that what the host sends to groups and to all hosts of a
	// link is none of this set's matter, since the policies exempt it. A
	// description does not mention that it is not in the set.
	unicast bool
}

// term is the packets of a box that are in none of the others, which are all
// of its direction and family.
type term struct {
	box
	except []*box
}

// Of returns the packets that at least one of the entries matches, whatever
// other filters do with them.
func Of(entries ...filter.Entry) Set {
	var s Set
	for i := range entries {
		for _, d := range filter.Directions {
			for _, mirror := range []bool{false, true} {
				h, ok := entries[i].Half(d, mirror)
				if !ok {
					continue
				}
				for _, v6 := range []bool{false, true} {
					if b, ok := boxOf(d, &h, v6); ok {
						s.terms = append(s.terms, term{box: b})
					}
				}
			}
		}
	}
	return s
}

// All returns the universe.
func All() Set {
	var s Set
	for _, d := range filter.Directions {
		s.terms = append(s.terms, term{box: whole(d, false)}, term{box: whole(d, true)})
	}
	return s
}

// plane tells the direction and family of boxes that can meet.
func (b *box) plane() int { return planeOf(b.direction, b.v6) }

func planeOf(d filter.Direction, v6 bool) int {
	n := int(d-1) * 2
	if v6 {
		n++
	}
	return n
}

const planes = 2 * len(filter.Directions)

// Union returns the packets that are in s or in t.
func (s Set) Union(t Set) Set {
	return Set{slices.Concat(s.terms, t.terms), s.unicast && t.unicast}
}

// Intersect returns the packets that are in s and in t.
func (s Set) Intersect(t Set) Set {
	out := Set{unicast: s.unicast || t.unicast}
	for i := range s.terms {
		for j := range t.terms {
			a, b := &s.terms[i], &t.terms[j]
			if a.plane() != b.plane() {
				continue
			}
			if common, ok := a.and(&b.box); ok {
				out.add(common, a.except, b.except)
			}
		}
	}
	return out
}

// Subtract returns the packets that are in s and not in t.
func (s Set) Subtract(t Set) Set {
	for j := range t.terms {
		b := &t.terms[j]
		out := Set{unicast: s.unicast}
		for i := range s.terms {
			a := &s.terms[i]
			if a.plane() != b.plane() || !a.meets(&b.box) {
				out.terms = append(out.terms, *a)
				continue
			}
			// What b leaves out is not taken out of a.
			out.add(a.box, a.except, []*box{&b.box})
			for k, x := range b.except {
				if common, ok := a.and(x); ok {
					if common, ok = common.and(&b.box); ok {
						out.add(common, a.except, b.except[:k])
					}
				}
			}
		}
		s = out
	}
	return s
}

// add adds the packets of b that are in none of the others, unless one of
// those has all of them.
func (s *Set) add(b box, others ...[]*box) {
	t := term{box: b}
	for _, list := range others {
		for _, x := range list {
			if x.contains(&b) {
				return
			}
			if x.meets(&b) {
				t.except = append(t.except, x)
			}
		}
	}
	s.terms = append(s.terms, t)
}

// Contains reports whether a packet is in the set. Packets outside of the
// universe are in none.
func (s Set) Contains(c filter.Context, p *packet.Packet) bool {
	b, ok := point(c, p)
	return ok && s.has(&b)
}

func (s Set) has(point *box) bool {
	for i := range s.terms {
		if t := &s.terms[i]; t.plane() == point.plane() && t.has(point) {
			return true
		}
	}
	return false
}

func (t *term) has(point *box) bool {
	return t.contains(point) && !slices.ContainsFunc(t.except, func(x *box) bool { return x.contains(point) })
}

// Empty reports whether no packet is in the set. The error wraps
// ErrUndecided.
func (s Set) Empty() (bool, error) {
	_, ok, err := s.Sample()
	return !ok && err == nil, err
}

// Sample returns a packet of the set, a common one if there is; ok is false
// when the set is empty. The error wraps ErrUndecided.
func (s Set) Sample() (packet Sample, ok bool, err error) {
	if packet, ok = s.common(); ok {
		return packet, true, nil
	}
	find := search{work: maxWork}
	for _, t := range s.terms {
		part, found, failed := find.uncovered(t.box, t.except)
		if found {
			return s.better(part.pick(likely)), true, nil
		}
		if failed != nil {
			return packet, false, failed
		}
	}
	return packet, false, nil
}
