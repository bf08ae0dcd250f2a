package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/rules"
)

func formatCommand() *cli.Command {
	return &cli.Command{
		Name:      "fmt",
		Usage:     "print rule files in their canonical layout",
		ArgsUsage: "FILE...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "write", Aliases: []string{"w"}, Usage: "write them back instead"},
			&cli.BoolFlag{Name: "check", Usage: "list those that are laid out otherwise instead, and exit with 1 if there are any"},
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() == 0:
				return usageError{errors.New("fmt takes at least one rule file")}
			case c.Bool("write") && c.Bool("check"):
				return usageError{errors.New("fmt cannot both --write and --check: choose one")}
			}
			var errs []error
			differ := false
			for _, path := range c.Args().Slice() {
				other, err := format(c, path)
				differ = differ || other
				errs = append(errs, err)
			}
			if err := errors.Join(errs...); err != nil {
				return badFile{err}
			}
			if differ && c.Bool("check") {
				return errDiffer
			}
			return nil
		},
	}
}

// format does to one file what the flags say, and reports whether its layout is
// another than the canonical one.
func format(c *cli.Context, path string) (differs bool, err error) {
	src, err := readFile(path, maxRules)
	if err != nil {
		return false, err
	}
	out, err := rules.Format(path, src)
	if err != nil {
		return false, err
	}
	differs = !bytes.Equal(src, out)
	switch {
	case c.Bool("check") && differs:
		fmt.Fprintln(c.App.Writer, path)
	case c.Bool("check"), c.Bool("write") && !differs:
	case c.Bool("write"):
		return true, replaceFile(path, out)
	default:
		_, err = c.App.Writer.Write(out)
	}
	return differs, err
}

// replaceFile gives a file another content, all at once. It is the same file to
// its owner, and to symbolic links.
func replaceFile(path string, content []byte) (err error) {
	path, err = filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(info.Mode().Perm())
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && err == nil {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
