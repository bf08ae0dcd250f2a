package rules

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// matchKeys say which packets a filter matches. Assertions have them too.
var matchKeys = table[Filter]{
	{name: "from", about: "the hosts that send", write: "from: " + writeSide, required: true,
		value: ends(func(f *Filter) *[]Side { return &f.From })},
	{name: "to", about: "the hosts that receive", write: "to: " + writeSide, required: true,
		value: ends(func(f *Filter) *[]Side { return &f.To })},
	{name: "protocol", about: "the upper-layer protocol, by keyword or number; any if missing", write: "protocol: tcp, or remove the key for any protocol",
		value: value[Filter]{read: func(r *reader, n *node, _ keyed, f *Filter) { r.readProtocol(n, f) }, describe: describeProtocol}},
	{name: "from-port", about: "the sender's port or ports LOW-HIGH; any if missing", write: "from-port: 1024-65535, or remove the key for any port",
		value: ports(func(f *Filter) *filter.PortRange { return &f.FromPort })},
	{name: "to-port", about: "the receiver's port or ports LOW-HIGH; any if missing", write: "to-port: 443, or remove the key for any port",
		value: ports(func(f *Filter) *filter.PortRange { return &f.ToPort })},
	{name: "icmp-type", about: "the ICMP message, by keyword or number; any if missing", write: "icmp-type: echo-request, or remove the key for any message",
		value: value[Filter]{read: afterwards, describe: describeICMPType}},
	{name: "icmp-code", about: "the code of the ICMP message; any if missing", write: "icmp-code: 0, or remove the key for any code",
		value: value[Filter]{read: afterwards, describe: func(*definitions) *schema { return numbers(0, 255) }}},
	{name: "mirrored", about: "whether the answers match too; true if missing", write: "mirrored: true, or remove the key",
		value: boolean(func(f *Filter) *bool { return &f.Mirrored })},
}

var descriptionKey = key[Filter]{name: "description", about: "a text for people", write: "description: TEXT, or remove the key",
	value: text(func(f *Filter) *string { return &f.Description })}

// filterKeys are those of a filter of a list.
var filterKeys = append(matchKeys[:len(matchKeys):len(matchKeys)],
	key[Filter]{name: "stateful", about: "whether only connections that the sender begins match; needs an action that permits", write: "stateful: true, or remove the key",
		value: boolean(func(f *Filter) *bool { return &f.Stateful })},
	key[Filter]{name: "log", about: "whether to report the packets under the rule's name", write: "log: true, or remove the key",
		value: boolean(func(f *Filter) *bool { return &f.Log })},
	key[Filter]{name: "limit", about: "the rate of packets beyond which they are dropped; needs an action that permits", write: writeLimit,
		value: limits(func(f *Filter) *filter.Limit { return &f.Limit })},
	descriptionKey,
)

// afterwards leaves a value to the check of the keys together.
func afterwards(*reader, *node, keyed, *Filter) {}

const writeFilter = "at least one filter, as in - {from: any, to: me}"

func filterLists[T any](of func(*T) *[]List) value[T] {
	return value[T]{
		read:     func(r *reader, n *node, k keyed, into *T) { *of(into) = r.readLists(n, k) },
		describe: func(d *definitions) *schema { return mapOf(describeFilters(d)) },
	}
}

func describeFilters(d *definitions) *schema {
	return listOf(d.of("filter", func() *schema { return filterKeys.describe(d) }))
}

// readLists reads "filter-lists".
func (r *reader) readLists(n *node, k keyed) []List {
	var lists []List
	r.readDefinitions(n, k, "filter list", "has no filters", "write a list below it, as in - {from: any, to: me}", func(f field) {
		l := List{Name: f.key, Position: f.at, Filters: make([]Filter, 0, len(f.value.items))}
		r.readList(f.value, fmt.Sprintf("filter list %q", f.key), writeFilter, func(v *node) {
			l.Filters = append(l.Filters, Filter{})
			f := &l.Filters[len(l.Filters)-1]
			readFilter(r, v, "a filter", filterKeys, f, f)
		})
		lists = append(lists, l)
	})
	return lists
}

// readFilter reads a filter, which is or is part of a T. What is wrong in one
// key is said there; what is wrong between keys only when each for itself is
// right.
func readFilter[T any](r *reader, n *node, what string, keys table[T], into *T, f *Filter) {
	f.Mirrored, f.Position = true, n.at
	before := len(r.list)
	if !keys.read(r, n, what, into) {
		return
	}
	r.checkPorts(n, f)
	r.checkICMP(n, f)
	if len(r.list) == before {
		r.checkEnds(n, f)
	}
}

// checkPorts reports ports of a protocol that has none.
func (r *reader) checkPorts(n *node, f *Filter) {
	for _, name := range []string{"from-port", "to-port"} {
		at := n.get(name)
		switch {
		case at == nil:
		case n.get("protocol") == nil:
			r.report(at.at, fmt.Sprintf("%q needs a protocol that has ports", name), "add protocol: tcp or protocol: udp")
		case f.HasProtocol && !packet.HasPorts(f.Protocol):
			r.report(at.at, fmt.Sprintf("protocol %s has no ports", filter.ProtocolName(f.Protocol)), fmt.Sprintf("remove %q, or write protocol: tcp, udp, sctp or udplite", name))
		}
	}
}

// checkEnds reports ends between which no packet goes, though each of them
// is right.
func (r *reader) checkEnds(n *node, f *Filter) {
	from, to := n.get("from"), n.get("to")
	if len(f.From) == 1 && len(f.To) == 1 {
		if problem, hint := impossible(f, f.From[0], f.To[0]); problem != "" {
			at := to.at
			if f.HasProtocol && (f.Protocol == packet.ICMP || f.Protocol == packet.ICMPv6) && strings.HasPrefix(problem, "icmp") {
				at = n.get("protocol").at
			}
			r.report(at, problem, hint)
			return
		}
		if f.From[0].Kind == SideFixed && f.To[0].Kind == SideFixed {
			r.checkSelector(n.at, f.selector(f.From[0].Fixed, f.To[0].Fixed))
			return
		}
	} else if !r.checkItems(from, f, f.From, f.To, false) || !r.checkItems(to, f, f.To, f.From, true) {
		return
	}
	x := *f
	r.later = append(r.later, func(e *expander) { r.checkExpansion(e, &x) })
}

// checkItems reports the items of a list that fit nothing at the other end.
func (r *reader) checkItems(n *node, f *Filter, sides, others []Side, swap bool) bool {
	ok := true
	for i, s := range sides {
		at := n.at
		if n.kind == sequence {
			at = n.items[i].at
		}
		problem, hint := "", ""
		for _, o := range others {
			a, b := s, o
			if swap {
				a, b = o, s
			}
			if problem, hint = impossible(f, a, b); problem == "" {
				break
			}
		}
		if problem != "" {
			r.report(at, problem, hint)
			ok = false
		}
	}
	return ok
}

// impossible says why no packet of a filter goes from one side to another.
// Sides whose addresses are not in the filter may always fit.
func impossible(f *Filter, from, to Side) (problem, hint string) {
	from4, from6 := families(from)
	to4, to6 := families(to)
	switch {
	case from.Kind == SideFixed && from == to && from.Fixed.Kind() == filter.SideMe:
		return "a host has no policy for what it sends to itself, and this filter matches nothing", `write the other side, as in from: any or from: 10.1.0.0/16`
	case !(from4 && to4) && !(from6 && to6):
		return fmt.Sprintf("%s and %s are of different families, and no packet has both", from, to), "write two IPv4 sides or two IPv6 sides, each in a filter of its own"
	case f.HasProtocol && f.Protocol == packet.ICMP && !(from4 && to4):
		return "icmp is the protocol of IPv4, and a side is IPv6", "write protocol: icmpv6"
	case f.HasProtocol && f.Protocol == packet.ICMPv6 && !(from6 && to6):
		return "icmpv6 is the protocol of IPv6, and a side is IPv4", "write protocol: icmp"
	}
	return "", ""
}

// families returns which families a side may have addresses of.
func families(s Side) (v4, v6 bool) {
	if s.Kind != SideFixed || s.Fixed.Kind() != filter.SideAddresses {
		return true, true
	}
	return s.Fixed.First().Is4(), s.Fixed.First().Is6()
}

// checkSelector reports a selector that an SPD refuses.
func (r *reader) checkSelector(at Position, s filter.Selector) bool {
	err := s.Check()
	if err == nil {
		return true
	}
	problem, hint, _ := strings.Cut(strings.TrimPrefix(err.Error(), filter.ErrSelector.Error()+": "), "; ")
	if !errors.Is(err, filter.ErrSelector) || hint == "" {
		hint = "write it as a filter that a packet can match"
	}
	r.report(at, problem, hint)
	return false
}

// checkExpansion reports a filter that is too many filters once its lists and
// sets are spelt out, or none.
func (r *reader) checkExpansion(x *expander, f *Filter) {
	from, to := x.count(f.From), x.count(f.To)
	if from*to > MaxExpansion {
		r.report(f.Position, fmt.Sprintf("the filter stands for %d pairs of sides, counting %d addresses for each name and dynamic side", from*to, MaxAddresses),
			fmt.Sprintf("write filters or sets of subnets that make at most %d", MaxExpansion))
		return
	}
	any := x.dynamic(f.From) || x.dynamic(f.To)
	for _, s := range x.selectors(f) {
		if !r.checkSelector(f.Position, s) {
			return
		}
		any = true
	}
	if !any {
		r.report(f.Position, "no packet goes between the ends of this filter: their addresses are of different families", "write ends that have addresses of the same family")
	}
}
