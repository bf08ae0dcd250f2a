package rules

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Bounds of what one filter stands for once it is spelt out.
const (
	MaxExpansion = 1 << 14 // pairs of sides
	MaxAddresses = 64      // of one name or dynamic side; any beyond are left out
)

// Addresses is what names and dynamic sides stand for at a time. Addresses
// that are no unicast addresses are left out.
type Addresses struct {
	Names           map[string][]netip.Addr // by the names that Needs returns
	DNSServers      []netip.Addr
	DHCPServers     []netip.Addr
	DefaultGateways []netip.Addr
}

// of returns what a dynamic side stands for.
func (a *Addresses) of(s Side) []netip.Addr {
	var out []netip.Addr
	switch s.Kind {
	case SideName:
		out = a.Names[s.Name]
	case SideDNSServers:
		out = a.DNSServers
	case SideDHCPServers:
		out = a.DHCPServers
	case SideDefaultGateway:
		out = a.DefaultGateways
	}
	return out[:min(len(out), MaxAddresses)]
}

// expander spells out filters.
type expander struct {
	names     *names
	addresses Addresses
	sets      map[string]*expansion    // as far as they were asked for
	ends      [2]distinct[filter.Side] // of the filter at hand
}

// expansion is what an address set stands for.
type expansion struct {
	sides   []filter.Side
	count   int  // how many sides at most, whatever dynamic ones stand for
	dynamic bool // it stands for other addresses as time goes
}

func newExpander(n *names, a Addresses) *expander {
	return &expander{names: n, addresses: a, sets: map[string]*expansion{}}
}

// add appends what a side stands for.
func (x *expander) add(to *distinct[filter.Side], s Side) {
	switch s.Kind {
	case SideFixed:
		to.add(s.Fixed)
		return
	case SideSet:
		for _, m := range x.set(s.Name).sides {
			to.add(m)
		}
		return
	}
	for _, a := range x.addresses.of(s) {
		if side := filter.Address(a.Unmap().WithZone("")); unicast(side) {
			to.add(side)
		}
	}
}

func unicast(s filter.Side) bool {
	problem, _ := checkUnicast(s, "")
	return problem == "" && s.First().IsValid()
}

// set returns what an address set stands for.
func (x *expander) set(name string) *expansion {
	if known := x.sets[name]; known != nil {
		return known
	}
	var sides distinct[filter.Side]
	members := x.names.sets[name].Members
	for _, m := range members {
		x.add(&sides, m)
	}
	out := &expansion{sides.list, x.count(members), x.dynamic(members)}
	x.sets[name] = out
	return out
}

// count returns how many filter.Side sides stand for at most.
func (x *expander) count(sides []Side) int {
	n := 0
	for _, s := range sides {
		switch {
		case s.Kind == SideSet:
			n += x.set(s.Name).count
		case s.Dynamic():
			n += MaxAddresses
		default:
			n++
		}
	}
	return min(n, 1<<20) // which is too many already, and two such have a product
}

// dynamic reports whether sides stand for other addresses as time goes.
func (x *expander) dynamic(sides []Side) bool {
	return slices.ContainsFunc(sides, func(s Side) bool {
		return s.Dynamic() || s.Kind == SideSet && x.set(s.Name).dynamic
	})
}

// selector returns the filter between two sides.
func (f *Filter) selector(from, to filter.Side) filter.Selector {
	return filter.Selector{
		From: from, To: to,
		Protocol: f.Protocol, HasProtocol: f.HasProtocol,
		FromPort: f.FromPort, ToPort: f.ToPort,
		ICMP: f.ICMP,
	}
}

// selectors returns the selectors that a filter stands for. They are good
// until the next call.
func (x *expander) selectors(f *Filter) []filter.Selector {
	var out []filter.Selector
	x.each(f, func(from, to filter.Side) { out = append(out, f.selector(from, to)) })
	return out
}

// each calls do for each pair of sides that a filter stands for and a packet
// can go between.
func (x *expander) each(f *Filter, do func(from, to filter.Side)) {
	for i, sides := range [...][]Side{f.From, f.To} {
		x.ends[i].reset()
		for _, s := range sides {
			x.add(&x.ends[i], s)
		}
	}
	for _, from := range x.ends[0].list {
		for _, to := range x.ends[1].list {
			if f.possible(from, to) {
				do(from, to)
			}
		}
	}
}

// possible reports whether a packet of the filter can go from one side to
// another.
func (f *Filter) possible(from, to filter.Side) bool {
	has := func(v6 bool) bool {
		return (from.Kind() != filter.SideAddresses || from.First().Is6() == v6) &&
			(to.Kind() != filter.SideAddresses || to.First().Is6() == v6)
	}
	switch {
	case from.Kind() == filter.SideMe && to.Kind() == filter.SideMe:
		return false
	case f.HasProtocol && f.Protocol == packet.ICMP:
		return has(false)
	case f.HasProtocol && f.Protocol == packet.ICMPv6:
		return has(true)
	}
	return has(false) || has(true)
}

// everywhere is the connections of a rule that names none.
var everywhere = []filter.Connection{{}}

// appendEntries appends the entries of a filter, on each of the connections.
// What they share is in e.
func (x *expander) appendEntries(out []filter.Entry, f *Filter, e filter.Entry, on []filter.Connection) []filter.Entry {
	e.Mirrored, e.Stateful = f.Mirrored, f.Stateful
	e.Options.Log, e.Options.Limit = f.Log, f.Limit
	if len(on) == 0 {
		on = everywhere
	}
	x.each(f, func(from, to filter.Side) {
		e.Selector = f.selector(from, to)
		for _, e.Selector.Connection = range on {
			out = append(out, e)
		}
	})
	return out
}

// place writes positions of a file.
type place struct {
	prefix int
	text   []byte
}

func placeIn(path string) *place {
	return &place{len(path) + 1, append([]byte(path), ':')}
}

func (p *place) at(x Position) string {
	p.text = strconv.AppendInt(p.text[:p.prefix], int64(x.Line), 10)
	p.text = append(p.text, ':')
	p.text = strconv.AppendInt(p.text, int64(x.Column), 10)
	return string(p.text)
}
