package main

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/daemon"
)

func daemonCommand() *cli.Command {
	return &cli.Command{
		Name:  "daemon",
		Usage: "run the engine in the foreground, until SIGINT or SIGTERM",
		Flags: []cli.Flag{
			stateFlag(),
			&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error", Value: "info"},
			&cli.PathFlag{Name: "key-log", Usage: "`FILE` to which the keys of all IKE SAs are written for Wireshark (its ikev2_decryption_table), and those of ESP to esp_sa beside it: whoever reads them reads all traffic"},
		},
		Action: noArguments(func(c *cli.Context) error {
			var level slog.Level
			if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
				return usageError{fmt.Errorf("the log level is %q, not debug, info, warn or error", c.String("log-level"))}
			}
			socket, err := socketPath(c)
			if err != nil {
				return err
			}
			debug.SetGCPercent(100)
			return daemon.Run(c.Context, daemon.Config{
				Socket: socket,
				State:  c.Path("state"),
				KeyLog: c.Path("key-log"),
				Log:    slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: level})),
			})
		}),
	}
}
