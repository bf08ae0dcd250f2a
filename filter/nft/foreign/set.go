package foreign

import (
	"bytes"
	"slices"
	"sort"
)

// set is a set or map.
type set struct {
	keyLen, dataLen int
	fields          []int // lengths of the fields of a concatenation, each padded to words
	interval        bool
	unread          bool // it is too large, or it could not be read

	elements []element
	exact    map[string]int // by key, in elements; of a set without intervals
	catchall *element       // it holds every key that no other does
}

// element is one element of a set.
type element struct {
	key, end    []byte // end of a range of keys, inclusive; nil for the one key
	intervalEnd bool   // key is the first that an interval no longer holds
	uncertain   bool   // it has state of its own that may refuse the packet
	data        []byte
	verdict     *verdict
}

// finish makes the set ready for find, when all elements are there.
func (s *set) finish() {
	if s.interval && len(s.fields) < 2 {
		// Where an interval ends and the next begins, the beginning counts.
		slices.SortFunc(s.elements, func(a, b element) int {
			c := bytes.Compare(a.key, b.key)
			if c == 0 && a.intervalEnd != b.intervalEnd {
				c = 1
				if a.intervalEnd {
					c = -1
				}
			}
			return c
		})
	}
	s.exact = make(map[string]int, len(s.elements))
	for i := range s.elements {
		s.exact[string(s.elements[i].key)] = i
	}
}

// find returns the elements that may hold a key of which only some bits may be
// known, and whether it may be in none of them.
func (s *set) find(key, known []byte) (hits []*element, miss bool) {
	switch {
	case !s.interval && allKnown(known):
		if i, ok := s.exact[string(key)]; ok {
			return []*element{&s.elements[i]}, false
		}
		miss = true
	case s.interval && len(s.fields) < 2:
		hits, miss = s.between(key, known)
	default:
		miss = true
		for i := range s.elements {
			e := &s.elements[i]
			switch s.holds(e, key, known) {
			case yes:
				return append(hits, e), false
			case maybe:
				hits = append(hits, e)
			}
		}
	}
	if miss && s.catchall != nil {
		return append(hits, s.catchall), false
	}
	return hits, miss
}

// between finds a key among intervals.
func (s *set) between(key, known []byte) (hits []*element, miss bool) {
	if !allKnown(known) {
		for i := range s.elements {
			if e := &s.elements[i]; !e.intervalEnd {
				hits = append(hits, e)
			}
		}
		return hits, true
	}
	after := sort.Search(len(s.elements), func(i int) bool { return bytes.Compare(s.elements[i].key, key) > 0 })
	if after == 0 {
		return nil, true
	}
	e := &s.elements[after-1]
	if e.intervalEnd || e.end != nil && bytes.Compare(key, e.end) > 0 {
		return nil, true
	}
	return []*element{e}, false
}

// holds reports whether an element has a key, field by field.
func (s *set) holds(e *element, key, known []byte) truth {
	end := e.end
	if end == nil {
		end = e.key
	}
	if len(e.key) != len(key) || len(end) != len(key) {
		return maybe
	}
	fields := s.fields
	if len(fields) == 0 {
		fields = []int{len(key)}
	}
	held := yes
	for _, n := range fields {
		if n > len(key) {
			return maybe
		}
		held = min(held, inRange(key[:n], known[:n], e.key[:n], end[:n]))
		next := min((n+3)&^3, len(key))
		key, known, end = key[next:], known[next:], end[next:]
		e = &element{key: e.key[next:]}
	}
	return held
}
