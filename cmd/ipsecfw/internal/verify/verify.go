// Package verify decides whether a policy may be put in force: it looks for
// filters that contradict each other, proves the assertions, and warns of what
// has no effect or shuts its administrator out. It is pure.
package verify

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/space"
	"github.com/ipsecfw/ipsecfw/rules"
)

// Policy is rule files that are to be in force together. Its methods may be
// called at the same time.
type Policy struct {
	Files     []*rules.File
	Addresses rules.Addresses // what names and dynamic sides stand for
	SPD       *filter.SPD     // of the entries of all files

	compile sync.Once
	space   *space.Policy
}

// Space returns the policy as sets of packets. It is worked out once.
func (p *Policy) Space() *space.Policy {
	p.compile.Do(func() { p.space = space.Compile(p.SPD) })
	return p.space
}

// Errors returns why the policy must not be put in force, one error for each
// contradiction, pair of networks that do not fit together, and each assertion that does not hold, each beginning with
// FILE:LINE:COLUMN; or nil.
func (p *Policy) Errors() error {
	var contradictions, assertions error
	_, networks := p.networks()
	var both sync.WaitGroup
	both.Go(func() { contradictions = p.contradictions() })
	both.Go(func() { assertions = p.assertions() })
	both.Wait()
	return errors.Join(p.weak(), networks, contradictions, assertions)
}

// Warnings returns what works and is hardly meant, each beginning with
// FILE:LINE:COLUMN.
func (p *Policy) Warnings() []string {
	var out []string
	for _, f := range p.Files {
		out = append(out, OfFile(f)...)
	}
	out = append(out, p.risks()...)
	networks, _ := p.networks()
	out = append(out, networks...)
	var dead, authentication []string
	var both sync.WaitGroup
	both.Go(func() { dead = p.dead() })
	both.Go(func() { authentication = p.authentication() })
	both.Wait()
	return append(append(out, dead...), authentication...)
}

// OfFile returns warnings of what stands in a file and no enabled rule uses, and
// of what is hardly meant as it is.
func OfFile(f *rules.File) []string {
	var out []string
	for _, w := range slices.Concat(f.Unused(), f.Doubtful()) {
		out = append(out, warning(w.Position, "%s; %s", w.Text, w.Hint))
	}
	return out
}

func warning(position, format string, args ...any) string {
	return position + ": warning: " + fmt.Sprintf(format, args...)
}

func nameOf(e *filter.Entry) string { return fmt.Sprintf("filter %d of list %q", e.Index+1, e.List) }
