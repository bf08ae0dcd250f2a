package foreign

import (
	"fmt"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// How far Warnings goes.
const (
	maxWarnings   = 20
	maxFilters    = 1000
	maxWork       = 1 << 22 // rules that it looks at
	maxInterfaces = 4       // between which forwarded packets are tried
)

// Host is what Warnings is told of the host.
type Host struct {
	Addresses  []netip.Addr // its own; the first of each family stands for all
	Interfaces []Interface  // the first is that of the default route
	Mark       uint32       // of the sockets by which the key exchange and ESP go out
	AH         bool         // the policy has AH
}

// Warning says that the table of another owner drops what the policy permits,
// or what the policy needs.
type Warning struct {
	Name  string // of the rule, with List and Index as in filter.Entry
	List  string
	Index int
	Need  string // "IKE", "ESP" or "AH", of what the policy needs; then no filter is named

	Translated bool // it is not dropped but gets another source

	Direction filter.Direction
	Probe     Probe // a packet that is dropped
	Where     Where // what drops it
}

// String writes the warning as a sentence without a full stop.
func (w Warning) String() string {
	what := fmt.Sprintf("rule %q, filter %d of list %q", w.Name, w.Index+1, w.List)
	if w.Need != "" {
		what = w.Need + ", which the policy needs"
	}
	does := "drops it"
	if w.Translated {
		does = "gives it another source"
	}
	return fmt.Sprintf("%s: another table %s %s, as in %s: %s", what, does, w.Direction, w.Probe, w.Where)
}

// Warnings tries a sample packet of each filter that permits, in each
// direction and family that it has, and those of IKE, ESP and AH when a
// filter negotiates. It returns one warning for each of which a sample is dropped.
//
// A sample has the lowest address and port of a range, an address for
// documentation (RFC 5737 and 3849) for any, and TCP where no protocol is
// named. It begins a connection; of a filter's mirrored half it is the answer
// to one. A sample that a weightier filter decides is passed over, and one
// whose fate is unknown gives no warning. At most 20 warnings come of the
// first 1000 filters that permit.
func Warnings(s *filter.SPD, t Tables, h Host) []Warning {
	w := warner{spd: s, tables: t, host: h, left: maxWork}
	for _, v6 := range []bool{false, true} {
		if remote, ok := w.peer(v6); ok {
			w.needs(v6, remote)
		}
	}
	w.filters(filter.Permit)
	return w.warnings
}

// filters tries the samples of all filters of an action.
func (w *warner) filters(action filter.Action) {
	seen := map[Warning]bool{}
	filters := 0
	for _, e := range w.spd.Entries() {
		if e.Action != action {
			continue
		}
		if filters++; filters > maxFilters || len(w.warnings) >= maxWarnings || w.left <= 0 {
			break
		}
		key := Warning{Name: e.Name, List: e.List, Index: e.Index}
		if seen[key] {
			continue
		}
		if x, dropped := w.filter(e); dropped {
			seen[key] = true
			w.warnings = append(w.warnings, x)
		}
	}
}

// warner collects warnings.
type warner struct {
	spd      *filter.SPD
	tables   Tables
	host     Host
	engine   Engine // by which filters that negotiate let packets in
	left     int    // rules to look at
	warnings []Warning
}

// filter tries the samples of a filter.
func (w *warner) filter(e *filter.Entry) (Warning, bool) {
	for _, d := range filter.Directions {
		for _, mirror := range []bool{false, true} {
			half, ok := e.Half(d, mirror)
			if !ok {
				continue
			}
			for _, v6 := range []bool{false, true} {
				p, ok := w.sample(e, &half, d, mirror, v6)
				if !ok {
					continue
				}
				at, dropped := Where{}, false
				if e.Action != filter.Negotiate || d != filter.Inbound {
					p, at, dropped = w.dropped(d, p, half.Connection)
				}
				if e.Action == filter.Negotiate && d != filter.Outbound && !dropped {
					p, at, dropped = w.arrives(d, p)
				}
				if dropped {
					return Warning{Name: e.Name, List: e.List, Index: e.Index, Direction: d, Probe: p, Where: at}, true
				}
			}
		}
	}
	return Warning{}, false
}

// needs tries the packets that a policy that negotiates lives on.
func (w *warner) needs(v6 bool, remote netip.Addr) {
	own, ok := w.own(v6)
	if !ok {
		return
	}
	for _, n := range []struct {
		need     string
		protocol uint8
		port     uint16
	}{{"IKE", packet.UDP, filter.IKEPort}, {"IKE", packet.UDP, filter.NATPort}, {"ESP", packet.ESP, 0}, {"AH", packet.AH, 0}} {
		if n.protocol == packet.AH && !w.host.AH {
			continue
		}
		for _, d := range []filter.Direction{filter.Outbound, filter.Inbound} {
			p := Probe{Src: own, Dst: remote, Protocol: n.protocol, SrcPort: n.port, DstPort: n.port, State: filter.StateNew, Mark: w.host.Mark}
			if d == filter.Inbound {
				p.Src, p.Dst, p.Mark = p.Dst, p.Src, 0
			}
			if w.warned(n.need, d) {
				continue
			}
			if p, at, dropped := w.dropped(d, p, filter.Connection{}); dropped {
				w.warnings = append(w.warnings, Warning{Need: n.need, Direction: d, Probe: p, Where: at})
			}
		}
	}
}

func (w *warner) warned(need string, d filter.Direction) bool {
	for _, x := range w.warnings {
		if x.Need == need && x.Direction == d {
			return true
		}
	}
	return false
}

// peer returns an address with which the policy negotiates.
func (w *warner) peer(v6 bool) (netip.Addr, bool) {
	filters := 0
	for _, e := range w.spd.Entries() {
		if e.Action != filter.Negotiate {
			continue
		}
		if filters++; filters > maxFilters {
			break
		}
		for _, d := range filter.Directions {
			for _, mirror := range []bool{false, true} {
				half, ok := e.Half(d, mirror)
				if !ok {
					continue
				}
				remote := half.Dst
				if d == filter.Inbound {
					remote = half.Src
				}
				if all := w.addresses(remote, false, v6); len(all) > 0 {
					return all[0], true
				}
			}
		}
	}
	return netip.Addr{}, false
}

// own returns the address that stands for the host's.
func (w *warner) own(v6 bool) (netip.Addr, bool) {
	for _, a := range w.host.Addresses {
		if a.Is6() == v6 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Addresses of nobody's.
var documentation = map[bool][]netip.Addr{
	false: {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1")},
	true:  {netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("3fff::1")},
}

// addresses returns samples of a side, the best first. The local side is the
// host's.
func (w *warner) addresses(s filter.Side, local, v6 bool) []netip.Addr {
	own, _ := w.own(v6)
	if s.Kind() == filter.SideAddresses {
		switch {
		case s.First().Is6() != v6:
			return nil
		case local && own.IsValid() && s.Contains(own):
			return []netip.Addr{own}
		}
		return []netip.Addr{s.First(), s.Last()}
	}
	switch {
	case !local:
		return documentation[v6]
	case own.IsValid():
		return []netip.Addr{own}
	}
	return nil
}

// sample returns a packet that the filter decides on; ok is false when none
// is found.
func (w *warner) sample(e *filter.Entry, h *filter.Half, d filter.Direction, mirror, v6 bool) (p Probe, ok bool) {
	p = Probe{Protocol: packet.TCP, SrcPort: 40000, DstPort: 1, ICMPType: 8, State: filter.StateNew}
	if v6 {
		p.ICMPType = 128
	}
	if h.HasProtocol {
		p.Protocol = h.Protocol
	}
	if !h.SrcPorts.Any() {
		p.SrcPort = max(h.SrcPorts.Lo, 1)
	}
	if !h.DstPorts.Any() {
		p.DstPort = max(h.DstPorts.Lo, 1)
	}
	if h.ICMP.HasType {
		p.ICMPType, p.ICMPCode = h.ICMP.Type, h.ICMP.Code
	}
	if mirror {
		p.State = filter.StateReply
	}
	if p.Protocol == packet.ICMP && v6 || p.Protocol == packet.ICMPv6 && !v6 {
		return p, false
	}
	link := w.link(h.Connection)
	c := filter.Context{
		Direction: d, State: p.State,
		Interface: filter.Interface{Name: link.Name, Remote: filter.RemoteLink(link.Type)},
	}
	for _, p.Src = range w.addresses(h.Src, d == filter.Outbound, v6) {
		for _, p.Dst = range w.addresses(h.Dst, d == filter.Inbound, v6) {
			x := packet.Packet{Src: p.Src, Dst: p.Dst, Protocol: p.Protocol, HopLimit: 64}
			if x.HasPorts = packet.HasPorts(p.Protocol); x.HasPorts {
				x.SrcPort, x.DstPort = p.SrcPort, p.DstPort
			}
			if x.HasICMP = p.icmp(); x.HasICMP {
				x.ICMPType, x.ICMPCode = p.ICMPType, p.ICMPCode
			}
			if p.Src != p.Dst && w.spd.Decide(c, &x).Entry == e {
				return p, true
			}
		}
	}
	return p, false
}

// link returns the interface that stands for those of a connection. It is
// unknown when the host has none.
func (w *warner) link(c filter.Connection) Interface {
	for _, i := range w.host.Interfaces {
		if c.Contains(filter.Interface{Name: i.Name, Remote: filter.RemoteLink(i.Type)}) {
			return i
		}
	}
	return Interface{Name: c.Name}
}

// dropped reports whether a packet is dropped on its way through the interface
// of a connection. Of a forwarded one it is not known between which
// interfaces it goes: it must be dropped between all of them.
func (w *warner) dropped(d filter.Direction, p Probe, c filter.Connection) (Probe, Where, bool) {
	link := w.link(c)
	switch d {
	case filter.Inbound:
		p.In = link
	case filter.Outbound:
		p.Out = link
	case filter.Forward:
		return w.droppedBetween(p, link, c != filter.Connection{})
	}
	v, at := w.judge(d, p)
	return p, at, v == Drops
}

// droppedBetween tries the interfaces, with the last of the way given or not.
func (w *warner) droppedBetween(p Probe, last Interface, given bool) (Probe, Where, bool) {
	ways := w.host.Interfaces[:min(len(w.host.Interfaces), maxInterfaces)]
	if len(ways) < 2 {
		ways = []Interface{{}, {}}
	}
	var at Where
	for i := range ways {
		for k := range ways {
			p.In, p.Out = ways[i], ways[k]
			if given {
				p.Out = last
			}
			if i == k || p.In == p.Out && p.In != (Interface{}) {
				continue
			}
			v, where := w.judge(filter.Forward, p)
			if v != Drops {
				return p, where, false
			}
			at = where
		}
	}
	return p, at, at != Where{}
}

// judge judges within what is left of the work.
func (w *warner) judge(d filter.Direction, p Probe) (Verdict, Where) {
	steps := min(maxSteps, w.left)
	before := steps
	v, at := w.tables.judge(d, p, &steps)
	w.left -= before - steps
	return v, at
}
