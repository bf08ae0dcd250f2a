package verify

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/rules"
)

// Risks returns warnings of what a rule does and protects little.
func Risks(n rules.Negotiation) []string {
	var out []string
	warn := func(format string, args ...any) {
		out = append(out, warning(n.Position, "rule %q "+format, append([]any{n.Rule}, args...)...))
	}
	switch ts := n.Weak(); {
	case !n.Legacy:
	case ts != nil:
		warn("is legacy and has weak algorithms: %s; remove them as soon as its peers have better ones", rules.WeakText(ts))
	case slices.ContainsFunc(n.Auth, func(a rules.Authentication) bool { return a.Certificate != nil }):
		out = append(out, warning(n.At("legacy"), `rule %q says legacy: true and has no weak algorithm: nothing comes of it but that RSA signatures with SHA-1 do; remove it unless its peers know no better ones`, n.Rule))
	default:
		out = append(out, warning(n.At("legacy"), `rule %q says legacy: true, and nothing comes of it, as no algorithm that it or its action names is weak; remove it, or write those of its peers in "key-exchange" and in "methods" of the action`, n.Rule))
	}
	if ts := n.Readable(); ts != nil {
		warn("may end with methods that hide nothing: %s; what they protect can be read by everybody on the way", strings.Join(ts, ", "))
	}
	for _, a := range n.Auth {
		switch a.Anonymous {
		case rules.AnonymousOwn:
			warn("proves nothing of this host: peers cannot tell it from anybody else")
		case rules.AnonymousPeer:
			warn("lets in anybody at all: its peers prove nothing, and whoever sits between can pretend to be one of them; remove \"anonymous\" unless that is meant")
		case rules.AnonymousBoth:
			warn("lets in anybody at all: neither end proves anything, and whoever sits between reads and changes everything; remove \"anonymous\" unless that is meant")
		}
	}
	return out
}

// risks returns the Risks of all rules, and of the default response.
func (p *Policy) risks() []string {
	var out []string
	for _, f := range p.Files {
		for _, n := range p.negotiations(f) {
			out = append(out, Risks(n)...)
		}
	}
	if len(p.Files) > 0 {
		if n, ok := p.Files[len(p.Files)-1].DefaultResponse(); ok {
			out = append(out, Risks(n)...)
		}
	}
	return out
}

// negotiations returns the rules of one of the files that negotiate, in its
// order, under the settings that hold: those of the last file.
func (p *Policy) negotiations(f *rules.File) []rules.Negotiation {
	g := f.With(p.Files[len(p.Files)-1].KeyExchange)
	byName := g.Negotiations()
	var out []rules.Negotiation
	for i := range g.Rules {
		if n, ok := byName[g.Rules[i].Name]; ok {
			out = append(out, n)
		}
	}
	return out
}

// weak finds rules whose peers would be offered weak algorithms by the key
// exchange of another file, though they do not say legacy. Of a file's own the
// parser lets none pass.
func (p *Policy) weak() error {
	var errs []error
	for i, f := range p.Files {
		if i == len(p.Files)-1 {
			break
		}
		for _, n := range p.negotiations(f) {
			if ts := n.Weak(); ts != nil && !n.Legacy {
				errs = append(errs, fmt.Errorf("%s: rule %q does not say legacy: true, and its peers would be offered weak algorithms by the key exchange of %s: %s; write these in \"key-exchange\" of a rule with legacy: true",
					n.Position, n.Rule, p.Files[len(p.Files)-1].Path, rules.WeakText(ts)))
			}
		}
	}
	return errors.Join(errs...)
}
