package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/daemon"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/nft"
)

// dryRun verifies a rule file and prints the ruleset that applying it would put
// in force, and which packets would meet another fate than under the policy in
// force. Where no daemon answers there is none.
func dryRun(c *cli.Context, d *api.Client, f *ruleFile) error {
	old, err := inForce(c.Context, d)
	var e *api.Error
	switch {
	case errors.As(err, &e) && e.Code == api.CodeNoDaemon:
		fmt.Fprintf(c.App.ErrWriter, "%v\ncompared with no policy\n", err)
	case err != nil:
		return err
	}
	next := old.with(f.file)
	if err := look(c.Context, &next); err != nil {
		return badFile{err}
	}
	v, err := check(c, f, next)
	if err != nil {
		return err
	}
	_, respond := f.file.DefaultResponse()
	fmt.Fprint(c.App.Writer, nft.Compile(v.SPD, assumed(v.SPD, respond)).String())
	old.addresses = next.addresses
	changes, err := compare(old, next)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.App.Writer)
	return changes.print(c.App.Writer)
}

// assumed is what the daemon tells the ruleset of itself. What the kernel has
// only root can ask; from others it is assumed to have all.
func assumed(s *filter.SPD, respond bool) nft.Config {
	cfg := daemon.Ruleset(s, respond)
	if os.Geteuid() != 0 {
		cfg.Features = nft.Features{Inet: true, FIB: true, NativeQueue: true}
	}
	return cfg
}
