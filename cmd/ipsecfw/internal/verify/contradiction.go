package verify

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/space"
)

// outcome is what filters of the same weight must agree on.
type outcome struct {
	action  filter.Action
	options filter.Options
	rule    string // under whose SAs
}

func outcomeOf(e *filter.Entry) outcome {
	o := outcome{action: e.Action, options: e.Options}
	o.options.Log = false // a matter of taste
	if e.Action == filter.Negotiate {
		o.rule = e.Name
	}
	return o
}

// maxDescribed bounds the lines by which a set of packets is described.
const maxDescribed = 3

func (p *Policy) contradictions() error {
	found, err := space.Conflicts(p.Space(), outcomeOf)
	errs := make([]error, 0, len(found)+1)
	for _, c := range found {
		errs = append(errs, fmt.Errorf("%s: %s of rule %q and %s of rule %q at %s weigh the same and do different things (%s, %s) with the same packets: %s; for example %s; make one of the two more specific",
			c.A.Position, nameOf(c.A), c.A.Name, nameOf(c.B), c.B.Name, c.B.Position, does(c.A), does(c.B),
			strings.Join(c.Packets.Describe(maxDescribed), ", "), c.Sample))
	}
	if len(found) == space.MaxConflicts {
		errs = append(errs, fmt.Errorf("%s: there may be more filters that contradict each other; these are the first %d", found[0].A.Position, len(found)))
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("look for filters that contradict each other: %w", err))
	}
	return errors.Join(errs...)
}

func does(e *filter.Entry) string {
	switch l := e.Options.Limit; {
	case e.Action == filter.Negotiate:
		return fmt.Sprintf("negotiate by rule %q", e.Name)
	case e.Options.Reject:
		return "reject"
	case l != (filter.Limit{}):
		return fmt.Sprintf("permit at most %d/%s, %d at once", l.Packets, l.Per, l.Burst)
	}
	return e.Action.String()
}
