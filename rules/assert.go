package rules

import (
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Outcome is what becomes of a packet. The zero value is invalid.
type Outcome uint8

// The outcomes.
const (
	Clear   Outcome = iota + 1 // it passes unprotected
	Secured                    // it passes under IPsec only
	Blocked                    // it does not pass
)

var outcomes = []string{"clear", "secured", "blocked"}

// String returns the rule file's keyword.
func (o Outcome) String() string {
	if o < Clear || o > Blocked {
		return "invalid outcome"
	}
	return outcomes[o-1]
}

// Assert is an assertion as it is written: what always, or never, becomes of
// the packets of a filter.
type Assert struct {
	Filter
	Connections []filter.Connection // on which interfaces; empty for all
	Forward     bool                // of what the host forwards, and not its own packets
	Never       bool
	Outcomes    []Outcome // at least one, in order
}

// Assertion is an assertion spelt out: to each packet that one of the entries
// matches one of the outcomes must come.
type Assertion struct {
	Entries     []filter.Entry // their action says nothing
	Outcomes    []Outcome      // those that the file allows
	Text        string         // as in "never clear"
	Description string
	Position    string
}

// Assertions returns the assertions of the file, with what names and dynamic
// sides stand for.
func (f *File) Assertions(a Addresses) []Assertion {
	x, at := newExpander(f.names(), a), placeIn(f.Path)
	out := make([]Assertion, len(f.Asserts))
	for i := range f.Asserts {
		s := &f.Asserts[i]
		p := at.at(s.Position)
		out[i] = Assertion{
			Entries: x.appendEntries(nil, &s.Filter, filter.Entry{
				Name: "assert", List: "assert", Index: i, Position: p, Forward: s.Forward, Action: filter.Permit,
			}, s.Connections),
			Outcomes:    s.allowed(),
			Text:        s.keyword() + " " + outcomesText(s.Outcomes),
			Description: s.Description,
			Position:    p,
		}
	}
	return out
}

// allowed returns the outcomes that fulfil the assertion.
func (s *Assert) allowed() []Outcome {
	var out []Outcome
	for o := Clear; o <= Blocked; o++ {
		if slices.Contains(s.Outcomes, o) != s.Never {
			out = append(out, o)
		}
	}
	return out
}

func (s *Assert) keyword() string {
	if s.Never {
		return "never"
	}
	return "always"
}

func outcomesText(outcomes []Outcome) string {
	if len(outcomes) == 1 {
		return outcomes[0].String()
	}
	return "[" + strings.Join(texts(outcomes), ", ") + "]"
}

var assertKeys = slices.Concat(
	part(matchKeys, func(s *Assert) *Filter { return &s.Filter }),
	table[Assert]{
		{name: "connection", about: "on which interfaces; all if missing", write: writeConnection,
			value: connections(func(s *Assert) *[]filter.Connection { return &s.Connections })},
		{name: "path", about: "host, or forward for what the host forwards; host if missing", write: writePath,
			value: path(func(s *Assert) *bool { return &s.Forward })},
		{name: "never", about: "what never becomes of the packets", write: "never: clear, never: secured or never: blocked", value: results(true)},
		{name: "always", about: "what always becomes of the packets", write: "always: secured, always: blocked or always: clear", value: results(false)},
	},
	part(table[Filter]{descriptionKey}, func(s *Assert) *Filter { return &s.Filter }),
)

// results is an outcome or a list of them.
func results(never bool) value[Assert] {
	return value[Assert]{
		read: func(r *reader, n *node, k keyed, s *Assert) {
			s.Never = never
			s.Outcomes = nil
			for _, word := range r.readWords(n, k, "outcome", outcomes) {
				s.Outcomes = append(s.Outcomes, Outcome(slices.Index(outcomes, word)+1))
			}
			slices.Sort(s.Outcomes)
		},
		describe: func(*definitions) *schema { return orList(enum(outcomes...)) },
	}
}

const writeAssert = "assert: [{from: any, to: me, protocol: tcp, to-port: 5432, never: clear}]"

func asserts[T any](of func(*T) *[]Assert) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			r.readList(n, quoted(k.name), writeAssert, func(v *node) {
				var s Assert
				readFilter(r, v, "an assertion", assertKeys, &s, &s.Filter)
				r.checkAssert(v, &s)
				*of(into) = append(*of(into), s)
			})
		},
		describe: func(d *definitions) *schema {
			s := assertKeys.describe(d)
			s.AnyOf = []*schema{{Required: []string{"never"}}, {Required: []string{"always"}}}
			return listOf(s)
		},
	}
}

func (r *reader) checkAssert(n *node, s *Assert) {
	if n.kind != mapping {
		return
	}
	never, always := n.get("never"), n.get("always")
	switch {
	case never != nil && always != nil:
		r.report(always.at, `an assertion has both "never" and "always"`, "write two assertions")
	case never == nil && always == nil && n.first("never") < 0 && n.first("always") < 0:
		r.report(n.at, "an assertion says nothing", "add never: clear, or always: secured")
	case len(s.Outcomes) == len(outcomes):
		at := never
		if always != nil {
			at = always
		}
		r.report(at.at, "every packet has one of these outcomes, and the assertion says nothing", "write one or two of "+oneOf(outcomes))
	}
	if s.Forward {
		r.checkForwarded(n, &s.Filter, "an assertion of forwarded packets")
	}
}
