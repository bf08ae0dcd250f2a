package layers

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each test that docs/ikev2.md names is there.
func TestFeatures(t *testing.T) {
	tests := map[string]bool{} // by folder and name
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir("../..", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		src, err := os.ReadFile(file)
		for _, m := range declared.FindAllSubmatch(src, -1) {
			tests[path.Base(path.Dir(filepath.ToSlash(file)))+"."+string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/ikev2.md")
	if err != nil {
		t.Fatal(err)
	}
	named, rows := regexp.MustCompile("`([^`]*)`"), 0
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| feature ") {
			continue
		}
		rows++
		if len(cells) != 3 {
			t.Errorf("%d cells in the row %s", len(cells), line)
			continue
		}
		for _, m := range named.FindAllStringSubmatch(cells[2], -1) {
			if !tests[m[1]] {
				t.Errorf("there is no test %s, which shows %s", m[1], strings.TrimSpace(cells[0]))
			}
		}
	}
	if rows < 60 {
		t.Errorf("%d features only", rows)
	}
}
