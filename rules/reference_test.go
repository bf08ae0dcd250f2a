package rules

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// Every key of the grammar has a row in the reference.
func TestReference(t *testing.T) {
	var schema any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	propertiesOf(schema, keys)
	if len(keys) < 50 {
		t.Fatalf("the schema has %d keys only", len(keys))
	}
	inRows := map[string]bool{}
	for line := range strings.Lines(string(read(t, "../docs/rule-file.md"))) {
		first, _, isRow := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		if !isRow || !strings.HasPrefix(line, "|") {
			continue
		}
		for _, word := range strings.Split(first, "`") {
			inRows[word] = true
		}
		for _, name := range []string{"set", "dns"} { // the sides that are mappings
			if strings.Contains(first, "{"+name+":") {
				inRows[name] = true
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !inRows[key] {
			t.Errorf("docs/rule-file.md has no row for %q", key)
		}
	}
}

// propertiesOf collects the names of properties anywhere in a schema.
func propertiesOf(v any, keys map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		if p, ok := v["properties"].(map[string]any); ok {
			for k := range p {
				keys[k] = true
			}
		}
		for _, x := range v {
			propertiesOf(x, keys)
		}
	case []any:
		for _, x := range v {
			propertiesOf(x, keys)
		}
	}
}
