package rules

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// checkFormat checks that a formatted file means the same, has the same
// comments, and is formatted.
func checkFormat(t *testing.T, src []byte) []byte {
	t.Helper()
	before := mustParse(t, "src.yaml", src)
	out, err := Format("src.yaml", src)
	if err != nil {
		t.Fatal(err)
	}
	if after := mustParse(t, "out.yaml", out); !bytes.Equal(before.Print(), after.Print()) {
		t.Errorf("formatted\n%s\nmeans\n%s\nand not\n%s", out, after.Print(), before.Print())
	}
	again, err := Format("out.yaml", out)
	if err != nil || !bytes.Equal(out, again) {
		t.Errorf("formatted\n%s\nand again\n%s\n%v", out, again, err)
	}
	return out
}

func TestFormat(t *testing.T) {
	for _, name := range files(t, "testdata/format/*.yaml") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			src := read(t, name)
			out := checkFormat(t, src)
			golden(t, strings.TrimSuffix(name, ".yaml")+".formatted", out)
			for line := range strings.Lines(string(src)) {
				if _, comment, ok := strings.Cut(line, "# "); ok && !bytes.Contains(out, []byte("# "+strings.TrimRight(comment, "' \n"))) {
					t.Errorf("the comment %q is lost", comment)
				}
			}
		})
	}
}

// What Print writes and the good files have is kept in meaning.
func TestFormatGood(t *testing.T) {
	for _, name := range files(t, "testdata/good/*.yaml") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			checkFormat(t, read(t, name))
			checkFormat(t, mustParse(t, name, read(t, name)).Print())
		})
	}
}

// The examples are formatted.
func TestFormatExamples(t *testing.T) {
	for _, name := range files(t, "../examples/*.yaml") {
		src := read(t, name)
		out := checkFormat(t, src)
		golden(t, name, out)
	}
}

func TestFormatBroken(t *testing.T) {
	if out, err := Format("broken.yaml", []byte("version: 2\n")); err == nil || out != nil {
		t.Errorf("got %q, %v", out, err)
	}
}

// A form that is not known is left alone.
func TestFormatLeavesAlone(t *testing.T) {
	for _, src := range []string{
		"{version: 1, name: a, filter-lists: {a: [{from: any,  to: me}]}, rules: [{name: a, filter-list: a, action: block}]} # all\n",
		"version: 1\nname: a\nfilter-lists:\n  a:\n    -\n      # dash above\n      from: any\n      to:   me\nrules: [{name: a, filter-list: a, action: block}]\n",
	} {
		if out := checkFormat(t, []byte(src)); string(out) != src {
			t.Errorf("got\n%s\nfrom\n%s", out, src)
		}
	}
}

func FuzzFormat(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/format/*.yaml"} {
		for _, name := range files(f, pattern) {
			f.Add(read(f, name))
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if _, err := Parse("f.yaml", src); err != nil {
			return
		}
		out := checkFormat(t, src)
		if a, b := bytes.Count(src, []byte("#")), bytes.Count(out, []byte("#")); a != b {
			t.Errorf("%d number signs of %d are left", b, a)
		}
	})
}
