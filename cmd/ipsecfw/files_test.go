package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/examples"
)

func TestInit(t *testing.T) {
	code, stdout, stderr := ipsecfw(t, "init")
	if code != exitGood || stderr != "" {
		t.Errorf("exit code %d, errors %q", code, stderr)
	}
	for i, line := range strings.Split(strings.TrimSuffix(stdout, "\n"), "\n") {
		if x := examples.Templates[i]; !strings.HasPrefix(line, x.Name+" ") || !strings.HasSuffix(line, " "+x.Summary) {
			t.Errorf("line %q, want that of %s", line, x.Name)
		}
	}
	file := filepath.Join(t.TempDir(), "p.yaml")
	for _, x := range examples.Templates {
		if code, stdout, stderr := ipsecfw(t, "init", x.Name); code != exitGood || stdout != string(x.Content) || stderr != "" {
			t.Errorf("%s: exit code %d, errors %q, output\n%s", x.Name, code, stderr, stdout)
		}
	}
	if code, stdout, stderr := ipsecfw(t, "init", "gateway", "--output", file); code != exitGood || stdout+stderr != "" || !strings.HasPrefix(mustRead(t, file), "# A gateway") {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
	if code, _, stderr := ipsecfw(t, "init", "client", "--output", file); code != exitFailed || stderr != "ipsecfw: "+file+" is there already: name another file, or remove it\n" {
		t.Errorf("exit code %d, errors %q", code, stderr)
	}
	if !strings.HasPrefix(mustRead(t, file), "# A gateway") {
		t.Error("a file that was there already was written to")
	}
}

func TestFormat(t *testing.T) {
	const ugly = "version: 1\nname:   x\nfilter-lists:\n    a:\n    - {from: any,to: me} # all\nrules:\n - {name: a,   filter-list: a, action: block}\n"
	dir := t.TempDir()
	good, bad, link := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml"), filepath.Join(dir, "link.yaml")
	write(t, bad, ugly)
	if err := os.Chmod(bad, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(bad, link); err != nil {
		t.Fatal(err)
	}
	code, pretty, stderr := ipsecfw(t, "fmt", bad)
	if code != exitGood || stderr != "" || pretty == ugly || !strings.Contains(pretty, "# all") || mustRead(t, bad) != ugly {
		t.Fatalf("exit code %d, errors %q, output\n%s", code, stderr, pretty)
	}
	write(t, good, pretty)
	if code, stdout, stderr := ipsecfw(t, "fmt", "--check", good, bad); code != exitFailed || stdout != bad+"\n" || stderr != "" {
		t.Errorf("--check: exit code %d, output %q, errors %q", code, stdout, stderr)
	}
	if code, stdout, stderr := ipsecfw(t, "fmt", good, link, "-w"); code != exitGood || stdout+stderr != "" || mustRead(t, bad) != pretty {
		t.Errorf("-w: exit code %d, output %q, errors %q, left\n%s", code, stdout, stderr, mustRead(t, bad))
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the symbolic link is one no more: %v, %v", info, err)
	}
	if info, err := os.Stat(bad); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the file's mode is another: %v, %v", info, err)
	}
	if code, stdout, stderr := ipsecfw(t, "fmt", "--check", good, bad); code != exitGood || stdout+stderr != "" {
		t.Errorf("--check: exit code %d, output %q, errors %q", code, stdout, stderr)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 3 {
		t.Errorf("left in the directory: %v, %v", names, err)
	}
	write(t, bad, strings.Replace(ugly, "action: block", "action: blok", 1))
	if code, stdout, stderr := ipsecfw(t, "fmt", "-w", bad, good); code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, bad+":7:") {
		t.Errorf("a bad file: exit code %d, output %q, errors %q", code, stdout, stderr)
	}
}

func TestSchema(t *testing.T) {
	code, stdout, stderr := ipsecfw(t, "schema")
	var schema struct {
		Properties map[string]any `json:"properties"`
	}
	if err := json.Unmarshal([]byte(stdout), &schema); err != nil || code != exitGood || stderr != "" || schema.Properties["filter-lists"] == nil {
		t.Errorf("exit code %d, errors %q, %v, output %q", code, stderr, err, stdout)
	}
}
