package space

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
)

func subnet(s string) filter.Side { return filter.Subnet(netip.MustParsePrefix(s)) }

func tcp(from, to filter.Side, port uint16) filter.Selector {
	s := tcpTo(port)
	s.From, s.To = from, to
	return s
}

func match(s filter.Selector) Set { return Of(filter.Entry{Selector: s}) }

func mirrored(s filter.Selector) Set { return Of(filter.Entry{Selector: s, Mirrored: true}) }

func TestDescribe(t *testing.T) {
	me, any := filter.Me(), filter.Any()
	toMe := filter.Selector{From: any, To: me}
	web := tcp(any, me, 443)
	icmp := filter.Selector{From: any, To: me, Protocol: 1, HasProtocol: true}
	echo := icmp
	echo.ICMP = filter.ICMP{Type: 8, HasType: true}
	unreachable := icmp
	unreachable.ICMP = filter.ICMP{Type: 3, HasType: true, Code: 4, HasCode: true}
	udp := filter.Selector{From: any, To: me, Protocol: 17, HasProtocol: true}
	on := func(s filter.Selector, c filter.Connection) filter.Selector { s.Connection = c; return s }
	eth0 := filter.Connection{Kind: filter.ConnectionInterface, Name: "eth0"}
	eth1 := filter.Connection{Kind: filter.ConnectionInterface, Name: "eth1"}
	lan := filter.Connection{Kind: filter.ConnectionLAN}
	hosts := func(n int) (s Set) {
		for i := range uint32(n) {
			s = s.Union(match(tcp(filter.Address(host(i*3)), me, 443)))
		}
		return s
	}
	ports := func(lo, hi uint16) filter.Selector {
		return filter.Selector{From: any, To: me, Protocol: 6, HasProtocol: true, ToPort: filter.PortRange{Lo: lo, Hi: hi}}
	}
	var groups Set
	for _, p := range []string{"224.0.0.0/4", "255.255.255.255/32", "ff00::/8"} {
		groups = groups.Union(match(filter.Selector{From: me, To: subnet(p)}))
	}
	for _, tt := range []struct {
		name string
		set  Set
		want string
	}{
		{"nothing", Set{}, ""},
		{"everything", All(), "outbound from me to any\ninbound from any to me\nforward from any to any"},
		{"a filter", match(tcp(subnet("10.1.0.0/16"), me, 8443)), "inbound from 10.1.0.0/16 to me protocol tcp to-port 8443"},
		{"a mirrored one", mirrored(tcp(subnet("10.1.0.0/16"), me, 8443)),
			"outbound from me to 10.1.0.0/16 protocol tcp from-port 8443\ninbound from 10.1.0.0/16 to me protocol tcp to-port 8443"},
		{"one family", match(tcp(any, me, 443)).Subtract(match(tcp(subnet("::/0"), me, 443))), "inbound from 0.0.0.0/0 to me protocol tcp to-port 443"},
		{"neighbours", match(tcp(subnet("10.0.0.0/9"), me, 443)).Union(match(tcp(subnet("10.128.0.0/9"), me, 443))), "inbound from 10.0.0.0/8 to me protocol tcp to-port 443"},
		{"neighbouring ports", match(web).Union(match(tcp(any, me, 444))), "inbound from any to me protocol tcp to-port 443-444"},
		{"all but a protocol", match(toMe).Subtract(match(udp)), "inbound from any to me protocol other than udp"},
		{"all but a port", match(tcp(subnet("10.0.0.0/8"), me, 0)).Subtract(match(web)),
			"inbound from 10.0.0.0/8 to me protocol tcp except to-port 443"},
		{"all but a port of many", match(toMe).Subtract(match(web)),
			"inbound from any to me except protocol tcp to-port 443"},
		{"all but a host", match(tcp(subnet("10.0.0.0/8"), me, 443)).Subtract(match(tcp(filter.Address(addr("10.0.0.0")), me, 443))),
			"inbound from 10.0.0.1-10.255.255.255 to me protocol tcp to-port 443"},
		{"echo", match(echo), "inbound from any to me protocol icmp icmp-type echo-request"},
		{"a code", match(unreachable), "inbound from any to me protocol icmp icmp-type destination-unreachable icmp-code 4"},
		{"all but echo", match(icmp).Subtract(match(echo)),
			"inbound from any to me protocol icmp except icmp-type echo-request"},
		{"on an interface", match(on(web, eth0)), "inbound from any to me protocol tcp to-port 443 connection eth0"},
		{"not on two", match(web).Subtract(match(on(web, eth0))).Subtract(match(on(web, eth1))), "inbound from any to me protocol tcp to-port 443 connection other than eth0,eth1"},
		{"not on a LAN", match(web).Subtract(match(on(web, lan))), "inbound from any to me protocol tcp to-port 443 connection remote"},
		{"on an interface that is a LAN", match(on(web, eth0)).Intersect(match(on(web, lan))), "inbound from any to me protocol tcp to-port 443 connection eth0 (lan)"},
		{"stateful", Of(filter.Entry{Selector: web, Stateful: true, Mirrored: true}),
			"outbound from me to any protocol tcp from-port 443 state reply\ninbound from any to me protocol tcp to-port 443 state new"},
		{"no ports", match(udp).Subtract(match(filter.Selector{From: any, To: me, Protocol: 17, HasProtocol: true, ToPort: filter.PortRange{Lo: 0, Hi: 65534}})).Subtract(
			match(filter.Selector{From: any, To: me, Protocol: 17, HasProtocol: true, ToPort: filter.PortRange{Lo: 65535, Hi: 65535}})), "inbound from any to me protocol udp without ports"},
		{"many hosts", hosts(8), `inbound from 10.0.0.0 to me protocol tcp to-port 443
inbound from 10.0.0.3 to me protocol tcp to-port 443
inbound from 10.0.0.6 to me protocol tcp to-port 443
inbound from 10.0.0.9 to me protocol tcp to-port 443
inbound from 10.0.0.12 to me protocol tcp to-port 443
and 3 more`},
		{"all but many hosts", match(toMe).Subtract(hosts(8)),
			"inbound from any to me except from 10.0.0.0 protocol tcp to-port 443, from 10.0.0.3 protocol tcp to-port 443, " +
				"from 10.0.0.6 protocol tcp to-port 443, from 10.0.0.9 protocol tcp to-port 443 and 4 more"},
		{"a filter for one ICMP", match(icmp), "inbound from any to me protocol icmp"},
		{"the ICMP of either family", match(icmp).Union(match(filter.Selector{From: any, To: me, Protocol: 58, HasProtocol: true})),
			"inbound from any to me protocol icmp,icmpv6"},
		{"an ICMP for addresses of the other family", match(filter.Selector{From: subnet("10.0.0.0/8"), To: me, Protocol: 58, HasProtocol: true}), ""},
		{"all but the ICMP of IPv4", match(toMe).Subtract(match(icmp)), "inbound from any to me protocol other than icmp"},
		{"all but echo of all", match(toMe).Subtract(match(echo)), "inbound from any to me except protocol icmp icmp-type echo-request"},
		{"in pieces", match(toMe).Subtract(match(web)).Union(match(web).Subtract(match(on(web, eth0)))),
			"inbound from any to me except protocol tcp to-port 443 connection eth0"},
		{"around a host", match(tcp(filter.Range(addr("10.0.0.0"), addr("10.0.0.8")), me, 443)).Union(match(tcp(filter.Range(addr("10.0.0.10"), addr("10.0.0.255")), me, 443))),
			"inbound from 10.0.0.0/24 to me protocol tcp to-port 443 except from 10.0.0.9"},
		{"around a port", match(ports(0, 442)).Union(match(ports(444, 65535))), "inbound from any to me protocol tcp with ports except to-port 443"},
		{"two ranges", match(ports(1, 99)).Union(match(ports(200, 299))), "inbound from any to me protocol tcp to-port 1-99\ninbound from any to me protocol tcp to-port 200-299"},
		{"out of order", match(tcp(subnet("10.2.0.0/16"), me, 80)).Union(match(tcp(subnet("10.1.0.0/16"), me, 443))),
			"inbound from 10.1.0.0/16 to me protocol tcp to-port 443\ninbound from 10.2.0.0/16 to me protocol tcp to-port 80"},
		{"forwarded to all but groups", Of(filter.Entry{Forward: true, Selector: filter.Selector{From: any, To: filter.Range(addr("0.0.0.0"), addr("223.255.255.255"))}},
			filter.Entry{Forward: true, Selector: filter.Selector{From: any, To: filter.Range(addr("240.0.0.0"), addr("255.255.255.254"))}},
			filter.Entry{Forward: true, Selector: filter.Selector{From: any, To: filter.Range(addr("::"), addr("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))}}),
			"forward from any to any"},
		{"sent to all but groups", match(filter.Selector{From: me, To: any}).Subtract(groups),
			"outbound from me to any except to 224.0.0.0/4, to 255.255.255.255, to ff00::/8"},
		{"sent to groups", groups, "outbound from me to 224.0.0.0/4\noutbound from me to 255.255.255.255\noutbound from me to ff00::/8"},
		{"sent to hosts where groups are exempt", Set{terms: match(filter.Selector{From: me, To: any}).Subtract(groups).terms, unicast: true}, "outbound from me to any"},
		{"sent to some hosts where groups are exempt", Set{terms: match(filter.Selector{From: me, To: subnet("192.0.0.0/2")}).Subtract(groups).terms, unicast: true},
			"outbound from me to 192.0.0.0/2"},
		{"forwarded beside groups", Of(filter.Entry{Forward: true, Selector: filter.Selector{From: any, To: subnet("192.0.0.0/3")}},
			filter.Entry{Forward: true, Selector: filter.Selector{From: any, To: subnet("fe80::/9")}}),
			"forward from any to 192.0.0.0/3\nforward from any to fe80::/9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(tt.set.Describe(5), "\n"); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestSample(t *testing.T) {
	me, any := filter.Me(), filter.Any()
	toMe := filter.Selector{From: any, To: me}
	with := func(protocol uint8) filter.Selector {
		return filter.Selector{From: any, To: me, Protocol: protocol, HasProtocol: true}
	}
	ranged := with(6)
	ranged.ToPort = filter.PortRange{Lo: 5000, Hi: 6000}
	answers := with(17)
	answers.FromPort = filter.PortRange{Lo: 53, Hi: 53}
	eth0 := toMe
	eth0.Connection = filter.Connection{Kind: filter.ConnectionInterface, Name: "eth0"}
	noTCP := match(toMe).Subtract(match(with(6)))
	noUDP := noTCP.Subtract(match(with(17)))
	for _, tt := range []struct {
		name string
		set  Set
		want string
	}{
		{"everything", All(), "outbound on eth0, new: tcp from 192.0.2.1:40000 to 198.51.100.1:443"},
		{"not HTTPS", match(toMe).Subtract(match(tcp(any, me, 443))), "inbound on eth0, new: tcp from 192.0.2.1:40000 to 198.51.100.1:80"},
		{"a range of ports", match(ranged), "inbound on eth0, new: tcp from 192.0.2.1:40000 to 198.51.100.1:5000"},
		{"from a service", match(answers), "inbound on eth0, new: udp from 192.0.2.1:53 to 198.51.100.1:40000"},
		{"not TCP", noTCP, "inbound on eth0, new: udp from 192.0.2.1:40000 to 198.51.100.1:443"},
		{"neither TCP nor UDP", noUDP, "inbound on eth0, new: icmp echo-request from 192.0.2.1 to 198.51.100.1"},
		{"IPv6 of neither", noUDP.Intersect(match(filter.Selector{From: subnet("::/0"), To: me})), "inbound on eth0, new: icmpv6 echo-request from 2001:db8::1 to 2001:db8::2"},
		{"no ICMP either", noUDP.Subtract(match(with(1))).Subtract(match(with(58))).Intersect(match(filter.Selector{From: subnet("10.1.0.0/16"), To: me})),
			"inbound on eth0, new: sctp from 10.1.0.1:40000 to 198.51.100.1:443"},
		{"on another interface", match(toMe).Subtract(match(eth0)), "inbound on eth1, new: tcp from 192.0.2.1:40000 to 198.51.100.1:443"},
		{"answers", Of(filter.Entry{Selector: toMe, Stateful: true, Mirrored: true}).Intersect(match(filter.Selector{From: me, To: any})),
			"outbound on eth0, reply: tcp from 192.0.2.1:40000 to 198.51.100.1:443"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, ok, err := tt.set.Sample()
			if got := x.String(); !ok || err != nil || got != tt.want {
				t.Errorf("got %s, %v, %v; want %s", got, ok, err, tt.want)
			}
		})
	}
}

// The server's policy, and what is wrong with it.
func server(permit filter.Action) []filter.Entry {
	me, any := filter.Me(), filter.Any()
	entries := []filter.Entry{
		{Name: "staff", List: "staff", Selector: tcp(subnet("10.1.0.0/16"), me, 8443), Mirrored: true, Action: filter.Negotiate},
		{Name: "backup", List: "backup", Selector: tcp(subnet("10.1.0.0/16"), me, 8443), Mirrored: true, Action: permit},
		{Name: "dns", List: "lookups", Selector: filter.Selector{From: me, To: filter.Address(addr("10.9.0.53")), Protocol: 17, HasProtocol: true, ToPort: filter.PortRange{Lo: 53, Hi: 53}}, Mirrored: true, Action: filter.Permit},
		{Name: "myself", List: "myself", Selector: filter.Selector{From: me, To: me}, Action: filter.Permit},
		{Name: "kerberos", List: "kerberos", Selector: tcp(me, filter.Address(addr("10.9.0.88")), 88), Action: filter.Negotiate},
		{Name: "rest", List: "everything", Selector: filter.Selector{From: any, To: me}, Mirrored: true, Action: filter.Block},
	}
	for i := range entries {
		entries[i].Position = fmt.Sprintf("server.yaml:%d:7", 2*i+3)
	}
	return entries
}

func TestFindings(t *testing.T) {
	exempt := filter.Settings{Exemptions: filter.Exemptions{Kerberos: true}}
	p := Compile(mustNew(t, server(filter.Permit), exempt))
	var got []string
	line := func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }
	conflicts, err := Conflicts(p, byAction)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conflicts {
		line("%s and %s disagree on %v, such as %v", c.A.Position, c.B.Position, c.Packets.Describe(3), c.Sample)
	}
	dead, err := p.Dead()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dead {
		by := []string{}
		for _, e := range d.By {
			by = append(by, e.Name)
		}
		line("%s is dead by %q, exempt %v", d.Filter.Position, by, d.Exempt)
	}
	changed := server(filter.Permit)
	changed[0].Selector.From = subnet("10.1.0.0/17")
	changed[1].Selector.From = subnet("10.1.0.0/17")
	changed[5].Selector.From = subnet("0.0.0.0/0")
	changes, err := Diff(p, Compile(mustNew(t, changed, filter.Settings{})), func(_ Version, d filter.Decision) string {
		return d.Action.String()
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		line("%s -> %s: %s; such as %v", c.From, c.To, strings.Join(c.Packets.Describe(5), "; "), c.Sample)
	}
	x, violated, err := p.Violation(match(tcp(filter.Any(), filter.Me(), 8443)), func(d filter.Decision) bool { return d.Action == filter.Block })
	line("violated %v: %v, %v", violated, x, err)
	x, violated, err = p.Violation(match(tcp(filter.Any(), filter.Me(), 5432)), func(d filter.Decision) bool { return d.Action != filter.Permit })
	line("violated %v: %v, %v", violated, x.Packet.Src, err)
	want := `server.yaml:3:7 and server.yaml:5:7 disagree on [outbound from me to 10.1.0.0/16 protocol tcp from-port 8443 except to-port 88 inbound from 10.1.0.0/16 to me protocol tcp to-port 8443 except from-port 88 state reply], such as outbound on eth0, new: tcp from 192.0.2.1:8443 to 10.1.0.1:40000
server.yaml:11:7 is dead by [], exempt true
server.yaml:9:7 is dead by [], exempt false
server.yaml:5:7 is dead by ["staff"], exempt false
permit -> negotiate: outbound from me to 10.1.0.0/17 protocol tcp from-port 8443 to-port 88; outbound from me to 10.9.0.88 protocol tcp to-port 88; such as outbound on eth0, new: tcp from 192.0.2.1:40000 to 10.9.0.88:88
permit -> block: outbound from me to 0.0.0.0/0 protocol tcp,udp to-port 88 except to 10.1.0.0/17 protocol tcp from-port 8443, to 10.9.0.88 protocol tcp; outbound from me to 0.0.0.0/0 protocol tcp,udp from-port 88 state reply except to-port 88, to 10.9.0.53 protocol udp to-port 53; such as outbound on eth0, new: tcp from 192.0.2.1:40000 to 198.51.100.1:88
negotiate -> block: outbound from me to 10.1.128.0/17 protocol tcp from-port 8443 except to-port 88; such as outbound on eth0, new: tcp from 192.0.2.1:8443 to 10.1.128.1:40000
block -> permit: outbound from me to ::/0 except protocol tcp,udp to-port 88, protocol tcp,udp from-port 88 state reply; such as outbound on eth0, new: tcp from [2001:db8::1]:40000 to [2001:db8::2]:443
permit -> block: inbound from 0.0.0.0/0 to me protocol tcp,udp to-port 88 except from 10.9.0.53 protocol udp from-port 53; inbound from 0.0.0.0/0 to me protocol tcp,udp from-port 88 state reply except to-port 88, from 10.1.0.0/17 protocol tcp to-port 8443; such as inbound on eth0, new: tcp from 192.0.2.1:40000 to 198.51.100.1:88
permit -> negotiate: inbound from 10.1.0.0/17 to me protocol tcp from-port 88 to-port 8443 state reply; such as inbound on eth0, reply: tcp from 10.1.0.1:88 to 198.51.100.1:8443
negotiate -> block: inbound from 10.1.128.0/17 to me protocol tcp to-port 8443 except from-port 88 state reply; such as inbound on eth0, new: tcp from 10.1.128.1:40000 to 198.51.100.1:8443
block -> permit: inbound from ::/0 to me except protocol tcp,udp to-port 88, protocol tcp,udp from-port 88 state reply; such as inbound on eth0, new: tcp from [2001:db8::1]:40000 to [2001:db8::2]:443
violated true: inbound on eth0, reply: tcp from 192.0.2.1:88 to 198.51.100.1:8443, <nil>
violated true: 192.0.2.1, <nil>`
	if got := strings.Join(got, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
