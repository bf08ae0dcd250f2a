package test

import (
	"slices"
	"testing"
)

// The connection of a rule: LAN, remote, and interfaces by name. The server has
// two cables, and a tunnel to the workstation.
func TestConnections(t *testing.T) {
	s, f, d := peers(t)
	w := f.parties["work"].host
	must(t, s.net.Link(s.server, w, "eth1", "eth1", []string{"10.7.0.1/24"}, []string{"10.7.0.2/24"}))
	must(t, s.net.Tunnel(s.server, w, "tun0", "tun0", []string{"10.8.0.1/24", "fd00:8::1/64"}, []string{"10.8.0.2/24", "fd00:8::2/64"}))
	f.join(t, s.server, "eth1", map[string]string{"me.two": "10.7.0.1"})
	f.join(t, w, "eth1", map[string]string{"work.two": "10.7.0.2"})
	f.join(t, s.server, "tun0", map[string]string{"me.tun": "10.8.0.1", "me6.tun": "fd00:8::1"})
	f.join(t, w, "tun0", map[string]string{"work.tun": "10.8.0.2", "work6.tun": "fd00:8::2"})
	anything := []string{"from: any, to: me, protocol: udp, to-port: 9"}
	one := []string{"work me udp 1000 9", "me work udp 9 1000", "work6 me6 udp 1000 9"}
	two := []string{"work.two me.two udp 1000 9", "me.two work.two udp 9 1000"}
	tun := []string{"work.tun me.tun udp 1000 9", "me.tun work.tun udp 9 1000", "work6.tun me6.tun udp 1000 9", "me6.tun work6.tun udp 9 1000"}
	for _, r := range []fieldRow{
		{name: "all", rule: ", connection: all", match: slices.Concat(one, two, tun)},
		{name: "lan", rule: ", connection: lan", match: slices.Concat(one, two), other: tun},
		{name: "remote", rule: ", connection: remote", match: tun, other: slices.Concat(one, two)},
		{name: "an interface", rule: ", connection: eth1", match: two, other: slices.Concat(one, tun)},
		{name: "a remote interface", rule: ", connection: tun0", match: tun, other: slices.Concat(one, two)},
		{name: "two interfaces", rule: ", connection: [eth0, tun0]", match: slices.Concat(one, tun), other: two},
		{name: "an interface that is not there", rule: ", connection: ppp0", other: slices.Concat(one, two, tun)},
	} {
		r.filters = anything
		r.test(t, f, d)
	}
	d.untroubled(t)
}

// What a gateway passes on is judged by the rules with path: forward, and what
// it sends and receives itself by the others.
func TestForwardedPath(t *testing.T) {
	s, f, _ := peers(t)
	d := startDaemon(t, s.gateway)
	onGateway := []string{"work gate icmp 8 0", "gate work udp 9 1000", "me gate udp 1000 9"}
	for _, r := range []fieldRow{{
		name: "forward", rule: ", path: forward", filters: []string{"from: 10.1.1.0/24, to: 10.9.0.10"},
		match: []string{"work me udp 1000 9", "me work udp 9 1000", "work me tcp 1000 9"},
		other: []string{"other me udp 1000 9", "me other udp 9 1000", "work6 me6 udp 1000 9"},
	}, {
		name: "ports", rule: ", path: forward", filters: []string{"from: any, to: 10.9.0.0/24, protocol: tcp, to-port: 80"},
		match: []string{"work me tcp 1000 80", "other me tcp 1000 80", "me other tcp 80 1000"},
		other: []string{"work me tcp 1000 81", "me work tcp 1000 80", "other me udp 1000 80"},
	}, {
		name: "IPv6", rule: ", path: forward", filters: []string{`from: "fd00:1:1::/64", to: "fd00:9::/64", protocol: icmpv6, icmp-type: echo-request, mirrored: false`},
		match: []string{"work6 me6 icmpv6 128 0"},
		other: []string{"me6 work6 icmpv6 129 0", "me6 work6 icmpv6 128 0", "work6 me6 udp 1000 9", "work me icmp 8 0"},
	}, {
		name: "by the interface that it leaves by", rule: ", path: forward, connection: srv0", filters: []string{"from: any, to: 10.9.0.10", "from: any, to: 10.1.1.10"},
		match: []string{"work me udp 1000 9", "other me udp 1000 9"},
		other: []string{"other work udp 1000 9"},
	}} {
		t.Run(r.name, func(t *testing.T) {
			d.apply(t, r.policy(f, "permit", "block"))
			f.expect(t, append(r.match, onGateway...), r.other)
			d.apply(t, r.policy(f, "block", ""))
			f.expect(t, append(r.other, onGateway...), r.match)
		})
	}
	t.Run("host", func(t *testing.T) {
		r := fieldRow{filters: []string{"from: 10.1.1.10, to: any"}}
		d.apply(t, r.policy(f, "block", ""))
		f.expect(t, []string{"work me udp 1000 9", "work other udp 1000 9", "other gate udp 1000 9"}, nil)
	})
	d.untroubled(t)
}
