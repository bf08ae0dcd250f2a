// Package verify decides whether a policy may be put in force: it looks for
// filters that contradict each other, proves the assertions, and warns of what
// has no effect or shuts its administrator out. It is pure.
package verify

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/filter/space"
	"github.com/ipsecfw/ipsecfw/rules"
)

// Policy is rule files that are to be in force together.
type Policy struct {
	Files     []*rules.File
	Addresses rules.Addresses // what names and dynamic sides stand for
	SPD       *filter.SPD     // of the entries of all files

	space *space.Policy
}

// Space returns the policy as sets of packets. It is worked out once.
func (p *Policy) Space() *space.Policy {
	if p.space == nil {
		p.space = space.Compile(p.SPD)
	}
	return p.space
}

// Errors returns why the policy must not be put in force, one error for each
// contradiction and each assertion that does not hold, each beginning with
// FILE:LINE:COLUMN; or nil.
func (p *Policy) Errors() error { return errors.Join(p.contradictions(), p.assertions()) }

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

func nameOf(e *filter.Entry) string { return fmt.Sprintf("filter %d of list %q", e.Index+1, e.List) }

func does(e *filter.Entry) string {
	if e.Action == filter.Negotiate {
		return fmt.Sprintf("negotiate by rule %q", e.Name)
	}
	if e.Options.Reject {
		return "reject"
	}
	if e.Options.Limit != (filter.Limit{}) {
		return "permit with a limit"
	}
	return e.Action.String()
}

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

func (p *Policy) prove(a rules.Assertion) error {
	allowed := func(d filter.Decision) bool {
		for _, o := range a.Outcomes {
			if outcomeOfDecision(d) == o {
				return true
			}
		}
		return false
	}
	s, ok, err := p.Space().Violation(space.Of(a.Entries...), allowed)
	what := a.Text
	if a.Description != "" {
		what += " (" + a.Description + ")"
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s: the assertion %s: %w", a.Position, what, err)
	case ok:
		return fmt.Errorf("%s: the assertion does not hold: %s, but %s: %s", a.Position, what, s, p.SPD.Decide(s.Context, &s.Packet).Why())
	}
	return nil
}

// outcomeOfDecision says what becomes of packets, as assertions call it. What
// may pass in clear counts as clear, and so does what a peer without IKE gets.
func outcomeOfDecision(d filter.Decision) rules.Outcome {
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

// Warnings returns what works and is hardly meant, each beginning with
// FILE:LINE:COLUMN.
func (p *Policy) Warnings() []string {
	var out []string
	warn := func(position, format string, args ...any) {
		out = append(out, position+": warning: "+fmt.Sprintf(format, args...))
	}
	for _, f := range p.Files {
		for _, w := range f.Unused() {
			warn(w.Position, "%s; %s", w.Text, w.Hint)
		}
	}
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
			warn(e.Position, "%s of rule %q never decides: heavier filters take all of its packets, %s%s; remove it, or make it more specific", nameOf(e), e.Name, strings.Join(names, ", "), more)
		case d.Exempt:
			warn(e.Position, "%s of rule %q never decides: its packets are exempt; remove it, or choose other exemptions", nameOf(e), e.Name)
		default:
			warn(e.Position, "%s of rule %q matches no packet; remove it", nameOf(e), e.Name)
		}
	}
	if err != nil {
		out = append(out, "warning: not every filter could be looked at for whether it ever decides: "+err.Error())
	}
	return append(out, p.authentication()...)
}

// Connection is a TCP connection to this host that is to survive, such as that
// of the administrator's shell.
type Connection struct{ Client, Server netip.AddrPort }

// ParseConnection reads SSH_CONNECTION, as sshd(8) sets it: the client's
// address and port, then the server's.
func ParseConnection(s string) (c Connection, ok bool) {
	f := strings.Fields(s)
	if len(f) != 4 {
		return c, false
	}
	client, err1 := netip.ParseAddrPort(netJoin(f[0], f[1]))
	server, err2 := netip.ParseAddrPort(netJoin(f[2], f[3]))
	return Connection{client, server}, err1 == nil && err2 == nil
}

func netJoin(addr, port string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]:" + port
	}
	return addr + ":" + port
}

// LockedOut returns a warning if the policy does not let a connection go on in
// clear, or "".
func (p *Policy) LockedOut(c Connection) string {
	client, server := c.Client.Addr().Unmap().WithZone(""), c.Server.Addr().Unmap().WithZone("")
	for _, way := range []struct {
		direction filter.Direction
		state     filter.State
		from, to  netip.AddrPort
	}{
		{filter.Inbound, filter.StateOriginal, netip.AddrPortFrom(client, c.Client.Port()), netip.AddrPortFrom(server, c.Server.Port())},
		{filter.Outbound, filter.StateReply, netip.AddrPortFrom(server, c.Server.Port()), netip.AddrPortFrom(client, c.Client.Port())},
	} {
		d := p.SPD.Decide(filter.Context{Direction: way.direction, State: way.state}, &packet.Packet{
			Src: way.from.Addr(), Dst: way.to.Addr(), Protocol: packet.TCP,
			HasPorts: true, SrcPort: way.from.Port(), DstPort: way.to.Port(),
		})
		if d.Action == filter.Permit {
			continue
		}
		what := "cuts this shell off"
		if d.Action == filter.Negotiate {
			what = "lets this shell go on under IPsec only"
		}
		return fmt.Sprintf("%s: warning: the policy %s, which came from %s: %s; add a filter that permits it, or apply with --confirm",
			d.Entry.Position, what, c.Client, d.Why())
	}
	return ""
}

// authentication warns of rules for the same peers that want other proofs of
// them: a peer authenticates once, by the rule of the most specific filter that
// concerns its address.
func (p *Policy) authentication() []string {
	type proof struct{ methods, peerID, peers string }
	byRule := map[string]proof{}
	position := map[string]string{}
	for _, f := range p.Files {
		for name, n := range f.Negotiations() {
			var methods []string
			for _, a := range n.Auth {
				if a.Certificate != nil {
					methods = append(methods, "certificate "+a.Certificate.Authority)
				} else {
					methods = append(methods, "key "+a.PresharedKey.File)
				}
			}
			x := proof{methods: strings.Join(methods, ", "), peerID: n.PeerID}
			if n.Peers != nil {
				x.peers = n.Peers.Name
			}
			byRule[name], position[name] = x, n.Position
		}
	}
	// The peers of a rule by their own side alone, the rule that the first
	// filter of such a side belongs to.
	first := map[filter.Side]string{}
	warned := map[[2]string]bool{}
	var out []string
	for i := range p.SPD.Entries() {
		e := &p.SPD.Entries()[i]
		if e.Action != filter.Negotiate {
			continue
		}
		_, remote := e.Selector.Ends(filter.Outbound, false)
		if remote.Side.Kind() == filter.SideMe {
			_, remote = e.Selector.Ends(filter.Inbound, false)
		}
		other, known := first[remote.Side]
		if !known {
			first[remote.Side] = e.Name
			continue
		}
		a, b := byRule[other], byRule[e.Name]
		pair := [2]string{other, e.Name}
		if a != b && !warned[pair] {
			warned[pair] = true
			out = append(out, fmt.Sprintf("%s: warning: rule %q wants other proofs of the peers %s than rule %q, which comes first: a peer authenticates once, and gets no SA by this rule unless it proves what both want; give both the same authentication, peer-id and peers",
				position[e.Name], e.Name, remote.Side, other))
		}
	}
	return out
}
