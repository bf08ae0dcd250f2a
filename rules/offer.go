package rules

import (
	"cmp"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// suites are the named choices of algorithms.
var suites = ike.SuiteNames()

// DefaultSuite is the suite where a file names none.
const DefaultSuite = "default"

// suite returns the proposals of the suite that is chosen.
func (x *Exchange) suite() (forIKE, forESP []ipsec.Proposal) {
	forIKE, forESP, _ = ike.Suite(cmp.Or(x.Suite, DefaultSuite)) // Parse lets no other pass
	return forIKE, forESP
}

// ike returns the proposals for IKE SAs, the preferred first.
func (x *Exchange) ike() []ipsec.Proposal {
	if x.Proposals == nil {
		forIKE, _ := x.suite()
		return forIKE
	}
	choices := make([][]ipsec.Transform, len(x.Proposals))
	for i, text := range x.Proposals {
		choices[i], _, _ = parseIKE(text) // Parse lets no other pass
	}
	return numbered(ipsec.ProtoIKE, choices)
}

// offer returns what IKE offers for Child SAs under a key exchange, and the
// lifetimes of the SAs of each proposal: the methods of an action, or of the
// suite, with each choice of key exchanges. With ESN it offers extended sequence numbers first and plain
// ones for peers without them.
func (n *Negotiate) offer(under Exchange) ([]ipsec.Proposal, []Lifetime) {
	var choices [][]ipsec.Transform
	var lifetimes []Lifetime
	esn := []ipsec.Transform{{Type: ipsec.TypeESN, ID: ipsec.ESNNo}}
	if n.ESN {
		esn = slices.Insert(esn, 0, ipsec.Transform{Type: ipsec.TypeESN, ID: ipsec.ESNYes})
	}
	exchanges := n.exchanges(under)
	add := func(protection []ipsec.Transform, l Lifetime) {
		for _, x := range exchanges {
			choices, lifetimes = append(choices, slices.Concat(protection, x, esn)), append(lifetimes, l)
		}
	}
	for _, m := range n.Methods {
		l := Lifetime{n.Lifetime, n.LifetimeBytes}
		if m.Lifetime != 0 {
			l.Time = m.Lifetime
		}
		if m.LifetimeBytes != 0 {
			l.Bytes = m.LifetimeBytes
		}
		add(m.transforms(), l)
	}
	if n.Methods == nil {
		_, forESP := under.suite()
		for _, p := range forESP {
			add(filtered(p.Transforms, func(t ipsec.Transform) bool { return t.Type == ipsec.TypeEncr || t.Type == ipsec.TypeInteg }), Lifetime{n.Lifetime, n.LifetimeBytes})
		}
	}
	return numbered(ipsec.ProtoESP, choices), lifetimes
}
