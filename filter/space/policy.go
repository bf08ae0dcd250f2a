package space

import (
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Policy is an SPD as a series of packet sets, of which the first that holds
// a packet decides. It is immutable, and safe for concurrent use.
type Policy struct {
	spd     *filter.SPD
	planes  [planes]plane
	filters func() []int32 // for each entry, a number that it shares with those of the same filter
}

// plane is a policy for packets of one direction and family.
type plane struct {
	spd    *filter.SPD
	whole  box     // every packet of the direction and family
	layers []layer // in order of decision; what none has is permitted
	at     []int32 // the layer of each half, -1 for none
	tree   func() *tree
	asked  atomic.Int32 // how often the tree could have helped
}

// layer is the packets that one half of an entry matches, or one exemption.
type layer struct {
	box
	half int32 // twice the entry's place in the SPD, and one for the mirrored half; for an exemption none of them
}

// The exemptions that a policy chooses, in place of a layer's half.
const (
	exemptMulticast int32 = -1 - iota
	exemptRSVP
	exemptKerberos
	exemptKerberosReply
)

// filterKey tells the filters of a rule file apart. One of them can have
// become several entries.
type filterKey struct {
	name, list string
	index      int
}

// Compile makes the policy of an SPD.
func Compile(s *filter.SPD) *Policy {
	p := &Policy{spd: s}
	var compiling sync.WaitGroup
	for _, d := range filter.Directions {
		compiling.Go(func() { p.compile(d) })
	}
	p.filters = sync.OnceValue(func() []int32 { return numberFilters(s.Entries()) })
	compiling.Wait()
	return p
}

// numberFilters gives each entry a number that it shares with those of its filter.
func numberFilters(entries []*filter.Entry) []int32 {
	numbers := make(map[filterKey]int32, len(entries))
	out := make([]int32, len(entries))
	for i, e := range entries {
		k := filterKey{e.Name, e.List, e.Index}
		n, ok := numbers[k]
		if !ok {
			n = int32(len(numbers))
			numbers[k] = n
		}
		out[i] = n
	}
	return out
}

// compile makes the planes of a direction.
func (p *Policy) compile(d filter.Direction) {
	entries := p.spd.Entries()
	for _, v6 := range []bool{false, true} {
		all := whole(d, v6)
		l := &p.planes[all.plane()]
		l.spd, l.whole, l.layers = p.spd, all, exempt(p.spd.Settings().Exemptions, d, v6)
		l.layers = slices.Grow(l.layers, halves(entries, d, v6))
		l.tree = sync.OnceValue(func() *tree { return newTree(l.layers, 0) })
		l.at = make([]int32, 2*len(entries))
		for i := range l.at {
			l.at[i] = -1
		}
	}
	for i := range entries {
		if entries[i].Forward != (d == filter.Forward) {
			continue
		}
		for half := int32(2 * i); half <= int32(2*i+1); half++ {
			h, ok := entries[i].Half(d, half&1 != 0)
			if !ok {
				continue
			}
			for _, v6 := range []bool{false, true} {
				if b, ok := boxOf(d, &h, v6); ok {
					l := &p.planes[b.plane()]
					l.at[half] = int32(len(l.layers))
					l.layers = append(l.layers, layer{b, half})
				}
			}
		}
	}
}

// halves returns how many halves of the entries apply to a direction and
// family, or somewhat more.
func halves(entries []*filter.Entry, d filter.Direction, v6 bool) (n int) {
	for _, e := range entries {
		from, to := &e.Selector.From, &e.Selector.To
		if e.Forward != (d == filter.Forward) || other(from, v6) || other(to, v6) {
			continue
		}
		if d == filter.Inbound {
			from, to = to, from
		}
		if to.Kind() != filter.SideMe {
			n++
		}
		if e.Mirrored && from.Kind() != filter.SideMe {
			n++
		}
	}
	return n
}

// other reports whether a side is addresses of the other family.
func other(s *filter.Side, v6 bool) bool {
	return s.Kind() == filter.SideAddresses && s.First().Is6() != v6
}

// exempt returns what the exemptions that a policy chooses let pass before
// any filter.
func exempt(x filter.Exemptions, d filter.Direction, v6 bool) (out []layer) {
	if d == filter.Forward {
		return nil
	}
	add := func(what int32, change func(b *box)) {
		b := whole(d, v6)
		change(&b)
		if b.settle() {
			out = append(out, layer{b, what})
		}
	}
	if x.Multicast && d == filter.Outbound {
		groups := []netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32")}
		if v6 {
			groups = []netip.Prefix{netip.MustParsePrefix("ff00::/8")}
		}
		for _, g := range groups {
			side := filter.Subnet(g)
			add(exemptMulticast, func(b *box) { b.dst = addresses{numberOf(side.First()), numberOf(side.Last())} })
		}
	}
	if x.RSVP {
		add(exemptRSVP, func(b *box) { b.protocols = one(filter.RSVP) })
	}
	if x.Kerberos {
		port := ports{filter.KerberosPort, filter.KerberosPort}
		both := one(packet.TCP).or(one(packet.UDP))
		add(exemptKerberos, func(b *box) { b.protocols, b.shows, b.dstPorts = both, showPorts, port })
		add(exemptKerberosReply, func(b *box) {
			b.protocols, b.shows, b.srcPorts, b.stages = both, showPorts, port, stageAnswer
		})
	}
	return out
}

// entry returns the entry of a layer, nil for an exemption.
func (p *Policy) entry(l *layer) *filter.Entry {
	if l.half < 0 {
		return nil
	}
	return p.spd.Entries()[l.half/2]
}

// decision returns what the layer at a place decides. The place after the
// last layer is where no filter matches.
func (l *plane) decision(at int) filter.Decision {
	if at == len(l.layers) {
		return filter.Decision{Action: filter.Permit}
	}
	half := l.layers[at].half
	if half < 0 {
		s := l.layers[at].pick(first)
		return l.spd.Decide(s.Context, &s.Packet)
	}
	e := l.spd.Entries()[half/2]
	return filter.Decision{Action: e.Action, Entry: e, Mirror: half&1 != 0}
}

// multicast returns what is decided about multicast and broadcast that the
// host sends; ok is false when filters judge it.
func (p *Policy) multicast() (d filter.Decision, ok bool) {
	for k := range p.planes {
		if l := &p.planes[k]; len(l.layers) > 0 && l.layers[0].half == exemptMulticast {
			return l.decision(0), true
		}
	}
	return d, false
}

// box returns the packets that the layer at a place matches, of those of b.
func (l *plane) box(at int, b *box) (box, bool) {
	if at == len(l.layers) {
		return *b, true
	}
	return l.layers[at].and(b)
}

// fewQueries is how often all layers are looked at before that takes longer
// than to make the tree.
const fewQueries = 32

// find returns the places before another whose layers meet b, in ascending
// order.
func (l *plane) find(b *box, before int) (out []int32) {
	before = min(before, len(l.layers))
	if len(l.layers) > fewQueries && l.asked.Add(1) > fewQueries {
		return l.tree().find(b, 0, before, nil)
	}
	for at := range l.layers[:before] {
		if l.layers[at].meets(b) {
			out = append(out, int32(at))
		}
	}
	return out
}

// covers returns the layers before a place that meet b.
func (l *plane) covers(b *box, before int) (out []*box) {
	for _, at := range l.find(b, before) {
		out = append(out, &l.layers[at].box)
	}
	return out
}

// everything is a place after every layer.
const everything = math.MaxInt32
