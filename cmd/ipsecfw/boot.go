package main

import (
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/daemon"
)

// stateFlag is where the daemon keeps its policy.
func stateFlag() cli.Flag {
	return &cli.PathFlag{
		Name:    "state",
		Usage:   "`DIR` where the policy is kept that is restored at the next start",
		Value:   "/var/lib/ipsecfw",
		EnvVars: []string{"IPSECFW_STATE"},
	}
}

func bootCommand() *cli.Command {
	return &cli.Command{
		Name:   "boot",
		Usage:  "put in force what holds until the daemon runs: the persistent policy, and the boot mode for all else; run it before the network is up",
		Flags:  []cli.Flag{stateFlag()},
		Action: noArguments(func(c *cli.Context) error { return daemon.Boot(c.Path("state")) }),
	}
}

// guardCommand is what the daemon starts for a policy on trial.
func guardCommand() *cli.Command {
	return &cli.Command{
		Name:   "guard",
		Usage:  "roll back the policy on trial if no daemon is there to do it",
		Hidden: true,
		Flags:  []cli.Flag{stateFlag()},
		Action: noArguments(func(c *cli.Context) error {
			// It outlives the terminal from which the policy was applied.
			signal.Ignore(syscall.SIGHUP)
			return daemon.Guard(c.Context, c.Path("state"))
		}),
	}
}
