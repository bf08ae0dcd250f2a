package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
)

func initiateCommand() *cli.Command {
	return &cli.Command{
		Name:      "initiate",
		Usage:     "negotiate with a peer now, and wait for the SA or for the reason why there is none",
		ArgsUsage: "PEER",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "rule", Usage: "`NAME` of the rule to negotiate for, in place of that of the most specific filter"},
			&cli.BoolFlag{Name: "trace", Usage: "show the messages as they come and go, in the notation of RFC 7296"},
			&cli.BoolFlag{Name: "json", Usage: "print a line of JSON for all that happens"},
		},
		Action: onePeer(func(c *cli.Context, peer string) error {
			d, err := client(c)
			if err != nil {
				return err
			}
			if addrs := resolve(c.Context, peer); len(addrs) > 0 {
				peer = addrs[0].String()
			}
			var failed error
			tell := func(p api.Progress) { failed = errors.Join(failed, printProgress(c, p)) }
			last, err := d.Initiate(c.Context, api.Initiation{Peer: peer, Rule: c.String("rule"), Trace: c.Bool("trace")}, tell)
			switch {
			case errors.Join(err, failed) != nil:
				return errors.Join(err, failed)
			case last.PostMortem != nil:
				return errDiffer
			}
			return nil
		}),
	}
}

func printProgress(c *cli.Context, p api.Progress) error {
	if c.Bool("json") {
		return printLine(c, p)
	}
	var err error
	switch w := c.App.Writer; {
	case p.Message != "":
		_, err = fmt.Fprintln(w, p.Message)
	case p.Peer != nil:
		_, err = fmt.Fprintf(w, "IKE SA with %s, %s, by %s: %s\n", p.Peer.Remote, p.Peer.RemoteID, p.Peer.Authentication, p.Peer.Proposal)
	case p.SA != nil:
		_, err = fmt.Fprintf(w, "SA by rule %s: in %s, out %s\n", p.SA.Rule, p.SA.InSPI, p.SA.OutSPI)
	case p.PostMortem != nil:
		_, err = fmt.Fprint(w, p.PostMortem)
	}
	return err
}
