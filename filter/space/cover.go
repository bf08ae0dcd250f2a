package space

import (
	"errors"
	"slices"
)

// ErrUndecided says that a question would take more work than is allowed, so
// that there is neither a proof nor a counterexample.
var ErrUndecided = errors.New("undecided: the filters overlap in too many ways; use fewer ranges, or subnets that do not cross")

// maxWork bounds a question's work, in comparisons of two boxes: about two
// seconds.
const maxWork = 100_000_000

// search looks for packets that are in one box and in none of others.
type search struct {
	work int              // comparisons that may still be made
	hit  func(cover *box) // if set, is told of covers that proofs rest on
}

// uncovered returns a part of r that none of the covers meets; ok is false
// when they cover every packet of r. All are of one direction and family. It
// halves r along the borders of its covers until each part is in one of them,
// or none is in its way.
func (s *search) uncovered(r box, covers []*box) (part box, ok bool, err error) {
	if !r.settle() {
		return r, false, nil
	}
	if s.work -= len(covers) + 1; s.work < 0 {
		return r, false, ErrUndecided
	}
	var meeting []*box
	for _, c := range covers {
		if !c.meets(&r) {
			continue
		}
		if c.contains(&r) {
			if s.hit != nil {
				s.hit(c)
			}
			return r, false, nil
		}
		if meeting == nil {
			meeting = make([]*box, 0, min(len(covers), 64))
		}
		meeting = append(meeting, c)
	}
	if len(meeting) == 0 {
		return r, true, nil
	}
	if len(meeting) <= 4 {
		return s.besides(r, meeting)
	}
	in, out := halve(&r, meeting)
	// The part that fewer covers meet is the more likely to have a gap.
	if count(&in, meeting) < count(&out, meeting) {
		in, out = out, in
	}
	if part, ok, err := s.uncovered(out, meeting); ok || err != nil {
		return part, ok, err
	}
	return s.uncovered(in, meeting)
}

// besides takes the largest of a few covers out of r, and goes on with the
// pieces and the other covers.
func (s *search) besides(r box, covers []*box) (part box, ok bool, err error) {
	best, size := 0, -1
	for i, c := range covers {
		if common, ok := r.and(c); ok && common.size() > size {
			best, size = i, common.size()
		}
	}
	if s.hit != nil {
		s.hit(covers[best])
	}
	var room [8]box
	pieces := r.minus(covers[best], room[:0])
	rest := slices.Delete(slices.Clone(covers), best, best+1)
	for _, p := range pieces {
		if part, ok, err := s.uncovered(p, rest); ok || err != nil {
			return part, ok, err
		}
	}
	return r, false, nil
}

func count(r *box, covers []*box) (n int) {
	for _, c := range sample(covers) {
		if c.meets(r) {
			n++
		}
	}
	return n
}

// sampled is how many covers a decision about all of them looks at.
const sampled = 31

// sample returns some of the covers, evenly spread.
func sample(covers []*box) []*box {
	if len(covers) <= sampled {
		return covers
	}
	out := make([]*box, sampled)
	for i := range out {
		out[i] = covers[i*len(covers)/sampled]
	}
	return out
}

// halve cuts r along a border of a cover that does not contain it, such that
// both parts meet as few covers as possible.
func halve(r *box, covers []*box) (in, out box) {
	covers = sample(covers)
	best := 2*len(covers) + 1
	var room [2 * sampled]cut
	cuts := room[:0]
	for d := range dimensions {
		cuts = cuts[:0]
		for _, c := range covers {
			for _, upper := range []bool{false, true} {
				k := cut{d, c, upper}
				if k.splits(r) {
					cuts = append(cuts, k)
				}
			}
		}
		if len(cuts) == 0 {
			continue
		}
		slices.SortFunc(cuts, cut.compare)
		k := cuts[len(cuts)/2]
		a, b := k.apart(r)
		x, y := count(&a, covers), count(&b, covers)
		if cost := max(x, y) + min(x, y)/2; cost < best {
			best, in, out = cost, a, b
		}
	}
	return in, out
}
