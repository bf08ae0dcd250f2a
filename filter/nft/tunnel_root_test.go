package nft

import (
	"bytes"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/ipsecfw/ipsecfw/filter"
)

// site is the policy of a gateway whose tunnel leads to 10.99.0.0/16 and
// fd99::/16, with heavier filters of single ports, some of them only on the
// interface behind.
func site(t testing.TB) *filter.SPD {
	t.Helper()
	tunnel := func(name, here, there string) filter.Entry {
		return filter.Entry{Name: name, Mirrored: true, Forward: true, Action: filter.Negotiate, Selector: filter.Selector{From: subnet(here), To: subnet(there)}}
	}
	of := func(action filter.Action, port uint16, connection string) filter.Entry {
		e := ports(action, subnet("10.99.0.0/16"), subnet("10.77.0.0/16"), 17, port, port)
		e.Forward = true
		if connection != "" {
			e.Selector.Connection = filter.Connection{Kind: filter.ConnectionInterface, Name: connection}
		}
		return e
	}
	opposite := func(e filter.Entry) filter.Entry {
		s := &e.Selector
		s.From, s.To, s.FromPort, s.ToPort = s.To, s.From, s.ToPort, s.FromPort
		return e
	}
	blocked6 := ports(filter.Block, subnet("fd99::/16"), subnet("fd77::/16"), 17, 7100, 7100)
	blocked6.Forward, blocked6.Selector.Connection = true, filter.Connection{Kind: filter.ConnectionInterface, Name: "behind"}
	rejected, accepted := of(filter.Block, 7101, "behind"), opposite(of(filter.Negotiate, 7105, "behind"))
	rejected.Options.Reject, accepted.Options.AcceptUnsecured = true, true
	return walled(t, filter.Settings{},
		tunnel("site", "10.77.0.0/16", "10.99.0.0/16"), tunnel("site6", "fd77::/16", "fd99::/16"),
		of(filter.Block, 7100, "behind"), blocked6, rejected, of(filter.Permit, 7102, "behind"),
		of(filter.Negotiate, 7103, ""), opposite(of(filter.Negotiate, 7104, "behind")), accepted)
}

// What comes by the engine's device and is forwarded meets the filters of the
// interface by which it goes, which the engine did not know.
func TestForwardedFromTunnel(t *testing.T) {
	for name, cfg := range kernels() {
		t.Log(name)
		cfg.Count = true
		w := newWires(t)
		a := &arena{t: t, links: map[uint32]filter.Interface{}}
		a.open(cfg.Interface, true)
		for _, of := range []string{"all", cfg.Interface} {
			must(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+of+"/rp_filter", []byte("0"), 0))
		}
		rs := Compile(site(t), cfg)
		must(t, Apply(rs))
		packet := func(src, dst string, port uint16) {
			a.send(probe{direction: filter.Forward, src: netip.MustParseAddr(src), dst: netip.MustParseAddr(dst), protocol: 17, hops: 64,
				head: []byte{0x1e, 0x61, byte(port >> 8), byte(port)}})
		}
		for _, tt := range []struct {
			name     string
			to       netns.NsHandle
			src, dst string
			port     uint16
			want     fate
		}{
			{"of the tunnel's filter", w.peer, "10.99.0.2", "10.77.1.2", 7999, arrives},
			{"by the other interface", w.behind, "10.99.0.2", "10.77.2.2", 7999, arrives},
			{"IPv6", w.behind, "fd99::2", "fd77:2::2", 7999, arrives},
			{"not blocked there", w.peer, "10.99.0.2", "10.77.1.2", 7100, arrives},
			{"blocked on its interface", w.behind, "10.99.0.2", "10.77.2.2", 7100, lost},
			{"not blocked there, IPv6", w.peer, "fd99::2", "fd77:1::2", 7100, arrives},
			{"blocked on its interface, IPv6", w.behind, "fd99::2", "fd77:2::2", 7100, lost},
			{"not rejected there", w.peer, "10.99.0.2", "10.77.1.2", 7101, arrives},
			{"rejected on its interface", w.behind, "10.99.0.2", "10.77.2.2", 7101, lost},
			{"permitted even in clear", w.behind, "10.99.0.2", "10.77.2.2", 7102, arrives},
			{"to go into another tunnel, and no engine listens", w.behind, "10.99.0.2", "10.77.2.2", 7103, lost},
			{"not of another tunnel there", w.peer, "10.99.0.2", "10.77.1.2", 7104, arrives},
			{"of another tunnel on its interface", w.behind, "10.99.0.2", "10.77.2.2", 7104, lost},
			{"of another tunnel, which it need not be", w.behind, "10.99.0.2", "10.77.2.2", 7105, arrives},
			{"of no filter", w.peer, "10.98.0.2", "10.77.1.2", 7999, lost},
			{"of no filter, IPv6", w.peer, "fd98::2", "fd77:1::2", 7999, lost},
		} {
			got := w.received(tt.to, tt.port, func() { packet(tt.src, tt.dst, tt.port) }, func() { packet(tt.src, tt.dst, open) })
			if got != tt.want {
				t.Errorf("%s: the packet %s, but %s", tt.name, got, tt.want)
			}
		}
		counters, err := Counters(rs)
		must(t, err)
		got := map[string]uint64{}
		for e, c := range counters {
			got[e.Name] += c.Packets
		}
		want := map[string]uint64{"site": 5 + 11, "site6": 2 + 3, "block 7100": 2, "block 7101": 1, "permit 7102": 1,
			"negotiate 7103": 1, "negotiate 7104": 1, "negotiate 7105": 1, "permit 7000": 2}
		if !maps.Equal(got, want) {
			t.Errorf("counted %v\nwant    %v", got, want)
		}
	}
}

// received says what becomes of a datagram to a port of a network namespace:
// when what follow sends later has arrived at the open port, it would have.
func (w *wires) received(in netns.NsHandle, port uint16, send, follow func()) fate {
	w.t.Helper()
	listen := func(port uint16) *net.UDPConn {
		return w.socket(in, netip.AddrPortFrom(netip.IPv6Unspecified(), port), 0)
	}
	read := func(c *net.UDPConn, patience time.Duration) error {
		must(w.t, c.SetReadDeadline(time.Now().Add(patience)))
		_, err := c.Read(make([]byte, 1<<16))
		return err
	}
	here, after := listen(port), listen(open)
	defer here.Close()
	defer after.Close()
	send()
	follow()
	must(w.t, read(after, 5*time.Second))
	switch err := read(here, 10*time.Millisecond); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return lost
	case err != nil:
		w.t.Fatal(err)
	}
	return arrives
}

// What the host's own VXLAN sends is the host's, whatever is in it.
func TestEgressOfVXLAN(t *testing.T) {
	const vxlan = 4789        // the port (RFC 7348 section 5)
	const inner = 8 + 14 + 20 // bytes before the UDP header of what is in it
	w := newWires(t)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	far := net.IPv4(10, 88, 0, 2)
	up := func(name, address string) {
		// What the kernel sends of itself by IPv6 would arrive too.
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0))
		l, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkSetUp(l))
		if address != "" {
			a, err := netlink.ParseAddr(address)
			must(t, err)
			must(t, netlink.AddrAdd(l, a))
			must(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: far, State: netlink.NUD_PERMANENT, HardwareAddr: mac}))
		}
	}
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "bridge"}}))
	bridge, err := netlink.LinkByName("bridge")
	must(t, err)
	must(t, netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vxlan", MasterIndex: bridge.Attrs().Index}, VxlanId: 7,
		SrcAddr: net.IPv4(10, 77, 1, 1), Group: net.IPv4(10, 77, 1, 2), Port: vxlan}))
	up("vxlan", "")
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "port", MasterIndex: bridge.Attrs().Index}, PeerName: "bridged", PeerNamespace: netlink.NsFd(w.behind)}))
	up("port", "")
	up("bridge", "10.88.0.1/24") // after its ports, of which it takes its MAC address, and then forgets neighbours
	w.in(w.behind, func() { up("bridged", "10.88.0.3/24") })
	for _, want := range []fate{arrives, lost} {
		outer := ports(filter.Permit, filter.Me(), address("10.77.1.2"), 17, vxlan, vxlan)
		outer.Name = "outer"
		if want == lost {
			outer.Action = filter.Block
		}
		cfg := testConfig
		cfg.Count = true
		rs := Compile(walled(t, filter.Settings{}, outer), cfg)
		must(t, Apply(rs))
		for i, tt := range []struct {
			name string
			from netns.NsHandle
			src  string
		}{
			{"the host", w.host, "10.88.0.1"},
			{"a host for which it is forwarded", w.peer, "10.77.1.2"},
			{"a host on another port of the bridge", w.behind, "10.88.0.3"},
		} {
			at := w.socket(w.peer, netip.AddrPortFrom(netip.IPv6Unspecified(), vxlan), 0)
			from := w.socket(tt.from, netip.MustParseAddrPort(tt.src+":0"), 0)
			_, err := from.WriteToUDPAddrPort([]byte{1}, netip.AddrPortFrom(netip.MustParseAddr(far.String()), open))
			must(t, err)
			if n := w.awaitCount(rs, outer.Name, uint64(i+1)); n != uint64(i+1) {
				t.Errorf("VXLAN of a packet from %s: the filter that is to %s has counted %d packets, want %d", tt.name, outer.Action, n, i+1)
			}
			patience, got, b := 5*time.Second, lost, make([]byte, 1<<16)
			if want == lost {
				patience = 10 * time.Millisecond
			}
			must(t, at.SetReadDeadline(time.Now().Add(patience)))
			if n, err := at.Read(b); err == nil {
				got = arrives
				if src := netip.MustParseAddr(tt.src).AsSlice(); n < inner || !bytes.Equal(b[inner-8:inner-4], src) {
					t.Errorf("VXLAN of a packet from %s holds %x", tt.name, b[:n])
				}
			}
			if got != want {
				t.Errorf("VXLAN of a packet from %s %s, but %s", tt.name, got, want)
			}
			at.Close()
			from.Close()
		}
	}
}

// awaitCount waits until the filters of a name have counted n packets, and
// returns how many they have.
func (w *wires) awaitCount(rs Ruleset, name string, n uint64) (got uint64) {
	w.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); got < n && time.Now().Before(deadline); runtime.Gosched() {
		counters, err := Counters(rs)
		must(w.t, err)
		got = 0
		for e, c := range counters {
			if e.Name == name {
				got += c.Packets
			}
		}
	}
	return got
}
