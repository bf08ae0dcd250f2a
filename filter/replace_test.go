package filter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Replace again and again is what New makes of the list as it is then.
func TestReplaceAgainstNew(t *testing.T) {
	w := world{rand.New(rand.NewPCG(26, 11))}
	for n := range 60 {
		list := w.entries(3 + n%20)
		if n%3 == 0 { // with many that are alike
			list = append(list, w.entries(2)...)
			for i := range list {
				list[i].Selector = list[i%3].Selector
				list[i].Forward = list[i%3].Forward
			}
		}
		for i := range list {
			list[i].Name = fmt.Sprintf("%d.%d", n, i)
			if list[i].Action == Permit && list[i].Forward {
				list[i].Options.Limit = Limit{Packets: uint32(1 + i), Per: PerSecond}
			}
		}
		s := mustNew(t, list...)
		for step := range 12 {
			at, count := w.IntN(len(list)), 1+w.IntN(2)
			count = min(count, len(list)-at)
			come := w.entries(count)
			for i := range come {
				come[i].Name = fmt.Sprintf("%d.%d.%d", n, step, i)
				if w.IntN(2) == 0 {
					old := list[w.IntN(len(list))]
					come[i].Selector, come[i].Forward, come[i].Mirrored = old.Selector, old.Forward, old.Mirrored
				}
			}
			// One at a time, as they stand in the file.
			before := slices.Clone(s.Entries())
			for i := range come {
				gone := slices.IndexFunc(s.Entries(), func(e *Entry) bool { return e.Name == list[at+i].Name })
				next, err := s.Replace(s.Entries()[gone:gone+1], come[i:i+1], Settings{Generation: 7})
				if err != nil {
					t.Fatal(err)
				}
				list[at+i], s = come[i], next
			}
			fresh := mustNew(t, list...)
			name := func(e *Entry) string { return e.Name }
			if got, want := names(s.Entries(), name), names(fresh.Entries(), name); got != want {
				t.Fatalf("policy %d, step %d: order %s, want %s", n, step, got, want)
			}
			for range 60 {
				p, c := w.packet(), w.context()
				got, want := s.Lookup(c, &p), fresh.Lookup(c, &p)
				if (got.Entry == nil) != (want.Entry == nil) || got.Entry != nil && got.Entry.Name != want.Entry.Name || got.Mirror != want.Mirror {
					t.Fatalf("policy %d, step %d, %+v %+v:\n got %s\nwant %s", n, step, c, p, got.Why(), want.Why())
				}
				if a := byGroups(s, c, &p); a != got.Action {
					t.Fatalf("policy %d, step %d, %+v %+v: groups say %v, Lookup %s", n, step, c, p, a, got.Why())
				}
			}
			for _, d := range Directions {
				if got, want := tuplesIn(s.Groups(d)), tuplesIn(fresh.Groups(d)); !slices.Equal(got, want) {
					t.Fatalf("policy %d, step %d: groups of %s\n%s\nwant\n%s", n, step, d, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
			if len(before) != len(list) {
				t.Fatal("the SPD before has changed")
			}
		}
	}
}

func names(entries []*Entry, name func(*Entry) string) string {
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = name(e)
	}
	return strings.Join(out, " ")
}

func tuplesIn(groups []Group) []string {
	var out []string
	for _, g := range groups {
		for i, t := range g.Tuples {
			out = append(out, fmt.Sprintf("%d %v %v %v %s %s", g.Weight, g.Action, g.Options, g.Mirror, g.Entries[i].Name, fmt.Sprint(g.Shape, t)))
		}
	}
	slices.Sort(out)
	return out
}

// The SPD that was replaced still decides as it did.
func TestReplaceLeavesTheOldOne(t *testing.T) {
	w := world{rand.New(rand.NewPCG(3, 4))}
	list := w.entries(20)
	s, fresh := mustNew(t, list...), mustNew(t, list...)
	for range 10 {
		if _, err := s.Replace(s.Entries()[w.IntN(20):][:1], w.entries(2), Settings{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2000 {
		p, c := w.packet(), w.context()
		if got, want := s.Lookup(c, &p), fresh.Lookup(c, &p); got.Why() != want.Why() {
			t.Fatalf("%+v %+v: %s, want %s", c, p, got.Why(), want.Why())
		}
	}
}

func TestReplaceRefuses(t *testing.T) {
	s := payroll(t)
	if _, err := s.Replace(nil, nil, Settings{}); err == nil {
		t.Error("nothing was replaced, and that was no error")
	}
	bad := Entry{Position: "p.yaml:1:1", Action: Permit}
	if _, err := s.Replace(s.Entries()[:1], []Entry{bad}, Settings{}); err == nil || !strings.HasPrefix(err.Error(), "p.yaml:1:1") {
		t.Errorf("error %v", err)
	}
}

func BenchmarkReplace(b *testing.B) {
	entries := make([]Entry, 100000)
	for i := range entries {
		entries[i] = Entry{Name: "r", Mirrored: true, Action: Negotiate,
			Selector: tcp(Address(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), Me(), PortRange{}, PortRange{443, 443})}
	}
	s := mustNew(b, entries...)
	for b.Loop() {
		come := entries[5000]
		come.Selector.ToPort = PortRange{444, 444}
		if _, err := s.Replace(s.Entries()[5000:5001], []Entry{come}, Settings{}); err != nil {
			b.Fatal(err)
		}
	}
}
