package main

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:   "status",
		Usage:  "show the policy in force and the counters",
		Flags:  []cli.Flag{outputFlag()},
		Action: noArguments(func(c *cli.Context) error { return show(c, (*api.Client).Status, statusTable) }),
	}
}

func statusTable(s api.Status) table {
	t := table{{"policy", "none"}}
	if s.Policy != "" {
		t = table{{"policy", s.Policy}, {"file", s.File}}
	}
	if s.Persistent != "" {
		t = append(t, []string{"persistent", s.Persistent})
	}
	if s.ConfirmBy != nil {
		t = append(t, []string{"confirm-by", s.ConfirmBy.Format(time.RFC3339)})
	}
	if s.KeyLog != "" {
		t = append(t, []string{"key-log", s.KeyLog + " (WARNING: whoever reads it reads all traffic)"})
	}
	t = append(t, []string{"generation", strconv.FormatUint(s.Generation, 10)}, []string{"queue", s.Queue})
	for _, name := range slices.Sorted(maps.Keys(s.Counters)) {
		t = append(t, []string{name, strconv.FormatUint(s.Counters[name], 10)})
	}
	return t
}
