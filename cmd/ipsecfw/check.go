package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/verify"
	"github.com/ipsecfw/ipsecfw/rules"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "verify a rule file: its filters, its assertions, and the certificates and keys that it names; needs no daemon and no root",
		ArgsUsage: "FILE",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "resolve", Usage: "find out what names and dynamic sides stand for, and verify that too; without it they match nothing"},
		},
		Action: oneFile(func(c *cli.Context, path string) error {
			f, err := parseRuleFile(path)
			if err != nil {
				return err
			}
			p := policy{files: []*rules.File{f.file}}
			if c.Bool("resolve") {
				if err := look(c.Context, &p); err != nil {
					return badFile{err}
				}
			}
			if _, err := check(c, f, p); err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s: %s, %s: good\n", path, count(len(f.file.Rules), "rule"), count(filters(f.file), "filter"))
			return nil
		}),
	}
}

// check verifies a policy, and what one of its files names, and prints the
// warnings. What does not depend on each other is done at the same time.
func check(c *cli.Context, f *ruleFile, p policy) (*verify.Policy, error) {
	var v *verify.Policy
	var filters, keys error
	var warnings []string
	var work sync.WaitGroup
	work.Go(func() { keys = f.loadCredentials(time.Now()) })
	work.Go(func() {
		if v, filters = p.toVerify(); filters != nil {
			return
		}
		var both sync.WaitGroup
		both.Go(func() { warnings = v.Warnings() })
		both.Go(func() { filters = v.Errors() })
		both.Wait()
		if shell, ok := thisShell(); ok {
			if w := v.LockedOut(shell); w != "" {
				warnings = append(warnings, w)
			}
		}
	})
	work.Wait()
	if filters != nil {
		warnings = nil // most would only say once more what is wrong
	}
	for _, w := range append(f.warnings, warnings...) {
		fmt.Fprintln(c.App.ErrWriter, w)
	}
	if err := errors.Join(filters, keys); err != nil {
		return nil, badFile{err}
	}
	return v, nil
}

// filters returns how many filters are in force with a file.
func filters(f *rules.File) int {
	size := map[string]int{}
	for _, l := range f.Lists {
		size[l.Name] = len(l.Filters)
	}
	n := 0
	for i := range f.Rules {
		if f.Rules[i].Enabled {
			n += size[f.Rules[i].List]
		}
	}
	return n
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
