package main

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestFlagsFirst(t *testing.T) {
	app := &cli.App{
		Flags: []cli.Flag{&cli.StringFlag{Name: "socket"}},
		Commands: []*cli.Command{
			{Name: "apply", Flags: []cli.Flag{&cli.DurationFlag{Name: "confirm"}, &cli.BoolFlag{Name: "dry-run"}}},
			{Name: "list", Subcommands: []*cli.Command{{Name: "sas", Flags: []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}}}}}},
		},
	}
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"apply f", "apply f"},
		{"apply f --confirm 60s", "apply --confirm 60s f"},
		{"apply f -confirm=60s g --dry-run h", "apply -confirm=60s --dry-run f g h"},
		{"--socket apply apply f --dry-run", "--socket apply apply --dry-run f"},
		{"--socket=s list sas x -o json", "--socket=s list sas -o json x"},
		{"apply f --unknown g", "apply --unknown f g"},
		{"apply f -- --confirm", "apply f -- --confirm"},
		{"apply -", "apply -"},
		{"apply f --confirm", "apply --confirm"},
		{"--socket", "--socket"},
		{"aply f --dry-run", "aply f --dry-run"},
	} {
		got := flagsFirst(app, append([]string{"ipsecfw"}, strings.Fields(tt.in)...))
		if want := append([]string{"ipsecfw"}, strings.Fields(tt.want)...); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%q becomes %q, want %q", tt.in, got, want)
		}
	}
}
