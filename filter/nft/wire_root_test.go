package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// wires are three hosts in a row, peer - host - behind, each in its network
// namespace. The rules are in force on the one in the middle.
type wires struct {
	t                  *testing.T
	host, peer, behind netns.NsHandle
}

// newWires leaves the test in the namespace of host, which it makes a router.
func newWires(t *testing.T) *wires {
	w := &wires{t: t}
	for _, ns := range []*netns.NsHandle{&w.peer, &w.behind, &w.host} {
		*ns = namespace(t)
		// Addresses must not wait for duplicate address detection.
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0))
	}
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	w.link("peer", w.peer, 1)
	w.link("behind", w.behind, 2)
	for _, path := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
		must(t, os.WriteFile(path, []byte("1"), 0))
	}
	return w
}

// link joins the host with another by subnet n: the host is .1, the other .2
// and, on the same link, .9.
func (w *wires) link(name string, other netns.NsHandle, n int) {
	must(w.t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "host", PeerNamespace: netlink.NsFd(other)}))
	configure := func(link string, last ...int) {
		l, err := netlink.LinkByName(link)
		must(w.t, err)
		for _, last := range last {
			for _, format := range []string{"10.77.%d.%d/24", "fd77:%d::%d/64", "fe80::%d:%d/64"} {
				a, err := netlink.ParseAddr(fmt.Sprintf(format, n, last))
				must(w.t, err)
				must(w.t, netlink.AddrAdd(l, a))
			}
		}
		must(w.t, netlink.LinkSetUp(l))
	}
	configure(name, 1)
	w.in(other, func() {
		configure("host", 2, 9)
		for _, format := range []string{"10.77.%d.1", "fd77:%d::1"} {
			must(w.t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(fmt.Sprintf(format, n))}))
		}
		w.await("host")
	})
	w.await(name)
}

// await waits until the IPv6 addresses of a link are in use: the kernel leaves
// that to a worker.
func (w *wires) await(name string) {
	w.t.Helper()
	link, err := netlink.LinkByName(name)
	must(w.t, err)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		addresses, err := netlink.AddrList(link, netlink.FAMILY_V6)
		must(w.t, err)
		if !slices.ContainsFunc(addresses, func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }) {
			return
		}
	}
	w.t.Fatalf("the IPv6 addresses of %s are not in use", name)
}

// in runs f in another network namespace.
func (w *wires) in(ns netns.NsHandle, f func()) {
	w.t.Helper()
	must(w.t, netns.Set(ns))
	defer func() { must(w.t, netns.Set(w.host)) }()
	f()
}

// socket opens a UDP socket in a network namespace, with an SO_MARK.
func (w *wires) socket(ns netns.NsHandle, at netip.AddrPort, mark uint32) *net.UDPConn {
	w.t.Helper()
	var c *net.UDPConn
	w.in(ns, func() {
		var err error
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		must(w.t, err)
		if mark != 0 {
			raw, err := c.SyscallConn()
			must(w.t, err)
			must(w.t, raw.Control(func(fd uintptr) {
				must(w.t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)))
			}))
		}
	})
	return c
}

// path is a way through the wires.
type path struct {
	from, to netns.NsHandle
	src, dst string // addresses at its ends
}

// datagram is a UDP packet, and what should become of it.
type datagram struct {
	name     string
	src, dst string // addresses and ports
	mark     uint32 // the sending socket's
	size     int    // of the payload, in bytes; 1 unless it says more
	want     fate
}

type fate string

const (
	arrives fate = "arrives"
	refused fate = "is refused to the sender"
	lost    fate = "is lost"
)

// open is a port that every policy here permits.
const open = 7000

func (w *wires) check(way path, packets []datagram) {
	w.t.Helper()
	for _, p := range packets {
		if got := w.send(way, p); got != p.want {
			w.t.Errorf("%s: the packet %s, but %s", p.name, got, p.want)
		}
	}
}

func (w *wires) send(way path, p datagram) fate {
	w.t.Helper()
	src, dst := netip.MustParseAddrPort(p.src), netip.MustParseAddrPort(p.dst)
	listener := w.socket(way.to, netip.AddrPortFrom(netip.IPv6Unspecified(), dst.Port()), 0)
	defer listener.Close()
	sender := w.socket(way.from, src, p.mark)
	defer sender.Close()
	payload := make([]byte, max(p.size, 1))
	switch _, err := sender.WriteToUDPAddrPort(payload, dst); {
	case errors.Is(err, syscall.EPERM):
		return refused
	case err != nil:
		w.t.Fatalf("%s: %v", p.name, err)
	}
	patience := 5 * time.Second
	if p.want == lost {
		// When what is sent later has arrived, this would have.
		if got := w.send(way, datagram{"follower", way.src + ":0", fmt.Sprintf("%s:%d", way.dst, open), 0, 1, arrives}); got != arrives {
			w.t.Fatalf("%s: the packet to the open port after it %s", p.name, got)
		}
		patience = 10 * time.Millisecond
	}
	must(w.t, listener.SetReadDeadline(time.Now().Add(patience)))
	n, _, err := listener.ReadFromUDPAddrPort(make([]byte, 1<<16))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return lost
	case err != nil || n != len(payload):
		w.t.Fatalf("%s: %d of %d bytes: %v", p.name, n, len(payload), err)
	}
	return arrives
}

// wirePolicy blocks the host but for some ports.
func wirePolicy(t testing.TB) *filter.SPD {
	entry := func(a filter.Action, from, to filter.Side, first, last uint16) filter.Entry {
		return filter.Entry{Name: a.String(), Action: a, Mirrored: true, Selector: filter.Selector{
			From: from, To: to, Protocol: 17, HasProtocol: true, ToPort: filter.PortRange{Lo: first, Hi: last}}}
	}
	return mustSPD(t,
		filter.Entry{Name: "rest", Action: filter.Block, Mirrored: true, Selector: filter.Selector{From: filter.Any(), To: filter.Me()}},
		entry(filter.Permit, filter.Any(), filter.Me(), open, open),
		entry(filter.Permit, filter.Me(), filter.Any(), open, open),
		entry(filter.Negotiate, filter.Me(), filter.Any(), 7200, 7200),
		// Prefixes of addresses and ports: 10.77.1.0 to .3, and 7100 to 7103.
		entry(filter.Permit, subnet("10.77.1.0/30"), filter.Me(), 7100, 7103),
		entry(filter.Permit, subnet("fd77:1::/126"), filter.Me(), 7100, 7103),
	)
}

// kernels are what kernels may have, as far as this one has it.
func kernels() map[string]Config {
	poor := testConfig
	poor.Features = Features{}
	poor.Broadcasts = []netip.Addr{netip.MustParseAddr("10.77.1.255"), netip.MustParseAddr("10.77.2.255")}
	return map[string]Config{"inet and fib": testConfig, "two tables": poor}
}

func TestEgress(t *testing.T) {
	for name, cfg := range kernels() {
		t.Log(name)
		testEgress(newWires(t), cfg)
	}
}

func testEgress(w *wires, cfg Config) {
	must(w.t, Apply(Compile(wirePolicy(w.t), cfg)))
	w.check(path{w.host, w.peer, "10.77.1.1", "10.77.1.2"}, []datagram{
		{"permitted", "10.77.1.1:0", "10.77.1.2:7000", 0, 1, arrives},
		{"permitted, IPv6", "[fd77:1::1]:0", "[fd77:1::2]:7000", 0, 1, arrives},
		{"permitted, link-local", "[fe80::1:1%peer]:0", "[fe80::1:2%peer]:7000", 0, 1, arrives},
		{"permitted, in fragments", "10.77.1.1:0", "10.77.1.2:7000", 0, 3000, arrives},
		{"permitted, IPv6 in fragments", "[fd77:1::1]:0", "[fd77:1::2]:7000", 0, 3000, arrives},
		{"blocked", "10.77.1.1:0", "10.77.1.2:7001", 0, 1, refused},
		{"blocked, IPv6", "[fd77:1::1]:0", "[fd77:1::2]:7001", 0, 1, refused},
		{"blocked, link-local", "[fe80::1:1%peer]:0", "[fe80::1:2%peer]:7001", 0, 1, refused},
		{"blocked, to another link", "10.77.1.1:0", "10.77.2.2:7001", 0, 1, refused},
		{"answer from a port prefix", "10.77.1.1:7102", "10.77.1.2:7001", 0, 1, arrives},
		{"answer from above the port prefix", "10.77.1.1:7104", "10.77.1.2:7001", 0, 1, refused},
		{"answer to outside of the subnet", "10.77.1.1:7102", "10.77.1.9:7001", 0, 1, refused},
		{"to be secured, and no engine listens", "10.77.1.1:0", "10.77.1.2:7200", 0, 1, lost},
		{"to be secured, IPv6", "[fd77:1::1]:0", "[fd77:1::2]:7200", 0, 1, lost},
		{"the engine's IKE", "10.77.1.1:500", "10.77.1.2:7001", testConfig.OutMark, 1, arrives},
		{"the engine's ESP in UDP", "[fd77:1::1]:4500", "[fd77:1::2]:7001", testConfig.OutMark, 1, arrives},
		{"the engine's mark on another port", "10.77.1.1:501", "10.77.1.2:7001", testConfig.OutMark, 1, refused},
		{"another mark on IKE's port", "10.77.1.1:500", "10.77.1.2:7001", testConfig.OutMark + 1, 1, refused},
		{"no mark on IKE's port", "10.77.1.1:4500", "10.77.1.2:7001", 0, 1, refused},
		{"broadcast of the link", "10.77.1.1:0", "10.77.1.255:7001", 0, 1, refused},
	})
}

func TestIngress(t *testing.T) {
	for name, cfg := range kernels() {
		t.Log(name)
		testIngress(newWires(t), cfg)
	}
}

func testIngress(w *wires, cfg Config) {
	must(w.t, Apply(Compile(wirePolicy(w.t), cfg)))
	w.check(path{w.peer, w.host, "10.77.1.2", "10.77.1.1"}, []datagram{
		{"permitted", "10.77.1.2:0", "10.77.1.1:7000", 0, 1, arrives},
		{"permitted, IPv6", "[fd77:1::2]:0", "[fd77:1::1]:7000", 0, 1, arrives},
		{"permitted, link-local", "[fe80::1:2%host]:0", "[fe80::1:1%host]:7000", 0, 1, arrives},
		{"permitted, in fragments", "10.77.1.2:0", "10.77.1.1:7000", 0, 3000, arrives},
		{"permitted, IPv6 in fragments", "[fd77:1::2]:0", "[fd77:1::1]:7000", 0, 3000, arrives},
		{"blocked", "10.77.1.2:0", "10.77.1.1:7001", 0, 1, lost},
		{"blocked, IPv6", "[fd77:1::2]:0", "[fd77:1::1]:7001", 0, 1, lost},
		{"blocked, link-local", "[fe80::1:2%host]:0", "[fe80::1:1%host]:7001", 0, 1, lost},
		{"blocked, in fragments", "10.77.1.2:0", "10.77.1.1:7001", 0, 3000, lost},
		{"blocked, IPv6 in fragments", "[fd77:1::2]:0", "[fd77:1::1]:7001", 0, 3000, lost},
		{"clear, but should be secured", "10.77.1.2:7200", "10.77.1.1:7001", 0, 1, lost},
		{"from the subnet to the port prefix", "10.77.1.2:0", "10.77.1.1:7103", 0, 1, arrives},
		{"from the subnet to above the port prefix", "10.77.1.2:0", "10.77.1.1:7104", 0, 1, lost},
		{"from outside of the subnet", "10.77.1.9:0", "10.77.1.1:7103", 0, 1, lost},
		{"from the IPv6 subnet to the port prefix", "[fd77:1::2]:0", "[fd77:1::1]:7100", 0, 1, arrives},
		{"from outside of the IPv6 subnet", "[fd77:1::9]:0", "[fd77:1::1]:7100", 0, 1, lost},
		{"IKE", "10.77.1.2:0", "10.77.1.1:500", 0, 1, arrives},
		{"ESP in UDP, IPv6", "[fd77:1::2]:0", "[fd77:1::1]:4500", 0, 1, arrives},
		{"from IKE's port", "10.77.1.2:500", "10.77.1.1:7001", 0, 1, lost},
	})
}

func TestForwarded(t *testing.T) {
	w := newWires(t)
	must(t, Apply(Compile(wirePolicy(t), testConfig)))
	w.check(path{w.peer, w.behind, "10.77.1.2", "10.77.2.2"}, []datagram{
		{"forwarded", "10.77.1.2:0", "10.77.2.2:7001", 0, 1, arrives},
		{"forwarded, IPv6", "[fd77:1::2]:0", "[fd77:2::2]:7001", 0, 1, arrives},
	})
	// Under the host's address it speaks for the host, as far as the wire shows.
	nftCommand(t, "add table ip nat; add chain ip nat out { type nat hook postrouting priority srcnat; }; add rule ip nat out ip saddr 10.77.1.2 masquerade")
	w.check(path{w.peer, w.behind, "10.77.1.2", "10.77.2.2"}, []datagram{
		{"forwarded under the host's address", "10.77.1.2:0", "10.77.2.2:7001", 0, 1, lost},
	})
	// The host's own packet is no less its own for a foreign address.
	nftCommand(t, "add rule ip nat out udp dport 7001 snat to 10.77.3.3")
	w.check(path{w.host, w.behind, "10.77.2.1", "10.77.2.2"}, []datagram{
		{"under a foreign address", "10.77.2.1:0", "10.77.2.2:7001", 0, 1, refused},
	})
}
