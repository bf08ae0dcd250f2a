package space

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
)

// trials is how many random policies each property is tried on: 30, or as
// many as the environment variable SPACE_TRIALS says, as in
//
//	SPACE_TRIALS=1000 go test ./filter/space
var trials = sync.OnceValue(func() int {
	if n, err := strconv.Atoi(os.Getenv("SPACE_TRIALS")); err == nil && n > 0 {
		return n
	}
	return 30
})

func TestConflictsAgainstBruteForce(t *testing.T) {
	t.Parallel()
	found := 0
	for seed := range uint64(trials()) {
		found += checkConflicts(t, seed)
	}
	if found < trials()/3 {
		t.Errorf("only %d conflicts: the world is too large", found)
	}
}

func checkConflicts(t testing.TB, seed uint64) (found int) {
	w := newWorld(seed)
	s := mustNew(t, w.entries(2+int(seed%8)), w.settings())
	type pair [2]filterKey
	key := func(e *filter.Entry) filterKey { return filterKey{e.Name, e.List, e.Index} }
	got, err := Conflicts(Compile(s), func(e *filter.Entry) filter.Action { return e.Action })
	if err != nil {
		t.Fatal(err)
	}
	sets := map[pair]Set{}
	for i, c := range got {
		k := pair{key(c.A), key(c.B)}
		if _, twice := sets[k]; twice || comparePositions(c.A.Position, c.B.Position) > 0 || i > 0 && comparePositions(got[i-1].A.Position, c.A.Position) > 0 {
			t.Fatalf("seed %d: %s and %s come twice or out of order", seed, c.A, c.B)
		}
		sets[k], sets[pair{k[1], k[0]}] = c.Packets, c.Packets
		if err := real(c.Sample); err != nil || !c.Packets.Contains(c.Sample.Context, &c.Sample.Packet) {
			t.Fatalf("seed %d: sample %v of %v: %v", seed, c.Sample, c.Packets.Describe(9), err)
		}
	}
	unseen := maps.Clone(sets)
	w.packets(func(x Sample, b *box) {
		want := map[pair]bool{}
		if s.Decide(x.Context, &x.Packet).Exempt == "" {
			matching := s.Matching(x.Context, &x.Packet)
			for i, a := range matching {
				for _, other := range matching[:i] {
					if a.Entry.Weight() == matching[0].Entry.Weight() && a.Action != other.Action && key(a.Entry) != key(other.Entry) {
						want[pair{key(a.Entry), key(other.Entry)}], want[pair{key(other.Entry), key(a.Entry)}] = true, true
					}
				}
			}
		}
		for k := range want {
			if _, ok := sets[k]; !ok {
				t.Fatalf("seed %d: %v conflict on %v", seed, k, x)
			}
		}
		for k, set := range sets {
			if in := set.has(b); in != want[k] {
				t.Fatalf("seed %d: %v is in dispute between %v: %v, want %v", seed, x, k, in, want[k])
			} else if in {
				delete(unseen, k)
			}
		}
	})
	if len(unseen) > 0 {
		t.Fatalf("seed %d: no packet is in dispute between %v", seed, unseen)
	}
	return len(got)
}

func TestDeadAgainstBruteForce(t *testing.T) {
	t.Parallel()
	found := 0
	for seed := range uint64(trials()) {
		found += checkDead(t, seed)
	}
	if found < trials()/3 {
		t.Errorf("only %d dead filters: the world is too large", found)
	}
}

func checkDead(t testing.TB, seed uint64) int {
	w := newWorld(seed)
	s := mustNew(t, w.entries(2+int(seed%16)), w.settings())
	key := func(e *filter.Entry) filterKey { return filterKey{e.Name, e.List, e.Index} }
	got, err := Compile(s).Dead()
	if err != nil {
		t.Fatal(err)
	}
	decides := map[filterKey]bool{}
	type pair struct{ dead, taker filterKey }
	matches, takes := map[filterKey]bool{}, map[pair]bool{}
	w.packets(func(x Sample, _ *box) {
		d := s.Decide(x.Context, &x.Packet)
		if d.Entry != nil {
			decides[key(d.Entry)] = true
		}
		for _, dead := range got {
			for _, e := range s.Entries() {
				if key(e) != key(dead.Filter) {
					continue
				}
				if _, ok := e.Match(x.Context, &x.Packet); ok {
					matches[key(e)] = true
					for _, taker := range dead.By {
						if _, ok := taker.Match(x.Context, &x.Packet); ok {
							takes[pair{key(e), key(taker)}] = true
						}
					}
				}
			}
		}
	})
	dead := map[filterKey]bool{}
	for _, d := range got {
		k := key(d.Filter)
		if decides[k] || dead[k] {
			t.Fatalf("seed %d: %s is dead, and decides or comes twice", seed, d.Filter)
		}
		dead[k] = true
		if matches[k] != (len(d.By) > 0 || d.Exempt) {
			t.Fatalf("seed %d: %s is dead by %v, exempt %v", seed, d.Filter, d.By, d.Exempt)
		}
		for _, e := range d.By {
			if !takes[pair{k, key(e)}] || key(e) == k {
				t.Fatalf("seed %d: %s is dead by %s, which takes nothing of it", seed, d.Filter, e)
			}
		}
	}
	for _, e := range s.Entries() {
		if !decides[key(e)] && !dead[key(e)] {
			t.Fatalf("seed %d: %s decides nothing and is not dead", seed, e)
		}
	}
	return len(got)
}

// change makes another policy of one: entries dropped, added, given another
// action, moved.
func (w world) change(entries []filter.Entry) []filter.Entry {
	out := append([]filter.Entry(nil), entries...)
	for range 1 + w.IntN(3) {
		i := w.IntN(len(out) + 1)
		switch n := w.IntN(5); {
		case n == 0 || i == len(out):
			out = append(out[:i:i], append([]filter.Entry{w.entry(100 + w.IntN(100))}, out[i:]...)...)
		case n == 1:
			out = append(out[:i:i], out[i+1:]...)
		case n == 2 && !out[i].Stateful:
			out[i].Action = filter.Action(1 + w.IntN(3))
		case n == 3:
			j := w.IntN(len(out))
			out[i], out[j] = out[j], out[i]
		default:
			out[i].Mirrored = !out[i].Mirrored
		}
	}
	return out
}

func TestDiffAgainstBruteForce(t *testing.T) {
	t.Parallel()
	found := 0
	for seed := range uint64(trials()) {
		found += checkDiff(t, seed)
	}
	if found < trials()/3 {
		t.Errorf("only %d changes: the world is too large", found)
	}
}

func checkDiff(t testing.TB, seed uint64) int {
	w := newWorld(seed)
	entries := w.entries(1 + int(seed%12))
	settings := w.settings()
	old := mustNew(t, entries, settings)
	if w.IntN(4) == 0 {
		settings = w.settings()
	}
	new := mustNew(t, w.change(entries), settings)
	// Fates finer or coarser than actions; some tell where nothing matches.
	kind := w.IntN(3)
	fate := func(v Version, d filter.Decision) string {
		switch {
		case kind == 0 && d.Entry != nil:
			return d.Entry.Name
		case kind == 1 && d.Exempt != "":
			return "exempt"
		case kind == 1 && d.Entry == nil:
			return fmt.Sprint("none, ", v)
		}
		return d.Action.String()
	}
	got, err := Diff(Compile(old), Compile(new), fate)
	if err != nil {
		t.Fatal(err)
	}
	type key struct {
		d        filter.Direction
		from, to string
	}
	sets, unseen := map[key]Set{}, map[key]bool{}
	for _, c := range got {
		k := key{c.Direction, c.From, c.To}
		if _, twice := sets[k]; twice || c.From == c.To {
			t.Fatalf("seed %d: %v comes twice", seed, k)
		}
		sets[k], unseen[k] = c.Packets, true
		x := c.Sample
		if err := real(x); err != nil || !c.Packets.Contains(x.Context, &x.Packet) ||
			fate(Old, old.Decide(x.Context, &x.Packet)) != c.From || fate(New, new.Decide(x.Context, &x.Packet)) != c.To {
			t.Fatalf("seed %d: sample %v of %v: %v", seed, x, c.Packets.Describe(9), err)
		}
		if len(c.Packets.Describe(3)) == 0 {
			t.Fatalf("seed %d: %v has no description", seed, k)
		}
	}
	w.packets(func(x Sample, b *box) {
		want := key{x.Context.Direction, fate(Old, old.Decide(x.Context, &x.Packet)), fate(New, new.Decide(x.Context, &x.Packet))}
		if _, ok := sets[want]; !ok && want.from != want.to {
			t.Fatalf("seed %d: %v goes from %s to %s, and is in no change", seed, x, want.from, want.to)
		}
		for k, set := range sets {
			if in := set.has(b); in != (k == want) {
				t.Fatalf("seed %d: %v goes from %s to %s, and is in the change %v: %v\n%v", seed, x, want.from, want.to, k, in, set.Describe(9))
			}
		}
		delete(unseen, want)
	})
	if len(unseen) > 0 {
		t.Fatalf("seed %d: no packet changes as in %v", seed, unseen)
	}
	return len(got)
}

func TestViolationAgainstBruteForce(t *testing.T) {
	t.Parallel()
	found := 0
	for seed := range uint64(trials()) {
		found += checkViolation(t, seed)
	}
	if found < trials()/4 || found > trials()*3/4 {
		t.Errorf("%d violations of %d: the assertions are one-sided", found, trials())
	}
}

func checkViolation(t testing.TB, seed uint64) int {
	w := newWorld(seed)
	s := mustNew(t, w.entries(1+int(seed%12)), w.settings())
	p := Compile(s)
	region := Of(w.entries(1 + w.IntN(2))...)
	if w.IntN(3) == 0 {
		region = region.Subtract(Of(w.entry(0)))
	}
	never := filter.Action(1 + w.IntN(3))
	allowed := func(d filter.Decision) bool { return d.Action != never }
	x, violated, err := p.Violation(region, allowed)
	if err != nil {
		t.Fatal(err)
	}
	if violated {
		if err := real(x); err != nil || !region.Contains(x.Context, &x.Packet) || allowed(s.Decide(x.Context, &x.Packet)) {
			t.Fatalf("seed %d: %v is no counterexample: %s, %v", seed, x, s.Decide(x.Context, &x.Packet).Why(), err)
		}
	}
	outcomes, err := p.Outcomes(region, 1000)
	if err != nil {
		t.Fatal(err)
	}
	sets, unseen := map[filter.Decision]Set{}, map[filter.Decision]bool{}
	for _, o := range outcomes {
		sets[o.Decision], unseen[o.Decision] = o.Packets, true
		if err := real(o.Sample); err != nil || s.Decide(o.Sample.Context, &o.Sample.Packet) != o.Decision || !o.Packets.Contains(o.Sample.Context, &o.Sample.Packet) {
			t.Fatalf("seed %d: sample %v of %s: %v", seed, o.Sample, o.Decision.Why(), err)
		}
	}
	if len(sets) != len(outcomes) {
		t.Fatalf("seed %d: a decision comes twice", seed)
	}
	w.packets(func(x Sample, b *box) {
		if !region.has(b) {
			return
		}
		d := s.Decide(x.Context, &x.Packet)
		if !allowed(d) && !violated {
			t.Fatalf("seed %d: %v is a counterexample: %s", seed, x, d.Why())
		}
		delete(unseen, d)
		if _, ok := sets[d]; !ok {
			t.Fatalf("seed %d: %s is no outcome", seed, d.Why())
		}
		for o, set := range sets {
			if in := set.has(b); in != (o == d) {
				t.Fatalf("seed %d: %v has outcome %s: %v; it has %s", seed, x, o.Why(), in, d.Why())
			}
		}
	})
	if len(unseen) > 0 {
		t.Fatalf("seed %d: no packet has outcome %v", seed, unseen)
	}
	if violated {
		return 1
	}
	return 0
}

// Diff of a policy and itself in another order of filters that do not
// contradict each other is empty.
func TestDiffOfEqualPolicies(t *testing.T) {
	for seed := range uint64(trials()) {
		w := newWorld(seed)
		entries := w.entries(10)
		for i := range entries {
			entries[i].Name = entries[i].Action.String()
		}
		old := Compile(mustNew(t, entries, filter.Settings{Generation: 1}))
		shuffled := append([]filter.Entry(nil), entries...)
		rand.New(rand.NewPCG(seed, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		new := Compile(mustNew(t, shuffled, filter.Settings{Generation: 2}))
		got, err := Diff(old, new, func(_ Version, d filter.Decision) filter.Action { return d.Action })
		if err != nil || len(got) != 0 {
			t.Fatalf("seed %d: %v, %v", seed, got, err)
		}
	}
}

func FuzzPolicies(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		checkConflicts(t, seed)
		checkDead(t, seed)
		checkDiff(t, seed)
		checkViolation(t, seed)
	})
}
