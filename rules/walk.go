package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// reader walks the nodes of a file. It reports what is wrong and goes on, so
// that one run finds everything.
type reader struct {
	reporter
	// private is set where a secret may stand by mistake: what the file has
	// there is not repeated in a message, which may go to a log.
	private bool
	// sides is room for the sides of filters, most of which have one.
	sides []Side
	// rules are the nodes of the rules.
	rules []*node
	// sets are the address sets that the file names, with the places.
	sets []reference
	// later are checks that need the whole file.
	later []func(x *expander)
}

// reference is a name that the file uses and defines elsewhere.
type reference struct {
	name string
	at   Position
}

// key names a key of the file in a message.
func (r *reader) key(name string) string {
	if r.private {
		return "key"
	}
	return fmt.Sprintf("key %q", name)
}

// first returns the place of the first field with a key, or -1.
func (n *node) first(key string) int {
	for i := range n.fields {
		if n.fields[i].key == key {
			return i
		}
	}
	return -1
}

// get returns the value that stands behind a key, or nil.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	if i := n.first(key); i >= 0 && n.fields[i].value.kind != empty {
		return n.fields[i].value
	}
	return nil
}

// few is how many fields are looked through faster than they are put into a
// map.
const few = 8

// unique returns the fields of a mapping whose keys are names that the file
// defines, without those whose key came before, which it reports.
func (r *reader) unique(n *node, what string) []field {
	if len(n.fields) <= few {
		for i := range n.fields {
			if n.first(n.fields[i].key) < i {
				return r.withoutTwice(n, what)
			}
		}
		return n.fields
	}
	return r.withoutTwice(n, what)
}

func (r *reader) withoutTwice(n *node, what string) []field {
	first := make(map[string]Position, len(n.fields))
	var out []field
	for _, f := range n.fields {
		if at, twice := first[f.key]; twice {
			r.report(f.at, fmt.Sprintf("%s comes twice in %s", r.key(f.key), what), fmt.Sprintf("remove one of the two; the first is on line %d", at.Line))
			continue
		}
		first[f.key] = f.at
		out = append(out, f)
	}
	return out
}

// readDefinitions gives each field of a mapping from names to what they stand
// for to read. What is "a filter list", and says is what one without a value
// lacks.
func (r *reader) readDefinitions(n *node, k keyed, what, lacks, hint string, read func(f field)) {
	switch {
	case n.kind != mapping:
		r.report(n.at, fmt.Sprintf("%q must be a mapping, not %s", k.name, n.kind), "write "+k.write)
		return
	case len(n.fields) == 0:
		r.report(n.at, fmt.Sprintf("%q defines nothing", k.name), "write "+k.write)
	}
	for _, f := range r.unique(n, quoted(k.name)) {
		switch {
		case !r.checkName(f.at, f.key, article(what)):
		case f.value.kind == empty:
			r.report(f.at, fmt.Sprintf("%s %q %s", what, f.key, lacks), hint)
		default:
			read(f)
		}
	}
}

// readList gives each item of a list that is not empty to read. A message
// says what the list is, and what to write.
func (r *reader) readList(n *node, what, write string, read func(v *node)) {
	switch {
	case n.kind != sequence:
		r.report(n.at, fmt.Sprintf("%s must be a list, not %s", what, n.kind), "write "+write)
	case len(n.items) == 0:
		r.report(n.at, what+" is an empty list", "write "+write)
	}
	for _, v := range n.items {
		if v.kind == empty {
			r.report(v.at, "an item of the list has no value", "write "+write)
			continue
		}
		read(v)
	}
}

// readText returns the text of a scalar. No message repeats what stands
// there.
func (r *reader) readText(n *node, what, write string) (string, bool) {
	if n.kind != scalar {
		r.report(n.at, fmt.Sprintf("%s must be a single value, not %s", what, n.kind), "write "+write)
		return "", false
	}
	if n.text == "" {
		r.report(n.at, what+" is empty", "write "+write)
		return "", false
	}
	return n.text, true
}

// readScalar is readText for the value of a key.
func (r *reader) readScalar(n *node, name, write string) (string, bool) {
	if n.kind == scalar && n.text != "" {
		return n.text, true
	}
	return r.readText(n, quoted(name), write)
}

// maxName is the longest name of a rule, list, action or policy, in
// characters.
const maxName = 64

// checkName reports a name that could not be told apart in a table.
func (r *reader) checkName(at Position, name, what string) bool {
	return r.checkNameTo(maxName, at, name, what)
}

// checkNameTo is checkName for names of other lengths.
func (r *reader) checkNameTo(longest int, at Position, name, what string) bool {
	switch {
	case name == "":
		r.report(at, "the name of "+what+" is empty", fmt.Sprintf("write a name of 1 to %d characters", longest))
	case utf8.RuneCountInString(name) > longest:
		r.report(at, fmt.Sprintf("the name of %s has more than %d characters", what, longest), "write a shorter one")
	case strings.TrimSpace(name) != name:
		r.report(at, fmt.Sprintf("the name %q of %s begins or ends with a space", name, what), fmt.Sprintf("write %q", strings.TrimSpace(name)))
	case strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }):
		r.report(at, fmt.Sprintf("the name %q of %s has characters that cannot be seen", name, what), "write letters, digits and single spaces")
	default:
		return true
	}
	return false
}

// readName returns a name in a scalar.
func (r *reader) readName(n *node, what, write string) (string, bool) {
	s, ok := r.readText(n, "the name of "+what, write)
	return s, ok && r.checkName(n.at, s, what)
}

// isBool reports whether a node is true or false, and not text in quotes.
func (n *node) isBool() bool {
	return n.kind == scalar && !n.quoted && (n.text == "true" || n.text == "false")
}

// readBool returns true or false.
func (r *reader) readBool(n *node, name string, into *bool) {
	if !n.isBool() {
		r.report(n.at, fmt.Sprintf("%q is neither true nor false", name), fmt.Sprintf("write %s: true or %s: false", name, name))
		return
	}
	*into = n.text == "true"
}

// readWord returns one of the known words. What is what each of them is.
func (r *reader) readWord(n *node, k keyed, what string, known []string) (string, bool) {
	s, ok := r.readScalar(n, k.name, k.name+": "+known[0])
	if !ok {
		return "", false
	}
	if !slices.Contains(known, s) {
		r.report(n.at, fmt.Sprintf("unknown %s %q", what, s), didYouMean(s, known, "write "+oneOf(known)))
		return "", false
	}
	return s, true
}

// readWords returns one of the known words, or a list of them.
func (r *reader) readWords(n *node, k keyed, what string, known []string) []string {
	items := []*node{n}
	if n.kind == sequence {
		if len(n.items) == 0 {
			r.report(n.at, fmt.Sprintf("%q is an empty list", k.name), "write "+k.write)
		}
		items = n.items
	}
	var out []string
	for _, v := range items {
		s, ok := r.readWord(v, k, what, known)
		switch {
		case !ok:
		case slices.Contains(out, s):
			r.report(v.at, fmt.Sprintf("%q comes twice in %q", s, k.name), "remove one of the two")
		default:
			out = append(out, s)
		}
	}
	return out
}

// readNumber returns a number from lo to hi, both inclusive.
func (r *reader) readNumber(n *node, name string, lo, hi int) (int, bool) {
	s, ok := r.readScalar(n, name, fmt.Sprintf("%s: %d", name, lo))
	if !ok {
		return 0, false
	}
	v, err := number(s)
	if err != nil || v < lo || v > hi {
		r.report(n.at, fmt.Sprintf("%q of %q is no number from %d to %d", name, s, lo, hi), fmt.Sprintf("write a number from %d to %d", lo, hi))
		return 0, false
	}
	return v, true
}

// number returns a decimal number that is written the plain way: other ways,
// such as a leading 0, mean different things to different readers of YAML.
func number(text string) (int, error) {
	v, err := strconv.Atoi(text)
	if err == nil && (text[0] == '+' || text[0] == '0' && text != "0" || strings.HasPrefix(text, "-0")) {
		err = strconv.ErrSyntax
	}
	return v, err
}

// durationPattern is what time.ParseDuration reads of what a file writes.
const durationPattern = `^([0-9]+(\.[0-9]+)?(h|ms|m|s))+$`

// readDuration returns a time from lo to hi, both inclusive.
func (r *reader) readDuration(n *node, name string, lo, hi time.Duration, into *time.Duration) {
	example := lo
	if *into != 0 {
		example = *into
	}
	s, ok := r.readScalar(n, name, name+": "+printDuration(example))
	if !ok {
		return
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		hint := fmt.Sprintf("write a number with its unit, as in %s: %s", name, printDuration(example))
		if _, err := strconv.Atoi(s); err == nil {
			hint = fmt.Sprintf("write the unit, as in %s: %ss", name, s)
		}
		r.report(n.at, fmt.Sprintf("%q is no time", s), hint)
	case d < lo || d > hi || d%time.Second != 0:
		r.report(n.at, fmt.Sprintf("%q of %s is out of bounds", name, s), fmt.Sprintf("write whole seconds from %s to %s", printDuration(lo), printDuration(hi)))
	default:
		*into = d
	}
}

// printDuration writes whole seconds as the file does: "1h", "90m", "30s".
func printDuration(d time.Duration) string {
	switch {
	case d%time.Hour == 0 && d != 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0 && d != 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
