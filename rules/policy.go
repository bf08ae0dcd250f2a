package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
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
	Proposals     []ipsec.Proposal // of ESP and AH, the preferred first, without SPIs; with key exchange groups for PFS
	Around        []ipsec.Proposal // of the AH around ESP; none for ESP without
	Lifetimes     []Lifetime       // of the SAs of each of the Proposals
	Lifetime      time.Duration    // of the action; the proposals' where they have none of their own
	LifetimeBytes uint64           // likewise; 0 for no limit

	LifetimePackets uint64   // likewise
	ReplayWindow    int      // in packets; 0 for the default
	DF              ipsec.DF // of a tunnel
	TFC             int      // likewise; see ipsec.ChildSA

	ForceUDP    bool       // UDP encapsulation even without a NAT
	TunnelLocal netip.Addr // outer addresses, in tunnel mode
	TunnelPeer  netip.Addr

	AcceptUnsecured bool          // what comes in clear is let in, and answered under IPsec
	AllowUnsecured  bool          // with a peer that does not speak IKE, in clear
	FallbackAfter   time.Duration // with AllowUnsecured: how long the peer may be silent before
	SoftLifetime    time.Duration // with AllowUnsecured: how long the peer is left in clear

	IKE       []ipsec.Proposal // the preferred first, without SPIs
	Reauth    time.Duration    // after which both ends authenticate anew; 0 for never
	PPKs      []PPK            // the preferred first; none for no such keys
	Childless bool             // IKE SAs begin without a Child SA
	Legacy    bool             // weak algorithms are good enough
	Exchange  Exchange         // what of IKE to PPKs and Childless the rule says itself, and not the file

	Auth     []Authentication // the preferred first; at least one
	OwnID    string           // empty for the identity that follows from the address or certificate
	PeerID   string           // empty for any that authenticates
	Peers    *PeerGroup       // whom to authorise; nil for whoever authenticates
	Position string           // where the rule stands, as in "payroll.yaml:22:5"
	Places   Places           // of what the rule says
}

// Lifetime is how long an SA lives: until the first limit is reached.
type Lifetime struct {
	Time    time.Duration
	Bytes   uint64 // 0 for no limit
	Packets uint64 // likewise
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
	x := rule.Exchange.over(f.KeyExchange.Exchange)
	o := n.offer(x)
	out := Negotiation{
		Rule:          rule.Name,
		Mode:          n.Mode,
		Proposals:     o.proposals,
		Around:        o.around,
		Lifetimes:     o.lifetimes,
		Lifetime:      n.Lifetime,
		LifetimeBytes: n.LifetimeBytes,

		LifetimePackets: uint64(n.LifetimePackets),
		ReplayWindow:    n.ReplayWindow,
		DF:              n.DF,
		TFC:             n.TFC,

		ForceUDP:    n.ForceUDP,
		TunnelLocal: n.TunnelLocal,
		TunnelPeer:  n.TunnelPeer,

		AcceptUnsecured: n.AcceptUnsecured,

		IKE:       x.ike(),
		Reauth:    max(0, x.Reauth),
		PPKs:      x.PPKs,
		Childless: x.Childless != nil && *x.Childless,
		Legacy:    rule.Legacy,
		Exchange:  rule.Exchange,

		Auth:     rule.Authentication,
		OwnID:    rule.OwnID,
		PeerID:   rule.PeerID,
		Position: placeIn(f.Path).at(rule.Position),
		Places:   Places{f.Path, rule.places},
	}
	if x := n.AllowUnsecured; x != nil {
		out.AllowUnsecured, out.FallbackAfter, out.SoftLifetime = true, x.After, x.For
	}
	if rule.Peers != "" {
		out.Peers = names.peers[rule.Peers]
	}
	return out
}

// With returns the file as it is under the key exchange of another, whose
// settings hold for both. It shares everything else with f.
func (f *File) With(k KeyExchange) *File {
	g := *f
	g.KeyExchange = k
	return &g
}

// Readable returns the proposals whose packets are protected from change and not
// from being read.
func (n *Negotiation) Readable() []string {
	var out distinct[string]
	for _, p := range n.Proposals {
		encr, _ := p.First(ipsec.TypeEncr)
		integ, _ := p.First(ipsec.TypeInteg)
		switch {
		case encr.Encrypts():
		case p.Protocol == ipsec.ProtoAH:
			out.add("ah " + integ.String())
		case encr.AEAD():
			out.add(encr.String())
		default:
			out.add(encr.String() + "-" + integ.String())
		}
	}
	return out.list
}

// Weak returns the weak algorithms that a negotiation may end with, each once.
func (n *Negotiation) Weak() []ipsec.Transform {
	return weak(slices.Concat(n.IKE, n.Proposals, n.Around))
}

// At returns where a value of the rule stands, by its name in Places; where that
// is not known, as the rule does not write it, where the rule does.
func (n *Negotiation) At(name string) string { return cmp.Or(n.Places.At(name), n.Position) }

// Files returns the files that a rule names, each once, with the place of the
// key that makes it secret if one does. Those of the file's key exchange are not
// among them.
func (n *Negotiation) Files() []NamedFile {
	var out []NamedFile
	add := func(f NamedFile, within string) {
		f.Position = n.At(within + f.Key)
		switch i := slices.IndexFunc(out, func(o NamedFile) bool { return o.Path == f.Path }); {
		case i < 0:
			out = append(out, f)
		case f.Secret && !out[i].Secret:
			out[i] = f
		}
	}
	for i, a := range n.Auth {
		for _, f := range a.Files() {
			add(f, fmt.Sprintf("authentication/%d/", i))
		}
	}
	for _, f := range n.Exchange.Files() {
		add(f, "key-exchange/")
	}
	return out
}

// KeyExchangeAt returns where a value of the file's key exchange stands, by its
// name in Places.
func (f *File) KeyExchangeAt(name string) string {
	return cmp.Or(Places{f.Path, f.KeyExchange.places}.At(name), placeIn(f.Path).at(f.KeyExchange.Position))
}
