package conntrack

import (
	"net/netip"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// addresses are those of this host in the tests.
type addresses map[netip.Addr]bool

func (l addresses) Local(a netip.Addr) bool { return l[a] }

func hostOf(all ...string) addresses {
	l := addresses{}
	for _, a := range all {
		l[netip.MustParseAddr(a)] = true
	}
	return l
}

var host = hostOf("127.0.0.1", "::1", "10.1.0.1", "fd01::1")

// connection makes an entry of the ends that its packets bear on either side of
// the translation: as "from", "to", and "reply.src", "reply.dst" in the terms
// of connection tracking. Without the last two there is none.
func connection(protocol uint8, ends ...string) *entry {
	if len(ends) == 2 {
		ends = append(ends, ends[1], ends[0])
	}
	at := func(i int) netip.AddrPort { return netip.MustParseAddrPort(ends[i]) }
	return &entry{
		original: tuple{src: at(0), dst: at(1), protocol: protocol},
		reply:    tuple{src: at(2), dst: at(3), protocol: protocol},
	}
}

func ping(from, to string, kind, answer uint8) *entry {
	protocol := uint8(packet.ICMP)
	if netip.MustParseAddr(from).Is6() {
		protocol = packet.ICMPv6
	}
	e := connection(protocol, netip.AddrPortFrom(netip.MustParseAddr(from), 0).String(), netip.AddrPortFrom(netip.MustParseAddr(to), 0).String())
	e.original.hasICMP, e.original.icmpType = true, kind
	e.reply.hasICMP, e.reply.icmpType = true, answer
	return e
}

// rule is a filter without its name and position.
type rule func(*filter.Entry)

func with(action filter.Action, from, to string, rules ...rule) filter.Entry {
	side := func(s string) filter.Side {
		switch s {
		case "any":
			return filter.Any()
		case "me":
			return filter.Me()
		}
		if a, err := netip.ParseAddr(s); err == nil {
			return filter.Address(a)
		}
		return filter.Subnet(netip.MustParsePrefix(s))
	}
	e := filter.Entry{Name: "r", Position: "test:1:1", Action: action, Mirrored: true, Selector: filter.Selector{From: side(from), To: side(to)}}
	for _, r := range rules {
		r(&e)
	}
	return e
}

func oneWay(e *filter.Entry)   { e.Mirrored = false }
func stateful(e *filter.Entry) { e.Stateful = true }
func forward(e *filter.Entry)  { e.Forward = true }

func proto(p uint8) rule {
	return func(e *filter.Entry) { e.Selector.Protocol, e.Selector.HasProtocol = p, true }
}

func to(p uint8, port uint16) rule {
	return func(e *filter.Entry) {
		proto(p)(e)
		e.Selector.ToPort = filter.PortRange{Lo: port, Hi: port}
	}
}

func message(p, kind uint8) rule {
	return func(e *filter.Entry) {
		proto(p)(e)
		e.Selector.ICMP = filter.ICMP{Type: kind, HasType: true}
	}
}

func on(kind filter.ConnectionKind, name string) rule {
	return func(e *filter.Entry) { e.Selector.Connection = filter.Connection{Kind: kind, Name: name} }
}

func policy(t testing.TB, entries ...filter.Entry) *filter.SPD {
	t.Helper()
	spd, err := filter.New(entries, filter.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	return spd
}

func TestFate(t *testing.T) {
	const tcp, udp = packet.TCP, packet.UDP
	const kept, cut, shut = "kept", "cut", "refused, entry kept"
	block, permit, negotiate := filter.Block, filter.Permit, filter.Negotiate
	out := connection(tcp, "10.1.0.1:40000", "10.2.0.2:80")
	in := connection(tcp, "10.2.0.2:40000", "10.1.0.1:80")
	through := connection(tcp, "10.1.0.2:40000", "10.2.0.2:80")
	policyOf := func(entries ...filter.Entry) []filter.Entry { return entries }
	lan := []filter.Interface{{Name: "eth0"}, {Name: "eth1"}}
	tests := []struct {
		name       string
		entries    []filter.Entry
		connection *entry
		interfaces []filter.Interface
		want       string
		socket     string // local and remote end, or none
	}{
		{"no filter", nil, out, nil, kept, ""},
		{"permitted", policyOf(with(permit, "me", "any"), with(block, "any", "10.9.0.0/16")), out, nil, kept, ""},
		{"blocked, begun here", policyOf(with(block, "me", "any", to(tcp, 80))), out, nil, cut, "10.1.0.1:40000 10.2.0.2:80"},
		{"blocked, begun there", policyOf(with(block, "any", "me", to(tcp, 80))), in, nil, cut, "10.1.0.1:80 10.2.0.2:40000"},
		{"another port", policyOf(with(block, "me", "any", to(tcp, 81))), out, nil, kept, ""},
		{"another protocol", policyOf(with(block, "me", "any", to(udp, 80))), out, nil, kept, ""},
		{"UDP has no socket to destroy", policyOf(with(block, "me", "any")), connection(udp, "10.1.0.1:40000", "10.2.0.2:53"), nil, cut, ""},
		{"IPv6", policyOf(with(block, "me", "fd02::/64")), connection(tcp, "[fd01::1]:40000", "[fd02::2]:80"), nil, cut, "[fd01::1]:40000 [fd02::2]:80"},
		{"only the answers blocked", policyOf(with(block, "10.2.0.2", "me", oneWay)), out, nil, cut, "10.1.0.1:40000 10.2.0.2:80"},
		{"only the questions blocked", policyOf(with(block, "10.2.0.2", "me", oneWay)), in, nil, cut, "10.1.0.1:80 10.2.0.2:40000"},
		{"to be secured", policyOf(with(negotiate, "me", "any")), out, nil, kept, ""},
		{"to be secured, answers blocked", policyOf(with(negotiate, "me", "any", oneWay), with(block, "any", "me", oneWay)), out, nil, cut, "10.1.0.1:40000 10.2.0.2:80"},
		{"between own addresses", policyOf(with(block, "any", "any")), connection(tcp, "10.1.0.1:40000", "10.1.0.1:80"), nil, kept, ""},
		{"of the loopback's subnet", policyOf(with(block, "any", "any")), connection(udp, "127.0.0.1:40000", "127.0.0.53:53"), nil, kept, ""},

		{"stateful, from its From side", policyOf(with(permit, "me", "any", stateful), with(block, "any", "any")), out, nil, kept, ""},
		{"stateful, from the other", policyOf(with(permit, "me", "any", stateful), with(block, "any", "any")), in, nil, shut, "10.1.0.1:80 10.2.0.2:40000"},
		{"stateful, other port", policyOf(with(permit, "me", "any", stateful, to(tcp, 443)), with(block, "any", "any")), in, nil, cut, "10.1.0.1:80 10.2.0.2:40000"},
		{"stateful, answers are blocked anyway", policyOf(with(permit, "me", "any", stateful, oneWay), with(block, "any", "any")), in, nil, cut, "10.1.0.1:80 10.2.0.2:40000"},

		{"forwarded", policyOf(with(block, "any", "10.2.0.0/24", forward)), through, nil, cut, ""},
		{"a host's filter does not concern forwarded", policyOf(with(block, "any", "any")), through, nil, kept, ""},
		{"a forwarding filter does not concern the host's", policyOf(with(block, "any", "any", forward)), out, nil, kept, ""},
		{"forwarded, stateful, the wrong way", policyOf(with(permit, "10.2.0.0/24", "10.1.0.0/24", stateful, forward), with(block, "any", "any", forward)), through, nil, shut, ""},

		{"source translated, judged after it", policyOf(with(block, "10.9.0.9", "any", oneWay)),
			connection(tcp, "10.1.0.1:40000", "10.2.0.2:80", "10.2.0.2:80", "10.9.0.9:5000"), nil, cut, "10.1.0.1:40000 10.2.0.2:80"},
		{"source translated, not judged before", policyOf(with(block, "10.1.0.1", "any", oneWay)),
			connection(tcp, "10.1.0.1:40000", "10.2.0.2:80", "10.2.0.2:80", "10.9.0.9:5000"), nil, kept, ""},
		{"source translated, its answers after", policyOf(with(block, "any", "10.1.0.1", oneWay)),
			connection(tcp, "10.1.0.1:40000", "10.2.0.2:80", "10.2.0.2:80", "10.9.0.9:5000"), nil, cut, "10.1.0.1:40000 10.2.0.2:80"},
		{"redirected in, judged after it", policyOf(with(block, "any", "me", to(tcp, 80), oneWay)),
			connection(tcp, "10.2.0.2:40000", "10.1.0.1:8080", "10.1.0.1:80", "10.2.0.2:40000"), nil, cut, "10.1.0.1:80 10.2.0.2:40000"},
		{"redirected in, not judged before", policyOf(with(block, "any", "me", to(tcp, 8080), oneWay)),
			connection(tcp, "10.2.0.2:40000", "10.1.0.1:8080", "10.1.0.1:80", "10.2.0.2:40000"), nil, kept, ""},
		{"redirected in, its answers as on the wire", policyOf(with(block, "any", "me", to(tcp, 8080))),
			connection(tcp, "10.2.0.2:40000", "10.1.0.1:8080", "10.1.0.1:80", "10.2.0.2:40000"), nil, cut, "10.1.0.1:80 10.2.0.2:40000"},
		{"redirected out", policyOf(with(block, "me", "10.3.0.3")),
			connection(tcp, "10.1.0.1:40000", "10.2.0.2:80", "10.3.0.3:80", "10.1.0.1:40000"), nil, cut, "10.1.0.1:40000 10.2.0.2:80"},
		{"masqueraded, judged between", policyOf(with(block, "10.1.0.2", "10.2.0.2", forward)),
			connection(tcp, "10.1.0.2:40000", "10.2.0.2:80", "10.2.0.2:80", "10.1.0.1:5000"), nil, cut, ""},
		{"passed on to a server behind", policyOf(with(block, "any", "10.1.0.2", to(tcp, 8080), forward)),
			connection(tcp, "10.2.0.2:40000", "10.1.0.1:80", "10.1.0.2:8080", "10.2.0.2:40000"), nil, cut, ""},

		{"ping", policyOf(with(block, "any", "me", message(packet.ICMP, 8))), ping("10.2.0.2", "10.1.0.1", 8, 0), nil, cut, ""},
		{"another message", policyOf(with(block, "any", "me", message(packet.ICMP, 13))), ping("10.2.0.2", "10.1.0.1", 8, 0), nil, kept, ""},
		{"ping of IPv6", policyOf(with(block, "any", "me", message(packet.ICMPv6, 129), oneWay)), ping("fd01::1", "fd02::2", 128, 129), nil, cut, ""},
		{"IKE", policyOf(with(block, "any", "any")), connection(udp, "10.1.0.1:500", "10.2.0.2:500"), nil, kept, ""},
		{"IKE behind a NAT", policyOf(with(block, "any", "any")), connection(udp, "10.1.0.1:4500", "10.2.0.2:4500"), nil, kept, ""},
		{"ESP", policyOf(with(block, "any", "any")), connection(filter.ESP, "10.1.0.1:0", "10.2.0.2:0"), nil, kept, ""},
		{"a multicast group", policyOf(with(block, "any", "any", forward)), connection(udp, "10.2.0.2:5353", "224.0.0.251:5353"), nil, kept, ""},

		{"blocked on one of two interfaces", policyOf(with(block, "me", "any", on(filter.ConnectionInterface, "eth0"))), out, lan, kept, ""},
		{"blocked on the one there is", policyOf(with(block, "me", "any", on(filter.ConnectionInterface, "eth0"))), out, lan[:1], cut, "10.1.0.1:40000 10.2.0.2:80"},
		{"blocked on both by name", policyOf(with(block, "me", "any", on(filter.ConnectionInterface, "eth0")), with(block, "me", "any", on(filter.ConnectionInterface, "eth1"))), out, lan, cut, "10.1.0.1:40000 10.2.0.2:80"},
		{"permitted on one of two", policyOf(with(block, "me", "any"), with(permit, "me", "any", on(filter.ConnectionInterface, "eth1"))), out, lan, kept, ""},
		{"blocked on LANs", policyOf(with(block, "me", "any", on(filter.ConnectionLAN, ""))), out, lan, cut, "10.1.0.1:40000 10.2.0.2:80"},
		{"blocked on LANs, and there is PPP", policyOf(with(block, "me", "any", on(filter.ConnectionLAN, ""))), out, []filter.Interface{{Name: "eth0"}, {Name: "ppp0", Remote: true}}, kept, ""},
		{"no interfaces known", policyOf(with(block, "me", "any"), with(permit, "me", "any", on(filter.ConnectionLAN, ""))), out, nil, kept, ""},
		{"could begin on one of two", policyOf(with(block, "any", "any"), with(permit, "me", "any", stateful, on(filter.ConnectionInterface, "eth1"))), in, lan, shut, "10.1.0.1:80 10.2.0.2:40000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spd := policy(t, tt.entries...)
			j := judge{spd, host, distinct(spd, tt.interfaces)}
			f := j.fate(tt.connection)
			got := kept
			switch {
			case f.deleted:
				got = cut
			case f.refused:
				got = shut
			}
			if got != tt.want || f.deleted && !f.refused {
				t.Errorf("the connection is %s, want %s (%+v)", got, tt.want, f)
			}
			s := ""
			if f.socket.local.IsValid() {
				s = f.socket.local.String() + " " + f.socket.remote.String()
			}
			if s != tt.socket {
				t.Errorf("socket %q, want %q", s, tt.socket)
			}
		})
	}
}

// However many interfaces a host has, those that no filter tells apart are
// asked for once.
func TestDistinct(t *testing.T) {
	all := []filter.Interface{{Name: "eth0"}, {Name: "eth1"}, {Name: "eth2"}, {Name: "ppp0", Remote: true}, {Name: "ppp1", Remote: true}}
	tests := []struct {
		name    string
		entries []filter.Entry
		want    []filter.Interface
	}{
		{"no filter asks", []filter.Entry{with(filter.Block, "me", "any")}, []filter.Interface{{}}},
		{"one asks for LANs", []filter.Entry{with(filter.Block, "me", "any", on(filter.ConnectionLAN, ""))}, []filter.Interface{all[0], all[3]}},
		{"one asks for one", []filter.Entry{with(filter.Block, "me", "any", on(filter.ConnectionInterface, "eth1"))}, []filter.Interface{all[0], all[1], all[3]}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := distinct(policy(t, tt.entries...), all)
			if len(got) != len(tt.want) {
				t.Fatalf("got %v, want %v", got, tt.want)
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("got %v, want %v", got, tt.want)
				}
			}
		})
	}
}

func TestFateAllocatesNothing(t *testing.T) {
	spd := policy(t, with(filter.Permit, "me", "any", stateful), with(filter.Block, "any", "any"))
	j := judge{spd, host, distinct(spd, nil)}
	e := connection(packet.TCP, "10.2.0.2:40000", "10.1.0.1:80")
	if n := testing.AllocsPerRun(100, func() { j.fate(e) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
