package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Position is a place in the rule file: line and column from 1, the column
// in characters.
type Position struct{ Line, Column int }

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// Error is one thing that is wrong with a rule file.
type Error struct {
	File         string // as Parse was given it
	Line, Column int    // from 1
	Problem      string // what is wrong
	Hint         string // what to write instead
}

// Error returns "FILE:LINE:COLUMN: PROBLEM; HINT".
func (e Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s; %s", e.File, e.Line, e.Column, e.Problem, e.Hint)
}

// Errors is all that is wrong with a rule file, in the order of the file.
type Errors struct{ List []Error }

// Error returns the errors, one on a line.
func (e *Errors) Error() string {
	lines := make([]string, len(e.List))
	for i, x := range e.List {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors one by one, for errors.As.
func (e *Errors) Unwrap() []error {
	out := make([]error, len(e.List))
	for i, x := range e.List {
		out[i] = x
	}
	return out
}

// reporter collects the errors of a file.
type reporter struct {
	file string
	list []Error
}

func (r *reporter) report(at Position, problem, hint string) {
	r.list = append(r.list, Error{File: r.file, Line: max(at.Line, 1), Column: max(at.Column, 1), Problem: problem, Hint: hint})
}

// err returns what was reported as an *Errors, or nil.
func (r *reporter) err() error {
	if len(r.list) == 0 {
		return nil
	}
	slices.SortStableFunc(r.list, func(a, b Error) int {
		return Position{a.Line, a.Column}.compare(Position{b.Line, b.Column})
	})
	return &Errors{r.list}
}
