package surroundings

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

func ipNet(cidr string) *net.IPNet {
	p := netip.MustParsePrefix(cidr)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func TestGateways(t *testing.T) {
	gw := func(a string) net.IP { return netip.MustParseAddr(a).AsSlice() }
	via := &netlink.Via{AddrFamily: unix.AF_INET6, Addr: gw("fe80::2")}
	tests := []struct {
		name   string
		routes []netlink.Route
		want   string
	}{
		{"none", nil, ""},
		{"both families", []netlink.Route{{Dst: ipNet("::/0"), Gw: gw("fe80::1")}, {Dst: ipNet("0.0.0.0/0"), Gw: gw("192.0.2.1")}}, "192.0.2.1 fe80::1"},
		{"no destination", []netlink.Route{{Gw: gw("192.0.2.1")}}, "192.0.2.1"},
		{"no gateway", []netlink.Route{{Dst: ipNet("0.0.0.0/0"), LinkIndex: 2}}, ""},
		{"other routes", []netlink.Route{{Dst: ipNet("0.0.0.0/1"), Gw: gw("192.0.2.1")}, {Dst: ipNet("10.0.0.0/8"), Gw: gw("192.0.2.1")}}, ""},
		{"the same twice", []netlink.Route{{Gw: gw("192.0.2.1"), Priority: 1}, {Gw: gw("192.0.2.1"), Priority: 2}}, "192.0.2.1"},
		{"several paths", []netlink.Route{{Dst: ipNet("0.0.0.0/0"), MultiPath: []*netlink.NexthopInfo{{Gw: gw("192.0.2.2")}, {Gw: gw("192.0.2.1")}, {Via: via}, {LinkIndex: 3}}}}, "192.0.2.1 192.0.2.2 fe80::2"},
		{"IPv4 by way of IPv6", []netlink.Route{{Dst: ipNet("0.0.0.0/0"), Via: via}}, "fe80::2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := gateways(tt.routes); !slices.Equal(got, addresses(tt.want)) {
				t.Errorf("%v, want %s", got, tt.want)
			}
		})
	}
}

func TestConcernsDefault(t *testing.T) {
	route := func(bits byte) []byte { return append([]byte{unix.AF_INET, bits}, make([]byte, 10)...) }
	tests := []struct {
		name string
		kind uint16
		body []byte
		want bool
	}{
		{"a default route", unix.RTM_NEWROUTE, route(0), true},
		{"a default route goes", unix.RTM_DELROUTE, route(0), true},
		{"another route", unix.RTM_NEWROUTE, route(24), false},
		{"a route cut off", unix.RTM_NEWROUTE, route(0)[:11], false},
		{"a link", unix.RTM_DELLINK, nil, true},
		{"an address", unix.RTM_NEWADDR, route(0), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := concernsDefault(tt.kind, tt.body); got != tt.want {
				t.Error(got)
			}
		})
	}
}

// newHost makes a host with an interface eth0 in 192.0.2.0/24.
func newHost(t *testing.T) *lab.Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n, err := lab.New("surroundings")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	var hosts []*lab.Host
	for _, name := range []string{"host", "router"} {
		h, err := n.Host(name)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	if err := n.Link(hosts[0], hosts[1], "eth0", "eth0", []string{"192.0.2.9/24", "2001:db8::9/64"}, nil); err != nil {
		t.Fatal(err)
	}
	return hosts[0]
}

// TestWatchGateways changes the routes of a host and sees what it is told.
func TestWatchGateways(t *testing.T) {
	h := newHost(t)
	w := Wanted{DefaultGateways: true}
	told := watching(t, w, Addresses{DefaultGateways: addresses("198.51.100.1")}, Config{}, h.Do)
	await(t, told, Addresses{}) // there is no default route yet

	var link netlink.Link
	steps := []struct {
		name string
		do   func() error
		want string
	}{
		{"a route", func() error {
			return netlink.RouteAdd(&netlink.Route{Dst: ipNet("0.0.0.0/0"), Gw: net.IPv4(192, 0, 2, 1)})
		}, "192.0.2.1"},
		{"a link-local IPv6 gateway", func() (err error) {
			if link, err = netlink.LinkByName("eth0"); err != nil {
				return err
			}
			return netlink.RouteAdd(&netlink.Route{Dst: ipNet("::/0"), LinkIndex: link.Attrs().Index, Gw: net.ParseIP("fe80::1")})
		}, "192.0.2.1 fe80::1"},
		{"several paths, and a table that does not count", func() error {
			if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet("0.0.0.0/0"), Gw: net.IPv4(192, 0, 2, 7), Table: 77}); err != nil {
				return err
			}
			return netlink.RouteReplace(&netlink.Route{Dst: ipNet("0.0.0.0/0"), MultiPath: []*netlink.NexthopInfo{
				{LinkIndex: link.Attrs().Index, Gw: net.IPv4(192, 0, 2, 3)}, {LinkIndex: link.Attrs().Index, Gw: net.IPv4(192, 0, 2, 2)}}})
		}, "192.0.2.2 192.0.2.3 fe80::1"},
		{"IPv4 by way of IPv6", func() error {
			return netlink.RouteReplace(&netlink.Route{Dst: ipNet("0.0.0.0/0"), LinkIndex: link.Attrs().Index, Via: &netlink.Via{AddrFamily: unix.AF_INET6, Addr: net.ParseIP("2001:db8::1")}})
		}, "2001:db8::1 fe80::1"},
		{"the link goes down", func() error { return netlink.LinkSetDown(link) }, ""},
	}
	for _, s := range steps {
		if err := h.Do(s.do); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		await(t, told, Addresses{DefaultGateways: addresses(s.want)})
		var now Addresses
		err := h.Do(func() (err error) {
			now, err = Look(t.Context(), w, Config{})
			return err
		})
		if err != nil || !slices.Equal(now.DefaultGateways, addresses(s.want)) {
			t.Errorf("%s: a look says %v, %v", s.name, now, err)
		}
	}
}
