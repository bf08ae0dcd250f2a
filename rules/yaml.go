package rules

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// kind is what a node of the file is.
type kind uint8

const (
	empty kind = iota + 1 // nothing stands there, or null
	scalar
	sequence
	mapping
)

// String names the kind for a message.
func (k kind) String() string {
	switch k {
	case empty:
		return "nothing"
	case scalar:
		return "a single value"
	case sequence:
		return "a list"
	}
	return "a mapping"
}

// node is a value of the file with its place. It is all that the rest of the
// package sees of YAML.
type node struct {
	kind   kind
	quoted bool // the scalar stands in quotes, and is text whatever it looks like
	at     Position
	text   string // of a scalar
	items  []*node
	fields []field
}

// field is a key of a mapping with its value.
type field struct {
	key   string
	at    Position
	value *node
}

// maxDepth bounds the nesting of brackets and of lists on one line, which the
// YAML parser descends into recursively. Rule files need four.
const maxDepth = 20

// parseYAML returns the one document of src, or nil after it has reported
// why there is none.
func parseYAML(r *reporter, src []byte) *node {
	if !checkText(r, src) {
		return nil
	}
	text := string(src)
	if rest, runs := cutRuns(text); len(runs) > 0 {
		if root := parseText(&reporter{}, rest, runs); root != nil {
			return root
		}
	}
	return parseText(r, text, nil)
}

// parseText returns the one document of text, from which runs were cut, or
// nil: after it has reported why there is none, or if the runs are no items of
// lists in it.
func parseText(r *reporter, text string, runs []run) *node {
	tokens := lexer.Tokenize(text)
	if !checkTokens(r, tokens) || !findMarks(tokens, runs) {
		return nil
	}
	file, err := parseTokens(tokens)
	if err != nil {
		reportSyntax(r, err)
		return nil
	}
	switch {
	case len(file.Docs) > 1:
		r.report(beginOf(file.Docs[1]), "a second document begins here", "write one policy in one file, without \"---\" between its parts")
		return nil
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		r.report(Position{1, 1}, "the file is empty", "write a policy, beginning with version: 1")
		return nil
	}
	c := converter{runs}
	root := c.node(file.Docs[0].Body)
	if len(c.runs) > 0 {
		return nil
	}
	return root
}

// checkText reports bytes that are no text.
func checkText(r *reporter, src []byte) bool {
	for i := 0; i < len(src); {
		c, n := rune(src[i]), 1
		if c >= utf8.RuneSelf {
			c, n = utf8.DecodeRune(src[i:])
		}
		if c == utf8.RuneError && n == 1 || c < ' ' && c != '\n' && c != '\r' && c != '\t' {
			line := bytes.LastIndexByte(src[:i], '\n') + 1
			at := Position{bytes.Count(src[:i], []byte("\n")) + 1, utf8.RuneCount(src[line:i]) + 1}
			r.report(at, fmt.Sprintf("byte %#02x is no text", src[i]), "write the file in UTF-8, without control characters")
			return false
		}
		i += n
	}
	return true
}

// checkTokens reports what YAML has and a rule file has not, and brackets
// that are never closed. What it refuses never reaches the parser.
func checkTokens(r *reporter, tokens token.Tokens) bool {
	before := len(r.list)
	var open []*token.Token
	dashes, line := 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, dashes = t.Position.Line, 0
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			r.report(positionOf(t), "anchors, aliases and merge keys are not used in a rule file", "write the value in full, or in quotes if it is text")
		case token.TagType:
			r.report(positionOf(t), "tags are not used in a rule file", "write the value without its tag, or in quotes if it is text")
		case token.DirectiveType:
			r.report(positionOf(t), "directives are not used in a rule file", "remove the line")
		case token.MappingKeyType:
			r.report(positionOf(t), "keys with a question mark are not used in a rule file", "write the key as KEY: VALUE")
		case token.MappingStartType, token.SequenceStartType:
			open = append(open, t)
		case token.MappingEndType, token.SequenceEndType:
			if n := len(open); n > 0 && closes(open[n-1], t) {
				open = open[:n-1]
			} else if n > 0 {
				reportOpen(r, open[n-1])
			}
		case token.SequenceEntryType:
			dashes++
		}
		if len(open) > maxDepth || dashes > maxDepth {
			r.report(positionOf(t), "brackets or lists are nested too deeply", "close the brackets before; a rule file nests four deep")
		}
		if len(r.list) > before {
			return false
		}
	}
	if tokens.InvalidToken() == nil {
		for _, t := range open {
			reportOpen(r, t)
		}
	}
	return len(r.list) == before
}

// closes reports whether a bracket is the counterpart of an open one.
func closes(open, t *token.Token) bool {
	return (open.Type == token.MappingStartType) == (t.Type == token.MappingEndType)
}

func reportOpen(r *reporter, open *token.Token) {
	counterpart := "]"
	if open.Type == token.MappingStartType {
		counterpart = "}"
	}
	r.report(positionOf(open), fmt.Sprintf("bracket %q is not closed", open.Value), fmt.Sprintf("write %q behind the last thing in it", counterpart))
}

// parseTokens builds the syntax tree. The parser of the library is large, and
// this file is read by a daemon with privileges: should it panic on some
// input, the file is refused and the policy in force stays.
func parseTokens(tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if recover() != nil {
			file, err = nil, errors.New("the parser gave up")
		}
	}()
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// reportSyntax reports an error of the parser, with its place if it has one.
func reportSyntax(r *reporter, err error) {
	const hint = `check the indentation, close brackets and quotes, and put text that contains ": " in quotes`
	var at interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &at) && at.GetToken() != nil {
		r.report(positionOf(at.GetToken()), "the file is no valid YAML: "+visible.Replace(at.GetMessage()), hint)
		return
	}
	r.report(Position{1, 1}, "the file is no valid YAML", hint)
}

// visible makes a message of the parser one line.
var visible = strings.NewReplacer("\t", "tab", "\n", " ", "\r", " ")

func positionOf(t *token.Token) Position {
	if t == nil || t.Position == nil {
		return Position{1, 1}
	}
	return Position{t.Position.Line, t.Position.Column}
}

// beginOf returns where a document begins, which may have nothing in it.
func beginOf(d *ast.DocumentNode) Position {
	if d.Body == nil {
		return positionOf(d.Start)
	}
	return positionOf(d.Body.GetToken())
}

// converter turns the library's tree into nodes. It puts runs, in the order of
// the file, where their marks are.
type converter struct{ runs []run }

func (c *converter) node(n ast.Node) *node {
	switch n := n.(type) {
	case *ast.MappingNode:
		return c.mapping(n, n.Values)
	case *ast.MappingValueNode:
		return c.mapping(n, []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		out := &node{kind: sequence, at: positionOf(n.Start)}
		for _, v := range n.Values {
			if len(c.runs) > 0 && v != nil && v.GetToken() == c.runs[0].mark {
				cut := c.runs[0].items
				out.items = append(out.items, cut[:len(cut)-1]...)
				c.runs = c.runs[1:]
				continue
			}
			out.items = append(out.items, c.node(v))
		}
		return out
	case *ast.LiteralNode:
		return &node{kind: scalar, at: positionOf(n.Start), text: n.Value.Value, quoted: true}
	case *ast.StringNode:
		t := n.GetToken()
		quoted := t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
		return &node{kind: scalar, at: positionOf(t), text: n.Value, quoted: quoted}
	case nil, *ast.NullNode:
		out := &node{kind: empty, at: Position{1, 1}}
		if n != nil {
			out.at = positionOf(n.GetToken())
		}
		return out
	}
	return &node{kind: scalar, at: positionOf(n.GetToken()), text: n.GetToken().Value}
}

func (c *converter) mapping(n ast.Node, values []*ast.MappingValueNode) *node {
	out := &node{kind: mapping, at: positionOf(n.GetToken())}
	for i, v := range values {
		f := field{at: positionOf(v.Key.GetToken()), value: c.node(v.Value)}
		switch key := v.Key.(type) {
		case *ast.StringNode:
			f.key = key.Value
		default:
			f.key = key.GetToken().Value
		}
		if f.value.kind == empty {
			f.value.at = f.at // the library places nothing somewhere behind the colon
		}
		// A mapping in braces begins at its brace, one without at its first key.
		if m, ok := n.(*ast.MappingNode); i == 0 && (!ok || !m.IsFlowStyle) {
			out.at = f.at
		}
		out.fields = append(out.fields, f)
	}
	return out
}
