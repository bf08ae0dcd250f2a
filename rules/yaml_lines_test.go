package rules

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// checkSame checks that the library alone makes of src what parseYAML does,
// and returns whether lines were read without it.
func checkSame(t *testing.T, src string) (short bool) {
	t.Helper()
	var got, want reporter
	root := parseYAML(&got, []byte(src))
	var alone *node
	if checkText(&want, []byte(src)) {
		alone = parseText(&want, src, nil)
		rest, runs := cutRuns(src)
		short = len(runs) > 0 && parseText(&reporter{}, rest, runs) != nil
	}
	if !reflect.DeepEqual(root, alone) {
		t.Errorf("%q: got\n%s\nwant\n%s", src, root.dump(), alone.dump())
	}
	if !reflect.DeepEqual(got.list, want.list) {
		t.Errorf("%q: errors\n%v\nwant\n%v", src, got.list, want.list)
	}
	return short
}

// dump writes a node on one line.
func (n *node) dump() string {
	if n == nil {
		return "none"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d:%d %s", n.at.Line, n.at.Column, n.kind)
	if n.kind == scalar {
		fmt.Fprintf(&b, " %q %v", n.text, n.quoted)
	}
	for _, v := range n.items {
		fmt.Fprintf(&b, " - %s", v.dump())
	}
	for _, f := range n.fields {
		fmt.Fprintf(&b, " %q %d:%d: (%s)", f.key, f.at.Line, f.at.Column, f.value.dump())
	}
	return b.String()
}

const plainLine = "    - {from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 8443}\n"

// many is a run that is long enough to be read without the library.
func many(line string) string { return strings.Repeat(line, minRun+2) }

// What a line holds decides whether it is read without the library, and never
// what is read.
func TestPlainLines(t *testing.T) {
	for _, c := range []struct {
		item  string
		short bool
	}{
		{"{from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 8443}", true},
		{"{from: 2001:db8::/32, to: ::1}", true},
		{"{from: 10.0.0.1-10.0.0.9, to: any, mirrored: false}", true},
		{"{from: 10.3.0.0 - 10.3.0.255, to:   any,protocol: 253}", true},
		{`{from: {set: staff}, to: {name: "vpn.example.com"}}`, true},
		{`{to-port: [80, 443, 8000-8080], from: [me, "::1", 'fd00::'], to: {sets: a}}`, true},
		{`{description: "head office: {a, b} # [no] comment", from: any}`, true},
		{`{description: 'Büro & Lager', from: "€ ü", to: 'x'}`, true},
		{`{description: "", from: '', to: x}`, true},
		{"{ from: any , to: me }", true},
		{"{a: true, b: True, c: FALSE, d: yes, e: no, f: on}", true},
		{"{a: 1e3, b: 0x10, c: 0o17, d: 0b1, e: .5, f: 5., g: 017, h: 1_000, i: .inf, j: .NaN, k: 99999999999999999999}", true},
		{"{a: ..., b: /, c: a@b.c, d: a=b, e: (x), f: a (x)}", false},
		{"{a: ..., b: /, c: a@b.c, d: a=b, e: a(x), f: a  (x)  y}", true},
		{"{from: any, from: me, from: any}", true},
		{"{null: a, true: b, on: c}", true},
		{"{a: http://x:80/y, b: 12:30:45, c: 2001-12-14}", true},

		{"{from: any, to: null}", false},
		{"{from: any, to: NULL}", false},
		{"{from: any, to: ~}", false},
		{"{from: any, to: }", false},
		{"{from: any, to}", false},
		{"{from: any, to:me}", false},
		{"{from:any}", false},
		{"{from: any, to: me,}", false},
		{"{from: any,, to: me}", false},
		{"{, from: any}", false},
		{"{from: fd00::, to: me}", false},
		{"{from: a: b, to: me}", false},
		{"{from: a :b, to: me}", false},
		{"{from: :, to: me}", false},
		{"{from: -, to: me}", false},
		{"{from: -5, to: +5}", false},
		{"{from: ?, to: me}", false},
		{"{from: ? a, to: me}", false},
		{"{? from: a, to: me}", false},
		{"{from: é, to: me}", false},
		{"{é: a, to: me}", false},
		{"{\"from\": a, 'to': me}", false},
		{"{from: any, to: me} ", false},
		{"{from: any, to: me} # all", false},
		{"{from: any #, to: me}", false},
		{"{from: any\t, to: me}", false},
		{"{from:\tany, to: me}", false},
		{"{from: any,\tto: me}", false},
		{"{from: \"a\tb\", to: me}", false},
		{`{from: "a\nb", to: me}`, false},
		{`{from: "\x01", to: me}`, false},
		{`{from: 'it''s', to: me}`, false},
		{`{from: "a"b, to: me}`, false},
		{`{from: "a, to: me}`, false},
		{`{from: a"b, to: it's}`, false},
		{"{from: &a any, to: *a}", false},
		{"{<<: {a: b}, to: me}", false},
		{"{from: !!str any, to: me}", false},
		{"{from: |, to: me}", false},
		{"{from: >, to: me}", false},
		{"{from: %a, to: @b}", false},
		{"{from: `a`, to: me}", false},
		{"{}", false},
		{"{from: {}, to: me}", false},
		{"{from: [], to: me}", false},
		{"{from: [a,], to: me}", false},
		{"{from: [::1], to: me}", false},
		{"{from: [a: b], to: me}", false},
		{"{from: [[a]], to: me}", false},
		{"{from: [{a: b}], to: me}", false},
		{"{from: {a: {b: {c: d}}}, to: me}", false},
		{"{from: [a, b, to: me}", false},
		{"{from: [a, b}, to: me}", false},
		{"{from: {a: b, to: me}", false},
		{"{from: any}, to: me}", false},
		{"{from: any} {to: me}", false},
		{"{from: any}]", false},
		{"[a, b]", false},
		{"any", false},
		{"- {from: any}", false},
	} {
		t.Run(c.item, func(t *testing.T) {
			if short := checkSame(t, "version: 1\nlists:\n  all:\n"+many("    - "+c.item+"\n")+"rules: x\n"); short != c.short {
				t.Errorf("read without the library: %v, want %v", short, c.short)
			}
		})
	}
}

// What is around a run decides what it means.
func TestPlainLinesInPlace(t *testing.T) {
	run := many(plainLine)
	indented := func(n int) string {
		return strings.ReplaceAll(run, "    - ", strings.Repeat(" ", n)+"- ")
	}
	for _, c := range []struct {
		name, src string
		short     bool
	}{
		{"alone", indented(0), true},
		{"alone, indented", run, true},
		{"below a key", "a:\n" + run, true},
		{"below a key, not indented", "a:\n" + indented(0) + "b: c\n", true},
		{"below a key and a comment", "a: # b\n# c\n\n" + run, true},
		{"twice", "a:\n" + run + "b:\n" + indented(2), true},
		{"twice, a comment between", "a:\n" + run + "# b\n" + run, true},
		{"twice, an empty line between", "a:\n" + run + "\n" + run, true},
		{"twice, another item between", "a:\n" + run + "    - b\n" + run + "    - {c: \"d\\\"\"} # e\n" + run, true},
		{"twice, deeper", "a:\n" + run + indented(6), false},
		{"twice, less deep", "a:\n" + run + indented(2), false},
		{"without a newline at the end", "a:\n" + strings.TrimSuffix(run, "\n"), true},
		{"CRLF", strings.ReplaceAll("a:\n"+run+"b: c\n", "\n", "\r\n"), true},
		{"CRLF here and there", "a:\r\n" + run + "b:\n" + run + "    - x\r\n" + many(strings.TrimSuffix(plainLine, "\n")+"\r\n"), true},
		{"CRLF at the end", "a:\n" + run + "\r\n", true},
		{"CR ends lines", strings.ReplaceAll("a:\n"+run, "\n", "\r"), false},
		{"CR before", "a: b\rc:\n" + run, false},
		{"CRLF in quotes before", "a: \"b\r\nc\"\r\nd:\r\n" + run, false},
		{"a tab in quotes before", "a: \"b\tc\"\nd:\n" + run, false},
		{"a tab in quotes and items alike around", "a: \"b\tc\"\nd:\n" + plainLine + "# e\n" + run + plainLine[:len(plainLine)-1] + " # f\n", false},
		{"an escape over the end of a line", "a: \"b\\x4\nc\"\nd:\n" + run, false},
		{"a tab before a comment", "a: b\t# c\nd:\n" + run, true},
		{"empty lines before", "\n\n\na:\n\n\n" + run, true},
		{"byte order mark", "\ufeffa:\n" + run, true},
		{"in a literal", "a: |\n" + run + "b: c\n", false},
		{"in a literal that keeps newlines", "a: |+\n" + run + "\n\nb: c\n", false},
		{"in a literal with its indentation", "a: |2\n" + run + "b: c\n", false},
		{"in a folded text", "a: >-\n" + run + "b: c\n", false},
		{"in a literal item", "- |\n" + run + "- b\n", false},
		{"in a literal at the top", "|\n" + run, false},
		{"below a literal", "a: |\n  b\nc:\n" + run, true},
		{"below a folded text with empty lines", "a: >\n  b\n\n  c\n\n\nc:\n" + run + "d: |\n  e\n", true},
		{"below a literal, and ends it", "- - |\n   x\n  - y\n" + indented(2), true},
		{"in double quotes", "a: \"\n" + run + "\"\n", false},
		{"in single quotes", "a: '\n" + run + "'\n", false},
		{"in single quotes with both", "a: '\n" + many("    - {b: \"c\"}\n") + "'\n", false},
		{"in double quotes that lines close", "a: \"\n" + many("    - {b: \"c\"}\n") + "\"\n", false},
		{"in quotes that end never", "a: \"\n" + run, false},
		{"in a plain text", "a: b\n" + run + "c: d\n", false},
		{"in a plain text at the top", "a\n" + run, false},
		{"in a plain text of an item", "- a\n" + indented(2), false},
		{"in brackets", "a: [\n" + run + "]\n", false},
		{"in brackets, a comma before", "a: [b,\n" + run + "]\n", false},
		{"in braces", "a: {\n" + run + "}\n", false},
		{"in braces behind a key", "a: {b:\n" + run + "}\n", false},
		{"in an item's braces", "- {b:\n" + run + "}\n", false},
		{"in a bracket that is closed twice", "a: [b]]\nc:\n" + run, false},
		{"behind a brace that closes nothing", "a: b\n}\nc:\n" + run, false},
		{"behind a bracket that closes nothing", "]\n" + run, false},
		{"below a scalar's key", "a: b\nc:\n" + run, true},
		{"below an item without a value", "-\n" + run, true},
		{"below a key in an item", "- a:\n" + run + "  b: c\n", true},
		{"below an item in an item", "- - {a: b}\n" + indented(2), true},
		{"below a null item", "a:\n    -\n" + run + "    -\n", true},
		{"below an anchor", "a: &b\n" + run, false},
		{"below a tag", "a: !!seq\n" + run, false},
		{"below a question mark", "? a\n:\n" + run, false},
		{"below a directive", "%YAML 1.2\n---\n" + run, false},
		{"below a document's head", "---\n" + run, true},
		{"below a document's head and key", "---\na:\n" + run + "...\n", true},
		{"two documents", "a:\n" + run + "---\na:\n" + run, false},
		{"two documents, nothing in the second", "a:\n" + run + "---\n", false},
		{"two documents, nothing in both", "---\n---\n", false},
		{"below a mapping's line", "a: b\n" + indented(0), false},
		{"goes on deeper", "a:\n" + run + "      b\n", false},
		{"goes on with a key", "a:\n" + run + "      b: c\n", false},
		{"goes on with a key below the dash", "a:\n" + run + "    b: c\n", false},
		{"goes on with an item of items", "a:\n" + run + "      - b\n", false},
		{"goes on behind the brace", "a:\n" + run[:len(run)-1] + " b\n", false},
		{"an open last line", "a:\n" + run + "    - {b: c,\n       d: e}\n", true},
		{"an open first line", "a:\n    - {b: c,\n       d: e}\n" + run, true},
		{"a tab after", "a:\n" + run + "\tb: c\n", false},
		{"a comment with brackets before", "# [{\"\na:\n" + run, true},
		{"text that is like a mark", "x: \"\\x01\"\ny: [\"\\x01\"]\na:\n    - [\"\\x01\"]\n" + run, true},
		{"a mark", "a:\n    - [\x01]\n" + run, false},
		{"an error before", "a: [b\nc: }\n" + run, false},
		{"an error after", "a:\n" + run + "b: [\n", false},
		{"too deep after", "a:\n" + run + "b: " + strings.Repeat("[", maxDepth+1) + "\n", false},
		{"too short", "a:\n" + strings.Repeat(plainLine, minRun-1), false},
		{"just long enough", "a:\n" + strings.Repeat(plainLine, minRun), true},
		{"empty", "", false},
		{"a newline", "\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if short := checkSame(t, c.src); short != c.short {
				t.Errorf("read without the library: %v, want %v", short, c.short)
			}
		})
	}
}

// A sign anywhere in a line changes nothing but what the library changes.
func TestPlainLinesWithSigns(t *testing.T) {
	const line = `  - {a: b/1.5, c: "d é", e: [f, 'g'], h: {i: 2::3 - 4}}`
	for at := range len(line) + 1 {
		for _, sign := range strings.Split(":|: |,|, |[|]|{|}|#| #|&|*|!|?|-|- |~|\\|\t|\r|\"|'|%|@|`|<|>|=|+|.| |é|0|x", "|") {
			checkSame(t, "a:\n"+many(line[:at]+sign+line[at:]+"\n"))
		}
		checkSame(t, "a:\n"+many(line[:at]+"\n")+"b: c\n")
	}
}

func TestPlainLinesOfFiles(t *testing.T) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/broken/*.yaml"} {
		for _, name := range files(t, pattern) {
			src := string(read(t, name))
			t.Run(filepath.Base(name), func(t *testing.T) {
				checkSame(t, src)
				// Each line of the file, often enough to be read here.
				var long strings.Builder
				for line := range strings.Lines(src) {
					long.WriteString(line)
					if strings.HasPrefix(strings.TrimLeft(line, " "), "- ") {
						long.WriteString(strings.Repeat(line, minRun))
					}
				}
				checkSame(t, long.String())
			})
		}
	}
}

func TestTextPosition(t *testing.T) {
	for src, want := range map[string]Position{
		"\x01":               {1, 1},
		"a: b\x7f\x00":       {1, 6},
		"é\n\tüx\xff":        {2, 4},
		"a\r\n\n€: \xe2\x82": {3, 4},
		"\ufffd\n\x1b":       {2, 1},
	} {
		var r reporter
		if checkText(&r, []byte(src)) || len(r.list) != 1 || (Position{r.list[0].Line, r.list[0].Column}) != want {
			t.Errorf("%q: %v, want an error at %v", src, r.list, want)
		}
	}
}

// pieces are what generated files are made of.
var pieces = []string{
	plainLine, plainLine, plainLine, "    - {from: any, to: {set: a}, to-port: [80, 443]} \n", "  - {name: \"a\", list: b}\n", "- {a: b}\n",
	"    - {a: \"b", "\"}\n", "a:\n", "  b:\n", "    c: |\n", "    d: >\n", "# e\n", "\n", "    - x\n", "    -\n", "      f: g\n", "h: i\n",
	"    - {j: [\n", "]}\n", "k: '\n", "'\n", "l: \"\n", "\t", "\r", "m: [\n", "]\n", "}\n", "---\n", "  - - n\n", "    - o: p\n",
}

func TestPlainLinesGenerated(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	short := 0
	for range 1500 {
		var src strings.Builder
		if r.IntN(2) == 0 {
			src.WriteString("a:\n" + many(plainLine))
		}
		for range 1 + r.IntN(5) {
			piece := pieces[r.IntN(len(pieces))]
			if r.IntN(2) == 0 {
				piece = many(piece)
			}
			src.WriteString(piece)
		}
		if checkSame(t, src.String()) {
			short++
		}
	}
	if short < 100 {
		t.Errorf("%d files had lines that were read without the library, want at least 100", short)
	}
}

// A line that stands many times between any two texts is what the library
// reads in it.
func FuzzPlainLines(f *testing.F) {
	for _, name := range files(f, "testdata/good/*.yaml") {
		src := string(read(f, name))
		if i := strings.Index(src, "    - {"); i >= 0 {
			line, after, _ := strings.Cut(src[i:], "\n")
			f.Add(src[:i], line, after)
		}
	}
	f.Add("a:\n", `- {a: [b, "c"], d: {e: 'f'}, g: 10.0.0.0 - 10.0.0.9, h: 2001:db8::/32}`, "  - b\n")
	f.Add("a: |\n", ` - {a: b}`, "\nb: \"\n")
	f.Fuzz(func(t *testing.T, before, line, after string) {
		checkSame(t, before+many(line+"\n")+after)
	})
}

func BenchmarkPlainLines(b *testing.B) {
	var src bytes.Buffer
	src.WriteString("version: 1\nname: bench\nfilter-lists:\n  all:\n")
	for i := range 100_000 {
		fmt.Fprintf(&src, "    - {from: 10.%d.%d.%d/32, to: 192.0.2.0/24, protocol: tcp, to-port: 1024-%d}\n", i>>16, i>>8&255, i&255, 2000+i%60000)
	}
	src.WriteString("rules:\n  - {name: all, filter-list: all, action: block}\n")
	b.SetBytes(int64(src.Len()))
	for b.Loop() {
		var r reporter
		if parseYAML(&r, src.Bytes()) == nil {
			b.Fatal(r.list)
		}
	}
}
