package doctor

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// names are those of a daemon, but shorter.
var names = Names{Device: "tun9", InMark: 7, RoutingTable: 9, FirstRule: 100, Rules: 3, Queues: []uint16{11, 12}}

// healthy is a host with nothing in the way.
func healthy() *Facts {
	return &Facts{
		Names:      names,
		Privileges: &Privileges{NetAdmin: true, NetRaw: true},
		Kernel:     &Kernel{},
		Now:        time.Unix(2_000_000_000, 0), Built: time.Unix(1_900_000_000, 0),
		Parameters: map[string]string{
			"net.ipv4.fwmark_reflect": "0", "net.ipv4.tcp_fwmark_accept": "0", "net.ipv6.fwmark_reflect": "0",
			"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0",
			"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.default.rp_filter": "0",
		},
		Daemon:     &Daemon{Policy: "p"},
		Interfaces: []Interface{{Name: "lo", MTU: 65536, Up: true}, {Name: "eth0", Kind: "veth", MTU: 1500, Up: true}, {Name: "tun9", Kind: "tun", MTU: 65535, Up: true}},
		Defaults:   []Default{{Interface: "eth0"}, {Interface: "wlan0", Metric: 600}, {IPv6: true, Interface: "eth0", Metric: 1024}},
		Rules: []Rule{
			{Priority: 0, Table: localTable},
			{Priority: 100, Mark: 7, Mask: ^uint32(0), In: "tun9"}, {Priority: 101, Mark: 7, Mask: ^uint32(0), Table: 9}, {Priority: 102, Mark: 7, Mask: ^uint32(0)},
			{Priority: 32764, Mark: 0xca6c, Mask: ^uint32(0), Inverted: true, Table: 51820},
			{Priority: 32766, Table: 254},
		},
		Programs: []Program{{4, "ipsecfw"}},
		Ports:    []Port{{500, Program{4, "ipsecfw"}}, {4500, Program{4, "ipsecfw"}}},
		Queues:   []Queue{{11, Program{4, "ipsecfw"}}, {12, Program{4, "ipsecfw"}}, {3, Program{8, "suricata"}}},
		XFRM:     &XFRM{},
		Tables:   &Tables{},
	}
}

func TestHealthy(t *testing.T) {
	found := Judge(healthy())
	for _, f := range found {
		if f.Severity != OK {
			t.Errorf("a healthy host has %s", f)
		}
	}
	if Ill(found) || len(found) == 0 {
		t.Errorf("the findings are %v", found)
	}
	if found := Judge(&Facts{Names: names}); len(found) != 0 {
		t.Errorf("of a host that nothing is known of the findings are %v", found)
	}
}

func TestJudge(t *testing.T) {
	toPeer := netip.MustParsePrefix("192.0.2.7/32")
	strictly := func(f *Facts) {
		f.Parameters["net.ipv4.conf.all.rp_filter"] = "1"
		f.Parameters["net.ipv4.conf.tun9.src_valid_mark"] = "1"
	}
	tests := []struct {
		name string
		ail  func(*Facts)
		want string // the beginning of the line
		has  string // more of it
	}{
		{"no nftables", func(f *Facts) { f.Kernel.Lacks = []string{"nftables"} }, "problem: kernel: it has no nftables", "module"},
		{"no TUN", func(f *Facts) { f.TUN = "it cannot be opened" }, "problem: /dev/net/tun: it cannot be opened", "tun"},
		{"no privileges", func(f *Facts) { *f.Privileges = Privileges{NetRaw: true} }, "warning: capabilities: this process has no CAP_NET_ADMIN", "root"},
		{"a clock that is slow", func(f *Facts) { f.Now = time.Unix(0, 0) }, "warning: clock: it says 1970", "set the clock"},
		{"a clock that is slow, and certificates", func(f *Facts) { f.Now, f.Daemon.Certificates = time.Unix(0, 0), true }, "problem: clock", "before this program was made"},
		{"marks that are reflected", func(f *Facts) { f.Parameters["net.ipv6.fwmark_reflect"] = "1" }, "problem: kernel parameter net.ipv6.fwmark_reflect", "set it to 0"},
		{"connections that inherit marks", func(f *Facts) { f.Parameters["net.ipv4.tcp_fwmark_accept"] = "1" }, "problem: kernel parameter net.ipv4.tcp_fwmark_accept", "lost"},
		{"sources checked strictly", strictly, "ok: kernel parameter rp_filter", "tun9"},
		{"sources checked strictly, without the mark", func(f *Facts) {
			strictly(f)
			f.Parameters["net.ipv4.conf.tun9.src_valid_mark"] = "0"
		}, "problem: kernel parameter net.ipv4.conf.tun9.src_valid_mark", "dropped"},
		{"no forwarding", func(f *Facts) { f.Daemon.Forwards[0] = true }, "problem: kernel parameter net.ipv4.ip_forward", "passes on"},
		{"no forwarding of IPv6", func(f *Facts) { f.Daemon.Forwards[1] = true }, "problem: kernel parameter net.ipv6.conf.all.forwarding", "set it to 1"},
		{"a bridge that is filtered", func(f *Facts) {
			f.Interfaces = append(f.Interfaces, Interface{Name: "br0", Kind: "bridge", MTU: 1500, Up: true})
			f.Parameters["net.bridge.bridge-nf-call-iptables"] = "1"
		}, "warning: kernel parameter net.bridge.bridge-nf-call-iptables", "br0"},
		{"a bridge", func(f *Facts) { f.Interfaces[1].Kind = "bridge" }, "ok: interface eth0: it is a bridge", ""},
		{"a macvlan", func(f *Facts) { f.Interfaces[1].Kind = "macvlan" }, "ok: interface eth0: it is a macvlan", ""},
		{"a VPN", func(f *Facts) { f.Interfaces[1].Kind = "wireguard" }, "ok: interface eth0: it is a tunnel", "inside"},
		{"a small MTU", func(f *Facts) { f.Interfaces[1].MTU = 1279 }, "warning: interface eth0: its MTU is 1279", "raise it"},
		{"the device is another's", func(f *Facts) { f.Interfaces[2].Kind = "dummy" }, "problem: interface tun9: another program", "rename"},
		{"two default routes", func(f *Facts) { f.Defaults[1].Metric = 0 }, "warning: default routes of IPv4", "eth0 and wlan0"},
		{"a rule before ours", func(f *Facts) { f.Rules = append(f.Rules, Rule{Priority: 50, To: toPeer, Table: 5}) },
			"warning: routing rule 50 of IPv4", "from 192.0.2.7/32"},
		{"a rule before ours, strictly", func(f *Facts) {
			strictly(f)
			f.Rules = append(f.Rules, Rule{Priority: 102, Table: 5})
		}, "problem: routing rule 102 of IPv4", "above 102"},
		{"a rule before ours, IPv6", func(f *Facts) {
			strictly(f)
			f.Rules = append(f.Rules, Rule{IPv6: true, Priority: 5, Mark: 3, Mask: 3})
		}, "warning: routing rule 5 of IPv6", ""},
		{"another key exchange", func(f *Facts) {
			f.Programs = append(f.Programs, Program{9, "charon"})
			f.Ports = []Port{{4500, Program{9, "charon"}}}
		}, "problem: UDP port 4500: charon (process 9)", "stop"},
		{"a key exchange on other ports", func(f *Facts) { f.Programs = append(f.Programs, Program{9, "pluto"}) }, "warning: pluto (process 9)", "stop it"},
		{"a port of nobody knows whom", func(f *Facts) { f.Daemon, f.Programs, f.Ports = nil, nil, []Port{{500, Program{}}} }, "problem: UDP port 500: another program", ""},
		{"two daemons", func(f *Facts) { f.Programs = append(f.Programs, Program{5, "ipsecfw"}) }, "problem: daemons: several", "4, 5"},
		{"a daemon with another socket", func(f *Facts) { f.Daemon = nil }, "warning: daemon: one runs, process 4", "--socket"},
		{"a queue that is another's", func(f *Facts) { f.Queues[1].Holder = Program{8, "suricata"} }, "problem: queue 12: suricata (process 8)", "number"},
		{"policies of the kernel", func(f *Facts) { *f.XFRM = XFRM{2, 1} }, "problem: kernel's IPsec: it has 2 policies and 1 SAs", "ip xfrm"},
		{"SAs of the kernel", func(f *Facts) { *f.XFRM = XFRM{0, 1} }, "warning: kernel's IPsec: it has 1 SAs", "ip xfrm"},
		{"dropped by others", func(f *Facts) { f.Tables.Drops = []string{"IKE is dropped"} }, "problem: other firewalls: IKE is dropped", "allow"},
		{"perhaps dropped by others", func(f *Facts) { f.Tables.Perhaps = []string{"IKE is dropped"} }, "warning: other firewalls: IKE is dropped", "allow"},
		{"translated by others", func(f *Facts) { f.Tables.Translates = []string{"a rule"} }, "problem: other firewalls: a rule", "leave out"},
		{"old tables", func(f *Facts) { f.Tables.Legacy = []string{"ip filter"} }, "warning: iptables-legacy", "ip filter"},
		{"not looked at", func(f *Facts) { f.Unseen = []Unseen{{"queues", "no", "ask"}} }, "unknown: queues: it was not looked at: no; ask", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := healthy()
			tt.ail(f)
			found := Judge(f)
			hits, bad := 0, 0
			for _, x := range found {
				if x.Severity != OK {
					bad++
				}
				if s := x.String(); strings.HasPrefix(s, tt.want) && strings.Contains(s, tt.has) {
					hits++
				}
			}
			if hits != 1 || bad > 1 || bad == 0 != strings.HasPrefix(tt.want, "ok") {
				t.Errorf("the findings are %v, want one: %s … %s", found, tt.want, tt.has)
			}
			if Ill(found) != strings.HasPrefix(tt.want, "problem") {
				t.Errorf("ill is %v", Ill(found))
			}
			if found[0].Severity != OK && !strings.HasPrefix(tt.want, string(found[0].Severity)) {
				t.Errorf("the worst is %s", found[0])
			}
		})
	}
}

// Rules that leave what came by the device alone.
func TestRulesAside(t *testing.T) {
	for name, r := range map[string]Rule{
		"after ours":           {Priority: 103, Table: 5},
		"of another mark":      {Priority: 5, Mark: 8, Mask: 8},
		"of another interface": {Priority: 5, In: "eth0"},
		"of an outer device":   {Priority: 5, Out: "eth0"},
	} {
		f := healthy()
		f.Rules = append(f.Rules, r)
		for _, x := range Judge(f) {
			if x.Severity != OK {
				t.Errorf("a rule %s: %s", name, x)
			}
		}
	}
}
