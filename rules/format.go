package rules

import (
	"bytes"
	"slices"
	"strings"
)

// Format returns a rule file in its canonical layout: two spaces for each
// level, one space between words, lines that are not too long, one empty line
// between sections. Order and comments stay, as does the choice between
// braces and lines. What it returns means the same, and formatted again stays
// the same. A part in which comments stand between the words of a value is
// left as it is, and a file of a form that rule files do not have is left as
// a whole. The error is that of Parse.
func Format(name string, src []byte) ([]byte, error) {
	before, err := Parse(name, src)
	if err != nil {
		return nil, err
	}
	var r reporter
	l := &layout{lines: lines(src), root: parseYAML(&r, src)}
	if !l.entriesOf(l.root, 0, "", nil) || !l.write() {
		return src, nil
	}
	out := []byte(strings.Join(l.out, "\n") + "\n")
	after, err := Parse(name, out)
	if err != nil || !bytes.Equal(before.Print(), after.Print()) || bytes.Count(out, []byte("#")) != bytes.Count(src, []byte("#")) {
		return src, nil
	}
	return out, nil
}

// lineWidth is how long a line may become before braces are broken, in
// characters.
const lineWidth = 100

// layout writes a file anew, line by line.
type layout struct {
	lines   [][]rune // of the source, without spaces at their ends
	root    *node
	entries []*entry
	out     []string
}

// entry is what begins on a line of its own: an item of a list, or a key with
// its value or with further entries below it.
type entry struct {
	above  *entry // the entry that it is part of
	line   int    // from 0, in the source
	column int    // from 0, of the first character of that line
	indent int    // the column in the canonical layout
	head   string // what the line begins with: spaces, dash and key
	value  *node  // what follows on the line; nil for entries below
}

func lines(src []byte) [][]rune {
	var out [][]rune
	for line := range strings.Lines(string(src)) {
		out = append(out, []rune(strings.TrimRight(line, " \t\r\n")))
	}
	return out
}

// char returns the character at a place of the source.
func (l *layout) char(at Position) rune {
	if at.Line < 1 || at.Line > len(l.lines) || at.Column < 1 || at.Column > len(l.lines[at.Line-1]) {
		return 0
	}
	return l.lines[at.Line-1][at.Column-1]
}

// isBlock reports whether a list or mapping stands on lines of its own, and
// not in brackets.
func (l *layout) isBlock(n *node) bool {
	c := l.char(n.at)
	return n.kind == mapping && c != '{' || n.kind == sequence && c != '['
}

// entriesOf collects the entries of a block. Dash is that of the list item
// that the block is. It returns false for a form that it does not know.
func (l *layout) entriesOf(n *node, indent int, dash string, above *entry) bool {
	if n == nil || !l.isBlock(n) {
		return false
	}
	for _, item := range n.items {
		switch {
		case l.isBlock(item) && item.kind == mapping:
			if !l.entriesOf(item, indent, "- ", above) {
				return false
			}
		case l.isBlock(item):
			return false
		default:
			l.add(&entry{above: above, line: item.at.Line - 1, indent: indent, head: spaces(indent) + "- ", value: item})
		}
	}
	for i, f := range n.fields {
		lead := spaces(indent) + dash
		if i > 0 && dash != "" {
			lead = spaces(indent + len(dash))
		}
		key := f.key
		if c := l.char(f.at); c == '"' || c == '\'' {
			key = quote(key)
		}
		e := &entry{above: above, line: f.at.Line - 1, indent: len(lead), head: lead + key + ":"}
		if l.add(e); dash != "" && i == 0 {
			e.indent, above = indent, e // the others are part of the item that it begins
		}
		if !l.isBlock(f.value) {
			e.head += " "
			e.value = f.value
			continue
		}
		if !l.entriesOf(f.value, indent+len(dash)+2, "", e) {
			return false
		}
	}
	return true
}

func (l *layout) add(e *entry) {
	if e.line >= 0 && e.line < len(l.lines) {
		e.column = indentOf(l.lines[e.line])
	}
	l.entries = append(l.entries, e)
}

// write writes the entries with the comments and empty lines between them. It
// returns false when there is something that it does not know.
func (l *layout) write() bool {
	next := 0 // the first line of the source that is not written yet
	var last *entry
	for i, e := range l.entries {
		end := len(l.lines)
		if i+1 < len(l.entries) {
			end = l.entries[i+1].line
		}
		if e.line < next || end <= e.line || !l.between(next, e.line, last, e) {
			return false
		}
		if next = l.endOf(e, end); !l.body(e, next) {
			return false
		}
		last = e
	}
	if !l.between(next, len(l.lines), last, nil) {
		return false
	}
	for len(l.out) > 0 && l.out[len(l.out)-1] == "" {
		l.out = l.out[:len(l.out)-1]
	}
	return true
}

// between writes the comments and empty lines between two entries.
func (l *layout) between(from, to int, last, next *entry) bool {
	section := next != nil && next.above == nil && last != nil && next.value == nil
	empty := false
	for i := from; i < to; i++ {
		line := l.lines[i]
		column := indentOf(line)
		switch {
		case len(line) == 0:
			empty = len(l.out) > 0
			continue
		case last == nil && string(line) == "---":
		case line[column] != '#':
			return false
		}
		if empty || section {
			l.out = append(l.out, "")
		}
		empty, section = false, false
		l.out = append(l.out, spaces(commentIndent(column, last, next))+string(line[column:]))
	}
	if next != nil && (empty || section) {
		l.out = append(l.out, "")
	}
	return true
}

// commentIndent returns where a comment goes that stands on a line of its own
// between two entries: to the next, unless it stands deeper and so belongs to
// what is before it.
func commentIndent(column int, last, next *entry) int {
	switch {
	case next != nil && column <= next.column:
		return next.indent
	case next == nil && column == 0:
		return 0
	}
	for ; last != nil; last = last.above {
		if last.column <= column {
			break
		}
	}
	switch {
	case last == nil && next == nil:
		return 0
	case last == nil:
		return next.indent
	case next == nil:
		return last.indent
	}
	return max(last.indent, next.indent)
}

// endOf returns the line behind the last one of an entry, which is at most
// end.
func (l *layout) endOf(e *entry, end int) int {
	if e.value != nil && l.isLiteral(e.value) {
		for i := e.line + 1; i < end; i++ {
			if line := l.lines[i]; len(line) > 0 && indentOf(line) <= e.column {
				end = i
			}
		}
	}
	for end > e.line+1 {
		line := l.lines[end-1]
		if e.value != nil && l.isLiteral(e.value) && len(line) > 0 {
			break
		}
		if len(line) > 0 && line[indentOf(line)] != '#' {
			break
		}
		end--
	}
	return end
}

// isLiteral reports whether a value is text on lines of its own, where "#"
// begins no comment.
func (l *layout) isLiteral(n *node) bool {
	c := l.char(n.at)
	return n.kind == scalar && n.quoted && (c == '|' || c == '>')
}

// body writes the lines of an entry.
func (l *layout) body(e *entry, end int) bool {
	if e.value != nil && l.isLiteral(e.value) {
		l.keep(e, end)
		return true
	}
	comment := ""
	open := rune(0)
	for i := e.line; i < end; i++ {
		at := commentIn(l.lines[i], &open)
		switch {
		case at < 0:
		case i < end-1:
			l.keep(e, end)
			return true
		default:
			comment = "  " + string(l.lines[i][at:])
		}
	}
	if e.value == nil {
		l.out = append(l.out, e.head+comment)
		return end == e.line+1
	}
	text := l.flow(e.value)
	if width(e.head)+width(text) > lineWidth {
		text = l.wrapped(e.value, width(e.head))
	}
	l.out = append(l.out, strings.Split(e.head+text+comment, "\n")...)
	return true
}

// keep writes the lines of an entry as they are, moved to its new indent.
func (l *layout) keep(e *entry, end int) {
	for i := e.line; i < end; i++ {
		line := l.lines[i]
		if len(line) == 0 {
			l.out = append(l.out, "")
			continue
		}
		indent := indentOf(line)
		l.out = append(l.out, spaces(max(0, indent+e.indent-e.column))+string(line[indent:]))
	}
}

// commentIn returns where a comment begins in a line, or -1. Open is the
// quote that the line begins in, and afterwards the one that it ends in.
func commentIn(line []rune, open *rune) int {
	token := true // a quote would begin a text here
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case *open == '"' && c == '\\':
			i++
		case *open != 0:
			if c == *open {
				*open = 0 // two quotes for one within single quotes open it again
			}
		case (c == '"' || c == '\'') && (token || i > 0 && line[i-1] == c):
			*open = c
		case c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t'):
			return i
		}
		if c != ' ' && c != '\t' {
			token = strings.ContainsRune("[{,:-", c)
		}
	}
	return -1
}

// flow writes a value on one line.
func (l *layout) flow(n *node) string {
	parts, open, shut := l.parts(n)
	return open + strings.Join(parts, ", ") + shut
}

// parts returns what a value in brackets consists of, or the text of a
// scalar.
func (l *layout) parts(n *node) (parts []string, open, shut string) {
	switch n.kind {
	case sequence:
		for _, item := range n.items {
			parts = append(parts, l.flow(item))
		}
		return parts, "[", "]"
	case mapping:
		for _, f := range n.fields {
			key := f.key
			if c := l.char(f.at); c == '"' || c == '\'' {
				key = quote(key)
			}
			parts = append(parts, key+": "+l.flow(f.value))
		}
		return parts, "{", "}"
	}
	if n.quoted || strings.ContainsAny(n.text, "\n\r") {
		return []string{quote(n.text)}, "", ""
	}
	return []string{n.text}, "", ""
}

// wrapped writes a value in brackets on several lines, broken between its
// parts. Column is where it begins.
func (l *layout) wrapped(n *node, column int) string {
	parts, open, shut := l.parts(n)
	var b strings.Builder
	b.WriteString(open)
	column += len(open)
	used := column
	for i, p := range parts {
		if i < len(parts)-1 {
			p += ","
		} else {
			p += shut
		}
		switch {
		case i > 0 && used+1+width(p) > lineWidth:
			b.WriteString("\n" + spaces(column))
			used = column
		case i > 0:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(p)
		used += width(p)
	}
	return b.String()
}

// indentOf returns how many characters of a line are spaces at its beginning.
func indentOf(line []rune) int {
	i := slices.IndexFunc(line, func(c rune) bool { return c != ' ' && c != '\t' })
	return max(i, 0)
}

func spaces(n int) string { return strings.Repeat(" ", n) }

// width is how many characters a text has.
func width(s string) int { return len([]rune(s)) }
