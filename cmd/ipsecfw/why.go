package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

func whyCommand() *cli.Command {
	return &cli.Command{
		Name:      "why",
		Usage:     "say why there is no SA with a peer: what failed last, and the one setting to change",
		ArgsUsage: "PEER",
		Description: "PEER is an address, a DNS name, or the identity that the peer claims. " +
			"The exit code is 0 if a negotiation with it has failed and no SA has come about since, and 1 otherwise.",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "all", Usage: "the failures before the last one too"},
		},
		Action: onePeer(func(c *cli.Context, peer string) error {
			d, err := client(c)
			if err != nil {
				return err
			}
			found, err := postMortems(c.Context, d, peer)
			if err != nil {
				return err
			}
			// What is wrong now goes before what has passed.
			slices.SortStableFunc(found, func(p, q ike.PostMortem) int { return past(&p) - past(&q) })
			if !c.Bool("all") && len(found) > 1 {
				found = found[:1]
			}
			if c.Bool("json") {
				if err := printJSON(c, append([]ike.PostMortem{}, found...)); err != nil {
					return err
				}
			}
			if len(found) == 0 {
				fmt.Fprintf(c.App.ErrWriter, "no negotiation with %s has failed that the daemon knows of\n", peer)
				return errDiffer
			}
			for i := 0; !c.Bool("json") && i < len(found); i++ {
				if i > 0 {
					fmt.Fprintln(c.App.Writer)
				}
				fmt.Fprint(c.App.Writer, &found[i])
			}
			if found[0].Over() {
				fmt.Fprintf(c.App.ErrWriter, "nothing is wrong with %s now that the daemon knows of\n", peer)
				return errDiffer
			}
			return nil
		}),
	}
}

// past is 1 for a failure after which an SA has come about, and else 0.
func past(p *ike.PostMortem) int {
	if p.Over() {
		return 1
	}
	return 0
}

// postMortems asks the daemon for those of a peer, and if it has none by that
// name, for those of the addresses that the name has in the DNS.
func postMortems(ctx context.Context, d *api.Client, peer string) ([]ike.PostMortem, error) {
	found, err := d.PostMortems(ctx, peer)
	if err != nil || len(found) > 0 {
		return found, err
	}
	for _, a := range resolve(ctx, peer) {
		of, err := d.PostMortems(ctx, a.String())
		if err != nil {
			return nil, err
		}
		found = append(found, of...)
	}
	return found, nil
}

// resolve returns the addresses of a DNS name; none for what is no name.
func resolve(ctx context.Context, name string) []netip.Addr {
	if _, err := netip.ParseAddr(name); err == nil {
		return nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs
}

// onePeer wraps an action that takes a peer.
func onePeer(action func(c *cli.Context, peer string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() != 1 || c.Args().First() == "" {
			return usageError{fmt.Errorf("%s takes one peer, not %d arguments", c.Command.Name, c.NArg())}
		}
		return action(c, c.Args().First())
	}
}

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON"} }

// printLine prints a value as JSON in one line.
func printLine(c *cli.Context, v any) error {
	e := json.NewEncoder(c.App.Writer)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
