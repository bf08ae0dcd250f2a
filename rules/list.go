package rules

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// readLists reads "filter-lists".
func (r *reader) readLists(n *node) []List {
	const write = "filter-lists: {NAME: [{from: any, to: me}]}"
	if n.kind != mapping {
		r.report(n.at, fmt.Sprintf(`"filter-lists" must be a mapping, not %s`, n.kind), "write "+write)
		return nil
	}
	if len(n.fields) == 0 {
		r.report(n.at, `"filter-lists" defines no list`, "write "+write)
	}
	var lists []List
	for _, f := range r.unique(n, `"filter-lists"`) {
		if !r.checkName(f.at, f.key, "a filter list") {
			continue
		}
		l := List{Name: f.key, Position: f.at}
		if f.value.kind == empty {
			r.report(f.at, fmt.Sprintf("filter list %q has no filters", f.key), "write a list below it, as in - {from: any, to: me}")
			continue
		}
		r.readList(f.value, fmt.Sprintf("filter list %q", f.key), "at least one filter, as in - {from: any, to: me}", func(_ int, v *node) {
			l.Filters = append(l.Filters, r.readFilter(v))
		})
		lists = append(lists, l)
	}
	return lists
}

// readFilter reads one filter. What is wrong in one key is said there; what
// is wrong between keys only when each for itself is right.
func (r *reader) readFilter(n *node) Filter {
	f := Filter{Mirrored: true, Position: n.at}
	s := &f.Selector
	var protocol, toPort, fromPort, to *node
	before := len(r.list)
	r.readMapping(n, "a filter", []key{
		{"from", "from: any, from: me, from: ADDRESS, from: SUBNET or from: FIRST-LAST", true, func(v *node) { r.readSide(v, "from", &s.From) }},
		{"to", "to: any, to: me, to: ADDRESS, to: SUBNET or to: FIRST-LAST", true, func(v *node) { to = v; r.readSide(v, "to", &s.To) }},
		{"protocol", "protocol: tcp, or remove the key for any protocol", false, func(v *node) { protocol = v; r.readProtocol(v, s) }},
		{"from-port", "from-port: 1024-65535, or remove the key for any port", false, func(v *node) { fromPort = v; r.readPorts(v, "from-port", &s.FromPort) }},
		{"to-port", "to-port: 443, or remove the key for any port", false, func(v *node) { toPort = v; r.readPorts(v, "to-port", &s.ToPort) }},
		{"mirrored", "mirrored: true, or remove the key", false, func(v *node) { r.readBool(v, "mirrored", &f.Mirrored) }},
		{"description", "description: TEXT, or remove the key", false, func(v *node) {
			f.Description, _ = r.readText(v, `"description"`, "description: TEXT, or remove the key")
		}},
	})
	for _, p := range []struct {
		at   *node
		name string
	}{{fromPort, "from-port"}, {toPort, "to-port"}} {
		switch {
		case p.at == nil:
		case protocol == nil:
			r.report(p.at.at, fmt.Sprintf("%q needs a protocol that has ports", p.name), "add protocol: tcp or protocol: udp")
		case s.HasProtocol && !packet.HasPorts(s.Protocol):
			r.report(p.at.at, fmt.Sprintf("protocol %s has no ports", filter.ProtocolName(s.Protocol)), fmt.Sprintf("remove %q, or write protocol: tcp, udp, sctp or udplite", p.name))
		}
	}
	if len(r.list) == before {
		r.checkSelector(*s, to, protocol, n)
	}
	return f
}

// checkSelector reports a selector that no packet matches, though each of
// its keys is right.
func (r *reader) checkSelector(s filter.Selector, to, protocol, n *node) {
	from4, from6 := family(s.From)
	to4, to6 := family(s.To)
	switch {
	case s.From.Kind() == filter.SideMe && s.To.Kind() == filter.SideMe:
		r.report(to.at, "a host has no policy for what it sends to itself, and this filter matches nothing", `write the other side, as in from: any or from: 10.1.0.0/16`)
		return
	case !(from4 && to4) && !(from6 && to6):
		r.report(to.at, fmt.Sprintf("%s and %s are of different families, and no packet has both", s.From, s.To), "write two IPv4 sides or two IPv6 sides, each in a filter of its own")
		return
	case s.HasProtocol && s.Protocol == packet.ICMP && !(from4 && to4):
		r.report(protocol.at, "icmp is the protocol of IPv4, and a side is IPv6", "write protocol: icmpv6")
		return
	case s.HasProtocol && s.Protocol == packet.ICMPv6 && !(from6 && to6):
		r.report(protocol.at, "icmpv6 is the protocol of IPv6, and a side is IPv4", "write protocol: icmp")
		return
	}
	if err := s.Check(); err != nil {
		problem, hint, _ := strings.Cut(strings.TrimPrefix(err.Error(), filter.ErrSelector.Error()+": "), "; ")
		if !errors.Is(err, filter.ErrSelector) || hint == "" {
			hint = "write it as a filter that a packet can match"
		}
		r.report(n.at, problem, hint)
	}
}

// family returns which families a side has addresses of.
func family(s filter.Side) (v4, v6 bool) {
	if s.Kind() != filter.SideAddresses {
		return true, true
	}
	return s.First().Is4(), s.First().Is6()
}
