package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/examples"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "print a rule file to begin with; without a TEMPLATE list what there is",
		ArgsUsage: "[TEMPLATE]",
		Flags:     []cli.Flag{&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "write it to a new `FILE` instead"}},
		Action: func(c *cli.Context) error {
			switch c.NArg() {
			case 0:
				if c.IsSet("output") {
					return usageError{errors.New("init takes a template with --output")}
				}
				t := table{}
				for _, x := range examples.Templates {
					t = append(t, []string{x.Name, x.Summary})
				}
				return t.print(c.App.Writer)
			case 1:
				return template(c, c.Args().First())
			}
			return usageError{fmt.Errorf("init takes one template, not %d arguments", c.NArg())}
		},
	}
}

func template(c *cli.Context, name string) error {
	var names []string
	for _, x := range examples.Templates {
		if names = append(names, x.Name); x.Name == name {
			return writeNew(c, x.Content)
		}
	}
	return usageError{fmt.Errorf("there is no template %q, but %s", name, strings.Join(names, ", "))}
}

// writeNew writes to the file that the command line names, which must not be
// there yet.
func writeNew(c *cli.Context, content []byte) error {
	path := c.Path("output")
	if path == "" {
		_, err := c.App.Writer.Write(content)
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: name another file, or remove it", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}
