package test

import (
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// What other programs keep in nftables, in their manner: containers behind a
// NAT, zones, and a host firewall that drops what it does not know.
const otherTables = `
table ip nat {
	chain DOCKER {
		iifname "docker0" return
		tcp dport 8088 dnat to 172.18.0.2:80
	}
	chain PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump DOCKER
	}
	chain POSTROUTING {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 172.18.0.0/24 oifname != "docker0" masquerade
	}
}
table ip filter {
	chain DOCKER-USER {
		counter packets 17 bytes 1234 return
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		tcp dport 2375 jump DOCKER-USER
		ct state established,related accept
		oifname "docker0" tcp dport 80 accept
		iifname "docker0" accept
	}
}
table inet firewalld {
	set trusted {
		type ipv4_addr
		flags interval
		elements = { 10.1.0.0/16, 192.168.0.0-192.168.3.77 }
	}
	map zones {
		type ifname : verdict
		elements = { "eth0" : goto filter_IN_public }
	}
	chain filter_IN_public {
		tcp dport { 22, 8443, 9999 } ct state new accept
		tcp dport 8080 drop
	}
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		iifname "lo" accept
		iifname vmap @zones
	}
}
table ip6 ufw6 {
	chain ufw6-user-input {
		tcp dport 22 accept comment "by hand"
	}
	chain ufw6-before-input {
		type filter hook input priority filter; policy drop;
		meta l4proto ipv6-icmp accept
		iif lo accept
		jump ufw6-user-input
	}
}
`

// others returns what nftables holds in a host but for our tables, with
// handles, counters and all, each thing as nft writes it.
func others(t *testing.T, h *lab.Host) string {
	t.Helper()
	var all struct{ Nftables []json.RawMessage }
	must(t, json.Unmarshal([]byte(ruleset(t, h)), &all))
	var out strings.Builder
	for _, raw := range all.Nftables {
		var thing map[string]struct{ Table, Name string }
		must(t, json.Unmarshal(raw, &thing))
		ours := false
		for kind, x := range thing {
			ours = ours || kind == "metainfo" || x.Table == "ipsecfw" || kind == "table" && x.Name == "ipsecfw"
		}
		if !ours {
			out.Write(raw)
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// Tables of others are left alone, whatever becomes of ours, and packets have
// to please both.
func TestOtherOwnersOfNftables(t *testing.T) {
	need(t, "nft")
	s := newSite(t)
	w := s.workstation(t)
	container, err := s.net.Host("container")
	must(t, err)
	must(t, s.net.Link(s.server, container, "docker0", "eth0", []string{"172.18.0.1/24"}, []string{"172.18.0.2/24"}))
	must(t, s.server.Forwarding())
	must(t, container.Route("default", "172.18.0.1"))
	loadRuleset(t, s.server, otherTables)
	d := startDaemon(t, s.server)
	for _, address := range []string{server4 + ":22", server4 + ":8080", server4 + ":8443", server4 + ":9999", "[" + server6 + "]:22", "[" + server6 + "]:8443"} {
		listenSwaps(t, s.server, address)
	}
	listenSwaps(t, container, "172.18.0.2:80")
	before := others(t, s.server)
	if !strings.Contains(before, `"packets": 17`) {
		t.Fatalf("the ruleset is\n%s", before)
	}
	unchanged := func(when string) {
		t.Helper()
		if now := others(t, s.server); now != before {
			t.Errorf("%s the tables of others were\n%s\nand are\n%s", when, before, now)
		}
	}
	const policy = `version: 1
name: beside-others
filter-lists:
  open:
    - {from: any, to: me, protocol: tcp, to-port: 22}
    - {from: any, to: me, protocol: tcp, to-port: 8080}
    - {from: any, to: me, protocol: tcp, to-port: 8443}
  rest: [{from: any, to: me}]
  # Answers of the container leave under the host's address.
  published-here: [{from: any, to: me, protocol: tcp, to-port: 8088}]
  published: [{from: any, to: 172.18.0.2, protocol: tcp, to-port: PORT}]
  rest-forwarded: [{from: any, to: any}]
rules:
  - {name: open, filter-list: open, action: permit}
  - {name: rest, filter-list: rest, action: block}
  - {name: published-here, filter-list: published-here, action: permit}
  - {name: published, filter-list: published, action: permit, path: forward}
  - {name: rest-forwarded, filter-list: rest-forwarded, action: block, path: forward}
`
	open := strings.Replace(policy, "PORT", "80", 1)
	reachable := func(when string, addresses map[string]bool) {
		t.Helper()
		for address, want := range addresses {
			d := 10 * time.Second
			if !want {
				d = 300 * time.Millisecond
			}
			if err := refused(w, address, d); (err != nil) != want {
				t.Errorf("%s %s is reached: %v, want %v", when, address, err != nil, want)
			}
		}
	}
	at := func(host, port string) string { return net.JoinHostPort(host, port) }
	reachable("before", map[string]bool{at(server4, "9999"): true, at(server4, "8080"): false, at(server4, "8088"): true, at(server6, "22"): true, at(server6, "8443"): false})
	d.apply(t, open)
	unchanged("after apply")
	reachable("with our policy", map[string]bool{
		at(server4, "22"): true, at(server4, "8443"): true, at(server6, "22"): true, // by both
		at(server4, "9999"): false,                             // not by us
		at(server4, "8080"): false, at(server6, "8443"): false, // not by them
		at(server4, "8088"): true, // the container's
	})
	d.apply(t, strings.Replace(policy, "PORT", "81", 1))
	unchanged("after another apply")
	reachable("with the container closed", map[string]bool{at(server4, "8088"): false})
	d.kill()
	d.start(t)
	unchanged("after a restart")
	_, err = d.run("unapply")
	must(t, err)
	unchanged("after unapply")
	reachable("after unapply", map[string]bool{at(server4, "9999"): true, at(server4, "8088"): true})
}

// "list filters" warns of tables that drop what the policy permits.
func TestWarningOfOtherTables(t *testing.T) {
	need(t, "nft")
	s := newSite(t)
	d := startDaemon(t, s.server)
	d.apply(t, `version: 1
name: warned
filter-lists:
  web: [{from: any, to: me, protocol: tcp, to-port: 8080}, {from: any, to: me, protocol: tcp, to-port: 22}]
  rest: [{from: any, to: me}]
rules:
  - {name: web, filter-list: web, action: permit}
  - {name: rest, filter-list: rest, action: block}
`)
	said := func() string {
		t.Helper()
		out, err := s.server.Command(program, "--socket", d.path("socket"), "list", "filters").CombinedOutput()
		must(t, err)
		return string(out)
	}
	if out := said(); strings.Contains(out, "warning") {
		t.Errorf("with no other table there is a warning:\n%s", out)
	}
	loadRuleset(t, s.server, otherTables)
	out := said()
	warned := false
	for line := range strings.Lines(out) {
		if strings.Contains(line, "warning") && strings.Contains(line, "firewalld") && strings.Contains(line, "web") {
			warned = true
		}
	}
	if !warned {
		t.Errorf("there is no warning of the table firewalld, which drops what rule web permits:\n%s", out)
	}
	d.untroubled(t)
}
