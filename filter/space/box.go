package space

import (
	"math/bits"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// box is the packets of one direction and family whose other fields each lie
// in a set of their own. The sets of ports are all ports unless the packets
// show ports and nothing else; those of source ports may also be a part of the
// ICMP messages, when the packets show messages and nothing else.
type box struct {
	direction          filter.Direction
	v6                 bool
	shows              shows
	links              links
	stages             stages
	srcPorts, dstPorts ports
	src, dst           addresses
	protocols          protocols
	names              names
}

// whole returns every packet of a direction and family.
func whole(d filter.Direction, v6 bool) box {
	return box{
		direction: d, v6: v6, shows: showAll, links: linkAll, stages: stageAll,
		srcPorts: allPorts, dstPorts: allPorts, src: allOf(v6), dst: allOf(v6), protocols: possible[planeOf(d, v6)], names: allNames,
	}
}

// possible is the protocols that packets of each direction and family have.
var possible = func() (p [planes]protocols) {
	for _, d := range filter.Directions {
		for _, v6 := range []bool{false, true} {
			n := planeOf(d, v6)
			p[n] = allProtocols.minus(messages(!v6))
			if d == filter.Inbound {
				p[n] = p[n].minus(one(filter.ESP))
			}
		}
	}
	return p
}()

// boxOf returns the packets of a direction and family that a filter's half
// matches; ok is false when there are none.
func boxOf(d filter.Direction, h *filter.Half, v6 bool) (b box, ok bool) {
	b = whole(d, v6)
	for _, side := range []struct {
		is *filter.Side
		to *addresses
	}{{&h.Src, &b.src}, {&h.Dst, &b.dst}} {
		if side.is.Kind() != filter.SideAddresses {
			continue
		}
		if other(side.is, v6) {
			return b, false
		}
		*side.to = addresses{numberOf(side.is.First()), numberOf(side.is.Last())}
	}
	if h.HasProtocol {
		b.protocols = one(h.Protocol)
	}
	if !h.SrcPorts.Any() {
		b.shows, b.srcPorts = showPorts, ports{h.SrcPorts.Lo, h.SrcPorts.Hi}
	}
	if !h.DstPorts.Any() {
		b.shows, b.dstPorts = showPorts, ports{h.DstPorts.Lo, h.DstPorts.Hi}
	}
	if h.ICMP.HasType {
		b.shows, b.srcPorts.lo = showMessage, uint16(h.ICMP.Type)<<8
		b.srcPorts.hi = b.srcPorts.lo | 0xff
		if h.ICMP.HasCode {
			b.srcPorts.lo |= uint16(h.ICMP.Code)
			b.srcPorts.hi = b.srcPorts.lo
		}
	}
	switch h.Connection.Kind {
	case filter.ConnectionLAN:
		b.links = linkLAN
	case filter.ConnectionRemote:
		b.links = linkRemote
	case filter.ConnectionInterface:
		b.names = oneName(h.Connection.Name)
	}
	switch h.Stage {
	case filter.Beginnings:
		b.stages = stageBeginning
	case filter.Answers:
		b.stages = stageAnswer
	}
	return b, b.settle()
}

// settle reports whether a packet of the universe is in the box, and takes
// out what no packet is: what no protocol of the box shows, and protocols that
// show nothing of it.
func (b *box) settle() bool {
	if b.names == oneName(loopback) {
		return false
	}
	b.protocols = b.protocols.and(possible[b.plane()])
	if b.direction == filter.Inbound {
		if p := b.dstPorts; b.shows == showPorts && p.lo == p.hi && (p.lo == filter.IKEPort || p.lo == filter.NATPort) {
			b.protocols = b.protocols.minus(one(packet.UDP))
		}
	}
	var seen protocols
	if b.shows&showPorts != 0 {
		if p := b.protocols.and(portProtocols); p.empty() {
			b.shows &^= showPorts
		} else {
			seen = seen.or(p)
		}
	}
	if b.shows&showMessage != 0 {
		if p := b.protocols.and(messages(b.v6)); p.empty() {
			b.shows &^= showMessage
		} else {
			seen = seen.or(p)
		}
	}
	if b.shows&showNothing == 0 {
		b.protocols = seen
	}
	if b.shows == 0 || b.protocols.empty() {
		return false
	}
	if b.direction != filter.Outbound {
		if _, ok := b.unicast(b.dst.lo); !ok {
			return false
		}
	}
	return true
}

// unicast returns the first destination of the box, from n on, that is an
// address of one host; ok is false when there is none.
func (b *box) unicast(n number) (_ number, ok bool) {
	if b.v6 {
		return n, n.hi>>56 != 0xff
	}
	if multicast4 <= n.lo && n.lo < multicast4End {
		n.lo = multicast4End
	}
	return n, !b.dst.hi.less(n) && n.lo != everybody4
}

// The multicast addresses of IPv4 and the end of them, and the limited
// broadcast address.
const multicast4, multicast4End, everybody4 = 224 << 24, 240 << 24, 1<<32 - 1

// multicast6 is the first multicast address of IPv6, which are the last ones.
var multicast6 = number{hi: 0xff << 56}

// unicastOnly widens the destinations over the multicast and broadcast
// addresses beside them, so that boxes with the same addresses of hosts are
// equal; ok is false when there are no others.
func (b *box) unicastOnly() (ok bool) {
	d := &b.dst
	if b.v6 {
		if !d.hi.less(multicast6.previous()) {
			d.hi = all6.hi
		}
		return d.lo.less(multicast6)
	}
	if multicast4 <= d.lo.lo && d.lo.lo < multicast4End {
		d.lo.lo = multicast4End
	}
	switch {
	case multicast4-1 <= d.hi.lo && d.hi.lo < multicast4End:
		d.hi.lo = multicast4End - 1
	case d.hi.lo == everybody4-1:
		d.hi.lo = everybody4
	}
	return !d.hi.less(d.lo) && d.lo.lo != everybody4
}

// loopback is the name of the interface on which no filter judges.
const loopback = "lo"

// meets reports whether two boxes of one direction and family have points in
// common. The common box may still be one that no packet is in.
func (b *box) meets(c *box) bool {
	return b.src.meets(c.src) && b.dst.meets(c.dst) && b.dstPorts.meets(c.dstPorts) && b.srcPorts.meets(c.srcPorts) &&
		b.shows&c.shows != 0 && !b.protocols.and(c.protocols).empty() &&
		b.links&c.links != 0 && b.stages&c.stages != 0 && b.names.meets(c.names)
}

// contains reports whether every point of c, of the same direction and
// family, is in the box.
func (b *box) contains(c *box) bool {
	return b.src.contains(c.src) && b.dst.contains(c.dst) && b.dstPorts.contains(c.dstPorts) && b.srcPorts.contains(c.srcPorts) &&
		c.shows&^b.shows == 0 && c.protocols.minus(b.protocols).empty() &&
		c.links&^b.links == 0 && c.stages&^b.stages == 0 && b.names.contains(c.names)
}

// and returns the common packets of two boxes of one direction and family; ok
// is false when there are none.
func (b *box) and(c *box) (d box, ok bool) {
	if !b.meets(c) {
		return d, false
	}
	d = *b
	d.src, d.dst = b.src.and(c.src), b.dst.and(c.dst)
	d.srcPorts, d.dstPorts = b.srcPorts.and(c.srcPorts), b.dstPorts.and(c.dstPorts)
	d.protocols, d.names = b.protocols.and(c.protocols), b.names.and(c.names)
	d.shows &= c.shows
	d.links &= c.links
	d.stages &= c.stages
	return d, d.settle()
}

// minus appends the packets of b that are not in c, of the same direction and
// family, as boxes that have nothing in common.
func (b *box) minus(c *box, out []box) []box {
	if !b.meets(c) {
		return append(out, *b)
	}
	rest := *b // what is left lies within c in all dimensions so far
	emit := func(piece box) {
		if piece.settle() {
			out = append(out, piece)
		}
	}
	for d := range dimensions {
		for _, upper := range []bool{false, true} {
			k := cut{d, c, upper}
			if k.splits(&rest) {
				in, outside := k.apart(&rest)
				emit(outside)
				rest = in
			}
		}
	}
	return out
}

// size returns roughly the logarithm to base 2 of the number of points.
func (b *box) size() int {
	some := 0
	if b.names.others {
		some = 8
	}
	return some + b.src.hi.minus(b.src.lo).len() + b.dst.hi.minus(b.dst.lo).len() +
		bits.Len16(b.srcPorts.hi-b.srcPorts.lo) + bits.Len16(b.dstPorts.hi-b.dstPorts.lo) +
		bits.Len(uint(b.protocols.len())) + bits.OnesCount8(uint8(b.shows)) + bits.OnesCount8(uint8(b.links)) + bits.OnesCount8(uint8(b.stages))
}
