package main

import "github.com/urfave/cli/v2"

func unapplyCommand() *cli.Command {
	return &cli.Command{
		Name:  "unapply",
		Usage: "take the policy out of force, with everything of ours in nftables; a persistent one stays",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "persistent", Usage: "take the persistent policy out too"}},
		Action: noArguments(func(c *cli.Context) error {
			d, err := client(c)
			if err != nil {
				return err
			}
			return d.Unapply(c.Context, c.Bool("persistent"))
		}),
	}
}
