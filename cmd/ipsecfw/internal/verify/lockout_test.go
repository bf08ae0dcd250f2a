package verify

import (
	"net/netip"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
)

func TestParseConnection(t *testing.T) {
	for _, tt := range []struct {
		in             string
		client, server string
		ok             bool
	}{
		{"10.1.2.3 50000 10.2.0.1 22", "10.1.2.3:50000", "10.2.0.1:22", true},
		{"2001:db8::1 50000 2001:db8::2 22", "[2001:db8::1]:50000", "[2001:db8::2]:22", true},
		{"fe80::1%eth0 50000 fe80::2%eth0 22", "[fe80::1]:50000", "[fe80::2]:22", true},
		{"::ffff:10.1.2.3 50000 ::ffff:10.2.0.1 22", "10.1.2.3:50000", "10.2.0.1:22", true},
		{"", "", "", false},
		{"10.1.2.3 50000 22", "", "", false},
		{"10.1.2.3 50000 10.2.0.1 ssh", "", "", false},
		{"host 50000 10.2.0.1 22", "", "", false},
	} {
		t.Run(tt.in, func(t *testing.T) {
			c, ok := ParseConnection(tt.in)
			if ok != tt.ok || ok && (c.Client != netip.MustParseAddrPort(tt.client) || c.Server != netip.MustParseAddrPort(tt.server)) {
				t.Errorf("got %v, %v", c, ok)
			}
		})
	}
}

func TestLockedOut(t *testing.T) {
	const rest = "\n  rest: [{from: any, to: me}]\nrules:\n  - {name: rest, filter-list: rest, action: block}\n"
	for _, tt := range []struct {
		name, sections, connection string
		on                         filter.Interface
		want                       string
	}{
		{"no policy for it", "filter-lists:\n  a: [{from: 10.1.2.3, to: me, protocol: udp}]\nrules:\n  - {name: a, filter-list: a, action: block}\n",
			"10.1.2.3 50000 10.2.0.1 22", filter.Interface{}, ""},
		{"permitted", "filter-lists:\n  ssh: [{from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 22}]" + rest + "  - {name: ssh, filter-list: ssh, action: permit}\n",
			"10.1.2.3 50000 10.2.0.1 22", filter.Interface{}, ""},
		{"permitted with IPv6", "filter-lists:\n  ssh: [{from: \"2001:db8::/32\", to: me, protocol: tcp, to-port: 22}]" + rest + "  - {name: ssh, filter-list: ssh, action: permit}\n",
			"2001:db8::1 50000 2001:db8:1::2 22", filter.Interface{}, ""},
		{"begun by the client, stateful", "filter-lists:\n  ssh: [{from: any, to: me, protocol: tcp, to-port: 22, stateful: true}]" + rest + "  - {name: ssh, filter-list: ssh, action: permit}\n",
			"10.1.2.3 50000 10.2.0.1 22", filter.Interface{}, ""},
		{"another address", "filter-lists:\n  ssh: [{from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 22}]" + rest + "  - {name: ssh, filter-list: ssh, action: permit}\n",
			"10.3.2.1 50000 10.2.0.1 22", filter.Interface{},
			`f.yaml:5:10: warning: the policy cuts this shell off, which came from 10.3.2.1:50000: block: f.yaml:5:10: rule "rest", filter 1 of list "rest" (from any to me) is the most specific filter that matches, of weight 131072; add a filter that permits it, or apply with --confirm`},
		{"blocked with IPv6", "filter-lists:" + rest,
			"2001:db8::1 50000 2001:db8:1::2 22", filter.Interface{},
			`f.yaml:4:10: warning: the policy cuts this shell off, which came from [2001:db8::1]:50000: block: f.yaml:4:10: rule "rest", filter 1 of list "rest" (from any to me) is the most specific filter that matches, of weight 131072; add a filter that permits it, or apply with --confirm`},
		{"the answers are blocked", "filter-lists:\n  ssh: [{from: any, to: me, protocol: tcp, to-port: 22, mirrored: false}]" + rest + "  - {name: ssh, filter-list: ssh, action: permit}\n",
			"10.1.2.3 50000 10.2.0.1 22", filter.Interface{},
			`f.yaml:5:10: warning: the policy cuts this shell off, which came from 10.1.2.3:50000: block: f.yaml:5:10: rule "rest", filter 1 of list "rest" (from any to me), mirrored is the most specific filter that matches, of weight 131072; add a filter that permits it, or apply with --confirm`},
		{"under IPsec only", "filter-lists:\n  all: [{from: any, to: me}]\nrules:\n  - {name: all, filter-list: all, action: require-security, " + key + "}\n",
			"10.1.2.3 50000 10.2.0.1 22", filter.Interface{},
			`f.yaml:4:9: warning: the policy lets this shell go on under IPsec only, which came from 10.1.2.3:50000: negotiate: f.yaml:4:9: rule "all", filter 1 of list "all" (from any to me) is the most specific filter that matches, of weight 131072; add a filter that permits it, or apply with --confirm`},
		{"under IPsec if it can be", "filter-lists:\n  all: [{from: any, to: me}]\nrules:\n  - {name: all, filter-list: all, action: request-security, " + key + "}\n",
			"10.1.2.3 50000 10.2.0.1 22", filter.Interface{}, ""},
		{"on the LAN", "filter-lists:\n  ssh: [{from: any, to: me, protocol: tcp, to-port: 22}]" + rest + "  - {name: ssh, filter-list: ssh, action: permit, connection: lan}\n",
			"10.1.2.3 50000 10.2.0.1 22", filter.Interface{Name: "eth0"}, ""},
		{"not on the LAN", "filter-lists:\n  ssh: [{from: any, to: me, protocol: tcp, to-port: 22}]" + rest + "  - {name: ssh, filter-list: ssh, action: permit, connection: lan}\n",
			"10.1.2.3 50000 10.2.0.1 22", filter.Interface{Name: "ppp0", Remote: true},
			`f.yaml:5:10: warning: the policy cuts this shell off, which came from 10.1.2.3:50000: block: f.yaml:5:10: rule "rest", filter 1 of list "rest" (from any to me) is the most specific filter that matches, of weight 131072; add a filter that permits it, or apply with --confirm`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := policyOf(t, tt.sections)
			c, ok := ParseConnection(tt.connection)
			if !ok {
				t.Fatalf("%q is no connection", tt.connection)
			}
			c.Interface = tt.on
			lines(t, p.LockedOut(c), tt.want)
			// The same without an SPD.
		})
	}
}
