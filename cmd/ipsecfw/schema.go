package main

import (
	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/rules"
)

func schemaCommand() *cli.Command {
	return &cli.Command{
		Name:  "schema",
		Usage: "print the JSON Schema of rule files, by which editors complete and check them",
		Action: noArguments(func(c *cli.Context) error {
			_, err := c.App.Writer.Write(rules.Schema())
			return err
		}),
	}
}
