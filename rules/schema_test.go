package rules

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// instance returns what a node is as JSON, as YAML 1.2's core schema has it.
func instance(n *node) any {
	switch n.kind {
	case sequence:
		out := []any{}
		for _, x := range n.items {
			out = append(out, instance(x))
		}
		return out
	case mapping:
		out := map[string]any{}
		for _, f := range n.fields {
			out[f.key] = instance(f.value)
		}
		return out
	case scalar:
		if n.quoted {
			return n.text
		}
		if n.isBool() {
			return n.text == "true"
		}
		if v, err := strconv.ParseFloat(n.text, 64); err == nil && regexp.MustCompile(`^[-+.0-9eE]+$`).MatchString(n.text) {
			return v
		}
		return n.text
	}
	return nil
}

// validator checks instances against as much of JSON Schema as Schema uses;
// it fails on a keyword that it does not know.
type validator struct {
	t    *testing.T
	defs map[string]any
}

func parseSchema(t *testing.T) (*validator, map[string]any) {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	defs, _ := root["$defs"].(map[string]any)
	return &validator{t, defs}, root
}

// check returns what is wrong with v at a path.
func (x *validator) check(s map[string]any, v any, at string) []string {
	var out []string
	bad := func(format string, args ...any) { out = append(out, at+": "+fmt.Sprintf(format, args...)) }
	text, isText := v.(string)
	num, isNumber := v.(float64)
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	for keyword, is := range s {
		switch keyword {
		case "$schema", "$defs", "title", "description":
		case "$ref":
			out = append(out, x.check(x.defs[strings.TrimPrefix(is.(string), "#/$defs/")].(map[string]any), v, at)...)
		case "type":
			types, several := is.([]any)
			if !several {
				types = []any{is}
			}
			if !slices.ContainsFunc(types, func(t any) bool { return isType(t.(string), v) }) {
				bad("%v is no %v", v, is)
			}
		case "enum":
			if !slices.Contains(is.([]any), v) {
				bad("%v is none of %v", v, is)
			}
		case "not":
			if x.check(is.(map[string]any), v, at) == nil {
				bad("%v is what it must not be", v)
			}
		case "pattern":
			if isText && !regexp.MustCompile(is.(string)).MatchString(text) {
				bad("%q does not match %s", text, is)
			}
		case "minimum":
			if isNumber && num < is.(float64) {
				bad("%v is too small", num)
			}
		case "maximum":
			if isNumber && num > is.(float64) {
				bad("%v is too large", num)
			}
		case "minLength":
			if isText && utf8.RuneCountInString(text) < int(is.(float64)) {
				bad("%q is too short", text)
			}
		case "maxLength":
			if isText && utf8.RuneCountInString(text) > int(is.(float64)) {
				bad("%q is too long", text)
			}
		case "anyOf":
			var why []string
			if !slices.ContainsFunc(is.([]any), func(s any) bool {
				w := x.check(s.(map[string]any), v, at)
				why = append(why, w...)
				return w == nil
			}) {
				bad("none of: %s", strings.Join(why, ", "))
			}
		case "items":
			for i, item := range list {
				out = append(out, x.check(is.(map[string]any), item, fmt.Sprintf("%s[%d]", at, i))...)
			}
		case "minItems":
			if isList && len(list) < int(is.(float64)) {
				bad("the list is too short")
			}
		case "properties":
			for name, s := range is.(map[string]any) {
				if v, ok := object[name]; ok {
					out = append(out, x.check(s.(map[string]any), v, at+"."+name)...)
				}
			}
		case "required":
			for _, name := range is.([]any) {
				if _, ok := object[name.(string)]; isObject && !ok {
					bad("%s is missing", name)
				}
			}
		case "additionalProperties":
			known, _ := s["properties"].(map[string]any)
			for name, v := range object {
				if _, ok := known[name]; ok {
					continue
				}
				if is == false {
					bad("%s is unknown", name)
				} else {
					out = append(out, x.check(is.(map[string]any), v, at+"."+name)...)
				}
			}
		case "propertyNames":
			for name := range object {
				out = append(out, x.check(is.(map[string]any), name, at+" key")...)
			}
		case "minProperties":
			if isObject && len(object) < int(is.(float64)) {
				bad("the mapping has too few keys")
			}
		case "maxProperties":
			if isObject && len(object) > int(is.(float64)) {
				bad("the mapping has too many keys")
			}
		default:
			x.t.Fatalf("the schema has the keyword %q", keyword)
		}
	}
	return out
}

func isType(name string, v any) bool {
	switch v := v.(type) {
	case string:
		return name == "string"
	case float64:
		return name == "number" || name == "integer" && v == float64(int64(v))
	case bool:
		return name == "boolean"
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	}
	return false
}

func (x *validator) validate(t *testing.T, root map[string]any, src []byte) []string {
	t.Helper()
	var r reporter
	n := parseYAML(&r, src)
	if n == nil {
		return []string{"no YAML"}
	}
	return x.check(root, instance(n), "")
}

// What Parse reads is valid.
func TestSchemaOfGoodFiles(t *testing.T) {
	x, root := parseSchema(t)
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/good/*.printed", "testdata/format/*.formatted", "../examples/*.yaml"} {
		for _, name := range files(t, pattern) {
			if wrong := x.validate(t, root, read(t, name)); wrong != nil {
				t.Errorf("%s is not valid:\n%s", name, strings.Join(wrong, "\n"))
			}
		}
	}
}

// What is wrong with a value alone is not valid, unknown and missing keys
// above all. Of what is wrong between values a schema says nothing.
func TestSchemaOfBrokenFiles(t *testing.T) {
	between := []string{ // one thing that the schema cannot say in each
		"anonymous", "authentication-without-effect", "bound-tunnel", "boot-exempt-dynamic", "boot-exempt-permit", "default-response-action",
		"default-response-tunnel", "duplicate-rule", "duplicate-keys", "forward-me", "forward-transport", "host-bits", "key-exchange", "legacy",
		"limit-block", "last-line", "me-to-me", "multicast", "no-authentication", "peers-block", "peers-preshared-key",
		"peers-undefined", "port-of-icmp", "port-without-protocol", "reserved-rule-name", "set-cycle", "set-of-other-family",
		"set-too-large", "set-undefined", "stateful-block", "stateful-negotiate", "tunnel-in-transport-mode",
		"tunnel-without-ends", "two-families", "undefined-action", "undefined-references", "unsecured-tunnel",
		"default-response-authentication",
	}
	x, root := parseSchema(t)
	for _, name := range files(t, "testdata/broken/*.yaml") {
		stem := strings.TrimSuffix(filepath.Base(name), ".yaml")
		wrong := x.validate(t, root, read(t, name))
		if valid := wrong == nil; valid != slices.Contains(between, stem) {
			t.Errorf("%s: valid is %v: %s", stem, valid, strings.Join(wrong, "\n"))
		}
		messages := string(read(t, strings.TrimSuffix(name, ".yaml")+".want"))
		keys := regexp.MustCompile(`unknown key( "[^"]*")? in |has no "[a-z-]+"; write `).MatchString(messages)
		if keys && !slices.ContainsFunc(wrong, func(w string) bool { return strings.Contains(w, "is missing") || strings.Contains(w, "is unknown") }) {
			t.Errorf("%s: a key is unknown or missing, and the schema says %q", stem, wrong)
		}
	}
}

// Every key of the grammar stands in full.yaml, and is described.
func TestFullHasEveryKey(t *testing.T) {
	_, root := parseSchema(t)
	full := string(read(t, "testdata/good/full.yaml"))
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			if p, ok := v["properties"].(map[string]any); ok {
				for name, of := range p {
					if !regexp.MustCompile(`(^|[\s{])` + name + `:`).MatchString(full) {
						t.Errorf("full.yaml has no %s", name)
					}
					if d, _ := of.(map[string]any)["description"].(string); d == "" || strings.Contains(d, "\n") {
						t.Errorf("%s is described as %q", name, d)
					}
				}
			}
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(root)
}

func TestSchemaHead(t *testing.T) {
	_, root := parseSchema(t)
	if root["$schema"] != "https://json-schema.org/draft/2020-12/schema" || root["additionalProperties"] != false {
		t.Errorf("schema %v, additionalProperties %v", root["$schema"], root["additionalProperties"])
	}
}
