package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
)

func applyCommand() *cli.Command {
	return &cli.Command{
		Name:      "apply",
		Usage:     "make a rule file the policy in force, in one step, or change nothing",
		ArgsUsage: "FILE",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "confirm", Usage: "take it back by itself unless \"ipsecfw confirm\" comes in this `TIME`, as in 60s"},
			&cli.BoolFlag{Name: "dry-run", Usage: "print the ruleset and what would change, and change nothing"},
		},
		Action: oneFile(func(c *cli.Context, path string) error {
			confirm := c.Duration("confirm")
			if c.IsSet("confirm") && confirm < time.Second {
				return usageError{fmt.Errorf("%v is no time to confirm in: choose 1s or more", confirm)}
			}
			d, err := client(c)
			if err != nil {
				return err
			}
			if c.Bool("dry-run") {
				f, err := parseRuleFile(path)
				if err != nil {
					return err
				}
				return dryRun(c, d, f)
			}
			return apply(c, d, path, confirm)
		}),
	}
}

// apply hands a rule file to the daemon, which verifies it, and asks for what
// else it needs.
func apply(c *cli.Context, d *api.Client, file string, confirm time.Duration) error {
	// The daemon's messages, and its lists later on, are read anywhere.
	path, err := filepath.Abs(file)
	if err != nil {
		return fmt.Errorf("find the rule file: %w", err)
	}
	src, err := readFile(path, maxRules)
	if err != nil {
		return err
	}
	a := api.Application{
		Policy:         api.Policy{Name: path, Source: string(src), Files: map[string][]byte{}},
		ConfirmSeconds: int64(math.Ceil(confirm.Seconds())),
		Shell:          os.Getenv("SSH_CONNECTION"),
	}
	for {
		applied, err := d.Apply(c.Context, a)
		var refused *api.Error
		switch {
		case err == nil:
			for _, w := range applied.Warnings {
				fmt.Fprintln(c.App.ErrWriter, w)
			}
			report(c.App.Writer, applied, time.Now())
			return nil
		case !errors.As(err, &refused):
			return err
		}
		switch {
		case refused.Code == api.CodeMissingFiles && len(a.Policy.Files) == 0:
			if err := collect(c.App.ErrWriter, &a.Policy, refused.Files); err != nil {
				return err
			}
		case refused.Code == api.CodeLocksOut && !a.CutShell:
			fmt.Fprintln(c.App.ErrWriter, refused) // now: nobody may read it afterwards
			a.CutShell = true
		case refused.Code == api.CodeInvalidPolicy:
			return badFile{err}
		default:
			return err
		}
	}
}

// collect reads the files that a rule file names, and warns of secrets that
// everybody can read.
func collect(warnings io.Writer, p *api.Policy, files []api.NamedFile) error {
	var errs []error
	for _, f := range files {
		path := locate(p.Name, f.Path)
		b, err := readFile(path, maxCredential)
		open := ""
		if err == nil && f.Secret {
			open, err = readable(path)
		}
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", f.Need, err))
		case open != "":
			fmt.Fprintf(warnings, "%s: %s\n", f.Need, open)
		}
		p.Files[f.Path] = b
	}
	if len(errs) > 0 {
		return badFile{errors.Join(errs...)}
	}
	return nil
}

// report says what came of an application, if anything is to be said.
func report(w io.Writer, a api.Applied, now time.Time) {
	if a.Cut > 0 {
		fmt.Fprintf(w, "%s cut that the policy before permitted and this one does not\n", were(a.Cut, "connection"))
	}
	if a.ConfirmBy != nil {
		fmt.Fprintf(w, "on trial: say \"ipsecfw confirm\" by %s, in %v, or the policy before comes back in force\n",
			a.ConfirmBy.Local().Format(time.TimeOnly), a.ConfirmBy.Sub(now).Round(time.Second))
	}
}

func were(n int, what string) string {
	if n == 1 {
		return "1 " + what + " was"
	}
	return count(n, what) + " were"
}
