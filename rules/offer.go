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

// offer is what IKE offers for Child SAs.
type offer struct {
	proposals []ipsec.Proposal
	lifetimes []Lifetime       // of the SAs of each proposal
	around    []ipsec.Proposal // of the AH around ESP
}

// all returns the proposals of both.
func (o *offer) all() []ipsec.Proposal { return slices.Concat(o.proposals, o.around) }

// appended returns a list of proposals with one more.
func appended(to []ipsec.Proposal, p ipsec.ProtocolID, ts []ipsec.Transform) []ipsec.Proposal {
	return append(to, ipsec.Proposal{Number: uint8(len(to) + 1), Protocol: p, Transforms: ts})
}

// offer returns what IKE offers for Child SAs under a key exchange: the methods
// of an action, or of the suite, with each choice of key exchanges. With ESN it
// offers extended sequence numbers first and plain ones for peers without them.
func (n *Negotiate) offer(under Exchange) (out offer) {
	esn := []ipsec.Transform{{Type: ipsec.TypeESN, ID: ipsec.ESNNo}}
	if n.ESN {
		esn = slices.Insert(esn, 0, ipsec.Transform{Type: ipsec.TypeESN, ID: ipsec.ESNYes})
	}
	exchanges := n.exchanges(under)
	add := func(p ipsec.ProtocolID, protection []ipsec.Transform, l Lifetime) {
		for _, x := range exchanges {
			out.proposals, out.lifetimes = appended(out.proposals, p, slices.Concat(protection, x, esn)), append(out.lifetimes, l)
		}
	}
	var around distinct[string] // integrities
	general := Lifetime{n.Lifetime, n.LifetimeBytes, uint64(n.LifetimePackets)}
	for _, m := range n.Methods {
		l := general
		if m.Lifetime != 0 {
			l.Time = m.Lifetime
		}
		if m.LifetimeBytes != 0 {
			l.Bytes = m.LifetimeBytes
		}
		if m.LifetimePackets != 0 {
			l.Packets = uint64(m.LifetimePackets)
		}
		p, ts := m.transforms()
		add(p, ts, l)
		if !m.Nested() || !around.add(m.AH) {
			continue
		}
		for _, x := range exchanges {
			out.around = appended(out.around, ipsec.ProtoAH, slices.Concat(m.around(), x, esn))
		}
	}
	if n.Methods == nil {
		_, forESP := under.suite()
		for _, p := range forESP {
			add(ipsec.ProtoESP, filtered(p.Transforms, func(t ipsec.Transform) bool { return t.Type == ipsec.TypeEncr || t.Type == ipsec.TypeInteg }), general)
		}
	}
	return out
}
