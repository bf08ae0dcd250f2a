package ike_test

import (
	"go/build"
	"path"
	"strings"
	"testing"
)

// TestDependencies keeps the key exchange free of files and sockets. The
// Manager writes logs, with log/slog, and has clocks of its own.
func TestDependencies(t *testing.T) {
	const module = "github.com/ipsecfw/ipsecfw/"
	for dir, wants := range map[string][]string{
		".":     {"ipsec", "ipsec/ike/wire", "ipsec/xform"},
		"ikev2": {"ipsec", "ipsec/ike", "ipsec/ike/wire", "ipsec/xform"},
	} {
		pkg, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pkg.Imports {
			if ours, ok := strings.CutPrefix(p, module); ok {
				found := false
				for _, w := range wants {
					found = found || w == ours
				}
				if !found {
					t.Errorf("%s imports %s", dir, p)
				}
				continue
			}
			first, _, _ := strings.Cut(p, "/")
			if strings.Contains(first, ".") || p != "net/netip" && (first == "net" || first == "os" || first == "syscall" || first == "unsafe") {
				t.Errorf("%s imports %s", dir, p)
			}
			if dir == "ikev2" && (p == "log/slog" || p == "context" || path.Dir(p) == "sync" || p == "sync" || p == "crypto/rand") {
				t.Errorf("%s imports %s: a machine is pure", dir, p)
			}
		}
	}
}
