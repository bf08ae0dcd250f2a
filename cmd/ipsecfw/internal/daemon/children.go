package daemon

import (
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// way is a filter as seen from the host: what the ends of its packets are. A
// filter has one way, or two where its two halves differ.
type way struct{ local, remote filter.End }

// waysOf returns the ways of a filter. Both directions of one are carried by
// one pair of SAs.
func waysOf(e *filter.Entry) []way {
	var out []way
	for _, d := range []filter.Direction{filter.Outbound, filter.Inbound} {
		for _, mirror := range []bool{false, true} {
			if mirror && !e.Mirrored {
				continue
			}
			var w way
			if w.local, w.remote = e.Selector.Ends(d, mirror); w.remote.Side.Kind() != filter.SideMe && !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	return out
}

// child says what SAs a filter asks for with a peer, seen one way. In
// transport mode the selectors are narrowed to the two hosts. ok is false
// when nothing is left of them.
func (n *negotiation) child(e *filter.Entry, w way, local, remote netip.Addr) (c ike.ChildPolicy, ok bool) {
	c = ike.ChildPolicy{
		Name:      e.Name,
		Mode:      n.Mode,
		Proposals: n.Proposals,
		Local:     selectors(e.Selector, w.local, local, n.Mode == ipsec.Transport),
		Remote:    selectors(e.Selector, w.remote, remote, n.Mode == ipsec.Transport),
		Lifetime:  n.Lifetime,
		ForceUDP:  n.ForceUDP,
	}
	return c, len(c.Local) > 0 && len(c.Remote) > 0
}

// selectors returns the traffic selectors of one end of a filter. The host's
// address stands for "me", and with only set for every side that contains it.
func selectors(s filter.Selector, end filter.End, host netip.Addr, only bool) []ipsec.TrafficSelector {
	t := ipsec.TrafficSelector{EndPort: 0xffff}
	if s.HasProtocol {
		t.Protocol = s.Protocol
	}
	if !end.Ports.Any() {
		t.StartPort, t.EndPort = end.Ports.Lo, end.Ports.Hi
	}
	add := func(first, last netip.Addr) ipsec.TrafficSelector {
		t.Start, t.End = first, last
		return t
	}
	switch kind := end.Side.Kind(); {
	case kind == filter.SideMe, only && end.Side.Contains(host), only && kind == filter.SideAny:
		return []ipsec.TrafficSelector{add(host, host)}
	case only:
		return nil
	case kind == filter.SideAny:
		every := ipsec.SelectPrefix(netip.PrefixFrom(host, 0).Masked(), 0, 0, 0)
		return []ipsec.TrafficSelector{add(every.Start, every.End)}
	}
	return []ipsec.TrafficSelector{add(end.Side.First(), end.Side.Last())}
}

// wanted returns the SAs to ask for, and from whom, for a packet that goes out
// under a rule.
func (p *policy) wanted(rule string, pkt *packet.Packet) (c ike.ChildPolicy, local, remote netip.Addr, ok bool) {
	n := p.rules[rule]
	if n == nil {
		return c, local, remote, false
	}
	local, remote = pkt.Src, pkt.Dst
	if n.Mode == ipsec.Tunnel {
		local, remote = n.TunnelLocal, n.TunnelPeer
	}
	d := p.spd.Lookup(filter.Outbound, pkt)
	if d.Entry == nil || d.Entry.Name != rule {
		return c, local, remote, false
	}
	var w way
	w.local, w.remote = d.Entry.Selector.Ends(filter.Outbound, d.Mirror)
	c, ok = n.child(d.Entry, w, local, remote)
	return c, local, remote, ok
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
