package verify

import (
	"fmt"
	"strings"
)

// dead warns of filters that never decide.
func (p *Policy) dead() []string {
	var out []string
	dead, err := p.Space().Dead()
	for _, d := range dead {
		e := d.Filter
		switch {
		case len(d.By) > 0:
			names := make([]string, len(d.By))
			for i, by := range d.By {
				names[i] = fmt.Sprintf("%s (%s)", by.Position, nameOf(by))
			}
			more := ""
			if d.More {
				more = " and others"
			}
			out = append(out, warning(e.Position, "%s of rule %q never decides: other filters take all of its packets, %s%s; remove it, or make it more specific",
				nameOf(e), e.Name, strings.Join(names, ", "), more))
		case d.Exempt:
			out = append(out, warning(e.Position, "%s of rule %q never decides: its packets are exempt; remove it, or choose other exemptions", nameOf(e), e.Name))
		default:
			out = append(out, warning(e.Position, "%s of rule %q matches no packet; remove it", nameOf(e), e.Name))
		}
	}
	if err != nil {
		out = append(out, "warning: not every filter could be looked at for whether it ever decides: "+err.Error())
	}
	return out
}
