package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "validate a rule file, and the certificates and keys that it names; needs no daemon and no root",
		ArgsUsage: "FILE",
		Action: oneFile(func(c *cli.Context, path string) error {
			f, err := openRuleFile(c, path)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s: %s, %s: good\n", path, count(f.rules, "rule"), count(f.filters, "filter"))
			return nil
		}),
	}
}

// openRuleFile reads a rule file and prints the warnings about it.
func openRuleFile(c *cli.Context, path string) (*ruleFile, error) {
	f, err := readRuleFile(path, time.Now())
	if err != nil {
		return nil, err
	}
	for _, w := range f.warnings {
		fmt.Fprintln(c.App.ErrWriter, w)
	}
	return f, nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
