package main

import "github.com/urfave/cli/v2"

func confirmCommand() *cli.Command {
	return &cli.Command{
		Name:  "confirm",
		Usage: "keep the policy that was applied with --confirm",
		Action: noArguments(func(c *cli.Context) error {
			d, err := client(c)
			if err != nil {
				return err
			}
			return d.Confirm(c.Context)
		}),
	}
}
