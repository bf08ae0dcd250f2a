package space

// dimension is one in which a box can be cut.
type dimension uint8

// The dimensions, in the order in which one box is taken out of another: the
// first that differ give the largest pieces. What packets show comes before
// their ports, which are only told apart where all show them.
const (
	byProtocol dimension = iota
	byShows
	bySrcPort
	byDstPort
	byLink
	byName
	byStage
	bySrc
	byDst
	dimensions
)

// cut is a border of a box, along which others are cut in two. In dimensions
// of intervals there is a lower and an upper border, in those of sets only
// one, and with upper none.
type cut struct {
	by    dimension
	of    *box
	upper bool
}

// splits reports whether b has points on both sides of the border.
func (k cut) splits(b *box) bool {
	switch k.by {
	case bySrc:
		return k.splitsAddresses(b.src, k.of.src)
	case byDst:
		return k.splitsAddresses(b.dst, k.of.dst)
	case bySrcPort:
		return (b.shows == showPorts || b.shows == showMessage) && k.splitsPorts(b.srcPorts, k.of.srcPorts)
	case byDstPort:
		return b.shows == showPorts && k.splitsPorts(b.dstPorts, k.of.dstPorts)
	}
	if k.upper {
		return false
	}
	switch k.by {
	case byProtocol:
		return !b.protocols.and(k.of.protocols).empty() && !b.protocols.minus(k.of.protocols).empty()
	case byShows:
		return b.shows&k.of.shows != 0 && b.shows&^k.of.shows != 0
	case byLink:
		return b.links&k.of.links != 0 && b.links&^k.of.links != 0
	case byStage:
		return b.stages&k.of.stages != 0 && b.stages&^k.of.stages != 0
	}
	return b.names != k.of.names && k.of.names != allNames && b.names.meets(k.of.names) && !k.of.names.contains(b.names)
}

func (k cut) splitsAddresses(a, border addresses) bool {
	if k.upper {
		return a.has(border.hi) && a.hi != border.hi
	}
	return a.has(border.lo) && a.lo != border.lo
}

func (k cut) splitsPorts(p, border ports) bool {
	if k.upper {
		return p.lo <= border.hi && border.hi < p.hi
	}
	return p.lo < border.lo && border.lo <= p.hi
}

// apart cuts a box that the border splits: into what is on the side of the
// cut's own box, and what is not.
func (k cut) apart(b *box) (in, out box) {
	in, out = *b, *b
	switch k.by {
	case bySrc:
		k.addresses(k.of.src, &in.src, &out.src)
	case byDst:
		k.addresses(k.of.dst, &in.dst, &out.dst)
	case bySrcPort:
		k.ports(k.of.srcPorts, &in.srcPorts, &out.srcPorts)
	case byDstPort:
		k.ports(k.of.dstPorts, &in.dstPorts, &out.dstPorts)
	case byProtocol:
		in.protocols, out.protocols = b.protocols.and(k.of.protocols), b.protocols.minus(k.of.protocols)
	case byShows:
		in.shows, out.shows = b.shows&k.of.shows, b.shows&^k.of.shows
	case byLink:
		in.links, out.links = b.links&k.of.links, b.links&^k.of.links
	case byStage:
		in.stages, out.stages = b.stages&k.of.stages, b.stages&^k.of.stages
	case byName:
		in.names, out.names = b.names.and(k.of.names), b.names.minus(k.of.names)
	}
	return in, out
}

func (k cut) addresses(border addresses, in, out *addresses) {
	if k.upper {
		in.hi, out.lo = border.hi, border.hi.next()
		return
	}
	in.lo, out.hi = border.lo, border.lo.previous()
}

func (k cut) ports(border ports, in, out *ports) {
	if k.upper {
		in.hi, out.lo = border.hi, border.hi+1
		return
	}
	in.lo, out.hi = border.lo, border.lo-1
}

// compare orders cuts of one dimension along it. In dimensions of sets any
// order will do.
func (k cut) compare(l cut) int {
	switch k.by {
	case bySrc:
		return k.border(k.of.src).compare(l.border(l.of.src))
	case byDst:
		return k.border(k.of.dst).compare(l.border(l.of.dst))
	case bySrcPort:
		return k.port(k.of.srcPorts) - l.port(l.of.srcPorts)
	case byDstPort:
		return k.port(k.of.dstPorts) - l.port(l.of.dstPorts)
	}
	return 0
}

// border returns the first address above the cut.
func (k cut) border(a addresses) number {
	if k.upper {
		return a.hi.next()
	}
	return a.lo
}

// port returns the first port above the cut.
func (k cut) port(p ports) int {
	if k.upper {
		return int(p.hi) + 1
	}
	return int(p.lo)
}
