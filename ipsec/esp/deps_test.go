package esp

import (
	"go/build"
	"slices"
	"testing"
)

// The package is pure: no files, no sockets, no clock, no randomness of its
// own.
func TestImports(t *testing.T) {
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"os", "net", "syscall", "time", "crypto/rand", "math/rand", "math/rand/v2"} {
		if slices.Contains(pkg.Imports, bad) {
			t.Errorf("imports %s", bad)
		}
	}
}
