package rules

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Set is an address set: addresses that share a name, for filters and other
// sets to use.
type Set struct {
	Name     string
	Members  []Side // at least one; neither any nor me
	Position Position
}

const writeSets = "address-sets: {NAME: [10.1.0.0/16, 10.3.0.1-10.3.0.9]}"

func addressSets[T any](of func(*T) *[]Set) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) { *of(into) = r.readSets(n, k) },
		describe: func(*definitions) *schema {
			return mapOf(listOf(describeSide(dynamicNames())))
		},
	}
}

// readSets reads "address-sets".
func (r *reader) readSets(n *node, k keyed) []Set {
	var sets []Set
	r.readDefinitions(n, k, "address set", "has no addresses", "write a list after it, as in [10.1.0.0/16]", func(f field) {
		var members distinct[Side]
		r.readList(f.value, fmt.Sprintf("address set %q", f.key), "a list, as in [10.1.0.0/16, 10.3.0.1-10.3.0.9]", func(v *node) {
			m, ok := r.readSide(v, keyed{"address-sets", ""})
			switch {
			case !ok:
			case m.Kind == SideFixed && m.Fixed.Kind() != filter.SideAddresses:
				r.report(v.at, fmt.Sprintf("%q is no member of an address set", m), "write it in the filter, or addresses here")
			case !members.add(m):
				r.report(v.at, fmt.Sprintf("%s comes twice in address set %q", m, f.key), "remove one of the two")
			}
		})
		sets = append(sets, Set{f.key, members.list, f.at})
	})
	return sets
}

// checkSets reports sets that are used and not defined, and sets that contain
// themselves.
func (r *reader) checkSets(f *File, defined map[string]*node) {
	for _, s := range r.sets {
		if defined[s.name] == nil {
			known := slices.Sorted(maps.Keys(defined))
			r.report(s.at, fmt.Sprintf("address set %q is not defined", s.name), didYouMean(s.name, known, definedHint("address-sets", known)))
		}
	}
	const visiting, done = 1, 2
	state, sets := map[string]int{}, f.names().sets
	var visit func(s *Set) bool
	visit = func(s *Set) bool { // reports whether it leads to a set being visited
		switch {
		case s == nil || state[s.Name] == done:
			return false
		case state[s.Name] == visiting:
			return true
		}
		state[s.Name] = visiting
		for _, m := range s.Members {
			if m.Kind == SideSet && visit(sets[m.Name]) {
				r.report(s.Position, fmt.Sprintf("address set %q contains itself, by {set: %s}", s.Name, quote(m.Name)), "remove one of the sets from the other")
				break
			}
		}
		state[s.Name] = done
		return false
	}
	for i := range f.Sets {
		visit(&f.Sets[i])
	}
}
