package space

import (
	"cmp"
	"slices"
)

// maxExpanded bounds how many boxes a box may have taken out of it for
// Simplify to write what is left.
const maxExpanded = 16

// maxMerged bounds the boxes that Simplify joins.
const maxMerged = 20000

// Simplify returns the same set written as shortly as it can: without
// exceptions that others contain, with boxes joined that lie side by side or
// around a small gap, and what is left of a box instead of the box and its
// exceptions where that is shorter. It is in a fixed order. It does not try
// where there are very many.
func (s Set) Simplify() Set {
	kept, expanded := s.simplify(false), s.simplify(true)
	if length := cmp.Compare(len(expanded.terms), len(kept.terms)); length < 0 || length == 0 && expanded.length() < kept.length() {
		return expanded
	}
	return kept
}

// length returns the number of letters that it takes to describe a set.
func (s Set) length() (n int) {
	for i := range s.terms {
		n += len(s.terms[i].String())
	}
	return n
}

// simplify joins boxes. If it may expand boxes it first writes what is left of
// them instead of their exceptions, where that takes no more boxes.
func (s Set) simplify(expand bool) Set {
	var plain []box
	var terms []term
	for _, t := range s.terms {
		if t.shrink(); len(t.except) == 0 {
			plain = append(plain, t.box)
			continue
		}
		if len(t.except) <= maxExpanded {
			left := merge(t.left())
			if len(left) <= 1 || expand && len(left) <= len(t.except) {
				plain = append(plain, left...)
				continue
			}
		}
		t.except = slices.SortedFunc(slices.Values(t.except), (*box).compare)
		terms = append(terms, t)
	}
	for _, b := range merge(plain) {
		terms = append(terms, term{box: b})
	}
	compare := func(a, b term) int { return a.compare(&b) }
	slices.SortFunc(terms, compare)
	out := Set{unicast: s.unicast}
	for len(terms) > 0 {
		n := slices.IndexFunc(terms, func(t term) bool { return t.plane() != terms[0].plane() })
		if n < 0 {
			n = len(terms)
		}
		out.terms = append(out.terms, fold(slices.Clone(terms[:n]))...)
		terms = terms[n:]
	}
	slices.SortFunc(out.terms, compare)
	return out
}

// shrink takes exceptions off a term's box that leave a box of it, and drops
// those that take nothing more out of it than others do.
func (t *term) shrink() {
	if len(t.except) > 4*maxExpanded {
		return
	}
	for again := true; again; {
		again = false
		var kept []*box
		for _, x := range t.except {
			b, ok := t.and(x)
			if !ok || slices.ContainsFunc(kept, func(y *box) bool { return y.contains(&b) }) {
				continue
			}
			if left := t.box.minus(&b, nil); len(left) == 1 {
				t.box, again = left[0], true
				continue
			}
			kept = slices.DeleteFunc(kept, func(y *box) bool { return b.contains(y) })
			kept = append(kept, &b)
		}
		t.except = kept
	}
}

// left returns the packets of a term as boxes that have nothing in common.
func (t *term) left() []box {
	boxes := []box{t.box}
	for _, x := range t.except {
		var next []box
		for i := range boxes {
			next = boxes[i].minus(x, next)
		}
		boxes = next
	}
	return boxes
}

// merge joins boxes that differ in one dimension only.
func merge(boxes []box) []box {
	if len(boxes) > maxMerged {
		return boxes
	}
	for {
		before := len(boxes)
		for d := range dimensions {
			boxes = mergeBy(d, boxes)
		}
		if len(boxes) == before {
			return boxes
		}
	}
}

// mergeBy joins boxes that differ in one dimension. Protocols and what they
// show go together.
func mergeBy(d dimension, boxes []box) []box {
	if len(boxes) < 2 {
		return boxes
	}
	alike := make(map[box][]int, len(boxes))
	var order []box
	for i, b := range boxes {
		switch d {
		case byProtocol:
			b.protocols = protocols{}
		case byShows:
			b.shows, b.protocols = 0, protocols{}
		case bySrcPort:
			b.srcPorts = ports{}
		case byDstPort:
			b.dstPorts = ports{}
		case byLink:
			b.links = 0
		case byName:
			b.names = names{}
		case byStage:
			b.stages = 0
		case bySrc:
			b.src = addresses{}
		case byDst:
			b.dst = addresses{}
		}
		if alike[b] == nil {
			order = append(order, b)
		}
		alike[b] = append(alike[b], i)
	}
	if len(order) == len(boxes) {
		return boxes
	}
	out := make([]box, 0, len(order))
	for _, k := range order {
		first := len(out)
		group := alike[k]
		slices.SortStableFunc(group, func(i, j int) int {
			return cut{by: d, of: &boxes[i]}.compare(cut{by: d, of: &boxes[j]})
		})
		for _, i := range group {
			joined := false
			for n := len(out) - 1; n >= first && !joined; n-- {
				joined = out[n].join(d, &boxes[i])
				if d != byShows {
					break // only the last one can be beside it
				}
			}
			if !joined {
				out = append(out, boxes[i])
			}
		}
	}
	return out
}

// join takes in a box that differs in one dimension and begins no earlier in
// it; it returns false when the two would not be a box.
func (b *box) join(d dimension, c *box) bool {
	switch d {
	case byProtocol:
		b.protocols = b.protocols.or(c.protocols)
	case byShows:
		return b.joinShows(c)
	case bySrcPort:
		return b.srcPorts.join(c.srcPorts)
	case byDstPort:
		return b.dstPorts.join(c.dstPorts)
	case byLink:
		b.links |= c.links
	case byName:
		b.names = b.names.or(c.names)
	case byStage:
		b.stages |= c.stages
	case bySrc:
		return b.src.join(c.src)
	case byDst:
		return b.dst.join(c.dst)
	}
	return true
}

// joinShows takes in a box that differs in protocols and what they show.
func (b *box) joinShows(c *box) bool {
	if b.srcPorts != allPorts || b.dstPorts != allPorts {
		return false
	}
	both, either := b.shows|c.shows, b.protocols.or(c.protocols)
	for _, show := range []struct {
		bit shows
		by  protocols
	}{{showPorts, portProtocols}, {showMessage, messages(b.v6)}, {showNothing, allProtocols}} {
		var have protocols
		for _, x := range []*box{b, c} {
			if x.shows&show.bit != 0 {
				have = have.or(x.protocols.and(show.by))
			}
		}
		if both&show.bit != 0 && have != either.and(show.by) {
			return false
		}
	}
	b.shows, b.protocols = both, either
	return true
}

func (a *addresses) join(b addresses) bool {
	if a.hi.less(b.lo) && a.hi.next() != b.lo {
		return false
	}
	if a.hi.less(b.hi) {
		a.hi = b.hi
	}
	return true
}

func (a *ports) join(b ports) bool {
	if int(b.lo) > int(a.hi)+1 {
		return false
	}
	a.hi = max(a.hi, b.hi)
	return true
}
