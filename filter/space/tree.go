package space

import (
	"cmp"
	"math/bits"
	"slices"
)

// tree finds the layers that meet a box (a packed R-tree): neighbours stand
// together, eight at a time in a node, whose hull holds them all.
type tree struct {
	layers []layer
	first  int32    // the place of layers[0]
	levels [][]hull // the lowest has a hull for each layer, in the order of neighbourhoods
}

// hull is the least that holds some layers, in the dimensions that matter.
type hull struct {
	src, dst           addresses
	srcPorts, dstPorts ports
	lowest, highest    int32 // the layers' places
}

const fanOut = 8

// newTree makes the tree of layers that stand from a place on.
func newTree(layers []layer, place int) *tree {
	t := &tree{layers: layers, first: int32(place)}
	level := make([]hull, len(layers))
	for i := range layers {
		b := &layers[i].box
		level[i] = hull{b.src, b.dst, b.srcPorts, b.dstPorts, int32(place + i), int32(place + i)}
	}
	slices.SortFunc(level, func(a, b hull) int { return cmp.Or(cmp.Compare(a.size(), b.size()), a.compare(&b)) })
	t.levels = append(t.levels, level)
	for len(level) > fanOut {
		above := make([]hull, 0, len(level)/fanOut+1)
		for i := 0; i < len(level); i += fanOut {
			h := level[i]
			for _, below := range level[i+1 : min(i+fanOut, len(level))] {
				h.hold(below)
			}
			above = append(above, h)
		}
		level = above
		t.levels = append(t.levels, level)
	}
	return t
}

// size tells boxes of about one size from others, which would spoil each
// other's hulls.
func (h *hull) size() int {
	return (h.src.hi.minus(h.src.lo).len()+h.dst.hi.minus(h.dst.lo).len())<<3 |
		(bits.Len16(h.srcPorts.hi-h.srcPorts.lo)+bits.Len16(h.dstPorts.hi-h.dstPorts.lo))/12
}

// hold widens a hull to hold another.
func (h *hull) hold(o hull) {
	h.src.hold(o.src)
	h.dst.hold(o.dst)
	h.srcPorts.hold(o.srcPorts)
	h.dstPorts.hold(o.dstPorts)
	h.lowest, h.highest = min(h.lowest, o.lowest), max(h.highest, o.highest)
}

func (a *addresses) hold(b addresses) {
	if b.lo.less(a.lo) {
		a.lo = b.lo
	}
	if a.hi.less(b.hi) {
		a.hi = b.hi
	}
}

func (a *ports) hold(b ports) { *a = ports{min(a.lo, b.lo), max(a.hi, b.hi)} }

// compare puts neighbours together: addresses by their bits, of source and
// destination in turn (Z-order), since what is near in both is mostly near in
// this order; then ports, of which there are mostly few to an address.
func (h *hull) compare(o *hull) int {
	order := h.src.lo.compare(o.src.lo)
	if highestDiffering(h.dst.lo, o.dst.lo) > highestDiffering(h.src.lo, o.src.lo) {
		order = h.dst.lo.compare(o.dst.lo)
	}
	return cmp.Or(order, cmp.Compare(h.dstPorts.lo, o.dstPorts.lo), cmp.Compare(h.srcPorts.lo, o.srcPorts.lo))
}

// highestDiffering returns the place of the highest bit in which two numbers differ.
func highestDiffering(a, b number) int { return number{a.hi ^ b.hi, a.lo ^ b.lo}.len() }

// find appends the places from one to before another whose layers meet b, in
// ascending order.
func (t *tree) find(b *box, from, before int, out []int32) []int32 {
	had := len(out)
	top := len(t.levels) - 1
	for i := range t.levels[top] {
		out = t.walk(top, i, b, int32(from), int32(before), out)
	}
	slices.Sort(out[had:])
	return out
}

func (t *tree) walk(level, node int, b *box, from, before int32, out []int32) []int32 {
	h := &t.levels[level][node]
	if h.lowest >= before || h.highest < from || !h.src.meets(b.src) || !h.dst.meets(b.dst) ||
		!h.srcPorts.meets(b.srcPorts) || !h.dstPorts.meets(b.dstPorts) {
		return out
	}
	if level == 0 {
		if t.layers[h.lowest-t.first].meets(b) {
			out = append(out, h.lowest)
		}
		return out
	}
	for i := node * fanOut; i < min(node*fanOut+fanOut, len(t.levels[level-1])); i++ {
		out = t.walk(level-1, i, b, from, before, out)
	}
	return out
}

// around appends the places before another whose layers meet b and have all
// its addresses, in ascending order.
func (t *tree) around(b *box, before int, out []int32) []int32 {
	had := len(out)
	top := len(t.levels) - 1
	for i := range t.levels[top] {
		out = t.walkAround(top, i, b, int32(before), out)
	}
	slices.Sort(out[had:])
	return out
}

func (t *tree) walkAround(level, node int, b *box, before int32, out []int32) []int32 {
	h := &t.levels[level][node]
	if h.lowest >= before || !h.src.contains(b.src) || !h.dst.contains(b.dst) ||
		!h.srcPorts.meets(b.srcPorts) || !h.dstPorts.meets(b.dstPorts) {
		return out
	}
	if level == 0 {
		if t.layers[h.lowest-t.first].meets(b) {
			out = append(out, h.lowest)
		}
		return out
	}
	for i := node * fanOut; i < min(node*fanOut+fanOut, len(t.levels[level-1])); i++ {
		out = t.walkAround(level-1, i, b, before, out)
	}
	return out
}

// holder returns the place of a layer before another that contains b, -1 for
// none.
func (t *tree) holder(b *box, before int) int32 {
	top := len(t.levels) - 1
	for i := range t.levels[top] {
		if at := t.seek(top, i, b, int32(before)); at >= 0 {
			return at
		}
	}
	return -1
}

func (t *tree) seek(level, node int, b *box, before int32) int32 {
	h := &t.levels[level][node]
	if h.lowest >= before || !h.src.contains(b.src) || !h.dst.contains(b.dst) ||
		!h.srcPorts.contains(b.srcPorts) || !h.dstPorts.contains(b.dstPorts) {
		return -1
	}
	if level == 0 {
		if t.layers[h.lowest-t.first].contains(b) {
			return h.lowest
		}
		return -1
	}
	for i := node * fanOut; i < min(node*fanOut+fanOut, len(t.levels[level-1])); i++ {
		if at := t.seek(level-1, i, b, before); at >= 0 {
			return at
		}
	}
	return -1
}
