package rules

import (
	"fmt"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Weak algorithms are for rules that say legacy: true, and their peers are the
// only ones to whom they are ever offered.

// checkAlgorithms reports weak algorithms of rules that do not say so, and more
// proposals than a message can number.
func (c *checker) checkAlgorithms(f *File, root *node) {
	var first *Rule // one that would be offered weak IKE proposals of the file
	check := func(rule *Rule, n *node) {
		a := c.actions[rule.Action]
		if a == nil || a.Action != filter.Negotiate {
			return
		}
		x := rule.Exchange.over(f.KeyExchange.Exchange)
		o := a.Negotiate.offer(x)
		offered := o.all()
		if len(o.proposals) > maxProposals || len(o.around) > maxProposals {
			c.report(n.get("action").at, fmt.Sprintf("the action %q makes %d proposals, of its methods with each choice of key exchanges, and %d are the most", rule.Action, max(len(o.proposals), len(o.around)), maxProposals), "write fewer methods, or fewer choices in pfs")
		}
		if rule.Legacy {
			return
		}
		if ts := weak(offered); ts != nil {
			c.report(n.get("action").at, fmt.Sprintf("the action %q has weak algorithms: %s", rule.Action, WeakText(ts)),
				"write others, or legacy: true in a rule for the peers that have nothing better")
		}
		switch {
		case weak(x.ike()) == nil:
		case rule.Exchange.Suite != "" || rule.Exchange.Proposals != nil:
			c.reportWeak(n.get("key-exchange"), "has weak algorithms", "write another, or legacy: true in the rule if its peers have nothing better")
		case first == nil:
			first = rule
		}
	}
	for i := range f.Rules {
		check(&f.Rules[i], c.rules[i])
	}
	if f.Response != nil {
		check(f.Response, root.get(DefaultResponseRule))
	}
	if first != nil {
		c.reportWeak(root.get("key-exchange"), fmt.Sprintf("is for the peers of all rules, of which %q on line %d does not say legacy: true, and has weak algorithms", first.Name, first.Position.Line),
			"write it in \"key-exchange\" of a rule with legacy: true, for the peers that have nothing better")
	}
}

// reportWeak reports the weak proposals of a key exchange, or its suite.
func (c *checker) reportWeak(n *node, problem, hint string) {
	if ps := n.get("proposals"); ps != nil {
		for _, v := range ps.items {
			ts, _, _ := parseIKE(v.text)
			if ts := weak([]ipsec.Proposal{{Transforms: ts}}); ts != nil {
				c.report(v.at, fmt.Sprintf("IKE proposal %q %s: %s", v.text, problem, WeakText(ts)), hint)
			}
		}
		return
	}
	if s := n.get("suite"); s != nil {
		c.report(s.at, fmt.Sprintf("suite %q %s", s.text, problem), hint)
	}
}
