package nft

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Of the module the package knows filter alone, and only apply.go touches the
// kernel.
func TestImports(t *testing.T) {
	const module = "github.com/ipsecfw/ipsecfw/"
	allowed := map[string]bool{module + "filter": true}
	edge := map[string]bool{"os": true, "net": true, "syscall": true, "github.com/mdlayher/netlink": true}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source files: %v", err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(path, module) && !allowed[path] || edge[path] && name != "apply.go" {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}
