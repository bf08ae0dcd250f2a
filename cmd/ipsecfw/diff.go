package main

import (
	"errors"
	"fmt"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/rules"
)

// errDiffer says that policies differ, where that is to be the exit code. It is
// nothing to print.
var errDiffer = errors.New("the policies differ")

func diffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "show the packets whose fate is another under another rule file, with names as they resolve now",
		ArgsUsage: "OLD NEW, or --active NEW",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "active", Usage: "compare with the policy in force, in which NEW takes the place of what it replaces"},
			&cli.BoolFlag{Name: "exit-code", Usage: "exit with 1 if there are differences"},
			outputFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := checkFormat(c); err != nil {
				return err
			}
			old, next, err := versions(c)
			if err != nil {
				return err
			}
			if err := look(c.Context, &old, &next); err != nil {
				fmt.Fprintf(c.App.ErrWriter, "%v\n", err)
			}
			d, err := compare(old, next)
			if err != nil {
				return err
			}
			if c.String("output") == "json" {
				err = printJSON(c, d)
			} else {
				err = d.print(c.App.Writer)
			}
			if err == nil && !d.none() && c.Bool("exit-code") {
				return errDiffer
			}
			return err
		},
	}
}

// versions returns the two policies that the command line names.
func versions(c *cli.Context) (old, next policy, err error) {
	switch active := c.Bool("active"); {
	case active && c.NArg() != 1:
		return old, next, usageError{fmt.Errorf("diff --active takes one rule file, not %d arguments", c.NArg())}
	case !active && c.NArg() != 2:
		return old, next, usageError{fmt.Errorf("diff takes two rule files, not %d arguments: the old one and the new one, or --active and the new one", c.NArg())}
	}
	parse := func(path string) (*rules.File, error) {
		f, err := parseRuleFile(path)
		if err != nil {
			return nil, err
		}
		return f.file, nil
	}
	if !c.Bool("active") {
		var files [2]*rules.File
		var errs [2]error
		var both sync.WaitGroup
		for i := range files {
			both.Go(func() { files[i], errs[i] = parse(c.Args().Get(i)) })
		}
		both.Wait()
		return policy{files: files[:1]}, policy{files: files[1:]}, errors.Join(errs[:]...)
	}
	f, err := parse(c.Args().First())
	if err != nil {
		return old, next, err
	}
	d, err := client(c)
	if err != nil {
		return old, next, err
	}
	if old, err = inForce(c.Context, d); err != nil {
		return old, next, err
	}
	return old, old.with(f), nil
}
