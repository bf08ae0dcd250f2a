package rules

import (
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Entries returns the specific filters of the rules that are enabled, in the
// order of the rules, for filter.New. Lists, sets, names, dynamic sides and
// several interfaces are spelt out, each pair of sides once; the entries of
// one filter share its Name, List, Index and Position. A dynamic side without
// addresses stands for nothing.
func (f *File) Entries(a Addresses) []filter.Entry {
	n := f.names()
	x, at := newExpander(n, a), placeIn(f.Path)
	size := 0
	for i := range f.Rules {
		if f.Rules[i].Enabled {
			size += len(n.lists[f.Rules[i].List].Filters)
		}
	}
	out := make([]filter.Entry, 0, size)
	for i := range f.Rules {
		rule := &f.Rules[i]
		if rule.Enabled {
			out = x.appendRule(out, n, rule, at, 0, len(n.lists[rule.List].Filters))
		}
	}
	return out
}

// appendRule appends the specific filters of a rule, from one place in its list
// to before another.
func (x *expander) appendRule(out []filter.Entry, n *names, rule *Rule, at *place, from, to int) []filter.Entry {
	l, action := n.lists[rule.List], n.actions[rule.Action]
	e := filter.Entry{Name: rule.Name, List: l.Name, Forward: rule.Forward, Action: action.Action, Options: action.options()}
	for j := from; j < to; j++ {
		e.Index, e.Position = j, at.at(l.Filters[j].Position)
		out = x.appendEntries(out, &l.Filters[j], e, rule.Connections)
	}
	return out
}

// options returns what filter.Options says of an action.
func (a *Action) options() filter.Options {
	return filter.Options{
		Reject:          a.Reject,
		AcceptUnsecured: a.Negotiate.AcceptUnsecured,
		AllowUnsecured:  a.Negotiate.AllowUnsecured != nil,
	}
}

// Negotiation is how a rule protects what its filters match, for the key
// exchange. It names files and holds no secret.
type Negotiation struct {
	Rule          string
	Mode          ipsec.Mode
	Proposals     []ipsec.Proposal // ESP, the preferred first, without SPIs; with key exchange groups for PFS
	Lifetimes     []Lifetime       // of the SAs of each proposal
	Lifetime      time.Duration    // of the action; the proposals' where they have none of their own
	LifetimeBytes uint64           // likewise; 0 for no limit
	ForceUDP      bool             // UDP encapsulation even without a NAT
	TunnelLocal   netip.Addr       // outer addresses, in tunnel mode
	TunnelPeer    netip.Addr

	AcceptUnsecured bool          // what comes in clear is let in, and answered under IPsec
	AllowUnsecured  bool          // with a peer that does not speak IKE, in clear
	FallbackAfter   time.Duration // with AllowUnsecured: how long the peer may be silent before
	SoftLifetime    time.Duration // with AllowUnsecured: how long the peer is left in clear

	Auth     []Authentication // the preferred first; at least one
	OwnID    string           // empty for the identity that follows from the address or certificate
	PeerID   string           // empty for any that authenticates
	Peers    *PeerGroup       // whom to authorise; nil for whoever authenticates
	Position string           // where the rule stands, as in "payroll.yaml:22:5"
}

// Lifetime is how long an SA lives: until the first limit is reached.
type Lifetime struct {
	Time  time.Duration
	Bytes uint64 // 0 for no limit
}

// Negotiations returns the enabled rules that negotiate, by name.
func (f *File) Negotiations() map[string]Negotiation {
	out := map[string]Negotiation{}
	n := f.names()
	for i := range f.Rules {
		rule := &f.Rules[i]
		if a := n.actions[rule.Action]; rule.Enabled && a.Action == filter.Negotiate {
			out[rule.Name] = f.negotiation(n, rule, &a.Negotiate)
		}
	}
	return out
}

// DefaultResponse returns how to answer a peer that asks for security where
// no rule matches; ok is false when it gets no answer. The rule's name is
// DefaultResponseRule.
func (f *File) DefaultResponse() (n Negotiation, ok bool) {
	if f.Response == nil {
		return Negotiation{}, false
	}
	names := f.names()
	return f.negotiation(names, f.Response, &names.actions[f.Response.Action].Negotiate), true
}

func (f *File) negotiation(names *names, rule *Rule, n *Negotiate) Negotiation {
	out := Negotiation{
		Rule:          rule.Name,
		Mode:          n.Mode,
		Proposals:     n.proposals(),
		Lifetimes:     n.lifetimes(),
		Lifetime:      n.Lifetime,
		LifetimeBytes: n.LifetimeBytes,
		ForceUDP:      n.ForceUDP,
		TunnelLocal:   n.TunnelLocal,
		TunnelPeer:    n.TunnelPeer,

		AcceptUnsecured: n.AcceptUnsecured,

		Auth:     rule.Authentication,
		OwnID:    rule.OwnID,
		PeerID:   rule.PeerID,
		Position: placeIn(f.Path).at(rule.Position),
	}
	if x := n.AllowUnsecured; x != nil {
		out.AllowUnsecured, out.FallbackAfter, out.SoftLifetime = true, x.After, x.For
	}
	if rule.Peers != "" {
		out.Peers = names.peers[rule.Peers]
	}
	return out
}

// lifetimes returns the lifetime of each method.
func (n *Negotiate) lifetimes() []Lifetime {
	out := make([]Lifetime, len(n.Methods))
	for i, m := range n.Methods {
		out[i] = Lifetime{n.Lifetime, n.LifetimeBytes}
		if m.Lifetime != 0 {
			out[i].Time = m.Lifetime
		}
		if m.LifetimeBytes != 0 {
			out[i].Bytes = m.LifetimeBytes
		}
	}
	return out
}

// IKE returns the proposals for IKE SAs, the preferred first.
func (f *File) IKE() []ipsec.Proposal {
	if len(f.KeyExchange.Proposals) == 0 {
		return defaultIKE()
	}
	var out []ipsec.Proposal
	for _, text := range f.KeyExchange.Proposals {
		ts, _, _ := parseIKE(text)
		out = append(out, ipsec.Proposal{Number: uint8(len(out) + 1), Protocol: ipsec.ProtoIKE, Transforms: ts})
	}
	return out
}
