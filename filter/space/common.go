package space

import (
	"slices"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// wish narrows a box down to packets that are often seen.
type wish struct {
	protocols protocols
	shows     shows
	stages    stages
	port      uint16 // the destination's, 0 for what the box suggests
}

// wishes are in the order in which they are tried.
var wishes = func() (out []wish) {
	for _, kind := range []struct {
		protocols protocols
		shows     shows
		ports     []uint16
	}{
		{one(packet.TCP), showPorts, append(services[:], examplePort)},
		{one(packet.UDP), showPorts, []uint16{53, 123, examplePort}},
		{one(packet.ICMP).or(one(packet.ICMPv6)), showMessage, nil},
		{allProtocols, showAll, nil},
	} {
		for _, s := range []stages{stageBeginning, stageAnswer, stageNeither} {
			for _, p := range append([]uint16{0}, kind.ports...) {
				out = append(out, wish{kind.protocols, kind.shows, s, p})
			}
		}
	}
	return out
}()

// narrow returns the packets of a box that are as wished.
func (w *wish) narrow(b box) (_ box, ok bool) {
	b.protocols = b.protocols.and(w.protocols)
	b.stages &= w.stages
	if b.shows &= w.shows; b.stages == 0 || b.shows == 0 {
		return b, false
	}
	if w.port != 0 {
		if !b.dstPorts.has(w.port) {
			return b, false
		}
		b.dstPorts = ports{w.port, w.port}
	}
	return b, b.settle()
}

// What common looks at: terms, and comparisons of boxes with packets.
const (
	maxTerms = 64
	maxTried = 1_000_000
)

// common returns a packet of the set that is often seen; ok is false when
// there is none among the few that are tried.
func (s Set) common() (packet Sample, ok bool) {
	terms := slices.Clone(s.terms[:min(len(s.terms), maxTerms)])
	for i := range terms {
		terms[i].shrink()
	}
	work := maxTried
	for _, w := range wishes {
		for i := range terms {
			t := &terms[i]
			if work -= len(t.except) + 1; work < 0 {
				return packet, false
			}
			b, ok := w.narrow(t.box)
			if !ok {
				continue
			}
			x := b.pick(likely)
			if b, ok := point(x.Context, &x.Packet); ok && t.has(&b) {
				return x, true
			}
		}
	}
	return packet, false
}

// better returns a packet of the set that is more often seen than x, one of
// the set; with the addresses of x, if no other is known to be in the set.
func (s Set) better(x Sample) Sample {
	if y, ok := s.common(); ok {
		return y
	}
	near, _ := point(x.Context, &x.Packet)
	with := whole(near.direction, near.v6)
	with.src, with.dst = near.src, near.dst
	if y, ok := s.Intersect(Set{terms: []term{{box: with}}}).common(); ok {
		return y
	}
	return x
}
