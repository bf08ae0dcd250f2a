package rules

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// checker follows the names of a file, which may stand anywhere in it, and
// checks what its parts say together.
type checker struct {
	*reader
	*names
	// known are the names that the file defines, with what they stand for, by
	// the key that defines them. Those with errors are among them: what uses
	// one of them is not wrong as well.
	known map[string]map[string]*node
}

func (r *reader) check(f *File, root *node) {
	c := &checker{r, f.names(), map[string]map[string]*node{}}
	for _, k := range []string{"filter-lists", "filter-actions", "address-sets", "peers"} {
		c.known[k] = map[string]*node{}
		if n := root.get(k); n != nil {
			for _, x := range n.fields {
				if c.known[k][x.key] == nil {
					c.known[k][x.key] = x.value
				}
			}
		}
	}
	for _, name := range builtIn {
		c.known["filter-actions"][name] = root // which is not asked for
	}
	for i := range f.Rules {
		c.checkRule(&f.Rules[i], r.rules[i])
	}
	if f.Response != nil {
		c.checkResponse(f.Response, root.get(DefaultResponseRule))
	}
	c.checkAlgorithms(f, root)
	r.checkSets(f, c.known["address-sets"])
	if len(r.list) > 0 {
		return
	}
	x := newExpander(c.names, Addresses{})
	for _, check := range r.later {
		check(x)
	}
}

// defined reports a name at a key of n that no key defines.
func (c *checker) defined(n *node, key, name, what, where string) bool {
	at := n.get(key)
	if at == nil || name == "" || c.known[where][name] != nil {
		return at != nil && name != ""
	}
	all := slices.Sorted(maps.Keys(c.known[where]))
	c.report(at.at, fmt.Sprintf("%s %q is not defined", what, name), didYouMean(name, all, definedHint(where, all)))
	return false
}

// definedHint says where to define a name, and which there are when they are
// few.
func definedHint(where string, names []string) string {
	hint := fmt.Sprintf("define it in %q", where)
	if n := len(names); n > 0 && n <= few {
		hint += ", or write " + oneOf(names)
	}
	return hint
}

// checkRule checks that what a rule says has an effect on its action, and its
// action on its filters.
func (c *checker) checkRule(rule *Rule, n *node) {
	c.defined(n, "filter-list", rule.List, "filter list", "filter-lists")
	c.defined(n, "action", rule.Action, "filter action", "filter-actions")
	a := c.actions[rule.Action]
	if a == nil || a.Action == 0 {
		return
	}
	if a.Action == filter.Negotiate {
		c.checkPeers(rule, n)
	} else {
		for _, k := range peerRuleKeys {
			if at := n.get(k.name); at != nil {
				c.report(at.at, fmt.Sprintf("%q has no effect in a rule whose action is to %s", k.name, a.Action), fmt.Sprintf("remove %q, or write an action that negotiates", k.name))
			}
		}
	}
	if rule.Forward && a.Action == filter.Negotiate && a.Negotiate.Mode == ipsec.Transport {
		c.report(n.get("path").at, "what the host forwards is not secured in mode transport, which is between two hosts themselves", "write an action of mode tunnel")
	}
	if rule.Forward && a.Action == filter.Negotiate && len(rule.Connections) > 0 {
		c.report(n.get("connection").at, "a tunnel for what the host forwards is not bound to interfaces: what comes out of it leaves by any", `remove "connection"`)
	}
	c.checkFilters(rule, a)
}

// checkPeers checks by what a rule that negotiates authenticates, and whom it
// authorises.
func (c *checker) checkPeers(rule *Rule, n *node) {
	auth := n.get("authentication")
	if auth == nil && n.first("authentication") < 0 {
		c.report(n.at, fmt.Sprintf("rule %q negotiates and has no way to authenticate", rule.Name), "add "+writeAuth)
	}
	for _, k := range []string{"peer-id", "peers"} {
		if at := n.get(k); at != nil && slices.ContainsFunc(rule.Authentication, func(a Authentication) bool { return a.Anonymous.Peer() }) {
			c.report(at.at, fmt.Sprintf("%q keeps out every peer that proves nothing, and the rule lets peers be anonymous", k), fmt.Sprintf("remove %q, or \"anonymous\"", k))
		}
	}
	if !c.defined(n, "peers", rule.Peers, "peer group", "peers") || auth == nil || len(rule.Authentication) == 0 {
		return
	}
	if !slices.ContainsFunc(rule.Authentication, func(a Authentication) bool { return a.Certificate != nil || a.RawKey != nil }) {
		c.report(n.get("peers").at, `"peers" are known by their certificates, and the rule does not authenticate by certificate`, "add certificate: {authority: PATH, own: PATH, key: PATH} to authentication, or write peer-id")
	}
}

// checkFilters checks that the filters of a rule fit its action and path.
func (c *checker) checkFilters(rule *Rule, a *Action) {
	l := c.lists[rule.List]
	if l == nil {
		return
	}
	at := -1
	items := c.known["filter-lists"][rule.List].items
	for i := range l.Filters {
		f := &l.Filters[i]
		for at++; items[at].kind == empty; at++ {
		}
		n := items[at]
		if rule.Forward {
			c.checkForwarded(n, f, fmt.Sprintf("rule %q, whose path is forward,", rule.Name))
		}
		if a.Action == filter.Permit {
			continue
		}
		for _, k := range []struct {
			name string
			set  bool
		}{{"stateful", f.Stateful}, {"limit", f.Limit != filter.Limit{}}} {
			if at := n.get(k.name); k.set && at != nil {
				c.report(at.at, fmt.Sprintf("%q has no effect with the action of rule %q, which is to %s", k.name, rule.Name, a.Action),
					fmt.Sprintf("remove %q, or write an action that permits", k.name))
			}
		}
	}
}

// checkForwarded reports the host's own addresses in a filter of what it
// forwards.
func (r *reader) checkForwarded(n *node, f *Filter, where string) {
	me := Side{Kind: SideFixed, Fixed: filter.Me()}
	for _, end := range []struct {
		name  string
		sides []Side
	}{{"from", f.From}, {"to", f.To}} {
		i := slices.Index(end.sides, me)
		at := n.get(end.name)
		if i < 0 || at == nil {
			continue
		}
		if at.kind == sequence && i < len(at.items) {
			at = at.items[i]
		}
		r.report(at.at, "no packet of "+where+` has an end at "me"`, "write addresses or any in a filter of its own, or path: host")
	}
}

// checkResponse checks the default response rule.
func (c *checker) checkResponse(rule *Rule, n *node) {
	c.defined(n, "action", rule.Action, "filter action", "filter-actions")
	a := c.actions[rule.Action]
	switch {
	case a == nil || a.Action == 0:
		return
	case a.Action != filter.Negotiate:
		c.report(n.get("action").at, fmt.Sprintf("the default response answers a peer that asks for security, and the action %q is to %s", rule.Action, a.Action),
			"write action: require-security, or remove "+quoted(DefaultResponseRule))
		return
	case a.Negotiate.Mode == ipsec.Tunnel:
		c.report(n.get("action").at, "the default response is for any peer, and a tunnel has one", "write action: require-security, or an action of mode transport")
	}
	c.checkPeers(rule, n)
}
