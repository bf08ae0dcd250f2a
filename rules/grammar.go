package rules

import (
	"fmt"
	"time"
)

// The grammar is tables of keys. Parse reads a file by them and Schema
// describes them, so that the two cannot differ. They hold no state: a value
// is read into a T that is passed along.

// table is the keys that a mapping may have, at most 64, in the order in
// which messages name them.
type table[T any] []key[T]

// key is a key that a mapping may have.
type key[T any] struct {
	name     string
	about    string // what it says, in one line, for the schema
	write    string // an example of the key with its value, for messages
	required bool
	unless   string // another key, beside which a required one may be missing
	formerly string // what it was called in older files
	value    value[T]
}

// value is what may stand behind a key.
type value[T any] struct {
	read     func(r *reader, n *node, k keyed, into *T)
	describe func(d *definitions) *schema
}

// keyed is what a value knows of its key.
type keyed struct{ name, write string }

// read gives the value of each known key of n to its reader. It reports
// unknown keys, keys that come twice, keys without a value and keys that are
// missing. What names the mapping, as in "a filter". It returns false when n
// is no mapping.
func (t table[T]) read(r *reader, n *node, what string, into *T) bool {
	switch {
	case len(t) == 0 && (n.kind != mapping || len(n.fields) > 0):
		r.report(n.at, what+" takes no settings", "write nothing between its braces: {}")
		return false
	case n.kind != mapping:
		r.report(n.at, fmt.Sprintf("%s must be a mapping, not %s", what, n.kind), "write it as KEY: VALUE, with the keys "+allOf(t.names()))
		return false
	}
	var seen, meant uint64 // by the place in the table
	for i := range n.fields {
		f := &n.fields[i]
		at := t.find(f.key)
		switch {
		case at >= 0 && seen>>at&1 != 0 || at < 0 && n.first(f.key) < i:
			r.report(f.at, fmt.Sprintf("%s comes twice in %s", r.key(f.key), what),
				fmt.Sprintf("remove one of the two; the first is on line %d", n.fields[n.first(f.key)].at.Line))
		case at < 0:
			if at = t.unknown(r, f, what); at >= 0 {
				meant |= 1 << at
			}
		case f.value.kind == empty:
			seen |= 1 << at
			r.report(f.at, fmt.Sprintf("%q has no value", f.key), "write "+t[at].write)
		default:
			seen |= 1 << at
			t[at].value.read(r, f.value, keyed{t[at].name, t[at].write}, into)
		}
	}
	for i := range t {
		if t[i].required && (seen|meant)>>i&1 == 0 && n.get(t[i].unless) == nil {
			r.report(n.at, fmt.Sprintf("%s has no %q", what, t[i].name), "write "+t[i].write)
		}
	}
	return true
}

// unknown reports a key that is not in the table, and returns the place of
// the one that was meant, or -1.
func (t table[T]) unknown(r *reader, f *field, what string) int {
	for i := range t {
		if t[i].formerly == f.key {
			r.report(f.at, fmt.Sprintf("%q in %s is now called %q", f.key, what, t[i].name), "write "+t[i].write)
			return i
		}
	}
	names := t.names()
	r.report(f.at, fmt.Sprintf("unknown %s in %s", r.key(f.key), what), didYouMean(f.key, names, "remove it, or write "+oneOf(names)))
	return t.find(nearest(f.key, names))
}

func (t table[T]) find(name string) int {
	for i := range t {
		if t[i].name == name {
			return i
		}
	}
	return -1
}

func (t table[T]) names() []string {
	out := make([]string, len(t))
	for i := range t {
		out[i] = t[i].name
	}
	return out
}

// part makes keys of F keys of a T that has an F.
func part[T, F any](t table[F], of func(*T) *F) table[T] {
	out := make(table[T], len(t))
	for i, k := range t {
		out[i] = key[T]{k.name, k.about, k.write, k.required, k.unless, k.formerly, value[T]{
			read:     func(r *reader, n *node, name keyed, into *T) { k.value.read(r, n, name, of(into)) },
			describe: k.value.describe,
		}}
	}
	return out
}

// boolean is true or false.
func boolean[T any](of func(*T) *bool) value[T] {
	return value[T]{
		read:     func(r *reader, n *node, k keyed, into *T) { r.readBool(n, k.name, of(into)) },
		describe: func(*definitions) *schema { return &schema{Type: "boolean"} },
	}
}

// word is one of the known words.
func word[T any](known []string, set func(into *T, word string)) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			s, _ := r.readWord(n, k, k.name, known)
			set(into, s)
		},
		describe: func(*definitions) *schema { return enum(known...) },
	}
}

// count is a number from lo to hi, both inclusive.
func count[T any](lo, hi int, of func(*T) *int) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			if v, ok := r.readNumber(n, k.name, lo, hi); ok {
				*of(into) = v
			}
		},
		describe: func(*definitions) *schema { return numbers(int64(lo), int64(hi)) },
	}
}

// duration is a time in whole seconds from lo to hi, both inclusive.
func duration[T any](lo, hi time.Duration, of func(*T) *time.Duration) value[T] {
	return value[T]{
		read:     func(r *reader, n *node, k keyed, into *T) { r.readDuration(n, k.name, lo, hi, of(into)) },
		describe: func(*definitions) *schema { return pattern(durationPattern) },
	}
}

// size is a number of bytes.
func size[T any](of func(*T) *uint64) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) { r.readSize(n, k.name, of(into)) },
		describe: func(*definitions) *schema {
			return either(integers(minSize, maxSize), pattern(sizePattern))
		},
	}
}

// text is any text that is not empty.
func text[T any](of func(*T) *string) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			if s, ok := r.readScalar(n, k.name, k.write); ok {
				*of(into) = s
			}
		},
		describe: func(*definitions) *schema { return anyText() },
	}
}

// named is a name, of what it says.
func named[T any](what string, of func(*T) *string) value[T] {
	return value[T]{
		read:     func(r *reader, n *node, k keyed, into *T) { *of(into), _ = r.readName(n, what, k.write) },
		describe: func(*definitions) *schema { return nameText() },
	}
}

func quoted(name string) string { return `"` + name + `"` }
