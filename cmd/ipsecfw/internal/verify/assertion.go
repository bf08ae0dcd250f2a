package verify

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/space"
	"github.com/ipsecfw/ipsecfw/rules"
)

func (p *Policy) assertions() error {
	var errs []error
	for _, f := range p.Files {
		for _, a := range f.Assertions(p.Addresses) {
			if err := p.prove(a); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// multicast is the packets to groups and to all hosts of a link, which "any"
// does not mean: filters are for unicast, and IPsec secures nothing else.
var multicast = func() space.Set {
	to := func(p string) filter.Entry {
		return filter.Entry{Selector: filter.Selector{From: filter.Any(), To: filter.Subnet(netip.MustParsePrefix(p))}}
	}
	return space.Of(to("224.0.0.0/4"), to("255.255.255.255/32"), to("ff00::/8"))
}()

func (p *Policy) prove(a rules.Assertion) error {
	allowed := func(d filter.Decision) bool { return slices.Contains(a.Outcomes, fate(d)) }
	s, ok, err := p.Space().Violation(space.Of(a.Entries...).Subtract(multicast), allowed)
	what := a.Text
	if a.Description != "" {
		what += " (" + a.Description + ")"
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s: the assertion %s: %w", a.Position, what, err)
	case ok:
		return fmt.Errorf("%s: the assertion %s does not hold: %s: %s", a.Position, what, s, p.SPD.Decide(s.Context, &s.Packet).Why())
	}
	return nil
}

// fate says what becomes of packets, as assertions call it. What may pass in
// clear counts as clear, and so does what a peer without IKE gets.
func fate(d filter.Decision) rules.Outcome {
	switch d.Action {
	case filter.Block:
		return rules.Blocked
	case filter.Negotiate:
		if o := d.Entry.Options; !o.AcceptUnsecured && !o.AllowUnsecured {
			return rules.Secured
		}
	}
	return rules.Clear
}
