package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/verify"
	"github.com/ipsecfw/ipsecfw/rules"
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
			f, err := parseRuleFile(path)
			if err != nil {
				return err
			}
			d, err := client(c)
			if err != nil {
				return err
			}
			if c.Bool("dry-run") {
				return dryRun(c, d, f)
			}
			err = f.loadCredentials(time.Now())
			for _, w := range append(f.warnings, verify.Unused(f.file)...) {
				fmt.Fprintln(c.App.ErrWriter, w)
			}
			if err != nil {
				return err
			}
			if err := warnOfLockout(c, d, f.file); err != nil {
				return err
			}
			return apply(c, d, f, confirm)
		}),
	}
}

// apply hands the rule file to the daemon, which verifies it.
func apply(c *cli.Context, d *api.Client, f *ruleFile, confirm time.Duration) error {
	// The daemon's messages, and its lists later on, are read anywhere.
	path, err := filepath.Abs(f.upload.Name)
	if err != nil {
		return fmt.Errorf("find the rule file: %w", err)
	}
	f.upload.Name = path
	applied, err := d.Apply(c.Context, api.Application{Policy: f.upload, ConfirmSeconds: int64(math.Ceil(confirm.Seconds()))})
	var refused *api.Error
	switch {
	case errors.As(err, &refused) && refused.Code == api.CodeInvalidPolicy:
		return badFile{err}
	case err != nil:
		return err
	}
	report(c.App.Writer, applied, time.Now())
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

// warnOfLockout warns if the connection of this shell would be cut.
func warnOfLockout(c *cli.Context, d *api.Client, f *rules.File) error {
	shell, ok := thisShell()
	if !ok {
		return nil
	}
	p, err := together(c.Context, d, f)
	if err != nil {
		return err
	}
	if w := verify.LockedOut(p.entries(), p.exemptions(), shell); w != "" {
		fmt.Fprintln(c.App.ErrWriter, w)
	}
	return nil
}

// together returns what a file makes the policy in force, with what names stand
// for now. One that does not resolve stands for nothing: that is for the daemon
// to refuse, which may remember what it stood for.
func together(ctx context.Context, d *api.Client, f *rules.File) (policy, error) {
	status, err := d.Status(ctx)
	if err != nil {
		return policy{}, err
	}
	var old policy
	if status.Policy != "" && (f.Persistent || status.Persistent != "") {
		if old, err = inForce(ctx, d); err != nil {
			return policy{}, err
		}
	}
	p := old.with(f)
	_ = look(ctx, &p)
	return p, nil
}
