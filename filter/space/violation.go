package space

import "github.com/ipsecfw/ipsecfw/filter"

// Violation returns a packet of the region whose decision is not allowed; ok
// is false when there is none, which is then proved for every packet of it.
// The error wraps ErrUndecided.
func (p *Policy) Violation(region Set, allowed func(filter.Decision) bool) (found Sample, ok bool, err error) {
	find := search{work: maxWork}
	err = p.each(region, &find, func(l *plane, at int) bool { return !allowed(l.decision(at)) },
		func(l *plane, at int, in term, part *box) bool {
			found, ok = Set{terms: []term{in}}.better(part.pick(likely)), true
			return false
		})
	return found, ok, err
}

// Outcome is the packets of a region that one decision is taken on.
type Outcome struct {
	Decision filter.Decision
	Packets  Set
	Sample   Sample
}

// Outcomes returns the decisions that are taken on packets of a region, at
// most limit of them, the heaviest filter's first. There may be more when it
// returns limit. The error wraps ErrUndecided; the outcomes that come with it
// are real.
func (p *Policy) Outcomes(region Set, limit int) (out []Outcome, err error) {
	find := search{work: maxWork}
	places := map[filter.Decision]int{}
	err = p.each(region, &find, func(*plane, int) bool { return true },
		func(l *plane, at int, in term, part *box) bool {
			d := l.decision(at)
			n, ok := places[d]
			if !ok {
				if len(out) == limit {
					return false
				}
				n = len(out)
				places[d] = n
				out = append(out, Outcome{Decision: d, Sample: part.pick(likely)})
			}
			out[n].Packets.terms = append(out[n].Packets.terms, in)
			return true
		})
	_, exempt := p.multicast()
	for i := range out {
		o := &out[i]
		o.Packets.unicast = exempt && o.Decision.Exempt == ""
		o.Sample = o.Packets.better(o.Sample)
	}
	return out, err
}

// each calls yield for the layers that decide packets of a region, with these
// packets and a part of them, until it returns false. It leaves out layers
// that are not wanted.
func (p *Policy) each(region Set, find *search, wanted func(l *plane, at int) bool, yield func(l *plane, at int, in term, part *box) bool) error {
	for i := range region.terms {
		t := &region.terms[i]
		l := &p.planes[t.plane()]
		places := append(l.find(&t.box, everything), int32(len(l.layers)))
		for _, at := range places {
			if !wanted(l, int(at)) {
				continue
			}
			common, ok := l.box(int(at), &t.box)
			if !ok {
				continue
			}
			var in Set
			in.add(common, t.except, l.covers(&common, int(at)))
			if len(in.terms) == 0 {
				continue
			}
			part, ok, err := find.uncovered(common, in.terms[0].except)
			if err != nil {
				return err
			}
			if ok && !yield(l, int(at), in.terms[0], &part) {
				return nil
			}
		}
	}
	return nil
}
