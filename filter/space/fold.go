package space

import (
	"cmp"
	"math/bits"
	"slices"
)

// maxFolded bounds the terms of a direction and family that fold looks at.
const maxFolded = 24

// fold writes terms of one direction and family as one box with exceptions,
// two at a time, where that is shorter than both.
func fold(terms []term) []term {
	for again := len(terms) <= maxFolded; again; {
		again = false
		for i := 0; i < len(terms); i++ {
			for j := i + 1; j < len(terms); j++ {
				if joined, ok := terms[i].fold(&terms[j]); ok {
					terms[i], terms = joined, slices.Delete(terms, j, j+1)
					again, j = true, i
				}
			}
		}
	}
	return terms
}

// fold returns the packets of two terms as one. What it leaves out is smaller
// than either, or it would be no exception.
func (t *term) fold(u *term) (joined term, ok bool) {
	if len(t.except)+len(u.except) > 2*maxNamed {
		return joined, false
	}
	joined.box = t.around(&u.box)
	rest := Set{terms: []term{{box: joined.box}}}.Subtract(Set{terms: []term{*t, *u}})
	var except []box
	for i := range rest.terms {
		except = append(except, rest.terms[i].left()...)
	}
	if except = merge(except); len(except) > maxNamed {
		return joined, false
	}
	for i := range except {
		if except[i].size() >= min(t.size(), u.size()) {
			return joined, false
		}
		joined.except = append(joined.except, &except[i])
	}
	joined.shrink()
	return joined, len(joined.String()) < len(t.String())+len(u.String())
}

// around returns the least box that has the packets of two.
func (b *box) around(c *box) box {
	h := *b
	h.src.hold(c.src)
	h.dst.hold(c.dst)
	if h.srcPorts, h.dstPorts = allPorts, allPorts; b.shows == c.shows {
		h.srcPorts, h.dstPorts = b.srcPorts, b.dstPorts
		h.srcPorts.hold(c.srcPorts)
		h.dstPorts.hold(c.dstPorts)
	}
	h.protocols, h.names = b.protocols.or(c.protocols), b.names.or(c.names)
	h.shows |= c.shows
	h.links |= c.links
	h.stages |= c.stages
	return h
}

// compare orders boxes, of direction and family first, and then by addresses:
// large ones come before what is in them.
func (b *box) compare(c *box) int {
	order := cmp.Or(
		cmp.Compare(b.plane(), c.plane()),
		b.src.compare(c.src), b.dst.compare(c.dst), b.protocols.compare(c.protocols),
		b.srcPorts.compare(c.srcPorts), b.dstPorts.compare(c.dstPorts),
		cmp.Compare(c.shows, b.shows), cmp.Compare(c.links, b.links), cmp.Compare(c.stages, b.stages),
		cmp.Compare(b.names.list, c.names.list),
	)
	if order == 0 && b.names != c.names {
		return map[bool]int{true: -1, false: 1}[b.names.others]
	}
	return order
}

func (t *term) compare(u *term) int {
	return cmp.Or(t.box.compare(&u.box), slices.CompareFunc(t.except, u.except, (*box).compare))
}

func (a addresses) compare(b addresses) int { return cmp.Or(a.lo.compare(b.lo), b.hi.compare(a.hi)) }

func (a ports) compare(b ports) int { return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(b.hi, a.hi)) }

// compare puts the set of the lowest protocol first.
func (p protocols) compare(q protocols) int {
	for i := range p {
		if c := cmp.Compare(bits.Reverse64(q[i]), bits.Reverse64(p[i])); c != 0 {
			return c
		}
	}
	return 0
}
