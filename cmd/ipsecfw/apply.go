package main

import (
	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
)

func applyCommand() *cli.Command {
	return &cli.Command{
		Name:      "apply",
		Usage:     "make a rule file the policy in force, in one step, or change nothing",
		ArgsUsage: "FILE",
		Action: oneFile(func(c *cli.Context, path string) error {
			f, err := openRuleFile(c, path)
			if err != nil {
				return err
			}
			d, err := client(c)
			if err != nil {
				return err
			}
			_, err = d.Apply(c.Context, api.Application{Policy: f.upload})
			return err
		}),
	}
}
