package test

import (
	"fmt"
	"strings"
	"testing"
)

// fieldRow is a field of filters or rules: filters which have it, packets
// that they match, and packets that they do not.
type fieldRow struct {
	name    string
	filters []string
	rule    string // more of the rule
	top     string // more of the file
	match   []string
	other   []string
}

// policy makes a rule of the row's filters, with an action for them and, if
// it is not empty, one for the rest.
func (r fieldRow) policy(f *field, action, rest string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nname: fields\n%s\nfilter-lists:\n  last:\n%s", r.top, f.lastFilters())
	fmt.Fprint(&b, "  tested:\n")
	for _, x := range r.filters {
		fmt.Fprintf(&b, "    - {%s}\n", x)
	}
	path := ""
	if strings.Contains(r.rule, "path: forward") {
		path = ", path: forward"
	}
	if rest != "" {
		fmt.Fprint(&b, "  rest:\n    - {from: any, to: any}\n")
	}
	fmt.Fprintf(&b, "rules:\n  - {name: last, filter-list: last, action: permit%s}\n", path)
	fmt.Fprintf(&b, "  - {name: tested, filter-list: tested, action: %s%s}\n", action, r.rule)
	if rest != "" {
		fmt.Fprintf(&b, "  - {name: rest, filter-list: rest, action: %s%s}\n", rest, path)
	}
	return b.String()
}

// test puts the row's filters in force twice: as the only ones that permit,
// and as the only ones that block.
func (r fieldRow) test(t *testing.T, f *field, d *daemon) {
	t.Run(r.name, func(t *testing.T) {
		d.apply(t, r.policy(f, "permit", "block"))
		f.expect(t, r.match, r.other)
		d.apply(t, r.policy(f, "block", ""))
		f.expect(t, r.other, r.match)
	})
}

// peers is the server, with a daemon, the workstation and the stranger, as a
// field. The names are those of the hosts, with a 6 at the end for IPv6.
func peers(t *testing.T) (s *site, f *field, d *daemon) {
	t.Helper()
	s = newSite(t)
	w, x := s.workstation(t), s.stranger(t)
	f = newField(t)
	f.join(t, s.server, "eth0", map[string]string{"me": server4, "me6": server6})
	f.join(t, w, "eth0", map[string]string{"work": workstation4, "work6": workstation6})
	f.join(t, x, "eth0", map[string]string{"other": stranger4})
	f.join(t, s.gateway, "srv0", map[string]string{"gate": "10.9.0.1", "gate6": "fd00:9::1"})
	return s, f, startDaemon(t, s.server)
}

func TestSides(t *testing.T) {
	_, f, d := peers(t)
	for _, r := range []fieldRow{{
		name: "any and me", filters: []string{"from: any, to: me, protocol: udp, to-port: 9"},
		match: []string{"work me udp 1000 9", "other me udp 1000 9", "work6 me6 udp 1000 9", "me work udp 9 1000"},
		other: []string{"work me udp 9 1000", "me work udp 1000 9", "work6 me6 udp 9 1000"},
	}, {
		name: "an address", filters: []string{"from: 10.1.1.10, to: me"},
		match: []string{"work me udp 1000 9", "me work udp 1000 9", "work me icmp 8 0", "work me tcp 1000 9"},
		other: []string{"other me udp 1000 9", "me other udp 1000 9", "gate me icmp 8 0", "work6 me6 udp 1000 9"},
	}, {
		name: "an IPv6 address", filters: []string{`from: "fd00:1:1::10", to: me`},
		match: []string{"work6 me6 udp 1000 9", "me6 work6 udp 1000 9", "work6 me6 icmpv6 128 0"},
		other: []string{"gate6 me6 udp 1000 9", "work me udp 1000 9", "me6 gate6 tcp 1000 9"},
	}, {
		name: "a subnet", filters: []string{"from: 10.1.2.0/24, to: me"},
		match: []string{"other me udp 1000 9", "me other udp 1000 9"},
		other: []string{"work me udp 1000 9", "gate me udp 1000 9", "me work udp 1000 9"},
	}, {
		name: "an IPv6 subnet", filters: []string{`from: me, to: "fd00:1::/32"`},
		match: []string{"work6 me6 udp 1000 9", "me6 work6 udp 1000 9"},
		other: []string{"gate6 me6 udp 1000 9", "me6 gate6 udp 1000 9"},
	}, {
		name: "a range", filters: []string{"from: 10.1.1.11-10.1.2.66, to: me"},
		match: []string{"other me udp 1000 9", "me other udp 1000 9"},
		other: []string{"work me udp 1000 9", "me work udp 1000 9", "gate me udp 1000 9"},
	}, {
		name: "a list", filters: []string{`from: [10.9.0.1, "fd00:1:1::10", 10.1.2.0/24], to: me`},
		match: []string{"gate me udp 1000 9", "work6 me6 udp 1000 9", "other me udp 1000 9", "me other udp 1000 9"},
		other: []string{"work me udp 1000 9", "gate6 me6 udp 1000 9"},
	}, {
		name: "a set of sets", filters: []string{"from: {set: all}, to: me"},
		top:   "address-sets:\n  all: [{set: staff}, 10.9.0.1]\n  staff: [10.1.1.0/24, \"fd00:1:1::/64\"]",
		match: []string{"work me udp 1000 9", "work6 me6 udp 1000 9", "gate me tcp 1000 9", "me work tcp 1000 9"},
		other: []string{"other me udp 1000 9", "gate6 me6 udp 1000 9"},
	}, {
		name: "another address than ours", filters: []string{"from: 10.1.1.10, to: 10.9.0.77"},
		match: []string{},
		other: []string{"work me udp 1000 9", "me work udp 1000 9"},
	}} {
		r.test(t, f, d)
	}
	d.untroubled(t)
}

func TestProtocolsAndPorts(t *testing.T) {
	_, f, d := peers(t)
	for _, r := range []fieldRow{{
		name: "a protocol by name", filters: []string{"from: any, to: me, protocol: tcp"},
		match: []string{"work me tcp 1000 9", "me work tcp 9 1000", "work6 me6 tcp 1 2"},
		other: []string{"work me udp 1000 9", "work me icmp 8 0", "work6 me6 udp 1000 9"},
	}, {
		name: "a protocol by number", filters: []string{"from: any, to: me, protocol: 253"},
		match: []string{"work me 253", "me work 253", "work6 me6 253"},
		other: []string{"work me gre", "work me udp 1000 9", "me work gre"},
	}, {
		name: "other protocols by name", filters: []string{"from: any, to: me, protocol: gre", "from: any, to: me, protocol: sctp, to-port: 9", "from: any, to: me, protocol: udplite, to-port: 9"},
		match: []string{"work me gre", "me6 work6 gre", "work me sctp 1000 9", "work me udplite 1000 9", "work6 me6 udplite 1000 9"},
		other: []string{"work me 253", "work me sctp 1000 10", "work me udplite 1000 10", "work me udp 1000 9"},
	}, {
		name: "the receiver's port", filters: []string{"from: any, to: me, protocol: tcp, to-port: 443"},
		match: []string{"work me tcp 1000 443", "me work tcp 443 1000", "work6 me6 tcp 1000 443"},
		other: []string{"work me tcp 443 1000", "work me tcp 1000 442", "work me udp 1000 443", "me work tcp 1000 443"},
	}, {
		name: "the sender's port", filters: []string{"from: me, to: any, protocol: udp, from-port: 68"},
		match: []string{"me work udp 68 67", "work me udp 67 68", "me6 work6 udp 68 1"},
		other: []string{"work me udp 68 67", "me work udp 67 68"},
	}, {
		name: "ranges of both ports", filters: []string{"from: any, to: me, protocol: udp, from-port: 1024-2047, to-port: 100-200"},
		match: []string{"work me udp 1024 100", "work me udp 2047 200", "work me udp 1500 127", "me work udp 128 1500", "work6 me6 udp 1024 200"},
		other: []string{"work me udp 1023 100", "work me udp 2048 100", "work me udp 1024 99", "work me udp 1024 201", "me work udp 1500 128"},
	}, {
		name: "not mirrored", filters: []string{"from: me, to: any, protocol: udp, to-port: 9, mirrored: false"},
		match: []string{"me work udp 1000 9", "me6 work6 udp 1000 9"},
		other: []string{"work me udp 9 1000", "work me udp 1000 9", "work6 me6 udp 9 1000"},
	}, {
		name: "an ICMP type by name, and its answers", filters: []string{"from: any, to: me, protocol: icmp, icmp-type: echo-request"},
		match: []string{"work me icmp 8 0", "me work icmp 0 0", "work me icmp 8 5"},
		other: []string{"me work icmp 8 0", "work me icmp 0 0", "work me icmp 13 0", "work6 me6 icmpv6 128 0"},
	}, {
		name: "an ICMP type by number, not mirrored", filters: []string{"from: any, to: me, protocol: icmp, icmp-type: 13, mirrored: false"},
		match: []string{"work me icmp 13 0"},
		other: []string{"me work icmp 14 0", "work me icmp 8 0"},
	}, {
		name: "an ICMP type and code", filters: []string{"from: me, to: any, protocol: icmp, icmp-type: destination-unreachable, icmp-code: 4"},
		match: []string{"me work icmp 3 4", "work me icmp 3 4"},
		other: []string{"me work icmp 3 3", "work me icmp 11 4"},
	}, {
		name: "an ICMPv6 type, and its answers", filters: []string{"from: me, to: any, protocol: icmpv6, icmp-type: echo-request"},
		match: []string{"me6 work6 icmpv6 128 0", "work6 me6 icmpv6 129 0"},
		other: []string{"work6 me6 icmpv6 128 0", "me6 work6 icmpv6 1 0", "me work icmp 8 0"},
	}, {
		name: "what is not enabled", rule: ", enabled: false", filters: []string{"from: 10.1.1.10, to: me"},
		match: []string{},
		other: []string{"work me icmp 8 0"},
	}} {
		if strings.Contains(r.rule, "enabled") { // nothing matches, so nothing differs from what there is without a filter
			t.Run(r.name, func(t *testing.T) {
				d.apply(t, r.policy(f, "block", ""))
				f.expect(t, r.other, nil)
				d.apply(t, r.policy(f, "permit", "block"))
				f.expect(t, nil, r.other)
			})
			continue
		}
		r.test(t, f, d)
	}
	d.untroubled(t)
}

// The most specific filter decides, wherever it stands in the file.
func TestOrder(t *testing.T) {
	const policy = `version: 1
name: order
filter-lists:
  last:
%s  all: [{from: any, to: me}]
  net: [{from: 10.1.0.0/16, to: me}]
  host: [{from: 10.1.1.10, to: me}]
  tcp: [{from: 10.1.1.10, to: me, protocol: tcp}]
  high: [{from: 10.1.1.10, to: me, protocol: tcp, to-port: 1024-2047}]
  port: [{from: 10.1.1.10, to: me, protocol: tcp, to-port: 1500}]
rules:
  - {name: last, filter-list: last, action: permit}
%s`
	rules := []string{
		"  - {name: all, filter-list: all, action: block}\n",
		"  - {name: net, filter-list: net, action: permit}\n",
		"  - {name: host, filter-list: host, action: block}\n",
		"  - {name: tcp, filter-list: tcp, action: permit}\n",
		"  - {name: high, filter-list: high, action: block}\n",
		"  - {name: port, filter-list: port, action: permit}\n",
	}
	backward := make([]string, len(rules))
	for i, r := range rules {
		backward[len(rules)-1-i] = r
	}
	shuffled := []string{rules[3], rules[0], rules[5], rules[2], rules[4], rules[1]}
	_, f, d := peers(t)
	for _, tt := range []struct {
		name  string
		rules []string
	}{{"the least specific first", rules}, {"the most specific first", backward}, {"mixed", shuffled}} {
		t.Run(tt.name, func(t *testing.T) {
			d.apply(t, fmt.Sprintf(policy, f.lastFilters(), strings.Join(tt.rules, "")))
			f.expect(t,
				[]string{"other me udp 1 2", "work me tcp 1 2", "work me tcp 1 1500", "other me tcp 1 1024"},
				[]string{"gate me udp 1 2", "work me udp 1 2", "work me tcp 1 1024", "work me tcp 1 2047", "work6 me6 tcp 1 1500"})
		})
	}
}
