package space

import (
	"slices"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
)

// checkAlgebra tries the laws of sets on random sets of packets, each known
// by the filters that it is made of.
func checkAlgebra(t testing.TB, seed uint64) {
	w := newWorld(seed)
	a, b, c := w.entries(1+w.IntN(3)), w.entries(1+w.IntN(3)), w.entries(1+w.IntN(3))
	in := func(entries []filter.Entry, x Sample) bool {
		return slices.ContainsFunc(entries, func(e filter.Entry) bool {
			_, ok := e.Match(x.Context, &x.Packet)
			return ok
		})
	}
	A, B, C := Of(a...), Of(b...), Of(c...)
	sets := []struct {
		name string
		set  Set
		want func(a, b, c bool) bool
	}{
		{"A", A, func(a, b, c bool) bool { return a }},
		{"A or B", A.Union(B), func(a, b, c bool) bool { return a || b }},
		{"A and B", A.Intersect(B), func(a, b, c bool) bool { return a && b }},
		{"A less B", A.Subtract(B), func(a, b, c bool) bool { return a && !b }},
		{"A less B less C", A.Subtract(B).Subtract(C), func(a, b, c bool) bool { return a && !b && !c }},
		{"A less (B less C)", A.Subtract(B.Subtract(C)), func(a, b, c bool) bool { return a && (!b || c) }},
		{"(A less B) and (C less B)", A.Subtract(B).Intersect(C.Subtract(B)), func(a, b, c bool) bool { return a && c && !b }},
		{"not (A or B)", All().Subtract(A.Union(B)), func(a, b, c bool) bool { return !a && !b }},
		{"not A and not B", All().Subtract(A).Intersect(All().Subtract(B)), func(a, b, c bool) bool { return !a && !b }},
		{"not not A", All().Subtract(All().Subtract(A)), func(a, b, c bool) bool { return a }},
		{"A less A", A.Subtract(A), func(a, b, c bool) bool { return false }},
		{"A less all", A.Subtract(All()), func(a, b, c bool) bool { return false }},
		{"(A or B) less B less A", A.Union(B).Subtract(B).Subtract(A), func(a, b, c bool) bool { return false }},
		{"(A less B) or (A and B)", A.Subtract(B).Union(A.Intersect(B)), func(a, b, c bool) bool { return a }},
	}
	seen := make([]bool, len(sets))
	simple, described, unicast := make([]Set, len(sets)), make([]Set, len(sets)), make([]Set, len(sets))
	for i, s := range sets {
		simple[i] = s.set.Simplify()
		described[i] = asDescribed(s.set)
		s.set.unicast = true
		unicast[i] = asDescribed(s.set)
	}
	w.packets(func(x Sample, point *box) {
		inA, inB, inC := in(a, x), in(b, x), in(c, x)
		for i, s := range sets {
			want := s.want(inA, inB, inC)
			seen[i] = seen[i] || want
			if s.set.has(point) != want || simple[i].has(point) != want {
				t.Fatalf("seed %d: %v is in %s: want %v\n%s\n%s", seed, x, s.name, want, strings.Join(s.set.Describe(20), "\n"), strings.Join(simple[i].Describe(20), "\n"))
			}
			if described[i].has(point) != want || !filter.IsMulticast(x.Packet.Dst) && unicast[i].has(point) != want {
				t.Fatalf("seed %d: %v is in %s: want %v, described as\n%s", seed, x, s.name, want, strings.Join(s.set.Describe(20), "\n"))
			}
		}
	})
	for i, s := range sets {
		x, ok, err := s.set.Sample()
		if err != nil || ok != seen[i] {
			t.Fatalf("seed %d: %s has a sample: %v, %v, want %v", seed, s.name, ok, err, seen[i])
		}
		if empty, err := simple[i].Empty(); err != nil || empty == seen[i] {
			t.Fatalf("seed %d: %s is empty: %v, %v", seed, s.name, empty, err)
		}
		if err := real(x); ok && (err != nil || !s.set.Contains(x.Context, &x.Packet)) {
			t.Fatalf("seed %d: sample %v of %s: %v", seed, x, s.name, err)
		}
	}
}

// asDescribed returns the packets of the lines by which a set is described.
func asDescribed(s Set) (out Set) {
	for _, l := range s.lines() {
		for _, x := range l.pairs {
			l.except = append(l.except, &x.box)
			l.twin.except = append(l.twin.except, &x.twin.box)
		}
		if out.terms = append(out.terms, l.term); l.twin != nil {
			out.terms = append(out.terms, *l.twin)
		}
	}
	return out
}

func TestAlgebra(t *testing.T) {
	t.Parallel()
	for seed := range uint64(trials() / 3) {
		checkAlgebra(t, seed)
	}
}

func FuzzAlgebra(f *testing.F) {
	for seed := range uint64(3) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { checkAlgebra(t, seed) })
}

func TestNames(t *testing.T) {
	a, b, none := oneName("a"), oneName("b"), names{}
	ab, notA := a.or(b), a.not()
	for _, tt := range []struct {
		what      string
		got, want names
	}{
		{"a and b", a.and(b), none},
		{"a or b", ab, names{"a/b", false}},
		{"b or a", b.or(a), ab},
		{"ab and not a", ab.and(notA), b},
		{"not a and ab", notA.and(ab), b},
		{"not a and not b", notA.and(b.not()), names{"a/b", true}},
		{"not a or b", notA.or(b), notA},
		{"not a or a", notA.or(a), allNames},
		{"ab less b", ab.minus(b), a},
		{"a less ab", a.minus(ab), none},
		{"all less a", allNames.minus(a), notA},
		{"all and ab", allNames.and(ab), ab},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %+v, want %+v", tt.what, tt.got, tt.want)
		}
	}
	if !notA.contains(b) || notA.contains(ab) || !ab.contains(a) || a.meets(b) || !a.meets(b.not()) || allNames.minus(allNames) != none {
		t.Error("contains or meets is wrong")
	}
}

func TestComparePositions(t *testing.T) {
	order := []string{"", "a.yaml", "a.yaml:7:7", "a.yaml:7:12", "a.yaml:10:3", "b.yaml:1:1", "b10.yaml:1:1"}
	for i, a := range order {
		for j, b := range order {
			got, want := comparePositions(a, b), 0
			switch {
			case i < j:
				want = -1
			case i > j:
				want = 1
			}
			if got != want {
				t.Errorf("compare %q and %q: %d, want %d", a, b, got, want)
			}
		}
	}
}
