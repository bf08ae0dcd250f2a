package daemon

import (
	"cmp"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

// negotiation is a rule with the action negotiate, or the default response,
// under the settings that hold for it. It is immutable.
type negotiation struct {
	rules.Negotiation
	auth []ike.AuthMethod
	ppks []ike.PPK
	peer ike.Policy // how to deal with the rule's peers
}

// settle makes a negotiation of a rule and its credentials, under the settings
// of a part.
func settle(n rules.Negotiation, auth []ike.AuthMethod, ppks []ike.PPK, s *part) *negotiation {
	k := &s.file.KeyExchange
	if n.Exchange.PPKs == nil {
		ppks = s.ppks
	}
	out := &negotiation{Negotiation: n, auth: auth, ppks: ppks}
	out.peer = ike.Policy{
		Proposals: n.IKE, Auth: auth, LocalID: n.OwnID, PeerID: n.PeerID, Peers: group(n.Peers),
		Liveness: k.Liveness, Lifetime: k.Lifetime, Reauth: n.Reauth, MaxChildren: children(k), ForceUDP: n.ForceUDP,
		FragmentSize: cmp.Or(k.Fragmentation, -1), Window: k.Window, Childless: n.Childless,
		PPKs: ppks, PPKRequired: slices.ContainsFunc(n.PPKs, func(p rules.PPK) bool { return p.Required }),
	}
	if n.AllowUnsecured {
		out.peer.Patience = n.FallbackAfter
	}
	return out
}

// children is how many Child SAs an IKE SA may have; 0 for any number.
func children(k *rules.KeyExchange) int {
	if k.MasterKeyPFS {
		return 1
	}
	return k.Children
}

// group returns the peers whom a rule authorises; nil for whoever
// authenticates.
func group(g *rules.PeerGroup) *ike.PeerGroup {
	if g == nil {
		return nil
	}
	out := members(&g.Members)
	out.Name = g.Name
	if !g.Except.None() {
		out.Except = members(&g.Except)
	}
	return out
}

func members(m *rules.Members) *ike.PeerGroup {
	out := &ike.PeerGroup{Names: m.Names, Units: m.Units}
	// Parse lets none pass that is not of the form.
	for _, text := range m.Subjects {
		if p, err := ike.ParseDNPattern(text); err == nil {
			out.DNs = append(out.DNs, p)
		}
	}
	for _, text := range m.Fingerprints {
		if f, err := ike.ParseFingerprint(text); err == nil {
			out.Fingerprints = append(out.Fingerprints, f)
		}
	}
	return out
}
