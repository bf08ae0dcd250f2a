package test

import (
	"strings"
	"testing"
	"time"
)

// zones is a firewall in the manner of firewalld, which lets in IKE and ESP,
// the service that is secured, and answers.
const zones = `
table inet firewalld {
	chain filter_PREROUTING {
		type filter hook prerouting priority filter + 10; policy accept;
		meta nfproto ipv4 fib saddr . mark . iif oif missing drop
	}
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy drop;
		ct state { established, related } accept
		ct state invalid drop
		iifname "lo" accept
		udp dport { 500, 4500 } accept
		meta l4proto esp accept
		tcp dport 8443 ct state new accept
	}
	chain filter_OUTPUT {
		type filter hook output priority filter + 10; policy drop;
		ct state { established, related } accept
		ct state invalid drop
		udp sport { 500, 4500 } accept
		meta l4proto esp accept
		udp dport 53 accept
	}
}
`

// A flow is secured on a host that has another firewall, a bridge or a macvlan
// as its interface, or routing rules of its own; sources are checked strictly.
// Doctor finds nothing in the way.
func TestSecuredBeside(t *testing.T) {
	for _, tt := range []struct {
		name, rules string
		commands    [][]string // of ip, on the server
		found       string     // what doctor may complain of; of a problem it must, and then no flow comes about
	}{
		{name: "another firewall", rules: zones},
		{name: "a bridge", commands: [][]string{
			{"link", "add", "br0", "type", "bridge"},
			{"link", "set", "br0", "up"},
			{"addr", "flush", "dev", "eth0"},
			{"link", "set", "eth0", "master", "br0"},
			{"addr", "add", server4 + "/24", "dev", "br0"},
			{"route", "add", "default", "via", "10.9.0.1"},
		}, found: "warning: kernel parameter net.bridge.bridge-nf-call-"}, // as kernels with br_netfilter have it
		{name: "a macvlan", commands: [][]string{
			{"link", "add", "link", "eth0", "name", "mac0", "type", "macvlan", "mode", "bridge"},
			{"addr", "flush", "dev", "eth0"},
			{"link", "set", "mac0", "up"},
			{"addr", "add", server4 + "/24", "dev", "mac0"},
			{"route", "add", "default", "via", "10.9.0.1"},
		}},
		{name: "a routing rule for the peer", commands: [][]string{
			{"route", "add", "default", "via", "10.9.0.1", "dev", "eth0", "table", "7"},
			{"rule", "add", "to", workstation4, "lookup", "7", "priority", "500"},
			{"rule", "add", "from", server4, "lookup", "7", "priority", "501"},
		}},
		{name: "a routing rule for the peer before ours", commands: [][]string{
			{"route", "add", "default", "via", "10.9.0.1", "dev", "eth0", "table", "7"},
			{"rule", "add", "to", workstation4, "lookup", "7", "priority", "50"},
		}, found: "problem: routing rule 50 of IPv4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			need(t, "ip", "nft")
			s := newSite(t)
			w := s.workstation(t)
			for _, c := range tt.commands {
				if out, err := s.server.Command("ip", c...).CombinedOutput(); err != nil {
					t.Fatalf("ip %q: %v\n%s", c, err, out)
				}
			}
			if tt.rules != "" {
				loadRuleset(t, s.server, tt.rules)
			}
			ds, dw := startDaemon(t, s.server), startDaemon(t, w)
			ca := newAuthority(t)
			ds.enroll(t, ca, "server.test", server4, psk)
			dw.enroll(t, ca, "workstation.test", workstation4, psk)
			ds.apply(t, payroll)
			dw.apply(t, staff)
			listenSwaps(t, s.server, server4+":8443")
			found := false
			for _, line := range complaints(doctor(t, s.server, ds.path("socket"))) {
				is := tt.found != "" && strings.HasPrefix(line, tt.found)
				if found = found || is; !is {
					t.Errorf("doctor says %s", line)
				}
			}
			if strings.HasPrefix(tt.found, "problem") {
				if !found {
					t.Errorf("doctor does not say %s", tt.found)
				}
				if err := refused(w, server4+":8443", 2*time.Second); err != nil {
					t.Errorf("%v, in spite of %s", err, tt.found)
				}
				return
			}
			wire := s.between(t)
			must(t, transfer(w, "", server4+":8443", megabyte))
			wire.secret(t, 2*megabyte)
			onePair(t, ds, dw)
			ds.untroubled(t)
		})
	}
}
