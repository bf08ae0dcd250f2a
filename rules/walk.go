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
}

// key names a key of the file in a message.
func (r *reader) key(name string) string {
	if r.private {
		return "key"
	}
	return fmt.Sprintf("key %q", name)
}

// key is a key that a mapping may have.
type key struct {
	name     string
	write    string // an example of the key with its value
	required bool
	read     func(v *node)
}

// readMapping gives the value of each known key of n to its function. It
// reports unknown keys, keys that come twice, keys without a value and keys
// that are missing. What names the mapping: "a filter".
func (r *reader) readMapping(n *node, what string, keys []key) bool {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	if len(keys) == 0 && (n.kind != mapping || len(n.fields) > 0) {
		r.report(n.at, what+" takes no settings", "write nothing between its braces: {}")
		return false
	}
	if n.kind != mapping {
		r.report(n.at, fmt.Sprintf("%s must be a mapping, not %s", what, n.kind), "write it as KEY: VALUE, with the keys "+allOf(names))
		return false
	}
	seen := map[string]bool{}
	for _, f := range r.unique(n, what) {
		i := slices.Index(names, f.key)
		if i < 0 {
			r.report(f.at, fmt.Sprintf("unknown %s in %s", r.key(f.key), what), didYouMean(f.key, names, "remove it, or write "+oneOf(names)))
			seen[nearest(f.key, names)] = true // it was meant, and is not missing as well
			continue
		}
		seen[f.key] = true
		if f.value.kind == empty {
			r.report(f.at, fmt.Sprintf("%q has no value", f.key), "write "+keys[i].write)
			continue
		}
		keys[i].read(f.value)
	}
	for _, k := range keys {
		if k.required && !seen[k.name] {
			r.report(n.at, fmt.Sprintf("%s has no %q", what, k.name), "write "+k.write)
		}
	}
	return true
}

// unique returns the fields of a mapping without those whose key came
// before, which it reports.
func (r *reader) unique(n *node, what string) []field {
	first := map[string]Position{}
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

// readList gives each item of a list that is not empty to read. A message
// says what the list is, and what to write.
func (r *reader) readList(n *node, what, write string, read func(i int, v *node)) {
	switch {
	case n.kind != sequence:
		r.report(n.at, fmt.Sprintf("%s must be a list, not %s", what, n.kind), "write "+write)
	case len(n.items) == 0:
		r.report(n.at, what+" is an empty list", "write "+write)
	}
	for i, v := range n.items {
		if v.kind == empty {
			r.report(v.at, "an item of the list has no value", "write "+write)
			continue
		}
		read(i, v)
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

// maxName is the longest name of a rule, list, action or policy, in
// characters.
const maxName = 64

// checkName reports a name that could not be told apart in a table.
func (r *reader) checkName(at Position, name, what string) bool {
	switch {
	case name == "":
		r.report(at, "the name of "+what+" is empty", "write a name of 1 to 64 characters")
	case utf8.RuneCountInString(name) > maxName:
		r.report(at, fmt.Sprintf("the name of %s has more than %d characters", what, maxName), "write a shorter one")
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

// readBool returns true or false.
func (r *reader) readBool(n *node, name string, into *bool) {
	switch {
	case n.kind == scalar && !n.quoted && n.text == "true":
		*into = true
	case n.kind == scalar && !n.quoted && n.text == "false":
		*into = false
	default:
		r.report(n.at, fmt.Sprintf("%q is neither true nor false", name), fmt.Sprintf("write %s: true or %s: false", name, name))
	}
}

// readWord returns one of the known words.
func (r *reader) readWord(n *node, name string, known []string) (string, bool) {
	s, ok := r.readText(n, fmt.Sprintf("%q", name), name+": "+known[0])
	if !ok {
		return "", false
	}
	if !slices.Contains(known, s) {
		r.report(n.at, fmt.Sprintf("unknown %s %q", name, s), didYouMean(s, known, "write "+oneOf(known)))
		return "", false
	}
	return s, true
}

// readDuration returns a time from lo to hi, both inclusive.
func (r *reader) readDuration(n *node, name string, lo, hi time.Duration, into *time.Duration) {
	s, ok := r.readText(n, fmt.Sprintf("%q", name), name+": "+printDuration(*into))
	if !ok {
		return
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		hint := fmt.Sprintf("write a number with its unit, as in %s: %s", name, printDuration(*into))
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
