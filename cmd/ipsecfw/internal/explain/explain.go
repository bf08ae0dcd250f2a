package explain

import (
	"fmt"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/rules"
)

// Explanation is what becomes of a flow's packets.
type Explanation struct {
	Flow    string  `json:"flow"`
	Packets Verdict `json:"packets"` // what becomes of the flow's packets
	Answers Verdict `json:"answers"` // and of those that answer them

	// What would be negotiated, if the packets are to be secured.
	Negotiation *Negotiation `json:"negotiation,omitempty"`
	// SA is the pair of SAs that carries the packets now, by its inbound SPI;
	// NoSA says why there is none. Both are empty where no daemon was asked.
	SA   string `json:"sa,omitempty"`
	NoSA string `json:"no-sa,omitempty"`
}

// Verdict is what becomes of packets, and why.
type Verdict struct {
	Action  string   `json:"action"` // permit, block or negotiate
	Options []string `json:"options,omitempty"`
	Exempt  string   `json:"exempt,omitempty"` // why no filter was asked
	Filter  *Filter  `json:"filter,omitempty"` // that decides; nil when none matches
	Next    *Filter  `json:"next,omitempty"`   // that would decide without it
}

// Filter is a filter that matches the packets.
type Filter struct {
	Rule     string `json:"rule"`
	List     string `json:"list"`
	Index    int    `json:"index"` // from 1
	Position string `json:"position"`
	Selector string `json:"selector"`
	Mirrored bool   `json:"mirrored"` // it matches by its mirrored half
	Weight   uint32 `json:"weight"`
	Action   string `json:"action"`
}

// Negotiation is what would be agreed on with the peer.
type Negotiation struct {
	Mode           string   `json:"mode"`
	Peer           string   `json:"peer"`
	Methods        []string `json:"methods"` // the preferred first
	Authentication []string `json:"authentication"`
	PeerID         string   `json:"peer-id,omitempty"`
	Group          string   `json:"group,omitempty"` // the group of peers that it must belong to
}

// Explain judges a flow that is free of errors by a policy.
func Explain(s *filter.SPD, negotiations map[string]rules.Negotiation, f Flow) Explanation {
	e := Explanation{Flow: f.String(), Packets: judge(s, f), Answers: judge(s, f.Answer())}
	if v := e.Packets; v.Filter != nil && v.Action == filter.Negotiate.String() {
		if n, ok := negotiations[v.Filter.Rule]; ok {
			e.Negotiation = describe(n, f)
		}
	}
	return e
}

func judge(s *filter.SPD, f Flow) Verdict {
	c, p := f.Packet()
	d := s.Decide(c, &p)
	v := Verdict{Action: d.Action.String(), Exempt: d.Exempt}
	if d.Entry == nil {
		return v
	}
	v.Options = Options(d.Entry)
	v.Filter = found(d)
	for _, next := range s.Matching(c, &p) {
		if next.Entry != d.Entry {
			v.Next = found(next)
			break
		}
	}
	return v
}

func found(d filter.Decision) *Filter {
	e := d.Entry
	return &Filter{
		Rule: e.Name, List: e.List, Index: e.Index + 1, Position: e.Position, Selector: e.Selector.String(),
		Mirrored: d.Mirror, Weight: e.Weight(), Action: e.Action.String(),
	}
}

// Options returns what a filter asks for besides its action, in words.
func Options(e *filter.Entry) []string {
	var out []string
	add := func(holds bool, word string) {
		if holds {
			out = append(out, word)
		}
	}
	o := e.Options
	add(e.Stateful, "stateful")
	add(o.Reject, "reject")
	add(o.AcceptUnsecured, "accept-unsecured")
	add(o.AllowUnsecured, "allow-unsecured")
	add(o.Log, "log")
	if l := o.Limit; l != (filter.Limit{}) {
		out = append(out, fmt.Sprintf("limit %d/%s", l.Packets, l.Per))
	}
	return out
}

func describe(n rules.Negotiation, f Flow) *Negotiation {
	out := &Negotiation{Mode: n.Mode.String(), Peer: f.To.String(), PeerID: n.PeerID}
	if f.Direction == filter.Inbound.String() {
		out.Peer = f.From.String()
	}
	if n.Mode == ipsec.Tunnel {
		out.Peer = n.TunnelPeer.String()
	}
	out.Methods, out.Authentication = Methods(n), Authentication(n)
	if n.Peers != nil {
		out.Group = n.Peers.Name
	}
	return out
}

// Methods returns what a rule offers, the preferred first, in words.
func Methods(n rules.Negotiation) []string {
	out := make([]string, len(n.Proposals), len(n.Proposals)+len(n.Around))
	for i, p := range n.Proposals {
		out[i] = method(p)
	}
	for _, p := range n.Around {
		out = append(out, "inside "+method(p))
	}
	return out
}

func method(p ipsec.Proposal) string {
	words := make([]string, len(p.Transforms))
	for i, t := range p.Transforms {
		words[i] = t.String()
	}
	return p.Protocol.String() + " " + strings.Join(words, "-")
}

// Authentication returns how a rule lets both ends prove themselves, the
// preferred way first, in words.
func Authentication(n rules.Negotiation) []string {
	out := make([]string, len(n.Auth))
	for i, a := range n.Auth {
		out[i] = a.String()
	}
	return out
}
