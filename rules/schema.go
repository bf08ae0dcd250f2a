package rules

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Schema returns the JSON Schema (draft 2020-12) of the rule file, with which
// an editor completes and checks it. It says what can be said of each value
// alone; Parse knows more.
func Schema() []byte {
	d := &definitions{byName: map[string]*schema{}}
	s := fileKeys.describe(d)
	s.Dialect = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "ipsecfw rule file"
	s.Definitions = d.byName
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		panic(err) // the tables hold nothing that has no JSON
	}
	return b.Bytes()
}

// schema is a JSON Schema, as far as the grammar needs it.
type schema struct {
	Dialect     string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Ref         string             `json:"$ref,omitempty"`
	Type        any                `json:"type,omitempty"` // a name or several
	Enum        []any              `json:"enum,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Minimum     *int64             `json:"minimum,omitempty"`
	Maximum     *int64             `json:"maximum,omitempty"`
	MinLength   int                `json:"minLength,omitempty"`
	MaxLength   int                `json:"maxLength,omitempty"`
	AnyOf       []*schema          `json:"anyOf,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	MinItems    int                `json:"minItems,omitempty"`
	Properties  properties         `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Names       *schema            `json:"propertyNames,omitempty"`
	Not         *schema            `json:"not,omitempty"`
	MinFields   int                `json:"minProperties,omitempty"`
	MaxFields   int                `json:"maxProperties,omitempty"`
	Others      any                `json:"additionalProperties,omitempty"` // false, or the schema of the other fields
	Definitions map[string]*schema `json:"$defs,omitempty"`
}

// properties are the schemas of keys, in the order of their table.
type properties []property

type property struct {
	name string
	of   *schema
}

// MarshalJSON writes an object that keeps the order.
func (p properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, x := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := e.Encode(x.name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := e.Encode(x.of); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// definitions are the schemas that are used at several places.
type definitions struct{ byName map[string]*schema }

// of returns a reference to the schema of a name, which it makes when it is
// the first to ask.
func (d *definitions) of(name string, make func() *schema) *schema {
	if d.byName[name] == nil {
		d.byName[name] = make()
	}
	return &schema{Ref: "#/$defs/" + name}
}

// describe returns the schema of a mapping with the table's keys.
func (t table[T]) describe(d *definitions) *schema {
	s := &schema{Type: "object", Others: false}
	var with *schema     // the key beside which others may be missing
	var without []string // these
	for _, k := range t {
		of := *k.value.describe(d)
		of.Description = k.about
		s.Properties = append(s.Properties, property{k.name, &of})
		switch {
		case k.required && k.unless != "":
			with, without = &schema{Required: []string{k.unless}}, append(without, k.name)
		case k.required:
			s.Required = append(s.Required, k.name)
		}
	}
	if with != nil {
		s.AnyOf = []*schema{{Required: without}, with}
	}
	return s
}

// one returns the schema of a mapping that has exactly one of the keys.
func (s *schema) one() *schema {
	s.MinFields, s.MaxFields = 1, 1
	return s
}

// enum is the schema of known words.
func enum(words ...string) *schema {
	s := &schema{}
	for _, w := range words {
		s.Enum = append(s.Enum, w)
	}
	return s
}

// pattern is the schema of text of a form.
func pattern(p string) *schema { return &schema{Type: "string", Pattern: p} }

// integers is the schema of whole numbers from lo to hi.
func integers(lo, hi int64) *schema { return &schema{Type: "integer", Minimum: &lo, Maximum: &hi} }

// numbers is the schema of whole numbers from lo to hi, in quotes or not.
func numbers(lo, hi int64) *schema { return either(integers(lo, hi), pattern(`^[0-9]+$`)) }

// either is the schema of a value that fits one of several at least.
func either(of ...*schema) *schema { return &schema{AnyOf: of} }

// listOf is the schema of a list that is not empty.
func listOf(item *schema) *schema { return &schema{Type: "array", Items: item, MinItems: 1} }

// orList is the schema of an item or a list of them.
func orList(item *schema) *schema { return either(item, listOf(item)) }

// anyText is the schema of any text. YAML takes some text that has no quotes
// for something else.
func anyText() *schema {
	return &schema{Type: []string{"string", "number", "boolean"}, MinLength: 1}
}

// nameText is the schema of a name.
func nameText() *schema {
	s := anyText()
	s.MaxLength = maxName
	return s
}

// mapOf is the schema of a mapping from names to what they stand for.
func mapOf(of *schema) *schema {
	return &schema{Type: "object", Names: &schema{MinLength: 1, MaxLength: maxName}, Others: of, MinFields: 1}
}

// enumOf is the schema of the keys of a table of words, sorted.
func enumOf[V any](words map[string]V) *schema { return enum(slices.Sorted(maps.Keys(words))...) }
