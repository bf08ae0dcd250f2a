package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// ruleNodes are the places of a rule that are checked once the whole file is
// read. A key that is missing or wrong has none.
type ruleNodes struct{ rule, list, action, auth, ownID, peerID *node }

const writeAuth = "authentication: [{preshared-key: {file: PATH}}]"

// readRules reads "rules".
func (r *reader) readRules(n *node) ([]Rule, []ruleNodes) {
	var rules []Rule
	var places []ruleNodes
	first := map[string]Position{}
	r.readList(n, `"rules"`, "at least one rule, as in - {name: NAME, filter-list: LIST, action: block}", func(_ int, v *node) {
		rule := Rule{Position: v.at}
		at := ruleNodes{rule: v}
		ok := r.readMapping(v, "a rule", []key{
			{"name", "name: NAME", true, func(v *node) {
				name, ok := r.readName(v, "a rule", "name: NAME")
				if old, twice := first[name]; ok && twice {
					r.report(v.at, fmt.Sprintf("two rules have the name %q", name), fmt.Sprintf("write another name; the first is on line %d", old.Line))
				} else if ok {
					first[name] = v.at
				}
				rule.Name = name
			}},
			{"filter-list", "filter-list: LIST, with the name of a filter list", true, func(v *node) {
				var ok bool
				if rule.List, ok = r.readText(v, `"filter-list"`, "filter-list: LIST"); ok {
					at.list = v
				}
			}},
			{"action", "action: permit, action: block or the name of a filter action", true, func(v *node) {
				var ok bool
				if rule.Action, ok = r.readText(v, `"action"`, "action: permit, action: block or the name of a filter action"); ok {
					at.action = v
				}
			}},
			{"authentication", writeAuth, false, func(v *node) {
				at.auth = v
				rule.Authentication = r.readAuthentication(v)
			}},
			{"own-id", "own-id: NAME, or remove the key", false, func(v *node) {
				at.ownID = v
				rule.OwnID, _ = r.readName(v, "an identity", "own-id: NAME")
			}},
			{"peer-id", "peer-id: NAME, or remove the key", false, func(v *node) {
				at.peerID = v
				rule.PeerID, _ = r.readName(v, "an identity", "peer-id: NAME")
			}},
		})
		if ok {
			rules, places = append(rules, rule), append(places, at)
		}
	})
	return rules, places
}

// readAuthentication reads the ways to authenticate, the preferred first.
func (r *reader) readAuthentication(n *node) []Authentication {
	r.private = true
	defer func() { r.private = false }()
	var out []Authentication
	r.readList(n, `"authentication"`, writeAuth, func(_ int, v *node) {
		var a Authentication
		before := len(r.list)
		r.readMapping(v, "an authentication method", []key{
			{"certificate", "certificate: {authority: PATH, own: PATH, key: PATH}", false, func(v *node) { a.Certificate = r.readCertificate(v) }},
			{"preshared-key", "preshared-key: {file: PATH}", false, func(v *node) {
				if v.kind == scalar {
					r.report(v.at, "a preshared key is not written into the rule file", "write the key into a file of its own, and preshared-key: {file: PATH} here")
					return
				}
				a.PresharedKey = r.readPresharedKey(v)
			}},
		})
		switch {
		case len(r.list) > before:
		case a.Certificate != nil && a.PresharedKey != nil:
			r.report(v.at, "one authentication method has both a certificate and a preshared key", "write them as two items of the list")
		case a.Certificate == nil && a.PresharedKey == nil:
			r.report(v.at, "an authentication method says nothing", "write certificate: {authority: PATH, own: PATH, key: PATH} or preshared-key: {file: PATH}")
		default:
			out = append(out, a)
		}
	})
	return out
}

func (r *reader) readCertificate(n *node) *Certificate {
	c := &Certificate{}
	r.readMapping(n, `"certificate"`, []key{
		{"authority", "authority: PATH, the certificates of the authorities to believe", true, r.readPath("authority", &c.Authority)},
		{"own", "own: PATH, our own certificate", true, r.readPath("own", &c.Own)},
		{"key", "key: PATH, the private key of our own certificate", true, r.readPath("key", &c.Key)},
	})
	return c
}

func (r *reader) readPresharedKey(n *node) *PresharedKey {
	k := &PresharedKey{}
	r.readMapping(n, `"preshared-key"`, []key{
		{"file", "file: PATH, the file that holds the key", true, r.readPath("file", &k.File)},
	})
	return k
}

// readPath returns a function that keeps a path as it is written.
func (r *reader) readPath(name string, into *string) func(v *node) {
	return func(v *node) {
		s, ok := r.readText(v, fmt.Sprintf("%q", name), name+": PATH")
		switch {
		case !ok:
		case strings.ContainsAny(s, "\n\r"):
			r.report(v.at, fmt.Sprintf("%q is no path: it has more than one line", name), "write "+name+": PATH; what the file holds is not written into the rule file")
		default:
			*into = s
		}
	}
}

// checkRule follows the names of a rule, and checks that what it says has an
// effect on its action.
func (r *reader) checkRule(f *File, rule *Rule, at ruleNodes, lists, actions []string) {
	if at.list != nil && !slices.Contains(lists, rule.List) {
		r.report(at.list.at, fmt.Sprintf("filter list %q is not defined", rule.List),
			didYouMean(rule.List, lists, defined("filter-lists", lists)))
	}
	if at.action == nil {
		return
	}
	a, known := f.action(rule.Action)
	if !known {
		if !slices.Contains(actions, rule.Action) {
			all := append(slices.Clone(builtIn), actions...)
			r.report(at.action.at, fmt.Sprintf("filter action %q is not defined", rule.Action),
				didYouMean(rule.Action, all, defined("filter-actions", all)))
		}
		return
	}
	switch a.Action {
	case filter.Negotiate:
		if at.auth == nil {
			r.report(at.rule.at, fmt.Sprintf("rule %q negotiates and has no way to authenticate", rule.Name), "add "+writeAuth)
		}
	case filter.Permit, filter.Block:
		for _, k := range []struct {
			name string
			at   *node
		}{{"authentication", at.auth}, {"own-id", at.ownID}, {"peer-id", at.peerID}} {
			if k.at != nil {
				r.report(k.at.at, fmt.Sprintf("%q has no effect in a rule whose action is to %s", k.name, a.Action), fmt.Sprintf("remove %q, or write an action that negotiates", k.name))
			}
		}
	}
}

// defined says where to define a name, and which there are when they are few.
func defined(where string, names []string) string {
	hint := fmt.Sprintf("define it in %q", where)
	if n := len(names); n > 0 && n <= 6 {
		hint += ", or write " + oneOf(names)
	}
	return hint
}
