package rules

import (
	"strings"

	"github.com/goccy/go-yaml/token"
)

// A rule file with many filters is long lists whose items are lines of one
// plain form,
//
//   - {from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 8443}
//
// and the YAML library takes tens of microseconds for each. Such lines are
// read here instead. What a line means depends on what is around it, as it may
// stand inside of a text or of brackets, and that is for the library to say:
// it gets the file with a mark as the one item in place of a run of lines.
// Where it finds the mark as an item of a list, outside of brackets, it would
// have found the lines of the run as well, since each of them closes what it
// opens and leaves the library as it was. Where it does not, or finds an
// error, it gets the whole file.

// run is lines of a file, one below the other, that are items of one list.
type run struct {
	dash  int          // the column of their dashes
	items []*node      // one for each line
	mark  *token.Token // the bracket that stands for all of them but the last
}

// minRun is how many lines are worth a mark.
const minRun = 8

// mark stands, in brackets, for a run. No file holds it, as checkText refuses
// control characters; the library takes it as a plain scalar, which nothing
// else in a file can come out as.
const mark = "\x01"

// cutRuns returns text with a mark in place of all lines but the last of each
// run. The last stays, as what follows may go on with it.
func cutRuns(text string) (rest string, runs []run) {
	var (
		left  strings.Builder
		s     lineScanner
		r     run
		brace int // the place in text of the first brace of r
		last  int // the place of its last line
		done  int // up to where text is in left
	)
	end := func() {
		if len(r.items) >= minRun {
			left.WriteString(text[done:brace])
			left.WriteString("[" + mark + "]\n")
			done = last
			runs = append(runs, r)
		}
		r = run{}
	}
	for at := 0; at < len(text); {
		line, _, _ := strings.Cut(text[at:], "\n")
		item, dash := s.item(strings.TrimSuffix(line, "\r"))
		if dash != r.dash {
			end()
		}
		if item != nil {
			if r.items == nil {
				r.dash, brace = dash, at+item.at.Column-1
			}
			r.items, last = append(r.items, item), at
		}
		at += len(line) + 1
	}
	end()
	left.WriteString(text[done:])
	return left.String(), runs
}

// findMarks finds the marks among the tokens of what cutRuns left, and gives
// all tokens the lines that they have in the file. It reports false if the
// library does not read each mark as an item of a list outside of brackets,
// in its place.
func findMarks(tokens token.Tokens, runs []run) bool {
	var cut, coming, open int // lines before this token and before the next dash, brackets
	for i, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			open++
		case token.MappingEndType, token.SequenceEndType:
			open--
		case token.SequenceEntryType:
			cut, coming = cut+coming, 0
		}
		t.Position.Line += cut
		if t.Type != token.StringType || t.Value != mark {
			continue
		}
		if len(runs) == 0 || i < 2 || open != 1 {
			return false
		}
		r, dash := &runs[0], tokens[i-2]
		r.mark = tokens[i-1]
		if dash.Type != token.SequenceEntryType || dash.Position.Column != r.dash || positionOf(r.mark) != r.items[0].at {
			return false
		}
		coming = len(r.items) - 2 // the mark and the last line are left
		runs = runs[1:]
	}
	return len(runs) == 0
}

// lineScanner reads lines of the plain form, and takes nothing that could be
// read in two ways: what it does not take is for the library.
type lineScanner struct {
	line   int // from 1
	text   string
	at     int     // the place in text of what comes next
	wide   int     // how many bytes before it belong to a character that began before them
	open   []field // of mappings that are not at their end
	nodes  []node  // room for nodes,
	fields []field // and for fields
}

// item reads the next line of the file. It returns the item with the column
// of its dash, or nil and 0 if the line has another form.
func (s *lineScanner) item(text string) (item *node, dash int) {
	s.line++
	s.text, s.at, s.wide, s.open = text, 0, 0, s.open[:0]
	s.spaces()
	dash = s.at + 1
	if !s.take('-') || !s.spaces() || s.next() != '{' {
		return nil, 0
	}
	if item = s.value(2); item == nil || s.at < len(text) {
		return nil, 0
	}
	return item, dash
}

// next returns the next byte, 0 at the end of the line.
func (s *lineScanner) next() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// take skips a byte, if it is the next.
func (s *lineScanner) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

// spaces skips spaces, and reports whether there were any.
func (s *lineScanner) spaces() bool {
	begin := s.at
	for s.next() == ' ' {
		s.at++
	}
	return s.at > begin
}

// node returns a new node that begins here.
func (s *lineScanner) node(k kind) *node {
	if len(s.nodes) == 0 {
		s.nodes = make([]node, 256)
	}
	n := &s.nodes[0]
	s.nodes = s.nodes[1:]
	n.kind, n.at = k, s.position()
	return n
}

func (s *lineScanner) position() Position { return Position{s.line, s.at - s.wide + 1} }

// value reads a value with brackets and braces up to depth deep.
func (s *lineScanner) value(depth int) *node {
	switch c := s.next(); {
	case c == '{' && depth > 0:
		return s.mapping(depth - 1)
	case c == '[' && depth > 0:
		return s.sequence()
	}
	return s.scalar()
}

// mapping reads {KEY: VALUE, KEY: VALUE}.
func (s *lineScanner) mapping(depth int) *node {
	n, first := s.node(mapping), len(s.open)
	s.take('{')
	for {
		s.spaces()
		f := field{at: s.position(), key: s.key()}
		if f.key == "" || !s.take(':') || !s.spaces() {
			return nil
		}
		if f.value = s.value(depth); f.value == nil {
			return nil
		}
		s.open = append(s.open, f)
		s.spaces()
		if s.take('}') {
			n.fields = s.keep(s.open[first:])
			s.open = s.open[:first]
			return n
		}
		if !s.take(',') {
			return nil
		}
	}
}

// keep returns a copy of the fields of a mapping.
func (s *lineScanner) keep(fields []field) []field {
	if cap(s.fields)-len(s.fields) < len(fields) {
		s.fields = make([]field, 0, 256+len(fields))
	}
	begin := len(s.fields)
	s.fields = append(s.fields, fields...)
	return s.fields[begin:len(s.fields):len(s.fields)]
}

// key reads a word.
func (s *lineScanner) key() string {
	begin := s.at
	if lineByte[s.next()]&beginsKey == 0 {
		return ""
	}
	for lineByte[s.next()]&inKey != 0 {
		s.at++
	}
	return s.text[begin:s.at]
}

// sequence reads [SCALAR, SCALAR]. The library takes a colon in it for the
// end of a key.
func (s *lineScanner) sequence() *node {
	n := s.node(sequence)
	s.take('[')
	for {
		s.spaces()
		v := s.scalar()
		if v == nil || !v.quoted && strings.Contains(v.text, ":") {
			return nil
		}
		n.items = append(n.items, v)
		s.spaces()
		if s.take(']') {
			return n
		}
		if !s.take(',') {
			return nil
		}
	}
}

// scalar reads a scalar in quotes or without.
func (s *lineScanner) scalar() *node {
	n := s.node(scalar)
	var ok bool
	if c := s.next(); c == '"' || c == '\'' {
		n.quoted = true
		n.text, ok = s.quoted(c)
	} else {
		n.text, ok = s.plain()
	}
	if !ok {
		return nil
	}
	return n
}

// quoted reads a scalar in quotes in which everything stands for itself.
func (s *lineScanner) quoted(quote byte) (string, bool) {
	s.at++
	for begin := s.at; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == quote:
			s.at++
			return s.text[begin : s.at-1], true
		case c == '\\' || c < ' ':
			return "", false
		case c&0xc0 == 0x80:
			s.wide++
		}
	}
	return "", false
}

// plain reads a scalar without quotes: characters that mean nothing to YAML,
// and spaces and colons between them.
func (s *lineScanner) plain() (string, bool) {
	begin := s.at
	if lineByte[s.next()]&beginsPlain == 0 {
		return "", false
	}
	end := begin // of the scalar, without the spaces that follow
	for before := byte(0); lineByte[s.next()]&inPlain != 0; s.at++ {
		c := s.next()
		if (before == ' ' && c == ':') || (before == ':' && c == ' ') {
			return "", false
		}
		if c != ' ' {
			end = s.at + 1
		}
		before = c
	}
	text := s.text[begin:end]
	switch text {
	case "null", "Null", "NULL":
		return "", false
	}
	return text, text[len(text)-1] != ':'
}

// What a byte of a line may be.
const (
	beginsKey = 1 << iota
	inKey
	beginsPlain
	inPlain
)

var lineByte = func() (t [256]uint8) {
	for _, x := range []struct {
		bytes string
		what  uint8
	}{
		{"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", beginsKey | inKey | beginsPlain | inPlain},
		{"0123456789_", inKey | beginsPlain | inPlain},
		{"-", inKey | inPlain},
		{"/.:", beginsPlain | inPlain},
		{" %+=@()", inPlain},
	} {
		for _, c := range []byte(x.bytes) {
			t[c] = x.what
		}
	}
	return t
}()
