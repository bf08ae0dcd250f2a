package foreign

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// witness counts in our own table, which Read leaves out, the packets that
// have passed all others: those that came to the host, those that it sent, and
// those that it forwarded, which have one hop less.
const witness = `
table inet ipsecfw {
	chain input {
		type filter hook input priority 2147483647;
		ip ttl 64 counter
		ip6 hoplimit 64 counter
	}
	chain postrouting {
		type filter hook postrouting priority 2147483647;
		oifname "lo" accept
		ip ttl 64 counter
		ip6 hoplimit 64 counter
		ip ttl 63 counter
		ip6 hoplimit 63 counter
	}
}`

// arena is a host with two interfaces that end in the test.
type arena struct {
	t   *testing.T
	ns  netns.NsHandle
	tap map[string]int // by name, what the test writes comes in by it
	raw map[bool]int   // raw sockets: of IPv6, or not
	own Interface
	in  Interface
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newArena puts the test into a fresh network namespace, which goes away with
// the test's thread.
func newArena(t *testing.T) *arena {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	for path, value := range map[string]string{
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0", "ipv4/ip_forward": "1",
		"ipv6/conf/all/forwarding": "1", "ipv6/conf/default/accept_dad": "0",
	} {
		must(t, os.WriteFile("/proc/sys/net/"+path, []byte(value), 0))
	}
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	a := &arena{t: t, ns: ns, tap: map[string]int{}, raw: map[bool]int{}}
	a.own = a.open("eth0", "10.0.0.1/24", "fd00::1/64")
	a.in = a.open("docker0", "172.17.0.1/16", "fd17::1/64")
	for _, everything := range []string{"0.0.0.0/0", "::/0"} {
		_, to, err := net.ParseCIDR(everything)
		must(t, err)
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: int(a.own.Index), Dst: to}))
	}
	for _, v6 := range []bool{false, true} {
		family := unix.AF_INET
		if v6 {
			family = unix.AF_INET6
		}
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		a.raw[v6] = fd
	}
	return a
}

func (a *arena) open(name string, addresses ...string) Interface {
	t := a.t
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	must(t, err)
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	must(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
	l, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	for _, s := range addresses {
		address, err := netlink.ParseAddr(s)
		must(t, err)
		must(t, netlink.AddrAdd(l, address))
	}
	a.tap[name] = fd
	return Interface{Name: name, Index: uint32(l.Attrs().Index), Type: 65534} // ARPHRD_NONE
}

// command runs a program in the namespace. It must be called by the test that
// made the arena: a subtest is on another thread, and in the machine's own
// namespace.
func (a *arena) command(name string, args ...string) {
	t := a.t
	t.Helper()
	now, err := netns.Get()
	must(t, err)
	defer now.Close()
	if !now.Equal(a.ns) {
		t.Fatalf("%s %v would run in another network namespace", name, args)
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// counters returns what the witness has counted, by rule.
func counters(t *testing.T) (input, output, forwarded uint64) {
	t.Helper()
	all, err := Read("")
	must(t, err)
	for _, hook := range all.hooks {
		for _, b := range hook {
			if b.table.name != "ipsecfw" {
				continue
			}
			for i, r := range b.chain.rules {
				for _, x := range r.expressions {
					c, ok := x.(*expr.Counter)
					switch {
					case !ok:
					case b.chain.name == "input":
						input += c.Packets
					case i < 3:
						output += c.Packets
					default:
						forwarded += c.Packets
					}
				}
			}
		}
	}
	return input, output, forwarded
}

// bytes returns the probe as a whole packet.
func (a *arena) bytes(p Probe) []byte {
	_, transport := p.headers()
	payload := append(transport.data, make([]byte, 40-len(transport.data))...)
	switch p.Protocol {
	case packet.TCP:
		payload = payload[:20]
		payload[12] = 5 << 4 // words of header
	case packet.UDP:
		binary.BigEndian.PutUint16(payload[4:], uint16(len(payload)))
	}
	var b []byte
	if p.Src.Is4() {
		b = packet.AppendIPv4Header(nil, p.Src, p.Dst, p.Protocol, 0, 64, len(payload), true)
	} else {
		b = packet.AppendIPv6Header(nil, p.Src, p.Dst, p.Protocol, 0, 64, len(payload))
	}
	b = append(b, payload...)
	var parsed packet.Packet
	must(a.t, packet.Parse(b, &parsed))
	packet.FinishChecksum(b, &parsed)
	return b
}

// passes sends the probe as the first packet of a connection, and reports
// whether it got past all tables. The kernel decides before the call returns.
func (a *arena) passes(d filter.Direction, p Probe) bool {
	t := a.t
	t.Helper()
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, everyConnection{})
		must(t, err)
	}
	in, out, forwarded := counters(t)
	b := a.bytes(p)
	if d == filter.Outbound {
		var err error
		if p.Src.Is4() {
			err = unix.Sendto(a.raw[false], b, 0, &unix.SockaddrInet4{Addr: p.Dst.As4()})
		} else {
			err = unix.Sendto(a.raw[true], b, 0, &unix.SockaddrInet6{Addr: p.Dst.As16()})
		}
		if err != nil && !errors.Is(err, unix.EPERM) {
			t.Fatal(err)
		}
	} else if _, err := unix.Write(a.tap[p.In.Name], b); err != nil {
		t.Fatal(err)
	}
	in2, out2, forwarded2 := counters(t)
	var n uint64
	switch d {
	case filter.Inbound:
		n = in2 - in
	case filter.Outbound:
		n = out2 - out
	case filter.Forward:
		n = forwarded2 - forwarded
	}
	if n > 1 {
		t.Fatalf("%s: the witness counts %d packets", p, n)
	}
	return n == 1
}

type everyConnection struct{}

func (everyConnection) MatchConntrackFlow(*netlink.ConntrackFlow) bool { return true }

// trial is a probe and its fate.
type trial struct {
	d     filter.Direction
	via   string // the interface, or "in>out"
	p     Probe
	drops string // the chain that drops it; empty for none
}

func probe(protocol uint8, src string, srcPort uint16, dst string, dstPort uint16) Probe {
	p := Probe{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Protocol: protocol, State: filter.StateNew}
	if packet.HasPorts(protocol) {
		p.SrcPort, p.DstPort = srcPort, dstPort
	} else {
		p.ICMPType = uint8(dstPort)
	}
	return p
}

func tcp(src, dst string, port uint16) Probe { return probe(packet.TCP, src, 40000, dst, port) }
func udp(src, dst string, port uint16) Probe { return probe(packet.UDP, src, 40000, dst, port) }
func icmp(src, dst string, kind uint8) Probe {
	return probe(packet.ICMP, src, 0, dst, uint16(kind))
}
func icmp6(src, dst string, kind uint8) Probe {
	return probe(packet.ICMPv6, src, 0, dst, uint16(kind))
}
func esp(src, dst string) Probe { return probe(packet.ESP, src, 0, dst, 0) }

// compare judges the probes and sends them.
func (a *arena) compare(trials []trial) {
	t := a.t
	a.command("nft", witness)
	began := time.Now()
	tables, err := Read("ipsecfw")
	must(t, err)
	if took := time.Since(began); took > time.Second {
		t.Errorf("Read took %v", took)
	}
	for _, x := range trials {
		in, out := a.own, a.own
		switch x.via {
		case "docker0":
			in, out = a.in, a.in
		case "eth0>docker0":
			out = a.in
		case "docker0>eth0":
			in = a.in
		}
		switch x.d {
		case filter.Inbound:
			x.p.In = in
		case filter.Outbound:
			x.p.Out = out
		case filter.Forward:
			x.p.In, x.p.Out = in, out
		}
		verdict, where := tables.Judge(x.d, x.p)
		want := Passes
		if x.drops != "" {
			want = Drops
		}
		if verdict != want || where.Chain != x.drops {
			t.Errorf("%s %s: it %s (%s), want it %s in chain %q", x.d, x.p, verdict, where, want, x.drops)
		}
		if passes := a.passes(x.d, x.p); passes != (want == Passes) {
			t.Errorf("%s %s: want it %s, in the kernel it passes: %v", x.d, x.p, want, passes)
		}
	}
}

const in, out, forward = filter.Inbound, filter.Outbound, filter.Forward

func TestFirewalld(t *testing.T) {
	a := newArena(t)
	a.command("nft", "-f", "testdata/firewalld.nft")
	const peer, me, peer6, me6 = "192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1"
	a.compare([]trial{
		{in, "eth0", tcp(peer, me, 22), ""},
		{in, "eth0", tcp(peer6, me6, 22), ""},
		{in, "eth0", tcp(peer, me, 23), "filter_INPUT"},
		{in, "eth0", tcp(peer6, me6, 23), "filter_INPUT"},
		{in, "eth0", tcp(peer, me, 8050), ""},
		{in, "eth0", tcp(peer, me, 8101), "filter_INPUT"},
		{in, "eth0", udp(peer, me, 500), ""},
		{in, "eth0", udp(peer, me, 4500), ""},
		{in, "eth0", udp(peer, me, 546), "filter_INPUT"},
		{in, "eth0", esp(peer, me), ""},
		{in, "eth0", esp(peer6, me6), ""},
		{in, "eth0", icmp(peer, me, 8), ""},
		{in, "eth0", icmp6(peer6, me6, 128), ""},
		{in, "eth0", tcp("198.51.100.7", me, 22), "in_public_deny"},
		{in, "eth0", tcp("2001:db8:bad::1", me6, 22), "in_public_deny"},
		{in, "eth0", tcp("10.9.255.255", me, 9999), ""},
		{in, "eth0", tcp("192.0.2.200", me, 9999), ""},
		{in, "eth0", tcp("192.0.2.201", me, 9999), "filter_INPUT"},
		{in, "docker0", udp("172.17.0.2", "172.17.0.1", 53), ""},
		{in, "docker0", udp("172.17.0.2", "172.17.0.1", 54), "in_containers"},
		{in, "docker0", tcp("172.17.0.2", "172.17.0.1", 22), "in_containers"},
		{out, "eth0", tcp(me, peer, 80), ""},
		{out, "eth0", tcp(me6, peer6, 80), ""},
		{out, "eth0", tcp(me6, "2002:c000:201::1", 80), "filter_OUTPUT"},
		{forward, "eth0>docker0", tcp(peer, "172.17.0.2", 80), "filter_FORWARD"},
		{forward, "docker0>eth0", tcp("172.17.0.2", peer, 80), ""},
		{forward, "docker0>eth0", tcp("fd17::2", peer6, 80), ""},
	})
}

func TestDocker(t *testing.T) {
	a := newArena(t)
	a.command("nft", "-f", "testdata/docker.nft")
	const peer, me, container = "192.0.2.1", "10.0.0.1", "172.17.0.2"
	a.compare([]trial{
		{in, "eth0", tcp(peer, me, 22), ""},
		{in, "docker0", tcp(container, "172.17.0.1", 8080), ""},
		{in, "eth0", tcp("2001:db8::1", "fd00::1", 8080), ""},
		{out, "eth0", tcp(me, peer, 8080), ""},
		{out, "docker0", tcp("172.17.0.1", container, 80), ""},
		{forward, "eth0>docker0", tcp(peer, container, 80), ""},
		{forward, "eth0>docker0", tcp(peer, container, 81), "FORWARD"},
		{forward, "eth0>docker0", tcp("192.0.2.5", container, 80), "DOCKER-USER"},
		{forward, "eth0>docker0", tcp("192.0.2.6", container, 80), ""},
		{forward, "eth0>docker0", udp(peer, container, 80), "FORWARD"},
		{forward, "eth0>docker0", tcp(peer, "172.17.0.3", 80), "PREROUTING"},
		{forward, "docker0>eth0", tcp(container, peer, 443), ""},
		{forward, "docker0>eth0", tcp("172.17.0.3", peer, 443), ""},
		{forward, "eth0>eth0", tcp(peer, "198.51.100.1", 80), "FORWARD"},
		{forward, "eth0>docker0", tcp("2001:db8::1", "fd17::2", 80), ""},
	})
	// What goes to the published port is no longer to the host.
	tables, err := Read("ipsecfw")
	must(t, err)
	p := tcp(peer, me, 8080)
	p.In = a.own
	if v, where := tables.Judge(in, p); v != Unknown || where.Chain != "DOCKER" {
		t.Errorf("to a published port: it %s (%s)", v, where)
	}
}

func TestHandWritten(t *testing.T) {
	a := newArena(t)
	a.command("nft", "-f", "testdata/hand.nft")
	const peer, me, peer6, me6 = "192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1"
	from := func(port uint16, p Probe) Probe {
		p.SrcPort = port
		return p
	}
	a.compare([]trial{
		{in, "eth0", tcp(peer, me, 1), "input"},
		{in, "eth0", tcp(peer6, me6, 1), "input"},
		{in, "eth0", udp(peer, me, 5001), ""},
		{in, "eth0", tcp(peer, me, 5002), ""},
		{in, "eth0", tcp(peer, me, 5003), "input"},
		{in, "eth0", tcp("192.0.2.15", me, 6005), "input"},
		{in, "eth0", tcp("192.0.2.77", me, 6100), "input"},
		{in, "eth0", tcp(peer, me, 7000), ""},
		{in, "eth0", tcp(peer6, me6, 7001), ""},
		{in, "eth0", tcp(peer, me, 7001), "input"}, // of the table second
		{in, "eth0", tcp(peer, me, 7099), ""},
		{in, "eth0", tcp(peer, me, 7100), "input"},
		{in, "eth0", tcp(peer, me, 7101), "deeper"},
		{in, "eth0", tcp("192.0.2.3", me, 7101), ""},
		{in, "eth0", tcp(peer, me, 7155), ""},
		{in, "eth0", tcp(peer, me, 7161), "input"},
		{in, "eth0", udp(peer, me, 8999), "input"},
		{in, "eth0", udp(peer, me, 9000), ""},
		{in, "eth0", udp(peer, me, 9001), "input"},
		{in, "eth0", from(50000, udp(peer, me, 9001)), ""},
		{in, "eth0", from(49999, udp(peer, me, 9001)), "input"},
		{in, "eth0", tcp(peer, me, 7200), ""},
		{in, "eth0", tcp(peer, me, 7201), ""},
		{in, "eth0", tcp(peer, me, 7202), ""},
		{in, "eth0", tcp(peer, me, 7300), "input"},
		{in, "eth0", tcp(peer, me, 7301), ""},
		{in, "eth0", tcp(peer, me, 7400), ""},
		{in, "eth0", tcp(peer, me, 7401), "input"},
		{in, "eth0", tcp(peer, me, 7402), ""},
		{in, "eth0", tcp(peer, me, 7403), ""},
		{in, "eth0", tcp(peer, me, 7404), ""},
		{in, "eth0", tcp(peer6, me6, 7404), "input"},
		{in, "eth0", tcp(peer, me, 7405), ""},
		{in, "eth0", tcp(peer6, me6, 7405), "input"},
		{in, "eth0", tcp(peer6, me6, 7406), ""},
		{in, "eth0", tcp("2001:db8::2", me6, 7406), "input"},
		{in, "eth0", tcp(peer6, me6, 7407), "input"},
		{in, "eth0", tcp(peer6, me6, 7408), ""},
		{in, "eth0", tcp(peer, me, 7408), "input"},
		{in, "eth0", tcp(peer, me, 7409), ""},
		{in, "docker0", tcp("172.17.0.2", "172.17.0.1", 7409), "input"},
		{in, "eth0", tcp("192.0.2.9", me, 7410), ""},
		{in, "eth0", tcp("192.0.2.10", me, 7410), "input"},
		{in, "eth0", tcp(peer, me, 7411), ""},
		{in, "eth0", tcp(peer, me, 7412), ""},
		{in, "eth0", icmp(peer, me, 8), ""},
		{in, "eth0", icmp(peer, me, 17), "input"},
		{in, "eth0", icmp6(peer6, me6, 128), ""},
		{in, "eth0", esp(peer, me), ""},
		{in, "eth0", esp(peer6, me6), "input"},
		{out, "eth0", tcp(me, peer, 80), ""},
		{out, "eth0", tcp(me, peer, 25), "post"},
		{out, "eth0", tcp(me, "192.0.2.66", 80), "output"},
		{out, "eth0", tcp(me, "192.0.2.90", 80), "output"},
		{out, "eth0", tcp(me, "192.0.2.91", 80), ""},
		{out, "eth0", tcp(me6, peer6, 80), ""},
		{out, "eth0", tcp(me6, "3fff::1", 80), "output"},
		{out, "eth0", udp(me, peer, 53), "output"},
		{out, "eth0", udp(me, "192.0.2.53", 53), ""},
		{out, "docker0", udp("172.17.0.1", "172.17.0.2", 53), ""},
		{forward, "eth0>docker0", tcp(peer, "172.17.0.2", 80), ""},
		{forward, "eth0>docker0", udp(peer, "172.17.0.2", 443), ""},
		{forward, "eth0>docker0", udp(peer6, "fd17::2", 444), "inward"},
		{forward, "docker0>eth0", tcp("172.17.0.2", peer, 444), ""},
		{forward, "eth0>eth0", tcp(peer, "198.51.100.1", 444), ""},
		{forward, "docker0>eth0", tcp("172.17.0.2", peer, 25), "post"},
	})
}

// ufw speaks the language of xtables.
func TestUFW(t *testing.T) {
	a := newArena(t)
	const peer, me = "192.0.2.1", "10.0.0.1"
	if _, err := exec.LookPath("iptables-nft-restore"); err != nil {
		t.Log("iptables-nft-restore is not installed; TestXtables has the expressions that it would make")
		return
	}
	a.command("iptables-nft-restore", "testdata/ufw.rules")
	from := func(port uint16, p Probe) Probe {
		p.SrcPort = port
		return p
	}
	a.compare([]trial{
		{in, "eth0", tcp(peer, me, 22), ""},
		{in, "eth0", tcp(peer, me, 21), "INPUT"},
		{in, "eth0", tcp("2001:db8::1", "fd00::1", 21), ""},
		{in, "eth0", tcp("198.51.100.9", me, 22), "user-input"},
		{in, "eth0", tcp(peer, me, 443), ""},
		{in, "eth0", tcp(peer, me, 8100), ""},
		{in, "eth0", tcp(peer, me, 8101), "INPUT"},
		{in, "eth0", udp(peer, me, 443), "INPUT"},
		{in, "eth0", udp(peer, me, 5353), ""},
		{in, "eth0", from(1023, udp(peer, me, 5353)), "INPUT"},
		{in, "eth0", udp(peer, me, 514), ""},
		{in, "eth0", udp("192.0.2.2", me, 514), "INPUT"},
		{in, "eth0", tcp(peer, me, 23), ""},
		{in, "eth0", tcp(peer, me, 24), "INPUT"},
		{in, "eth0", tcp(peer, me, 26), ""},
		{in, "eth0", tcp(peer, me, 27), "INPUT"},
		{in, "eth0", udp(peer, me, 137), "after-input"},
		{in, "eth0", icmp(peer, me, 8), ""},
		{in, "eth0", icmp(peer, me, 13), "INPUT"},
		{in, "eth0", esp(peer, me), ""},
		{in, "eth0", udp(peer, me, 500), "INPUT"},
		{out, "eth0", udp(me, peer, 500), ""},
		{forward, "eth0>docker0", tcp(peer, "172.17.0.2", 80), "FORWARD"},
	})
}
