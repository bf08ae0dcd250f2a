package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// ports is a filter of a protocol to a range of ports.
func ports(action filter.Action, from, to filter.Side, protocol uint8, first, last uint16) filter.Entry {
	return filter.Entry{Name: fmt.Sprintf("%s %d", action, first), Action: action, Mirrored: true, Selector: filter.Selector{
		From: from, To: to, Protocol: protocol, HasProtocol: true, ToPort: filter.PortRange{Lo: first, Hi: last}}}
}

// walled is a policy that blocks all but the open port and what the entries
// permit.
func walled(t testing.TB, settings filter.Settings, entries ...filter.Entry) *filter.SPD {
	t.Helper()
	s, err := filter.New(append(entries,
		filter.Entry{Name: "rest", Action: filter.Block, Mirrored: true, Selector: filter.Selector{From: filter.Any(), To: filter.Me()}},
		ports(filter.Permit, filter.Any(), filter.Me(), 17, open, open),
		ports(filter.Permit, filter.Me(), filter.Any(), 17, open, open),
		forwarded(filter.Permit, open),
	), settings)
	must(t, err)
	return s
}

func forwarded(action filter.Action, port uint16) filter.Entry {
	e := ports(action, filter.Any(), filter.Any(), 17, port, port)
	e.Forward = true
	return e
}

// dial connects by TCP from a network namespace.
func (w *wires) dial(ns netns.NsHandle, to string, patience time.Duration) error {
	w.t.Helper()
	a := netip.MustParseAddrPort(to)
	family := unix.AF_INET
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	var fd int
	w.in(ns, func() {
		var err error
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(w.t, err)
	})
	defer unix.Close(fd)
	must(w.t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: int64(patience / time.Second), Usec: int64(patience % time.Second / time.Microsecond)}))
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(a.Port()), Addr: [4]byte(a.Addr().AsSlice())}
	if a.Addr().Is6() {
		sa = &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	return unix.Connect(fd, sa)
}

// told sends a datagram from a network namespace and returns the error that
// comes back.
func (w *wires) told(ns netns.NsHandle, src, dst string) error {
	w.t.Helper()
	var c net.Conn
	w.in(ns, func() {
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(src))}
		var err error
		c, err = d.DialContext(context.Background(), "udp", dst)
		must(w.t, err)
	})
	defer c.Close()
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	must(w.t, c.SetReadDeadline(time.Now().Add(time.Second)))
	_, err := c.Read(make([]byte, 10))
	return err
}

func TestReject(t *testing.T) {
	for name, cfg := range kernels() {
		t.Log(name)
		cfg.Count = true
		w := newWires(t)
		refuseTCP := ports(filter.Block, filter.Any(), filter.Me(), 6, 7300, 7300)
		refuseUDP := ports(filter.Block, filter.Any(), filter.Me(), 17, 7300, 7300)
		outTCP := ports(filter.Block, filter.Me(), filter.Any(), 6, 7400, 7400)
		outUDP := ports(filter.Block, filter.Me(), filter.Any(), 17, 7400, 7400)
		forwardTCP := ports(filter.Block, filter.Any(), filter.Any(), 6, 7500, 7500)
		forwardTCP.Forward = true
		entries := []filter.Entry{refuseTCP, refuseUDP, outTCP, outUDP, forwardTCP}
		for i := range entries {
			entries[i].Options.Reject = true
		}
		entries = append(entries, ports(filter.Permit, filter.Me(), address("10.77.1.2"), 17, 7600, 7600))
		spd := walled(t, filter.Settings{}, entries...)
		rs := Compile(spd, cfg)
		must(t, Apply(rs))
		const quick = 200 * time.Millisecond
		for _, tt := range []struct {
			name string
			from netns.NsHandle
			to   string
			want error
		}{
			{"inbound", w.peer, "10.77.1.1:7300", unix.ECONNREFUSED},
			{"inbound, IPv6", w.peer, "[fd77:1::1]:7300", unix.ECONNREFUSED},
			{"inbound, blocked in silence", w.peer, "10.77.1.1:7301", unix.EINPROGRESS},
			{"outbound", w.host, "10.77.1.2:7400", unix.ECONNREFUSED},
			{"outbound, IPv6", w.host, "[fd77:1::2]:7400", unix.ECONNREFUSED},
			{"outbound, blocked in silence", w.host, "10.77.1.2:7401", unix.EINPROGRESS},
			{"forwarded", w.peer, "10.77.2.2:7500", unix.ECONNREFUSED},
			{"forwarded, IPv6", w.peer, "[fd77:2::2]:7500", unix.ECONNREFUSED},
		} {
			patience := 5 * time.Second
			if tt.want == unix.EINPROGRESS {
				patience = quick
			}
			if err := w.dial(tt.from, tt.to, patience); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
		for _, tt := range []struct {
			name     string
			from     netns.NsHandle
			src, dst string
			want     error
		}{
			{"inbound", w.peer, "10.77.1.2:0", "10.77.1.1:7300", unix.EHOSTUNREACH},
			{"inbound, IPv6", w.peer, "[fd77:1::2]:0", "[fd77:1::1]:7300", unix.EACCES},
			{"outbound", w.host, "10.77.1.1:0", "10.77.1.2:7400", unix.EPERM},
			{"outbound, IPv6", w.host, "[fd77:1::1]:0", "[fd77:1::2]:7400", unix.EPERM},
		} {
			if err := w.told(tt.from, tt.src, tt.dst); !errors.Is(err, tt.want) {
				t.Errorf("datagram %s: %v, want %v", tt.name, err, tt.want)
			}
		}
		// What the kernel says is let out; what a program says like it is not.
		for _, tt := range []struct {
			name   string
			packet []byte
		}{
			{"a reset that answers nothing", tcpPacket("10.77.1.1", "10.77.1.2", 7300, 40000, 0x04)},
			{"an error about nothing", icmpPacket("10.77.1.1", "10.77.1.2", 3, 13)},
		} {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
			must(t, err)
			if err := unix.Sendto(fd, tt.packet, 0, &unix.SockaddrInet4{Addr: [4]byte{10, 77, 1, 2}}); !errors.Is(err, unix.EPERM) {
				t.Errorf("%s: %v, want EPERM", tt.name, err)
			}
			unix.Close(fd)
		}
		// The chain that refuses does not count what others permit.
		for range 5 {
			w.check(path{w.host, w.peer, "10.77.1.1", "10.77.1.2"}, []datagram{{"permitted", "10.77.1.1:0", "10.77.1.2:7600", 0, 1, arrives}})
		}
		counters, err := Counters(rs)
		must(t, err)
		for e, c := range counters {
			if e.Name == "permit 7600" && (c != Counter{5, 5 * 29}) {
				t.Errorf("%s has counted %+v", e, c)
			}
			if e.Name == "block 7400" && e.Selector.Protocol == 17 && c.Packets != 2 {
				t.Errorf("%s has counted %+v", e, c)
			}
		}
	}
}

func TestLog(t *testing.T) {
	w := newWires(t)
	log := newLogReader(t, 7)
	blocked := ports(filter.Block, filter.Any(), filter.Me(), 17, 7100, 7100)
	blocked.Name = "staff – " + strings.Repeat("é", 100)
	blocked.Options.Log = true
	permitted := ports(filter.Permit, filter.Any(), filter.Me(), 17, 7101, 7101)
	permitted.Name, permitted.Options.Log = `a "quoted" name`, true
	cfg := testConfig
	cfg.LogGroup = 7
	must(t, Apply(Compile(walled(t, filter.Settings{}, blocked, permitted), cfg)))
	way := path{w.peer, w.host, "10.77.1.2", "10.77.1.1"}
	next := func() logged {
		t.Helper()
		l := log.read(t, 5*time.Second)
		if len(l) != 1 {
			t.Fatalf("the log has %d packets", len(l))
		}
		return l[0]
	}
	w.check(way, []datagram{{"blocked", "10.77.1.2:9999", "10.77.1.1:7100", 0, 1, lost}})
	if l := next(); l.prefix != "staff – "+strings.Repeat("é", 58) || l.packet[20] != 9999>>8 {
		t.Errorf("the log says %q of %x", l.prefix, l.packet)
	}
	w.check(way, []datagram{{"permitted", "10.77.1.2:0", "10.77.1.1:7101", 0, 1, arrives}})
	if l := next(); l.prefix != permitted.Name {
		t.Errorf("the log says %q", l.prefix)
	}
	c := w.socket(w.peer, netip.MustParseAddrPort("10.77.1.2:0"), 0)
	defer c.Close()
	for range 500 {
		_, err := c.WriteToUDPAddrPort([]byte{1}, netip.MustParseAddrPort("10.77.1.1:7101"))
		must(t, err)
	}
	n := 0
	for l := log.read(t, 100*time.Millisecond); l != nil; l = log.read(t, 100*time.Millisecond) {
		n += len(l)
	}
	if n < 10 || n > 60 {
		t.Errorf("of a flood of 500 packets %d are logged", n)
	}
}

func TestLimit(t *testing.T) {
	w := newWires(t)
	limited := ports(filter.Permit, filter.Any(), filter.Me(), 17, 7100, 7100)
	limited.Options.Limit = filter.Limit{Packets: 1, Per: filter.PerHour, Burst: 3}
	other := ports(filter.Permit, filter.Any(), filter.Me(), 17, 7101, 7101)
	other.Options.Limit, other.Index = limited.Options.Limit, 1
	must(t, Apply(Compile(walled(t, filter.Settings{}, limited, other), testConfig)))
	way := path{w.peer, w.host, "10.77.1.2", "10.77.1.1"}
	for i := range 5 {
		want := arrives
		if i >= 3 {
			want = lost
		}
		w.check(way, []datagram{{fmt.Sprintf("packet %d", i+1), "10.77.1.2:0", "10.77.1.1:7100", 0, 1, want}})
	}
	w.check(way, []datagram{{"another filter's", "10.77.1.2:0", "10.77.1.1:7101", 0, 1, arrives}})
}

func TestStateful(t *testing.T) {
	w := newWires(t)
	e := ports(filter.Permit, filter.Me(), filter.Any(), 17, 7100, 7100)
	e.Stateful = true
	must(t, Apply(Compile(walled(t, filter.Settings{}, e), testConfig)))
	in, out := path{w.peer, w.host, "10.77.1.2", "10.77.1.1"}, path{w.host, w.peer, "10.77.1.1", "10.77.1.2"}
	w.check(in, []datagram{{"an answer to nothing", "10.77.1.2:7100", "10.77.1.1:7999", 0, 1, lost}})
	w.check(out, []datagram{{"a connection's beginning", "10.77.1.1:7888", "10.77.1.2:7100", 0, 1, arrives}})
	w.check(in, []datagram{
		{"its answer", "10.77.1.2:7100", "10.77.1.1:7888", 0, 1, arrives},
		{"not its answer", "10.77.1.2:7100", "10.77.1.1:7889", 0, 1, lost},
	})
	w.check(out, []datagram{{"more of it", "10.77.1.1:7888", "10.77.1.2:7100", 0, 1, arrives}})
	w.check(in, []datagram{{"a connection from there", "10.77.1.2:0", "10.77.1.1:7100", 0, 1, lost}})
}

func TestConnections(t *testing.T) {
	w := newWires(t)
	on := func(port uint16, c filter.Connection) filter.Entry {
		e := ports(filter.Permit, filter.Any(), filter.Me(), 17, port, port)
		e.Selector.Connection = c
		return e
	}
	must(t, Apply(Compile(walled(t, filter.Settings{},
		on(7100, filter.Connection{Kind: filter.ConnectionInterface, Name: "peer"}),
		on(7101, filter.Connection{Kind: filter.ConnectionInterface, Name: "pee"}),
		on(7102, filter.Connection{Kind: filter.ConnectionLAN}),
		on(7103, filter.Connection{Kind: filter.ConnectionRemote}),
	), testConfig)))
	w.check(path{w.peer, w.host, "10.77.1.2", "10.77.1.1"}, []datagram{
		{"on its interface", "10.77.1.2:0", "10.77.1.1:7100", 0, 1, arrives},
		{"on an interface whose name goes on", "10.77.1.2:0", "10.77.1.1:7101", 0, 1, lost},
		{"on a LAN", "10.77.1.2:0", "10.77.1.1:7102", 0, 1, arrives},
		{"not on a remote link", "10.77.1.2:0", "10.77.1.1:7103", 0, 1, lost},
	})
	w.check(path{w.behind, w.host, "10.77.2.2", "10.77.2.1"}, []datagram{
		{"on another interface", "10.77.2.2:0", "10.77.2.1:7100", 0, 1, lost},
	})
	w.check(path{w.host, w.peer, "10.77.1.1", "10.77.1.2"}, []datagram{
		{"out by its interface", "10.77.1.1:7100", "10.77.1.2:7999", 0, 1, arrives},
		{"out by a LAN", "10.77.1.1:7102", "10.77.1.2:7999", 0, 1, arrives},
		{"out by no remote link", "10.77.1.1:7103", "10.77.1.2:7999", 0, 1, refused},
	})
}

// Forwarded packets meet filters of their own, and no others.
func TestForwardFilters(t *testing.T) {
	w := newWires(t)
	secured := forwarded(filter.Negotiate, 7200)
	accepted := forwarded(filter.Negotiate, 7201)
	accepted.Options.AcceptUnsecured = true
	must(t, Apply(Compile(walled(t, filter.Settings{}, forwarded(filter.Block, 7100), forwarded(filter.Permit, 7101), secured, accepted), testConfig)))
	w.check(path{w.peer, w.behind, "10.77.1.2", "10.77.2.2"}, []datagram{
		{"blocked", "10.77.1.2:0", "10.77.2.2:7100", 0, 1, lost},
		{"blocked, IPv6", "[fd77:1::2]:0", "[fd77:2::2]:7100", 0, 1, lost},
		{"permitted", "10.77.1.2:0", "10.77.2.2:7101", 0, 1, arrives},
		{"of no filter", "10.77.1.2:0", "10.77.2.2:7102", 0, 1, arrives},
		{"to be secured, and no engine listens", "10.77.1.2:0", "10.77.2.2:7200", 0, 1, lost},
		{"in clear, but from a tunnel", "10.77.1.2:7200", "10.77.2.2:7999", 0, 1, lost},
		{"in clear, and accepted so", "10.77.1.2:7201", "10.77.2.2:7999", 0, 1, arrives},
	})
}

func TestUnsecured(t *testing.T) {
	w := newWires(t)
	accept, allow := ports(filter.Negotiate, filter.Any(), filter.Me(), 17, 7200, 7200), ports(filter.Negotiate, filter.Any(), filter.Me(), 17, 7201, 7201)
	accept.Options.AcceptUnsecured, allow.Options.AllowUnsecured = true, true
	cfg := testConfig
	cfg.Soft = []SoftPeer{{netip.MustParseAddr("10.77.1.9"), time.Hour}, {netip.MustParseAddr("10.77.1.8"), 0}}
	rs := Compile(walled(t, filter.Settings{}, accept, allow), cfg)
	must(t, Apply(rs))
	in, out := path{w.peer, w.host, "10.77.1.2", "10.77.1.1"}, path{w.host, w.peer, "10.77.1.1", "10.77.1.2"}
	w.check(in, []datagram{
		{"accepted in clear", "10.77.1.2:0", "10.77.1.1:7200", 0, 1, arrives},
		{"not accepted in clear", "10.77.1.2:0", "10.77.1.1:7201", 0, 1, lost},
		{"of a soft peer", "10.77.1.9:0", "10.77.1.1:7201", 0, 1, arrives},
	})
	w.check(out, []datagram{
		{"the answer is secured", "10.77.1.1:7200", "10.77.1.2:7999", 0, 1, lost},
		{"to be secured", "10.77.1.1:7201", "10.77.1.2:7999", 0, 1, lost},
		{"to a soft peer", "10.77.1.1:7201", "10.77.1.9:7999", 0, 1, arrives},
	})
	peer4, peer6 := netip.MustParseAddr("10.77.1.2"), netip.MustParseAddr("fd77:1::2")
	for _, timeout := range []time.Duration{time.Minute, 2 * time.Hour} { // the second time it has a new timeout
		must(t, AddSoft(rs, peer4, timeout))
		must(t, AddSoft(rs, peer6, timeout))
		w.check(in, []datagram{
			{"of a peer that is soft now", "10.77.1.2:0", "10.77.1.1:7201", 0, 1, arrives},
			{"of one of IPv6", "[fd77:1::2]:0", "[fd77:1::1]:7201", 0, 1, arrives},
		})
		soft, err := Soft(rs)
		must(t, err)
		if len(soft) != 3 {
			t.Errorf("soft: %v", soft)
		}
		for _, p := range soft {
			if p.Addr != cfg.Soft[0].Addr && (p.Expires > timeout || p.Expires < timeout-time.Minute/2) {
				t.Errorf("%s is soft for %s, want %s", p.Addr, p.Expires, timeout)
			}
		}
	}
	w.check(out, []datagram{{"to the peer that is soft now", "10.77.1.1:7201", "10.77.1.2:7999", 0, 1, arrives}})
	for range 2 {
		must(t, RemoveSoft(rs, peer4))
	}
	w.check(out, []datagram{{"to the peer that was soft", "10.77.1.1:7201", "10.77.1.2:7999", 0, 1, lost}})
	if err := AddResponse(rs, peer4); !errors.Is(err, ErrStale) {
		t.Errorf("a peer of a default response that there is not: %v", err)
	}
}

func TestDefaultResponse(t *testing.T) {
	w := newWires(t)
	cfg := testConfig
	cfg.DefaultResponse = true
	cfg.Response = []netip.Addr{netip.MustParseAddr("10.77.1.9")}
	rs := Compile(mustSPD(t, ports(filter.Permit, filter.Me(), filter.Any(), 17, open, open), ports(filter.Permit, filter.Any(), filter.Me(), 17, open, open)), cfg)
	must(t, Apply(rs))
	in, out := path{w.peer, w.host, "10.77.1.2", "10.77.1.1"}, path{w.host, w.peer, "10.77.1.1", "10.77.1.2"}
	w.check(in, []datagram{{"of any peer", "10.77.1.2:0", "10.77.1.1:7100", 0, 1, arrives}, {"of a peer with SAs", "10.77.1.9:0", "10.77.1.1:7100", 0, 1, lost}})
	w.check(out, []datagram{{"to any peer", "10.77.1.1:0", "10.77.1.2:7100", 0, 1, arrives}, {"to a peer with SAs", "10.77.1.1:0", "10.77.1.9:7100", 0, 1, lost}})
	for range 2 {
		must(t, AddResponse(rs, netip.MustParseAddr("10.77.1.2")))
		must(t, AddResponse(rs, netip.MustParseAddr("fd77:1::2")))
	}
	w.check(in, []datagram{
		{"in clear of a peer that has SAs now", "10.77.1.2:0", "10.77.1.1:7100", 0, 1, lost},
		{"of IPv6", "[fd77:1::2]:0", "[fd77:1::1]:7100", 0, 1, lost},
		{"what a filter permits", "10.77.1.2:0", "10.77.1.1:7000", 0, 1, arrives},
	})
	w.check(out, []datagram{{"to a peer that has SAs now", "10.77.1.1:0", "10.77.1.2:7100", 0, 1, lost}})
	peers, err := Response(rs)
	must(t, err)
	if len(peers) != 3 {
		t.Errorf("peers %v", peers)
	}
	for range 2 {
		must(t, RemoveResponse(rs, netip.MustParseAddr("10.77.1.2")))
	}
	w.check(out, []datagram{{"to a peer that had SAs", "10.77.1.1:0", "10.77.1.2:7100", 0, 1, arrives}})
	must(t, Remove())
	if err := AddResponse(rs, netip.MustParseAddr("10.77.1.2")); !errors.Is(err, ErrStale) {
		t.Errorf("without the table: %v", err)
	}
	if _, err := Response(rs); !errors.Is(err, ErrStale) {
		t.Errorf("without the table: %v", err)
	}
}

// ping sends an ICMP message from one host to another and reports whether it
// comes in there.
func (w *wires) ping(from, to netns.NsHandle, src, dst string, kind, code byte) bool {
	w.t.Helper()
	var send, receive int
	var err error
	w.in(to, func() { receive, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) })
	must(w.t, err)
	defer unix.Close(receive)
	w.in(from, func() { send, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW) })
	must(w.t, err)
	defer unix.Close(send)
	b := icmpPacket(src, dst, kind, code)
	switch err := unix.Sendto(send, b, 0, &unix.SockaddrInet4{Addr: [4]byte(b[16:20])}); {
	case errors.Is(err, syscall.EPERM):
		return false
	case err != nil:
		w.t.Fatal(err)
	}
	must(w.t, unix.SetsockoptTimeval(receive, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	in := make([]byte, 100)
	for {
		n, _, err := unix.Recvfrom(receive, in, 0)
		if err != nil {
			return false
		}
		if bytes.Equal(in[20:n], b[20:]) {
			return true
		}
	}
}

func icmpPacket(src, dst string, kind, code byte) []byte {
	a := arena{t: nil}
	return a.encode(probe{src: netip.MustParseAddr(src), dst: netip.MustParseAddr(dst), protocol: 1, hops: 64, head: []byte{kind, code, 0, 0, 0, 1, 0, 1}})[0]
}

func tcpPacket(src, dst string, from, to uint16, flags byte) []byte {
	a := arena{t: nil}
	return a.encode(probe{src: netip.MustParseAddr(src), dst: netip.MustParseAddr(dst), protocol: 6, hops: 64, flags: flags,
		head: []byte{byte(from >> 8), byte(from), byte(to >> 8), byte(to)}})[0]
}

func TestICMPTypes(t *testing.T) {
	w := newWires(t)
	of := func(kind byte, code int) filter.Entry {
		e := filter.Entry{Name: "icmp", Action: filter.Permit, Selector: filter.Selector{From: filter.Any(), To: filter.Me(), Protocol: 1, HasProtocol: true,
			ICMP: filter.ICMP{Type: kind, HasType: true, Code: byte(max(code, 0)), HasCode: code >= 0}}}
		return e
	}
	must(t, Apply(Compile(walled(t, filter.Settings{}, of(13, -1), of(9, 2)), testConfig)))
	for _, tt := range []struct {
		name       string
		kind, code byte
		want       bool
	}{
		{"the type, whatever its code", 13, 7, true},
		{"another type", 15, 0, false},
		{"the type and code", 9, 2, true},
		{"the type, and another code", 9, 3, false},
	} {
		if got := w.ping(w.peer, w.host, "10.77.1.2", "10.77.1.1", tt.kind, tt.code); got != tt.want {
			t.Errorf("%s: comes in %v", tt.name, got)
		}
	}
}
