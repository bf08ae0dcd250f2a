package verify

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/rules"
)

// proof is what a rule wants peers to prove. It is comparable.
type proof struct{ methods, peerID, names, units string }

func proofOf(n rules.Negotiation) proof {
	var methods []string
	for _, a := range n.Auth {
		if a.Certificate != nil {
			methods = append(methods, "certificate "+a.Certificate.Authority)
		} else {
			methods = append(methods, "key "+a.PresharedKey.File)
		}
	}
	out := proof{methods: strings.Join(methods, ", "), peerID: n.PeerID}
	if n.Peers != nil {
		out.names, out.units = strings.Join(n.Peers.Names, "\n"), strings.Join(n.Peers.Units, "\n")
	}
	return out
}

// peering is addresses of peers that a rule concerns.
type peering struct {
	first, last netip.Addr
	rule        string
	rank        int // of the filter, in the order of decision
}

// authentication warns of rules for the same peers that want other proofs of
// them: a peer authenticates once, by the rule of the most specific filter that
// concerns its address.
func (p *Policy) authentication() []string {
	negotiations, proofs := map[string]rules.Negotiation{}, map[string]proof{}
	for _, f := range p.Files {
		for name, n := range f.Negotiations() {
			negotiations[name], proofs[name] = n, proofOf(n)
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
			if proofs[o.rule] == proofs[x.rule] {
				continue
			}
			light, heavy := *o, x
			if light.rank < heavy.rank {
				light, heavy = heavy, light
			}
			if pair := [2]string{light.rule, heavy.rule}; !warned[pair] {
				warned[pair] = true
				common := filter.Range(x.first, slices.MinFunc([]netip.Addr{o.last, x.last}, netip.Addr.Compare))
				out = append(out, warning(negotiations[light.rule].Position,
					"rule %q wants other proofs of the peers %s than rule %q at %s, whose filter is asked first: a peer authenticates once, and gets no SA by this rule unless it proves what both want; give both the same authentication, peer-id and peers",
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
