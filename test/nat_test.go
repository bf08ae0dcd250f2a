package test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// The gateway's addresses by which hosts behind its NAT are known, and the
// server's own where it is behind a NAT of its own.
const (
	outside4, outside6 = "10.9.0.1", "fd00:a::1"
	inside4            = "10.30.0.10"
)

// masquerade makes the gateway a NAT for what leaves it towards the server.
func (s *site) masquerade(t *testing.T) {
	t.Helper()
	must(t, s.gateway.Address("lo", outside6+"/128"))
	const chain = `table %[1]s nat {
	chain post {
		type nat hook postrouting priority srcnat
		oifname srv0 snat to %[2]s
	}
}
`
	loadRuleset(t, s.gateway, fmt.Sprintf(chain, "ip", outside4)+fmt.Sprintf(chain, "ip6", outside6))
}

// newHiddenServer makes a site whose server is behind a NAT of its own, which
// lets in IKE and has the server's usual address:
//
//	server ── in0 front ── srv0 gateway
func newHiddenServer(t *testing.T) (s *site, front *lab.Host) {
	t.Helper()
	s = newGateway(t)
	front = s.host(t, "front", "srv0", []string{server4 + "/24"}, []string{outside4 + "/24"})
	must(t, front.Forwarding())
	var err error
	s.server, err = s.net.Host("server")
	must(t, err)
	must(t, s.net.Link(s.server, front, "eth0", "in0", []string{inside4 + "/24"}, []string{"10.30.0.1/24"}))
	must(t, s.server.Route("default", "10.30.0.1"))
	loadRuleset(t, front, `table ip nat {
	chain pre {
		type nat hook prerouting priority dstnat
		iifname eth0 udp dport { 500, 4500 } dnat to `+inside4+`
	}
	chain post {
		type nat hook postrouting priority srcnat
		ip saddr `+inside4+` oifname eth0 masquerade
	}
}
`)
	return s, front
}

// secureTo runs ipsecfw on a host, with everything between it and another one
// under ESP in transport mode.
func secureTo(t *testing.T, h *lab.Host, peers ...string) *daemon {
	t.Helper()
	d := startDaemon(t, h)
	d.write(t, "psk", []byte(psk))
	d.apply(t, hostPolicy("", peers...))
	return d
}

// Transport mode through NATs, whoever is behind one, from either end.
func TestTransportThroughNAT(t *testing.T) {
	for _, tt := range []struct {
		name                 string
		clientNAT, serverNAT bool
		client, server       string // as the other end knows them
		own                  string // as the client knows itself
	}{
		{"client", true, false, outside4, server4, workstation4},
		{"client IPv6", true, false, outside6, server6, workstation6},
		{"server", false, true, workstation4, server4, workstation4},
		{"both", true, true, outside4, server4, workstation4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s *site
			hidden := tt.server
			var wires []*wire
			all := []string{workstation4, workstation6, outside4, outside6, server4, server6, inside4}
			if tt.serverNAT {
				var front *lab.Host
				s, front = newHiddenServer(t)
				hidden = inside4
				wires = append(wires, watch(t, front, "in0", all, all))
			} else {
				s = newSite(t)
			}
			w := s.workstation(t)
			if tt.clientNAT {
				s.masquerade(t)
			}
			wires = append(wires, watch(t, s.gateway, "wks0", all, all), watch(t, s.gateway, "srv0", all, all))
			ds, dw := secureTo(t, s.server, tt.client), secureTo(t, w, tt.server)
			listenEcho(t, s.server, net.JoinHostPort(hidden, "7"))
			listenSwaps(t, s.server, net.JoinHostPort(hidden, "8443"))
			listenEcho(t, w, net.JoinHostPort(tt.own, "7"))
			listenSwaps(t, w, net.JoinHostPort(tt.own, "8443"))

			must(t, ping(within(t, 10*time.Second), w, tt.own, tt.server, 1000))
			must(t, echo(within(t, 10*time.Second), w, net.JoinHostPort(tt.server, "7"), 1000))
			must(t, transfer(w, "", net.JoinHostPort(tt.server, "8443"), 10*megabyte))
			must(t, ping(within(t, 10*time.Second), s.server, hidden, tt.client, 1000))
			must(t, echo(within(t, 10*time.Second), s.server, net.JoinHostPort(tt.client, "7"), 1000))
			must(t, transfer(s.server, "", net.JoinHostPort(tt.client, "8443"), 10*megabyte))
			// Nobody listens there: the refusal, an ICMP error, comes back to who asked.
			must(t, refusedAtOnce(w, net.JoinHostPort(tt.server, "99")))
			must(t, refusedAtOnce(s.server, net.JoinHostPort(tt.client, "99")))

			for _, wire := range wires {
				wire.secret(t, 40*megabyte)
				if udp, esp := wire.udp.Load(), wire.esp.Load(); udp != esp {
					t.Errorf("%d of %d ESP packets were inside UDP", udp, esp)
				}
			}
			// Fragments are for nobody to judge on a NAT: it puts them together, and a
			// capture sees them when they are translated already.
			must(t, ping(within(t, 10*time.Second), w, tt.own, tt.server, 3000))
			must(t, echo(within(t, 10*time.Second), w, net.JoinHostPort(tt.server, "7"), 20_000))
			must(t, ping(within(t, 10*time.Second), s.server, hidden, tt.client, 3000))
			must(t, echo(within(t, 10*time.Second), s.server, net.JoinHostPort(tt.client, "7"), 20_000))
			onePair(t, ds, dw)
			ds.untroubled(t)
			dw.untroubled(t)
		})
	}
}

// refusedAtOnce sends a datagram, and expects the news that nobody wants it.
func refusedAtOnce(h *lab.Host, to string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := h.Dial(ctx, "udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := c.Write([]byte("anybody?")); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 16)); err == nil || !strings.Contains(err.Error(), unix.ECONNREFUSED.Error()) {
		return fmt.Errorf("a datagram from %s to %s, where nobody listens: %w", h.Name, to, err)
	}
	return nil
}

// dialPort connects from a port.
func dialPort(h *lab.Host, network, from, to string) (c net.Conn, err error) {
	ap, err := netip.ParseAddrPort(from)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(ap), Timeout: 10 * time.Second}
	if network == "tcp" {
		d.LocalAddr = net.TCPAddrFromAddrPort(ap)
	}
	err = h.Do(func() error {
		c, err = d.Dial(network, to)
		return err
	})
	return c, err
}

// twoClients are a workstation and a stranger, behind one NAT, and the server
// that knows both by one address.
func twoClients(t *testing.T) (s *site, clients []*lab.Host, ds *daemon) {
	t.Helper()
	s = newSite(t)
	clients = []*lab.Host{s.workstation(t), s.stranger(t)}
	s.masquerade(t)
	return s, clients, secureTo(t, s.server, outside4)
}

// Two clients behind one NAT, with the same ports to one port of the server at
// one time, as in the figure of a NAT in Windows' documentation: each gets its
// own answers.
func TestTwoClientsBehindNAT(t *testing.T) {
	t.Parallel()
	s, clients, ds := twoClients(t)
	own := []string{workstation4, stranger4}
	listenSwaps(t, s.server, server4+":8443")
	listenEcho(t, s.server, server4+":7")
	all := append([]string{outside4, server4}, own...)
	wires := []*wire{watch(t, s.gateway, "wks0", all, all), watch(t, s.gateway, "str0", all, all), watch(t, s.gateway, "srv0", all, all)}
	daemons := []*daemon{ds}
	for _, h := range clients {
		daemons = append(daemons, secureTo(t, h, server4))
	}

	var streams, datagrams []net.Conn
	for i, h := range clients {
		c, err := dialPort(h, "tcp", own[i]+":5000", server4+":8443")
		must(t, err)
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
		streams = append(streams, c)
		c, err = dialPort(h, "udp", own[i]+":5000", server4+":7")
		must(t, err)
		defer c.Close()
		datagrams = append(datagrams, c)
	}
	var together sync.WaitGroup
	fail := func(i int, what string, err error) {
		if err != nil {
			t.Errorf("%s of %s: %v", what, clients[i].Name, err)
		}
	}
	for i, h := range clients {
		together.Go(func() { fail(i, "the transfer", swap(streams[i], 10*megabyte)) })
		together.Go(func() { fail(i, "the datagrams", talk(datagrams[i], fmt.Sprintf("of %s, ", h.Name), 100)) })
		together.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			fail(i, "the ping", ping(ctx, h, own[i], server4, 1000+i))
		})
	}
	together.Wait()

	if list := ds.sas(t); len(list) != 2 || list[0].Remote == list[1].Remote {
		t.Errorf("the server has the SAs %+v", list)
	}
	wires[0].secret(t, 20*megabyte)
	wires[1].secret(t, 20*megabyte)
	wires[2].secret(t, 40*megabyte)
	for _, d := range daemons {
		d.untroubled(t)
	}
}

// talk sends datagrams and expects each of them back, and no other.
func talk(c net.Conn, prefix string, n int) error {
	buf := make([]byte, 100)
	for i := range n {
		sent := fmt.Sprintf("%s%d", prefix, i)
		for try := 0; ; try++ {
			if _, err := c.Write([]byte(sent)); err != nil {
				return err
			}
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				return err
			}
			n, err := c.Read(buf)
			if err == nil && !strings.HasPrefix(string(buf[:n]), prefix) {
				return fmt.Errorf("got the datagram %q of somebody else", buf[:n])
			}
			if err == nil && string(buf[:n]) == sent {
				break
			}
			if err != nil && (!os.IsTimeout(err) || try == 5) {
				return err
			}
		}
	}
	return nil
}

// A NAT that gives its host another port while only ESP is sent: the server
// learns it from that (RFC 7296 section 2.23).
func TestNATRebindingByESP(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	w := s.workstation(t)
	translate(t, s.gateway, 20000, 20999)
	ds, dw := secureTo(t, s.server, outside4), secureTo(t, w, server4)
	listenEcho(t, s.server, server4+":7")
	listenSwaps(t, s.server, server4+":8443")
	pulse := startPulseFrom(t, w, workstation4, server4+":7")
	pulse.beats(t, 10*time.Second)
	before := ds.sas(t)
	c, err := dialPort(w, "tcp", workstation4+":5000", server4+":8443")
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))

	translate(t, s.gateway, 30000, 30999)
	moved := time.Now()
	pulse.beats(t, 3*time.Second)
	t.Logf("the datagrams came back after %v", time.Since(moved))
	must(t, swap(c, megabyte))
	after := ds.sas(t)
	if len(after) != 1 || after[0].InSPI != before[0].InSPI || after[0].Remote == before[0].Remote {
		t.Errorf("the SAs were %+v, and are %+v", before, after)
	}
	ds.untroubled(t)
	dw.untroubled(t)
}

// A NAT that gives its host another address: Child SAs in transport mode are for
// the one before, and the host gets new ones for the new one.
func TestNATOtherAddress(t *testing.T) {
	t.Parallel()
	const other4 = "10.9.0.2"
	s := newSite(t)
	w := s.workstation(t)
	must(t, s.gateway.Address("srv0", other4+"/24"))
	through := func(address string) {
		loadRuleset(t, s.gateway, `table ip nat
delete table ip nat
table ip nat {
	chain post {
		type nat hook postrouting priority srcnat
		oifname srv0 snat to `+address+`
	}
}`)
		must(t, s.gateway.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
	}
	through(outside4)
	ds, dw := secureTo(t, s.server, outside4, other4), secureTo(t, w, server4)
	listenEcho(t, s.server, server4+":7")
	wire := watch(t, s.gateway, "srv0", []string{outside4, other4}, []string{server4})
	pulse := startPulseFrom(t, w, workstation4, server4+":7")
	pulse.beats(t, 10*time.Second)
	through(other4)
	pulse.beats(t, 15*time.Second)
	if list := ds.sas(t); len(list) != 1 || !strings.HasPrefix(list[0].Remote, other4) {
		t.Errorf("the server has the SAs %+v", list)
	}
	wire.secret(t, 1)
	ds.untroubled(t, "a packet under an SA is dropped") // which was on its way before
	dw.untroubled(t)
}
