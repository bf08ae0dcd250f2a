package verify

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/rules"
)

// demands are what a rule wants of peers: what they prove, and how the key
// exchange goes. It is comparable.
type demands struct{ proof, exchange string }

func demandsOf(n rules.Negotiation) demands {
	var methods, members []string
	for _, a := range n.Auth {
		m := a.String()
		if a.Certificate != nil {
			m += fmt.Sprintf(" revocation %s %q SHA-1 %t", a.Certificate.Revocation, a.Certificate.CRLs, n.Legacy)
		}
		methods = append(methods, m)
	}
	if g := n.Peers; g != nil {
		for _, m := range []rules.Members{g.Members, g.Except} {
			members = append(members, fmt.Sprintf("%q %q %q %q", m.Names, m.Units, m.Subjects, m.Fingerprints))
		}
	}
	return demands{
		proof:    fmt.Sprintf("%q %q %q", methods, n.PeerID, members),
		exchange: fmt.Sprintf("%v %v %v %v", n.IKE, n.Reauth, n.PPKs, n.Childless),
	}
}

// weakIKE reports whether an IKE SA by a rule may have weak algorithms.
func weakIKE(n rules.Negotiation) bool {
	return slices.ContainsFunc(n.IKE, func(p ipsec.Proposal) bool {
		return slices.ContainsFunc(p.Transforms, func(t ipsec.Transform) bool { _, weak := t.Weak(); return weak })
	})
}

// peering is addresses of peers that a rule concerns.
type peering struct {
	first, last netip.Addr
	rule        string
	rank        int // of the filter, in the order of decision
}

// authentication warns of rules for the same peers that want other proofs of
// them, or another key exchange: a peer authenticates once, by the rule of the
// most specific filter that concerns its address.
func (p *Policy) authentication() []string {
	negotiations, wants := map[string]rules.Negotiation{}, map[string]demands{}
	for _, f := range p.Files {
		for _, n := range p.negotiations(f) {
			negotiations[n.Rule], wants[n.Rule] = n, demandsOf(n)
		}
	}
	if len(negotiations) < 2 {
		return nil
	}
	peerings := p.peerings(negotiations)
	slices.SortStableFunc(peerings, func(a, b peering) int { return a.first.Compare(b.first) })
	// Of those that begin before, the one of each rule that ends last.
	var open []peering
	warned := map[[2]string]bool{}
	var out []string
	for _, x := range peerings {
		open = slices.DeleteFunc(open, func(o peering) bool { return o.last.Less(x.first) })
		known := false
		for i := range open {
			o := &open[i]
			if o.rule == x.rule {
				known = true
				if o.last.Less(x.last) {
					o.last = x.last
				}
				continue
			}
			if wants[o.rule] == wants[x.rule] {
				continue
			}
			light, heavy := *o, x
			if light.rank < heavy.rank {
				light, heavy = heavy, light
			}
			if pair := [2]string{light.rule, heavy.rule}; !warned[pair] {
				warned[pair] = true
				common := filter.Range(x.first, slices.MinFunc([]netip.Addr{o.last, x.last}, netip.Addr.Compare))
				text := "rule %q wants other proofs of the peers %s than rule %q at %s, whose filter is asked first: a peer authenticates once, and gets no SA by this rule unless it proves what both want; give both the same authentication, peer-id and peers"
				if wants[light.rule].proof == wants[heavy.rule].proof {
					text = "rule %q wants another key exchange with the peers %s than rule %q at %s, whose filter is asked first: the IKE SA is made as that one says, for both; give both the same key-exchange"
				}
				if weakIKE(negotiations[heavy.rule]) && !negotiations[light.rule].Legacy {
					text += "; and that one is legacy: the keys of this rule's SAs with these peers may come of weak algorithms"
				}
				out = append(out, warning(negotiations[light.rule].Position, text,
					light.rule, common, heavy.rule, negotiations[heavy.rule].Position))
			}
		}
		if !known {
			open = append(open, x)
		}
	}
	return out
}

// peerings returns the peers of each rule, each run of addresses of a rule
// once.
func (p *Policy) peerings(negotiations map[string]rules.Negotiation) []peering {
	type key struct {
		rule string
		side filter.Side
	}
	seen := map[key]bool{}
	var out []peering
	add := func(rule string, side filter.Side, rank int) {
		if seen[key{rule, side}] {
			return
		}
		seen[key{rule, side}] = true
		if side.Kind() == filter.SideAddresses {
			out = append(out, peering{side.First(), side.Last(), rule, rank})
			return
		}
		for _, all := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
			s := filter.Subnet(all)
			out = append(out, peering{s.First(), s.Last(), rule, rank})
		}
	}
	for i, e := range p.SPD.Entries() {
		n, ok := negotiations[e.Name]
		switch {
		case e.Action != filter.Negotiate || !ok:
		case n.Mode == ipsec.Tunnel:
			add(e.Name, filter.Address(n.TunnelPeer), i)
		default:
			for _, d := range []filter.Direction{filter.Outbound, filter.Inbound} {
				for _, mirror := range []bool{false, true} {
					if h, ok := e.Half(d, mirror); ok {
						remote := h.Dst
						if d == filter.Inbound {
							remote = h.Src
						}
						add(e.Name, remote, i)
					}
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b peering) int { return cmp.Compare(a.rank, b.rank) })
	return out
}
