package rules

import (
	"fmt"
	"slices"
)

// Parse reads a rule file. The name is the one that messages give; nothing
// is opened. The error is an *Errors with all that is wrong.
func Parse(name string, src []byte) (*File, error) {
	r := &reader{reporter: reporter{file: name}}
	root := parseYAML(&r.reporter, src)
	if root == nil {
		return nil, r.err()
	}
	f := r.readFile(root)
	if err := r.err(); err != nil {
		return nil, err
	}
	f.Path = name
	return f, nil
}

// readFile reads the whole file, then follows the names from rules to lists
// and actions, which may stand anywhere in it.
func (r *reader) readFile(root *node) *File {
	f := &File{KeyExchange: KeyExchange{Lifetime: defaultIKELifetime, Liveness: defaultLiveness}}
	var lists, actions *node
	var rules []ruleNodes
	r.readMapping(root, "the file", []key{
		{"version", "version: 1", true, r.readVersion},
		{"name", "name: NAME", true, func(v *node) { f.Name, _ = r.readName(v, "the policy", "name: NAME") }},
		{"filter-lists", "filter-lists: {NAME: [{from: any, to: me}]}", true, func(v *node) {
			lists = v
			f.Lists = r.readLists(v)
		}},
		{"filter-actions", "filter-actions: {NAME: {negotiate: {mode: transport}}}, or remove the key", false, func(v *node) {
			actions = v
			f.Actions = r.readActions(v)
		}},
		{"rules", "rules: [{name: NAME, filter-list: LIST, action: ACTION}]", true, func(v *node) { f.Rules, rules = r.readRules(v) }},
		{"key-exchange", "key-exchange: {lifetime: 8h}, or remove the key", false, func(v *node) { r.readKeyExchange(v, &f.KeyExchange) }},
	})
	for i := range f.Rules {
		r.checkRule(f, &f.Rules[i], rules[i], definedIn(lists), definedIn(actions))
	}
	return f
}

func (r *reader) readVersion(v *node) {
	s, ok := r.readText(v, `"version"`, "version: 1")
	if ok && s != "1" {
		r.report(v.at, fmt.Sprintf("version %q of the rule file is not known", s), "write version: 1")
	}
}

// definedIn returns the names that a mapping defines, those with errors
// included: a rule that uses one of them is not wrong as well.
func definedIn(n *node) []string {
	var names []string
	if n != nil {
		for _, f := range n.fields {
			if !slices.Contains(names, f.key) {
				names = append(names, f.key)
			}
		}
	}
	return names
}
