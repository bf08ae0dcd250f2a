package rules

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// SPDEntries returns the policy's filters with the actions of their rules, in
// the order of the rules, for filter.New.
func (f *File) SPDEntries() []filter.Entry {
	var out []filter.Entry
	for _, rule := range f.Rules {
		l, _ := f.list(rule.List)
		a, _ := f.action(rule.Action)
		for i, x := range l.Filters {
			out = append(out, filter.Entry{
				Name: rule.Name, List: l.Name, Index: i,
				Position: f.position(x.Position),
				Selector: x.Selector,
				Mirrored: x.Mirrored,
				Action:   a.Action,
			})
		}
	}
	return out
}

func (f *File) position(at Position) string {
	return fmt.Sprintf("%s:%d:%d", f.Path, at.Line, at.Column)
}

// Negotiation is how a rule protects what its filters match, for the key
// exchange. It names files and holds no secret.
type Negotiation struct {
	Rule        string
	Mode        ipsec.Mode
	Proposals   []ipsec.Proposal // ESP, the preferred first, without SPIs
	Lifetime    time.Duration    // of a Child SA
	ForceUDP    bool             // UDP encapsulation even without a NAT
	TunnelLocal netip.Addr       // outer addresses, in tunnel mode
	TunnelPeer  netip.Addr
	Auth        []Authentication // the preferred first; at least one
	OwnID       string           // empty for the identity that follows from the address or certificate
	PeerID      string           // empty for any that authenticates
	Position    string           // where the rule stands, as in "payroll.yaml:22:5"
}

// Negotiations returns the rules that negotiate, by name.
func (f *File) Negotiations() map[string]Negotiation {
	out := map[string]Negotiation{}
	for _, rule := range f.Rules {
		a, _ := f.action(rule.Action)
		if a.Action != filter.Negotiate {
			continue
		}
		n := a.Negotiate
		out[rule.Name] = Negotiation{
			Rule:      rule.Name,
			Mode:      n.Mode,
			Proposals: espProposals(n.Proposals, n.ESN),
			Lifetime:  n.Lifetime,
			ForceUDP:  n.ForceUDP,

			TunnelLocal: n.TunnelLocal,
			TunnelPeer:  n.TunnelPeer,

			Auth:     rule.Authentication,
			OwnID:    rule.OwnID,
			PeerID:   rule.PeerID,
			Position: f.position(rule.Position),
		}
	}
	return out
}

// espProposals returns one proposal for each cipher. With esn it offers
// extended sequence numbers first and plain ones for peers without them.
func espProposals(ciphers []string, esn bool) []ipsec.Proposal {
	var out []ipsec.Proposal
	for _, word := range ciphers {
		cipher, ok := keyword(word, aeadCiphers)
		if !ok {
			continue // Parse lets none pass
		}
		ts := []ipsec.Transform{cipher}
		if esn {
			ts = append(ts, ipsec.Transform{Type: ipsec.TypeESN, ID: ipsec.ESNYes})
		}
		ts = append(ts, ipsec.Transform{Type: ipsec.TypeESN, ID: ipsec.ESNNo})
		out = append(out, ipsec.Proposal{Number: uint8(len(out) + 1), Protocol: ipsec.ProtoESP, Transforms: ts})
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
