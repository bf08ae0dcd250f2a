package wire

import (
	"go/build"
	"path"
	"strings"
	"testing"
)

// TestDependencies keeps the package pure: it, and what it imports of this
// module, may use the standard library without files and sockets.
func TestDependencies(t *testing.T) {
	const (
		module = "github.com/ipsecfw/ipsecfw"
		root   = "../../.." // of the module
	)
	impure := func(p string) bool {
		first, _, _ := strings.Cut(p, "/")
		switch {
		case p == "net/netip":
			return false
		case strings.Contains(first, "."): // of another module
			return true
		}
		return first == "os" || first == "net" || first == "syscall" || first == "unsafe"
	}
	seen := map[string]bool{}
	var visit func(p string)
	visit = func(p string) {
		if seen[p] {
			return
		}
		seen[p] = true
		pkg, err := build.ImportDir(path.Join(root, strings.TrimPrefix(p, module)), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range pkg.Imports {
			switch {
			case strings.HasPrefix(q, module+"/"):
				visit(q)
			case impure(q):
				t.Errorf("%s imports %s", p, q)
			}
		}
	}
	visit(module + "/ipsec/ike/wire")
	if !seen[module+"/ipsec"] {
		t.Errorf("only %v were visited", seen)
	}
}
