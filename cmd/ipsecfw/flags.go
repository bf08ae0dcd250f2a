package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the flags of the command that is called in front of its
// arguments, where the command line parser wants them, so that they may stand
// anywhere: "apply FILE --confirm 60s". What follows "--" are arguments.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	n, commands, flags := 1, app.Commands, app.Flags
	for n < len(args) {
		if word := args[n]; strings.HasPrefix(word, "-") {
			n += width(flags, word)
			continue
		}
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[n]) })
		if i < 0 && len(commands) > 0 {
			return args // there is no such command
		}
		if i < 0 {
			break
		}
		n, flags, commands = n+1, commands[i].Flags, commands[i].Subcommands
	}
	if n > len(args) {
		return args // a flag's value is missing, as the parser will say
	}
	out, rest := slices.Clone(args[:n]), []string(nil)
	for n < len(args) {
		word := args[n]
		switch {
		case word == "--":
			rest, n = append(rest, args[n:]...), len(args)
		case len(word) > 1 && word[0] == '-':
			end := n + width(flags, word)
			if end > len(args) {
				return append(out, word) // for the parser to say that its value is missing
			}
			out, n = append(out, args[n:end]...), end
		default:
			rest, n = append(rest, word), n+1
		}
	}
	return append(out, rest...)
}

// width is how many words a flag takes, itself included.
func width(flags []cli.Flag, word string) int {
	name, _, joined := strings.Cut(strings.TrimLeft(word, "-"), "=")
	if joined {
		return 1
	}
	for _, f := range flags {
		if takes, ok := f.(cli.DocGenerationFlag); ok && takes.TakesValue() && slices.Contains(f.Names(), name) {
			return 2
		}
	}
	return 1
}
