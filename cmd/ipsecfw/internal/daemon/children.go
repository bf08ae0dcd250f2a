package daemon

import (
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/nfq"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

// way is a filter, or its mirrored half, as seen from the host: what the ends
// of its packets are. A filter has one way, or two where its halves differ.
type way struct {
	direction     filter.Direction
	mirror        bool
	local, remote filter.End
}

// waysOf returns the ways of a filter. Both directions of one are carried by
// one pair of SAs.
func waysOf(e *filter.Entry) []way {
	if e.Forward { // the far network is the one that the filter leads to
		w := way{direction: filter.Forward}
		w.local, w.remote = e.Selector.Ends(w.direction, false)
		return []way{w}
	}
	var out []way
	for _, d := range []filter.Direction{filter.Outbound, filter.Inbound} {
		for _, mirror := range []bool{false, true} {
			w := way{direction: d, mirror: mirror}
			w.local, w.remote = e.Selector.Ends(d, mirror)
			known := slices.ContainsFunc(out, func(o way) bool { return o.local == w.local && o.remote == w.remote })
			if mirror && !e.Mirrored || w.remote.Side.Kind() == filter.SideMe || known {
				continue
			}
			out = append(out, w)
		}
	}
	return out
}

// child says what SAs a filter asks for with a peer, seen one way. In
// transport mode the selectors are narrowed to the two hosts. ok is false
// when nothing is left of them.
func (n *negotiation) child(e *filter.Entry, w way, local, remote netip.Addr) (c ike.ChildPolicy, ok bool) {
	c = n.policy()
	c.Local, c.Remote = rules.TrafficSelectors(e.Selector, w.direction, w.mirror, []netip.Addr{local})
	c.Around = n.around(local, remote)
	if n.Mode == ipsec.Transport {
		c.Local, c.Remote = narrow(c.Local, local), narrow(c.Remote, remote)
	}
	return c, len(c.Local) > 0 && len(c.Remote) > 0
}

// narrow returns what selectors cover of one host.
func narrow(ts []ipsec.TrafficSelector, host netip.Addr) []ipsec.TrafficSelector {
	var out []ipsec.TrafficSelector
	only := ipsec.SelectPrefix(netip.PrefixFrom(host, host.BitLen()), 0, 0, 0xffff)
	for _, t := range ts {
		if x, ok := t.Intersect(only); ok {
			out = append(out, x)
		}
	}
	return out
}

// wanted returns the SAs to ask for, and from whom, for a packet that goes out
// and that a filter wants secured.
func (p *policy) wanted(d filter.Decision, pkt *packet.Packet) (c ike.ChildPolicy, local, remote netip.Addr, ok bool) {
	n := p.rules[d.Entry.Name]
	if n == nil {
		return c, local, remote, false
	}
	local, remote = pkt.Src, pkt.Dst
	if n.Mode == ipsec.Tunnel {
		local, remote = n.TunnelLocal, n.TunnelPeer
	}
	w := way{direction: filter.Outbound, mirror: d.Mirror}
	if d.Entry.Forward {
		w.direction = filter.Forward
	}
	c, ok = n.child(d.Entry, w, local, remote)
	return c, local, remote, ok
}

// wants reports whether some filter of an SA's rule still covers something of
// what the SA is for.
func (p *policy) wants(sa *nfq.SA) bool {
	n := p.rules[sa.Policy]
	if n == nil || n.Rule == rules.DefaultResponseRule {
		return n != nil
	}
	if n.Around != nil && sa.Protocol == ipsec.ProtoAH {
		return slices.ContainsFunc(p.secured, func(s secured) bool { return s.rule == n && s.concerns(sa.LocalAddr.Addr(), sa.RemoteAddr.Addr()) })
	}
	overlap := func(a, b []ipsec.TrafficSelector) bool {
		return slices.ContainsFunc(a, func(x ipsec.TrafficSelector) bool {
			return slices.ContainsFunc(b, func(y ipsec.TrafficSelector) bool { _, ok := x.Intersect(y); return ok })
		})
	}
	for i := range p.secured {
		s := &p.secured[i]
		if s.rule != n {
			continue
		}
		for _, w := range s.ways {
			c, ok := n.child(s.entry, w, sa.LocalAddr.Addr(), sa.RemoteAddr.Addr())
			if ok && overlap(c.Local, sa.Local) && overlap(c.Remote, sa.Remote) {
				return true
			}
		}
	}
	return false
}

// response says what SAs a peer may ask for where no filter matches: between
// the two hosts, for everything.
func (n *negotiation) response(local, remote netip.Addr) ike.ChildPolicy {
	c := n.policy()
	c.Local, c.Remote = between(local, remote, 0)
	c.Around = n.around(local, remote)
	return c
}

// around says what SA of AH goes around those of a rule with a peer; nil if none
// does.
func (n *negotiation) around(local, remote netip.Addr) *ike.ChildPolicy {
	if n.Around == nil {
		return nil
	}
	c := n.policy()
	c.Mode, c.Proposals, c.Outer = ipsec.Transport, n.Around, true
	c.Local, c.Remote = between(local, remote, packet.ESP)
	return &c
}

// between returns the selectors of a protocol, or of all with 0, between two
// hosts.
func between(a, b netip.Addr, protocol uint8) (local, remote []ipsec.TrafficSelector) {
	host := func(a netip.Addr) []ipsec.TrafficSelector {
		return []ipsec.TrafficSelector{ipsec.SelectPrefix(netip.PrefixFrom(a, a.BitLen()), protocol, 0, 0xffff)}
	}
	return host(a), host(b)
}

// policy is what a rule asks of Child SAs, whatever they are for.
func (n *negotiation) policy() ike.ChildPolicy {
	return ike.ChildPolicy{
		Name: n.Rule, Mode: n.Mode, Proposals: n.Proposals, Lifetime: n.Lifetime, ForceUDP: n.ForceUDP,
		Auth: n.auth, PeerID: n.PeerID, Peers: n.peer.Peers, PPKRequired: n.peer.PPKRequired, Legacy: n.Legacy,
	}
}

// packetSelectors are the selectors of exactly one packet (RFC 7296 section
// 2.9).
func packetSelectors(p *packet.Packet) (local, remote ipsec.TrafficSelector) {
	local = ipsec.TrafficSelector{Protocol: p.Protocol, EndPort: 0xffff, Start: p.Src, End: p.Src}
	remote = ipsec.TrafficSelector{Protocol: p.Protocol, EndPort: 0xffff, Start: p.Dst, End: p.Dst}
	if p.HasPorts {
		local.StartPort, local.EndPort = p.SrcPort, p.SrcPort
		remote.StartPort, remote.EndPort = p.DstPort, p.DstPort
	}
	return local, remote
}
