package main

import (
	"maps"
	"slices"
	"strconv"

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
	policy := s.Policy
	if policy == "" {
		policy = "none"
	}
	t := table{
		{"policy", policy},
		{"file", s.File},
		{"generation", strconv.FormatUint(s.Generation, 10)},
		{"queue", s.Queue},
	}
	for _, name := range slices.Sorted(maps.Keys(s.Counters)) {
		t = append(t, []string{name, strconv.FormatUint(s.Counters[name], 10)})
	}
	return t
}
