// Command ipsecfw is a host firewall whose rules can ask for IPsec: it
// permits, blocks, or lets traffic pass only under ESP.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
)

func main() {
	// All commands but the daemon, which says otherwise, end before it pays to
	// collect garbage often.
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// The exit codes.
const (
	exitGood   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run does what the command line says and returns the exit code. What it
// was asked for goes to stdout, what went wrong to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := &cli.App{
		Name:            "ipsecfw",
		Usage:           "a host firewall whose rules can ask for IPsec",
		Version:         version(),
		HideHelpCommand: true,
		Writer:          stdout,
		ErrWriter:       stderr,
		Flags: []cli.Flag{&cli.StringFlag{
			Name:    "socket",
			Usage:   "`PATH` of the daemon's socket",
			Value:   "/run/ipsecfw/ipsecfw.sock",
			EnvVars: []string{"IPSECFW_SOCKET"},
		}},
		Action: group,
		Commands: []*cli.Command{
			daemonCommand(), bootCommand(), guardCommand(),
			initCommand(), checkCommand(), formatCommand(), schemaCommand(), diffCommand(), explainCommand(),
			applyCommand(), confirmCommand(), unapplyCommand(),
			listCommand(), statusCommand(), doctorCommand(), whyCommand(), initiateCommand(), demoCommand(),
		},
		ExitErrHandler: func(*cli.Context, error) {}, // run itself says what went wrong
	}
	app.OnUsageError = onUsageError
	for _, c := range app.Commands {
		prepare(c)
	}
	err := app.RunContext(ctx, flagsFirst(app, args))
	var usage usageError
	var bad badFile
	switch {
	case err == nil:
		return exitGood
	case errors.Is(err, errDiffer): // what differs, or failed, was printed
		return exitFailed
	case errors.As(err, &bad): // as a compiler says it, so that editors find the place
		fmt.Fprintln(stderr, err)
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "ipsecfw: %v: see \"ipsecfw --help\"\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "ipsecfw: %v\n", err)
	return exitFailed
}

// version is that of the module, or of the commit, that the program was built
// from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// prepare gives a command and those below it what all have in common.
func prepare(c *cli.Command) {
	c.OnUsageError = onUsageError
	c.HideHelpCommand = true
	for _, sub := range c.Subcommands {
		prepare(sub)
	}
}

func onUsageError(_ *cli.Context, err error, _ bool) error { return usageError{err} }

// group is the action of a command that only has commands below it.
func group(c *cli.Context) error {
	var names []string
	for _, sub := range c.Command.VisibleCommands() {
		names = append(names, sub.Name)
	}
	choice := strings.Join(names, ", ")
	if c.NArg() == 0 {
		return usageError{fmt.Errorf("a command is missing, one of %s", choice)}
	}
	return usageError{fmt.Errorf("unknown command %q, not one of %s", c.Args().First(), choice)}
}

// noArguments wraps an action that takes none.
func noArguments(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() != 0 {
			return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
		}
		return action(c)
	}
}

// oneFile wraps an action that takes the path of a rule file.
func oneFile(action func(c *cli.Context, path string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() != 1 {
			return usageError{fmt.Errorf("%s takes one rule file, not %d arguments", c.Command.Name, c.NArg())}
		}
		return action(c, c.Args().First())
	}
}

// socketPath is where the daemon is.
func socketPath(c *cli.Context) (string, error) {
	path, err := filepath.Abs(c.String("socket"))
	if err != nil {
		return "", fmt.Errorf("find the socket: %w", err)
	}
	return path, nil
}

// client returns a client of the daemon that the command line chose.
func client(c *cli.Context) (*api.Client, error) {
	path, err := socketPath(c)
	if err != nil {
		return nil, err
	}
	return api.Dial(path), nil
}
