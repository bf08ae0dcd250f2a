package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/doctor"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/examine"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/rules"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "say what on this host stands in the way: the kernel, other firewalls, other programs, routes",
		Description: "A line for each finding: problem, warning, unknown for what could not be looked at, or ok. " +
			"It changes nothing, needs no daemon, and sees more as root. The exit code is 1 if there is a problem.",
		Flags: []cli.Flag{jsonFlag()},
		Action: noArguments(func(c *cli.Context) error {
			d, err := client(c)
			if err != nil {
				return err
			}
			running, wants, silent := patient(c.Context, d)
			facts := examine.Host(wants)
			facts.Daemon = running
			if silent != nil {
				facts.Unseen = append(facts.Unseen, doctor.Unseen{What: "policy in force", Why: silent.Error()})
			}
			findings := doctor.Judge(facts)
			if c.Bool("json") {
				if err := printJSON(c, append([]doctor.Finding{}, findings...)); err != nil {
					return err
				}
			} else {
				for _, f := range findings {
					fmt.Fprintln(c.App.Writer, f)
				}
			}
			if doctor.Ill(findings) {
				return errDiffer
			}
			return nil
		}),
	}
}

// patient asks the daemon what its policy needs of the host. Without an answer
// the error says why.
func patient(ctx context.Context, d *api.Client) (*doctor.Daemon, examine.Policy, error) {
	s, err := d.Status(ctx)
	if err != nil {
		return nil, examine.Policy{}, err
	}
	out := &doctor.Daemon{Policy: s.Policy}
	if s.Policy == "" && s.Persistent == "" {
		return out, examine.Policy{}, nil
	}
	p, err := inForce(ctx, d)
	if err != nil {
		return out, examine.Policy{}, err
	}
	spd, err := p.spd()
	if err != nil {
		return out, examine.Policy{}, err
	}
	for _, e := range spd.Entries() {
		if e.Forward && e.Action != filter.Block {
			from, to := families(e.Selector.From), families(e.Selector.To)
			out.Forwards[0] = out.Forwards[0] || from[0] && to[0]
			// Any and any is of whatever the host passes on, and asks for no IPv6.
			out.Forwards[1] = out.Forwards[1] || from[1] && to[1] && !(from[0] && to[0])
		}
	}
	wants := examine.Policy{SPD: spd}
	for _, n := range p.negotiations() {
		for _, x := range slices.Concat(n.Proposals, n.Around) {
			wants.AH = wants.AH || x.Protocol == ipsec.ProtoAH
		}
		out.Certificates = out.Certificates || slices.ContainsFunc(n.Auth, func(a rules.Authentication) bool { return a.Certificate != nil })
	}
	return out, wants, nil
}

// families returns whether a side has addresses of IPv4, and of IPv6.
func families(s filter.Side) [2]bool {
	if s.Kind() != filter.SideAddresses {
		return [2]bool{true, true}
	}
	return [2]bool{s.First().Is4(), s.First().Is6()}
}
