package rules

import (
	"fmt"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

const (
	writeAuth = "authentication: [{preshared-key: {file: PATH}}]"
	writeRule = "at least one rule, as in - {name: NAME, filter-list: LIST, action: block}"
	writePath = "path: forward, or remove the key for the host's own packets"
)

// peerRuleKeys say by what and to whom a rule proves who we are, and who may
// answer it. The default response rule has them too.
var peerRuleKeys = table[Rule]{
	{name: "authentication", about: "ways to prove who we are, the preferred first; needed by an action that negotiates", write: writeAuth,
		value: authentications(func(x *Rule) *[]Authentication { return &x.Authentication })},
	{name: "own-id", about: "the identity to claim; the address or the certificate's if missing", write: "own-id: NAME, or remove the key",
		value: identity(func(x *Rule) *string { return &x.OwnID })},
	{name: "peer-id", about: "the only identity that the peer may have; any that authenticates if missing", write: "peer-id: NAME, or remove the key",
		value: identity(func(x *Rule) *string { return &x.PeerID })},
	{name: "peers", about: "the group whose peers are authorised; whoever authenticates if missing", write: "peers: GROUP, or remove the key for whoever authenticates",
		value: text(func(x *Rule) *string { return &x.Peers })},
	{name: "key-exchange", about: "what of the key exchange is otherwise with the rule's peers", write: writeRuleExchange,
		value: ruleExchange(func(x *Rule) *Exchange { return &x.Exchange })},
	{name: "legacy", about: "whether weak algorithms are good enough for the rule's peers; false if missing", write: "legacy: true, or remove the key",
		value: boolean(func(x *Rule) *bool { return &x.Legacy })},
}

// maxIdentity is the longest identity, in characters.
const maxIdentity = 255

// identity is what one end calls itself.
func identity[T any](of func(*T) *string) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			s, ok := r.readText(n, "the name of an identity", k.write)
			if !ok || !r.checkNameTo(maxIdentity, n.at, s, "an identity") {
				return
			}
			if id := ike.ParseID(s); id.Kind == 0 || len(id.Data) == 0 {
				r.report(n.at, fmt.Sprintf("%q does not have the form that its prefix promises", s), `write it as in host.example.com, 192.0.2.1, alice@example.com, "CN=host,O=Example" or "keyid:#0123abcd"`)
				return
			}
			*of(into) = s
		},
		describe: func(*definitions) *schema { s := anyText(); s.MaxLength = maxIdentity; return s },
	}
}

const writeRuleAction = "action: permit, action: block or the name of a filter action"

var (
	listKey = key[Rule]{name: "filter-list", about: "the filters", write: "filter-list: LIST, with the name of a filter list", required: true,
		value: text(func(x *Rule) *string { return &x.List })}
	actionKey = key[Rule]{name: "action", about: "what becomes of the packets: permit, block, request-security, require-security or a filter action", write: writeRuleAction, required: true,
		value: text(func(x *Rule) *string { return &x.Action })}
)

var ruleKeys = append(append(table[Rule]{
	{name: "name", about: "the rule's name", write: "name: NAME", required: true,
		value: named("a rule", func(x *Rule) *string { return &x.Name })},
	listKey, actionKey,
}, peerRuleKeys...),
	key[Rule]{name: "connection", about: "on which interfaces; all if missing", write: writeConnection,
		value: connections(func(x *Rule) *[]filter.Connection { return &x.Connections })},
	key[Rule]{name: "path", about: "host, or forward for what the host forwards; host if missing", write: writePath,
		value: path(func(x *Rule) *bool { return &x.Forward })},
	key[Rule]{name: "enabled", about: "whether the rule is in force; true if missing", write: "enabled: false, or remove the key",
		value: boolean(func(x *Rule) *bool { return &x.Enabled })},
)

// path is whose packets a rule is for.
func path[T any](of func(*T) *bool) value[T] {
	return word([]string{"host", "forward"}, func(into *T, word string) { *of(into) = word == "forward" })
}

func rules[T any](of func(*T) *[]Rule) value[T] {
	return value[T]{
		read:     func(r *reader, n *node, k keyed, into *T) { *of(into) = r.readRules(n, k) },
		describe: func(d *definitions) *schema { return listOf(ruleKeys.describe(d)) },
	}
}

// readRules reads "rules".
func (r *reader) readRules(n *node, k keyed) []Rule {
	var out []Rule
	first := map[string]Position{}
	r.readList(n, quoted(k.name), writeRule, func(v *node) {
		x := Rule{Enabled: true, Position: v.at}
		if !ruleKeys.read(r, v, "a rule", &x) {
			return
		}
		at := v.get("name")
		old, twice := first[x.Name]
		switch {
		case x.Name == "":
		case x.Name == DefaultResponseRule:
			r.report(at.at, fmt.Sprintf("the rule name %q is that of the default response rule", x.Name), fmt.Sprintf("write another name, or the key %q beside \"rules\"", DefaultResponseRule))
		case twice:
			r.report(at.at, fmt.Sprintf("two rules have the name %q", x.Name), fmt.Sprintf("write another name; the first is on line %d", old.Line))
		default:
			first[x.Name] = at.at
		}
		if x.Authentication != nil {
			x.places = v.places()
		}
		out = append(out, x)
		r.rules = append(r.rules, v)
	})
	return out
}

// responseKeys are those of the default response rule.
var responseKeys = append(table[Rule]{
	{name: "action", about: "a filter action that negotiates in mode transport", write: "action: require-security", required: true,
		value: text(func(x *Rule) *string { return &x.Action })},
}, peerRuleKeys...)

func response[T any](of func(*T) **Rule) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			x := &Rule{Name: DefaultResponseRule, Enabled: true, Position: n.at, places: n.places()}
			if responseKeys.read(r, n, quoted(k.name), x) {
				*of(into) = x
			}
		},
		describe: func(d *definitions) *schema { return responseKeys.describe(d) },
	}
}
