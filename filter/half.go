package filter

import "github.com/ipsecfw/ipsecfw/filter/packet"

// Half is what a filter matches of packets in one direction, straight or
// mirrored: the filter as a packet's own source and destination. The address
// of the host's end is SideMe or whatever the filter says; SideMe there
// matches every address, because the direction implies it.
type Half struct {
	Src, Dst           Side
	SrcPorts, DstPorts PortRange
	Protocol           uint8
	HasProtocol        bool
	ICMP               ICMP
	Connection         Connection
	Stage              Stage
}

// Half returns the filter as it applies to packets of a direction, straight
// or mirrored; ok is false when it matches none of them.
func (e *Entry) Half(d Direction, mirror bool) (h Half, ok bool) {
	s := &e.Selector
	if mirror && !e.Mirrored || e.Forward != (d == Forward) {
		return h, false
	}
	h = Half{
		Src: s.From, Dst: s.To, SrcPorts: s.FromPort, DstPorts: s.ToPort,
		Protocol: s.Protocol, HasProtocol: s.HasProtocol, ICMP: s.ICMP, Connection: s.Connection,
	}
	if mirror {
		h.Src, h.Dst, h.SrcPorts, h.DstPorts = h.Dst, h.Src, h.DstPorts, h.SrcPorts
		h.ICMP = h.ICMP.mirrored(h.Protocol)
	}
	if e.Stateful {
		h.Stage = Beginnings
		if mirror {
			h.Stage = Answers
		}
	}
	remote := h.Dst
	if d == Inbound {
		remote = h.Src
	}
	return h, remote.kind != SideMe
}

// Match reports whether the filter matches a packet, and whether by its
// mirrored half only. It is the definition that Lookup's tables are made of,
// and as slow as it is plain.
func (e *Entry) Match(c Context, p *packet.Packet) (mirror, ok bool) {
	for _, mirror := range []bool{false, true} {
		if h, applies := e.Half(c.Direction, mirror); applies && h.match(c, p) {
			return mirror, true
		}
	}
	return false, false
}

func (h *Half) match(c Context, p *packet.Packet) bool {
	switch {
	case h.Src.kind == SideAddresses && !h.Src.Contains(p.Src) || h.Dst.kind == SideAddresses && !h.Dst.Contains(p.Dst):
		return false
	case h.HasProtocol && h.Protocol != p.Protocol || !h.speaks(!p.Is4()):
		return false
	case !h.SrcPorts.Any() && (!p.HasPorts || !h.SrcPorts.Contains(p.SrcPort)):
		return false
	case !h.DstPorts.Any() && (!p.HasPorts || !h.DstPorts.Contains(p.DstPort)):
		return false
	case h.ICMP.HasType && (!p.HasICMP || !h.ICMP.Contains(p.ICMPType, p.ICMPCode)):
		return false
	}
	return h.Connection.Contains(c.Interface) && h.Stage.Contains(c.State)
}

// speaks reports whether the half's protocol exists in a family: ICMP belongs
// to IPv4 and ICMPv6 to IPv6, and a filter for the one is none for its number in
// the other.
func (h *Half) speaks(v6 bool) bool {
	if !h.HasProtocol {
		return true
	}
	return h.Protocol != packet.ICMP && h.Protocol != packet.ICMPv6 || v6 == (h.Protocol == packet.ICMPv6)
}

// appendTuples cuts the half into tuples, the product of the prefixes of its
// sides and ports, and appends them to out.
func (h *Half) appendTuples(out []shaped) []shaped {
	srcPorts, dstPorts := h.SrcPorts.prefixes(), h.DstPorts.prefixes()
	if h.ICMP.HasType {
		srcPorts = h.ICMP.prefixes()
	}
	for _, v6 := range []bool{false, true} {
		if !h.Src.is(v6) || !h.Dst.is(v6) || !h.speaks(v6) {
			continue
		}
		srcs, dsts := h.Src.prefixes(v6), h.Dst.prefixes(v6)
		for _, sa := range srcs {
			for _, da := range dsts {
				t := shaped{shape: Shape{
					V6: v6, SrcBits: uint8(sa.Bits()), DstBits: uint8(da.Bits()),
					Protocol: h.HasProtocol, Connection: h.Connection, Stage: h.Stage,
				}}
				t.srcHi, t.srcLo = words(sa.Addr())
				t.dstHi, t.dstLo = words(da.Addr())
				for _, sp := range srcPorts {
					for _, dp := range dstPorts {
						t.shape.SrcPortBits, t.shape.DstPortBits = sp.bits, dp.bits
						t.rest = packRest(v6, h.Protocol, sp.value, dp.value)
						out = append(out, t)
					}
				}
			}
		}
	}
	return out
}

// Overlaps reports whether there may be a packet that both filters match. It
// does not look at interfaces and connections, and so may say that there is
// when there is none, but never the reverse.
func (e *Entry) Overlaps(f *Entry) bool {
	a, b := &e.Selector, &f.Selector
	if e.Forward != f.Forward || a.HasProtocol && b.HasProtocol && a.Protocol != b.Protocol ||
		!(a.From.overlaps(&b.From) && a.To.overlaps(&b.To)) && !(a.From.overlaps(&b.To) && a.To.overlaps(&b.From)) {
		return false
	}
	for _, d := range Directions {
		for _, mirror := range []bool{false, true} {
			a, ok := e.Half(d, mirror)
			if !ok {
				continue
			}
			for _, mirror := range []bool{false, true} {
				if b, ok := f.Half(d, mirror); ok && a.overlaps(&b) {
					return true
				}
			}
		}
	}
	return false
}

func (h *Half) overlaps(x *Half) bool {
	return h.Src.overlaps(&x.Src) && h.Dst.overlaps(&x.Dst) &&
		(!h.HasProtocol || !x.HasProtocol || h.Protocol == x.Protocol) &&
		h.SrcPorts.overlaps(x.SrcPorts) && h.DstPorts.overlaps(x.DstPorts) &&
		(!h.ICMP.HasType || !x.ICMP.HasType || h.ICMP.Type == x.ICMP.Type)
}

func (s *Side) overlaps(t *Side) bool {
	return s.kind != SideAddresses || t.kind != SideAddresses || s.Contains(t.first) || t.Contains(s.first)
}

func (r PortRange) overlaps(s PortRange) bool {
	return r.Any() || s.Any() || r.Lo <= s.Hi && s.Lo <= r.Hi
}
