package test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// width is a site whose server and workstation secure all between them, and how
// wide the way between them is.
type width struct {
	name   string
	v6     bool
	mode   string
	udp    string // udp-encapsulation
	mtu    int    // of the links
	narrow int    // of the workstation's link, which the server finds out about; 0 for the same

	methods string // empty for the usual ones
}

// wide is such a site.
type wide struct {
	*site
	workstation        *lab.Host
	ds, dw             *daemon
	server, client     string // the addresses that are secured
	serverOut, workOut string // those on the wire
}

const widthPolicy = `version: 1
name: sizes
filter-lists:
  all:
    - {from: "%[1]s", to: "%[2]s"}
filter-actions:
  secure: {negotiate: {%[3]s, udp-encapsulation: %[4]s}}
rules:
  - {name: all, filter-list: all, action: secure, authentication: [{preshared-key: {file: psk}}]}
`

func (x width) make(t *testing.T) *wide {
	t.Helper()
	s := newSite(t)
	w := &wide{site: s, workstation: s.workstation(t), server: server4, client: workstation4, serverOut: server4, workOut: workstation4}
	if x.v6 {
		w.server, w.client, w.serverOut, w.workOut = server6, workstation6, server6, workstation6
	}
	narrow := x.mtu
	if x.narrow != 0 {
		narrow = x.narrow
	}
	must(t, s.server.MTU("eth0", x.mtu))
	must(t, s.gateway.MTU("srv0", x.mtu))
	must(t, s.gateway.MTU("wks0", narrow))
	must(t, w.workstation.MTU("eth0", narrow))
	modes := [2]string{"mode: transport", "mode: transport"}
	if x.mode == "tunnel" {
		w.server, w.client = serverInner, workstationInner
		if x.v6 {
			w.server, w.client = "fd00:5:1::1", "fd00:5:2::1"
		}
		must(t, s.server.Address("lo", hostPrefix(w.server)))
		must(t, w.workstation.Address("lo", hostPrefix(w.client)))
		const tunnel = `mode: tunnel, tunnel: {local: "%s", remote: "%s"}`
		modes = [2]string{fmt.Sprintf(tunnel, w.serverOut, w.workOut), fmt.Sprintf(tunnel, w.workOut, w.serverOut)}
	}
	if x.methods != "" {
		for i := range modes {
			modes[i] += ", methods: [" + x.methods + "]"
		}
	}
	w.ds, w.dw = startDaemon(t, s.server), startDaemon(t, w.workstation)
	w.ds.write(t, "psk", []byte(psk))
	w.dw.write(t, "psk", []byte(psk))
	w.ds.apply(t, fmt.Sprintf(widthPolicy, w.server, w.client, modes[0], x.udp))
	w.dw.apply(t, fmt.Sprintf(widthPolicy, w.client, w.server, modes[1], x.udp))
	must(t, ping(within(t, 10*time.Second), w.workstation, w.client, w.server, 100))
	return w
}

// sizes are those of datagrams around every boundary that a path of an MTU may
// have, and a sample of the others.
func (x width) sizes(largest int) []int {
	all := []int{1, 2, 3, 4, 7, 8, 9, 63, 64, 65, 500, 548, largest - 1, largest}
	for _, mtu := range []int{x.mtu, x.narrow, minimum6} {
		for n := mtu - 140; mtu > 0 && n <= mtu+8; n += 3 {
			all = append(all, n)
		}
		all = append(all, 2*mtu-60, 2*mtu, 3*mtu-150)
	}
	r := rand.New(rand.NewPCG(uint64(x.mtu), uint64(x.narrow)))
	for range 20 {
		all = append(all, 1+r.IntN(largest))
	}
	slices.Sort(all)
	all = slices.DeleteFunc(all, func(n int) bool { return n < 1 || n > largest })
	return slices.Compact(all)
}

// minimum6 is the MTU that every link has in IPv6.
const minimum6 = 1280

// largest is the most that a datagram holds, in bytes of contents: NFQUEUE gives
// no more than 65531 bytes of a packet, and in transport mode ESP takes its part of
// what IP holds.
func (x width) largest() int {
	const queue, ip, udp, esp, trailer = 65531, 65535, 8, 8 + 8 + 16, 2
	header, sealed := packet.IPv4HeaderLen, ip-packet.IPv4HeaderLen-esp
	if x.v6 {
		header, sealed = packet.IPv6HeaderLen, ip-esp
	}
	if x.udp == "always" {
		sealed -= udp
	}
	n := queue - header - udp
	if x.mode == "transport" {
		n = min(n, sealed-sealed%4-trailer-udp)
	}
	return n
}

// bounce sends a datagram and waits for it to come back, again after a while. A
// sender that is told to send less sends again, and leaves fragmenting to the stack.
func bounce(c net.Conn, b []byte) error {
	got := make([]byte, 1<<16)
	var last error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if _, err := c.Write(b); err != nil {
			last = err
			continue
		}
		for {
			c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			n, err := c.Read(got)
			if err != nil {
				last = err
				break
			}
			if bytes.Equal(got[:n], b) { // else it is of what was sent before
				return nil
			}
		}
	}
	return last
}

// What is sent is what comes, whatever its size and that of the path.
func TestSizes(t *testing.T) {
	for _, x := range []width{
		{"IPv4 transport", false, "transport", "auto", 1500, 0, ""},
		{"IPv4 transport in UDP", false, "transport", "always", 1500, 1300, ""},
		{"IPv4 tunnel", false, "tunnel", "auto", 1500, 1300, ""},
		{"IPv4 tunnel in UDP", false, "tunnel", "always", 9000, 1500, ""},
		{"IPv6 transport", true, "transport", "auto", 1500, 1280, ""},
		{"IPv6 tunnel", true, "tunnel", "auto", 1280, 0, ""},
		{"IPv6 tunnel in UDP", true, "tunnel", "always", 9000, 1400, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := x.make(t)
			address := net.JoinHostPort(w.server, "7")
			listenEcho(t, w.site.server, address)
			c, err := w.workstation.DialFrom(within(t, time.Minute), "udp", w.client, address)
			must(t, err)
			defer c.Close()
			must(t, widen(c))
			wire := watch(t, w.gateway, "wks0", []string{w.serverOut, w.server}, []string{w.workOut, w.client})
			noise := make([]byte, 1<<16)
			rand.NewChaCha8([32]byte{1}).Read(noise)
			for i, n := range x.sizes(x.largest()) {
				if err := bounce(c, noise[:n]); err != nil {
					t.Errorf("UDP, %d bytes: %v", n, err)
				}
				if i%4 == 0 {
					if err := ping(within(t, 5*time.Second), w.workstation, w.client, w.server, n); err != nil {
						t.Errorf("ICMP, %d bytes: %v", n, err)
					}
				}
				if t.Failed() {
					break
				}
			}
			must(t, widen(c))
			wire.end(t)
			if n := wire.clear.Load(); n > 0 {
				t.Errorf("%d packets in clear on the wire, the first %s", n, *wire.witness.Load())
			}
			if t.Failed() {
				t.Logf("counters: %s", w.ds.counters(t))
			}
			w.ds.untroubled(t)
			w.dw.untroubled(t)
		})
	}
}

// counters is what the daemon has counted.
func (d *daemon) counters(t *testing.T) string {
	t.Helper()
	out, err := d.run("status", "-o", "json")
	must(t, err)
	return string(out)
}

// TCP gets through with the offloads of the links, and without.
func TestOffloads(t *testing.T) {
	for _, x := range []width{
		{"transport", false, "transport", "auto", 1500, 1300, ""},
		{"tunnel", true, "tunnel", "always", 1500, 1400, ""},
	} {
		for _, off := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, off %v", x.name, off), func(t *testing.T) {
				w := x.make(t)
				if off {
					for _, h := range []*lab.Host{w.site.server, w.workstation} {
						must(t, h.NoOffloads("eth0"))
					}
				}
				address := net.JoinHostPort(w.server, "8443")
				listenSwaps(t, w.site.server, address)
				must(t, transfer(w.workstation, w.client, address, 2*megabyte))
				w.ds.untroubled(t)
				w.dw.untroubled(t)
			})
		}
	}
}

// insist has a socket never fragment what it sends.
func insist(c net.Conn, v6 bool) error {
	return control(c, func(fd int) error {
		if v6 {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	})
}

// knownMTU is what the stack takes the path of a connected socket for.
func knownMTU(c net.Conn, v6 bool) (mtu int, err error) {
	err = control(c, func(fd int) (err error) {
		if v6 {
			mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU)
		} else {
			mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
		}
		return err
	})
	return mtu, err
}

func control(c net.Conn, f func(fd int) error) error {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// A sender that wants no fragments is told how much gets through: by its own
// host, as large as it can be, and again when the path turns out to be narrower.
func TestSenderIsTold(t *testing.T) {
	for _, x := range []width{
		{"IPv4 transport", false, "transport", "auto", 1500, 1300, ""},
		{"IPv4 transport in UDP", false, "transport", "always", 1500, 1300, ""},
		{"IPv4 tunnel", false, "tunnel", "auto", 9000, 1400, ""},
		{"IPv6 transport", true, "transport", "auto", 1500, 1400, ""},
		{"IPv6 tunnel in UDP", true, "tunnel", "always", 1500, 1400, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := x.make(t)
			headers := packet.IPv4HeaderLen + 8
			if x.v6 {
				headers = packet.IPv6HeaderLen + 8
			}
			address := net.JoinHostPort(w.client, "7")
			sink, err := w.workstation.ListenPacket("udp", address)
			must(t, err)
			defer sink.Close()
			c, err := w.site.server.DialFrom(within(t, time.Minute), "udp", w.server, address)
			must(t, err)
			defer c.Close()
			must(t, insist(c, x.v6))
			var longest, fragments atomic.Int64 // of what the server sends
			capture, err := w.gateway.Capture("srv0", func(b []byte, out bool) {
				var p packet.Packet
				if out || packet.Parse(b, &p) != nil || p.Src.String() != w.serverOut {
					return
				}
				if p.Fragment {
					fragments.Add(1)
				}
				longest.Store(max(longest.Load(), int64(p.Len)))
			})
			must(t, err)
			defer func() {
				if t.Failed() {
					t.Logf("counters: %s", w.ds.counters(t))
				}
			}()
			// Send as much as the stack lets, until it lets as much as gets through.
			got := make([]byte, 1<<16)
			mtu, told := 0, 0
			eventually(t, 10*time.Second, "a datagram as long as the stack allows arrives", func() bool {
				now, err := knownMTU(c, x.v6)
				must(t, err)
				if now != mtu {
					mtu, told = now, told+1
				}
				b := bytes.Repeat([]byte{byte(told)}, mtu-headers)
				if _, err := c.Write(b); err != nil {
					return false // of the datagram before
				}
				sink.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				n, _, err := sink.ReadFrom(got)
				if now, _ = knownMTU(c, x.v6); now != mtu {
					return false // it arrives in fragments, of which the stack is to make none
				}
				return err == nil && n == len(b)
			})
			if _, err := c.Write(make([]byte, mtu-headers+1)); !errors.Is(err, unix.EMSGSIZE) {
				t.Errorf("a byte more: %v, want EMSGSIZE", err)
			}
			if told < 3 { // the link's, what the link takes sealed, what the path does
				t.Errorf("the stack knew %d MTUs, the last %d", told, mtu)
			}
			longest.Store(0)
			before := fragments.Load()
			must(t, bounceless(c, sink, mtu-headers))
			if err := capture.Close(); err != nil {
				t.Error(err)
			}
			const align = 4 // of ESP
			if n := int(longest.Load()); n > x.narrow || n <= x.narrow-align {
				t.Errorf("with %d bytes sealed packets have %d; the path takes %d", mtu, n, x.narrow)
			}
			if fragments.Load() != before {
				t.Error("they are fragmented")
			}
		})
	}
}

// bounceless sends a datagram until one of its size arrives.
func bounceless(c net.Conn, sink net.PacketConn, size int) error {
	got := make([]byte, 1<<16)
	var last error
	for range 20 {
		if _, last = c.Write(make([]byte, size)); last != nil {
			continue
		}
		sink.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, _, err := sink.ReadFrom(got)
		if err == nil && n == size {
			return nil
		}
		last = err
	}
	return fmt.Errorf("%d bytes do not arrive: %w", size, last)
}

// A host behind a gateway is told by that how much gets through its tunnel, and
// again when the way of the tunnel turns out to be narrower.
func TestForwardedSenderIsTold(t *testing.T) {
	const policy = `version: 1
name: sites
filter-lists:
  sites:
    - {from: %[1]s, to: %[2]s}
    - {from: "%[3]s", to: "%[4]s"}
filter-actions:
  tunnel: {negotiate: {mode: tunnel, tunnel: {local: %[5]s, remote: %[6]s}}}
rules:
  - {name: sites, filter-list: sites, action: tunnel, path: forward, authentication: [{preshared-key: {file: psk}}]}
`
	s, a, gateA, gateB, b := twoSites(t)
	const narrow = 1400
	must(t, s.gateway.MTU("b0", narrow))
	must(t, gateB.MTU("eth0", narrow))
	da, db := startDaemon(t, gateA), startDaemon(t, gateB)
	da.write(t, "psk", []byte(psk))
	db.write(t, "psk", []byte(psk))
	da.apply(t, fmt.Sprintf(policy, "10.51.0.0/24", "10.52.0.0/24", "fd00:51::/64", "fd00:52::/64", gateA4, gateB4))
	db.apply(t, fmt.Sprintf(policy, "10.52.0.0/24", "10.51.0.0/24", "fd00:52::/64", "fd00:51::/64", gateB4, gateA4))
	for _, x := range []struct {
		v6       bool
		from, to string
		want     int // the longest packet in the tunnel
	}{
		{false, hostA4, hostB4, narrow - 20 - 8 - 8 - 2 - 16}, // the outer header, and what ESP adds
		{true, hostA6, hostB6, narrow - 20 - 8 - 8 - 2 - 16},
	} {
		t.Run(x.from, func(t *testing.T) {
			must(t, ping(within(t, 10*time.Second), a, x.from, x.to, 100))
			sink, err := b.ListenPacket("udp", net.JoinHostPort(x.to, "7"))
			must(t, err)
			defer sink.Close()
			c, err := a.DialFrom(within(t, 10*time.Second), "udp", x.from, net.JoinHostPort(x.to, "7"))
			must(t, err)
			defer c.Close()
			must(t, insist(c, x.v6))
			headers := 28
			if x.v6 {
				headers = 48
			}
			mtu := 0
			eventually(t, 15*time.Second, "the sender knows what gets through", func() bool {
				mtu, err = knownMTU(c, x.v6)
				must(t, err)
				c.Write(make([]byte, mtu-headers)) // the error is of the one before
				sink.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				n, _, err := sink.ReadFrom(make([]byte, 1<<16))
				return err == nil && n == mtu-headers && mtu < narrow
			})
			if mtu != x.want {
				t.Errorf("the sender knows an MTU of %d, want %d", mtu, x.want)
			}
		})
	}
	da.untroubled(t)
	db.untroubled(t)
}
