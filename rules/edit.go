package rules

import (
	"bytes"
	"slices"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Edit is the difference of two versions of a rule file in which filters of
// one list have taken the place of as many others, on the same lines.
type Edit struct {
	List  string
	First int // the place of the first one in the list, from 0
	Count int
}

// maxEdit bounds how many lines an Edit has.
const maxEdit = 256

// Reread is Parse of src, a version of the file that f was parsed from as old,
// when one Edit is all that differs. It takes no longer than that edit is
// large. Otherwise, and when there may be an error, ok is false, and Parse has
// to tell.
//
// It reads a text in which the filters that are the same in both are left out,
// and then puts them back. This changes nothing but where each of them and
// each edited line is an item on a line of its own.
func (f *File) Reread(old, src []byte) (g *File, e Edit, ok bool) {
	first, was, is, ok := changedLines(old, src)
	if !ok {
		return nil, e, false
	}
	list, e, ok := f.edited(first, was, is)
	if !ok {
		return nil, e, false
	}
	last := first + e.Count
	g, err := Parse(f.Path, f.without(src, first, last))
	if err != nil || len(g.Lists) != len(f.Lists) {
		return nil, e, false
	}
	for i := range g.Lists {
		kept := f.Lists[i].Filters
		if i == list {
			var come []Filter
			for _, x := range g.Lists[i].Filters {
				if first <= x.Position.Line && x.Position.Line < last {
					come = append(come, x)
				}
			}
			if len(come) != e.Count {
				return nil, e, false
			}
			kept = slices.Concat(kept[:e.First], come, kept[e.First+e.Count:])
		}
		g.Lists[i].Filters = kept
	}
	return g, e, true
}

// changedLines returns the lines that differ, of which there must be as many
// in both versions, and the number of the first, from 1.
func changedLines(old, src []byte) (first int, was, is []byte, ok bool) {
	n := min(len(old), len(src))
	begin := commonPrefix(old, src)
	if begin == len(old) && begin == len(src) {
		return 0, nil, nil, false
	}
	begin = bytes.LastIndexByte(old[:begin], '\n') + 1
	end := 0
	for end < n-begin && old[len(old)-1-end] == src[len(src)-1-end] {
		end++
	}
	// From the end of a line to the end of the text.
	at := bytes.IndexByte(old[len(old)-end:], '\n')
	if at < 0 {
		return 0, nil, nil, false
	}
	end -= at + 1
	was, is = old[begin:len(old)-end], src[begin:len(src)-end]
	if lines := bytes.Count(was, newline); lines == 0 || lines > maxEdit || lines != bytes.Count(is, newline) {
		return 0, nil, nil, false
	}
	return 1 + bytes.Count(old[:begin], newline), was, is, true
}

var newline = []byte{'\n'}

// commonPrefix returns how many bytes at the start of two texts are the same.
func commonPrefix(a, b []byte) int {
	const step = 4096
	n := 0
	for n+step <= min(len(a), len(b)) && bytes.Equal(a[n:n+step], b[n:n+step]) {
		n += step
	}
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// edited finds the filters that stood on lines before, and checks that those
// which have taken their place stand in the same way.
func (f *File) edited(first int, was, is []byte) (list int, e Edit, ok bool) {
	e.Count = bytes.Count(is, newline)
	list = slices.IndexFunc(f.Lists, func(l List) bool {
		at, found := slices.BinarySearchFunc(l.Filters, first, func(x Filter, line int) int { return x.Position.Line - line })
		e.List, e.First = l.Name, at
		return found
	})
	if list < 0 {
		return 0, e, false
	}
	filters := f.Lists[list].Filters
	if e.First+e.Count >= len(filters) { // whether the last one of a list has more lines nobody can say here
		return 0, e, false
	}
	for i := range e.Count + 1 {
		if filters[e.First+i].Position.Line != first+i {
			return 0, e, false
		}
	}
	var before, after lineScanner
	for i := range e.Count {
		a, dashA := before.item(nthLine(was, i))
		b, dashB := after.item(nthLine(is, i))
		if a == nil || b == nil || dashA != dashB {
			return 0, e, false
		}
	}
	return list, e, true
}

func nthLine(b []byte, n int) string {
	for range n {
		b = b[bytes.IndexByte(b, '\n')+1:]
	}
	return string(bytes.TrimSuffix(b[:bytes.IndexByte(b, '\n')], []byte{'\r'}))
}

// without returns a text with empty lines in place of those filters that stand
// on a line of their own, but for those from the line first to before last.
func (f *File) without(src []byte, first, last int) []byte {
	var plain []int // lines, in order
	for _, l := range f.Lists {
		for i := range len(l.Filters) - 1 {
			line := l.Filters[i].Position.Line
			if l.Filters[i+1].Position.Line == line+1 && (line < first || line >= last) {
				plain = append(plain, line)
			}
		}
	}
	slices.Sort(plain)
	out := make([]byte, 0, 1<<16)
	for line := 1; len(src) > 0; line++ {
		end := bytes.IndexByte(src, '\n') + 1
		if end == 0 {
			end = len(src)
		}
		text := src[:end]
		src = src[end:]
		if len(plain) > 0 && plain[0] == line {
			plain = plain[1:]
			if t := bytes.TrimSpace(text); bytes.HasPrefix(t, []byte("- {")) && bytes.HasSuffix(t, []byte("}")) {
				text = newline
			}
		}
		out = append(out, text...)
	}
	return out
}

// EditedEntries returns those of Entries that an edit of the file has changed,
// by rule.
func (f *File) EditedEntries(a Addresses, e Edit) map[string][]filter.Entry {
	n := f.names()
	x, at := newExpander(n, a), placeIn(f.Path)
	out := map[string][]filter.Entry{}
	for i := range f.Rules {
		rule := &f.Rules[i]
		if rule.Enabled && rule.List == e.List {
			out[rule.Name] = x.appendRule(nil, n, rule, at, e.First, e.First+e.Count)
		}
	}
	return out
}
