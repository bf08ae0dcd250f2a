package rules

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
)

// A file with two long lists, one of which two rules use, and short ones.
func editable(n int) []string {
	lines := strings.Split(`version: 1
name: editable
address-sets:
  staff: [10.1.0.0/16, 10.3.0.1-10.3.0.9]
filter-lists:
  long:
LONG
  short:
    - {from: 10.7.0.1, to: me}
    # a comment
    - {from: 10.7.0.2, to: me} # another
    -
      from: 10.7.0.3
      to: me
    - {from: 10.7.0.4,
       to: me}
    - {from: 10.7.0.5, to: me}
  flow: [
      {from: 10.8.0.1, to: me},
      {from: 10.8.0.2, to: me},
      {from: 10.8.0.3, to: me}]
  second:
SECOND
rules:
  - {name: a, filter-list: long, action: permit}
  - {name: b, filter-list: long, action: block, connection: lan}
  - {name: c, filter-list: short, action: permit}
  - {name: d, filter-list: second, action: permit, enabled: false}
  - {name: e, filter-list: flow, action: permit}`, "\n")
	var out []string
	for _, l := range lines {
		switch l {
		case "LONG", "SECOND":
			for i := range n {
				out = append(out, fmt.Sprintf("    - {from: 10.%d.%d.%d, to: me, protocol: tcp, to-port: %d}", len(l), i>>8&255, i&255, 1+i%60000))
			}
		default:
			out = append(out, l)
		}
	}
	return out
}

func textOf(lines []string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }

func TestReread(t *testing.T) {
	const first = 7 // line of the first long filter
	for _, tt := range []struct {
		name string
		edit func(lines []string) []string
		want Edit // with Count 0: Parse has to do it
	}{
		{"another port", func(l []string) []string {
			l[first] = "    - {from: 10.4.0.1, to: me, protocol: tcp, to-port: 9999}"
			return l
		}, Edit{"long", 1, 1}},
		{"two filters", func(l []string) []string {
			l[first+4] = "    - {from: me, to: {set: staff}, protocol: udp}"
			l[first+5] = `    - {from: 10.4.0.9, to: me, description: "all of it"}`
			return l
		}, Edit{"long", 5, 2}},
		{"the first one of the list", func(l []string) []string { l[first-1] = "    - {from: 10.4.9.9, to: me}"; return l }, Edit{"long", 0, 1}},
		{"a list that no rule uses", func(l []string) []string {
			for i := range l {
				if strings.HasPrefix(l[i], "    - {from: 10.6.0.3,") {
					l[i] = "    - {from: 10.6.9.9, to: me}"
				}
			}
			return l
		}, Edit{"second", 3, 1}},
		{"nothing", func(l []string) []string { return l }, Edit{}},
		{"the last one of the list", func(l []string) []string { l[first+18] = "    - {from: 10.4.9.9, to: me}"; return l }, Edit{}},
		{"one more", func(l []string) []string {
			return append(append(append([]string{}, l[:first]...), "    - {from: 10.4.9.9, to: me}"), l[first:]...)
		}, Edit{}},
		{"one less", func(l []string) []string { return append(append([]string{}, l[:first]...), l[first+1:]...) }, Edit{}},
		{"an error", func(l []string) []string { l[first] = "    - {from: 10.4.0.1, to: me, to-port: 9999}"; return l }, Edit{}},
		{"a comment", func(l []string) []string { l[first] += " # why"; return l }, Edit{}},
		{"an open quote", func(l []string) []string { l[first] = `    - {from: 10.4.0.1, to: me, description: "x}`; return l }, Edit{}},
		{"an open bracket", func(l []string) []string { l[first] = `    - {from: [10.4.0.1, to: me}`; return l }, Edit{}},
		{"another column", func(l []string) []string { l[first] = " " + l[first]; return l }, Edit{}},
		{"two lists", func(l []string) []string {
			l[first] = "    - {from: 10.4.9.9, to: me}"
			l[len(l)-8] = "    - {from: 10.4.9.9, to: me}"
			return l
		}, Edit{}},
		{"a rule", func(l []string) []string { l[len(l)-1] = "  - {name: e, filter-list: flow, action: block}"; return l }, Edit{}},
		{"the name", func(l []string) []string { l[1] = "name: other"; return l }, Edit{}},
		{"inside a flow list", func(l []string) []string {
			for i := range l {
				l[i] = strings.Replace(l[i], "10.8.0.2", "10.8.0.9", 1)
			}
			return l
		}, Edit{}},
		{"an item with a comment before it", func(l []string) []string {
			for i := range l {
				l[i] = strings.Replace(l[i], "10.7.0.1", "10.7.0.9", 1)
			}
			return l
		}, Edit{}},
		{"a line without an end", func(l []string) []string { l[len(l)-1] += " "; return l }, Edit{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old, src := textOf(editable(20)), textOf(tt.edit(editable(20)))
			f := mustParse(t, "p.yaml", old)
			g, e, ok := f.Reread(old, src)
			if ok != (tt.want.Count > 0) || ok && e != tt.want {
				t.Fatalf("edit %+v, %v; want %+v", e, ok, tt.want)
			}
			if ok {
				same(t, f, g, mustParse(t, "p.yaml", src), e)
			}
		})
	}
}

// same checks that what Reread made of f is what Parse makes.
func same(t *testing.T, f, got, want *File, e Edit) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("Reread made\n%s\nwant\n%s", got.Print(), want.Print())
	}
	a := Addresses{}
	all, edited := want.Entries(a), got.EditedEntries(a, e)
	for _, x := range all {
		if x.List == e.List && x.Index >= e.First && x.Index < e.First+e.Count {
			if len(edited[x.Name]) == 0 || edited[x.Name][0] != x {
				t.Fatalf("edited entries %v, want %v next", edited[x.Name], x)
			}
			edited[x.Name] = edited[x.Name][1:]
		}
	}
	for rule, rest := range edited {
		if len(rest) > 0 {
			t.Fatalf("rule %s has more edited entries: %v", rule, rest)
		}
	}
}

// Any change of a few characters is read as Parse reads it, or not at all.
func TestRereadAgainstParse(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	lines := editable(30)
	old := textOf(lines)
	f := mustParse(t, "p.yaml", old)
	reread := 0
	for n := range 600 {
		src := append([]byte{}, old...)
		for range 1 + r.IntN(3) {
			at := r.IntN(len(src))
			if n%2 == 0 { // a digit for another, which mostly is an edit
				for src[at] < '0' || src[at] > '9' {
					at = r.IntN(len(src))
				}
				src[at] = byte('0' + r.IntN(10))
				break
			}
			switch r.IntN(3) {
			case 0:
				src[at] = "0123456789 {}[]\"'#:,-\nabc"[r.IntN(24)]
			case 1:
				src = append(src[:at], src[at+1:]...)
			case 2:
				src = append(src[:at], append([]byte{"0123456789 {}[]\"'#:,-\n"[r.IntN(21)]}, src[at:]...)...)
			}
		}
		g, e, ok := f.Reread(old, src)
		want, err := Parse("p.yaml", src)
		if !ok {
			continue
		}
		if err != nil {
			t.Fatalf("Reread took what Parse refuses: %v\n%s", err, src)
		}
		reread++
		same(t, f, g, want, e)
	}
	if reread < 100 {
		t.Errorf("only %d changes were read again", reread)
	}
}

func BenchmarkReread(b *testing.B) {
	lines := editable(100_000)
	old := textOf(lines)
	f, err := Parse("p.yaml", old)
	if err != nil {
		b.Fatal(err)
	}
	lines[50_000] = "    - {from: 10.99.0.1, to: me, protocol: tcp, to-port: 9999}"
	src := textOf(lines)
	var entries map[string][]filter.Entry
	for b.Loop() {
		g, e, ok := f.Reread(old, src)
		if !ok {
			b.Fatal("not read")
		}
		entries = g.EditedEntries(Addresses{}, e)
	}
	if len(entries) != 2 {
		b.Errorf("%d rules have edited entries", len(entries))
	}
}
