package test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// stream sends numbered datagrams to an echo, some thousand a second, and
// counts those that come back.
type stream struct {
	conn       *net.UDPConn
	sent, back atomic.Int64
	stop       chan struct{}
	sender     sync.WaitGroup
}

func startStream(t *testing.T, h *lab.Host, to string) *stream {
	t.Helper()
	c, err := h.Dial(t.Context(), "udp", to)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	s := &stream{conn: c.(*net.UDPConn), stop: make(chan struct{})}
	must(t, s.conn.SetReadBuffer(8<<20))
	s.sender.Go(func() {
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				if _, err := c.Write(binary.BigEndian.AppendUint64(nil, uint64(s.sent.Add(1)))); err != nil {
					t.Errorf("datagram %d is not sent: %v", s.sent.Load(), err)
					return
				}
			}
		}
	})
	go func() {
		buf := make([]byte, 64)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			s.back.Add(1)
		}
	}()
	return s
}

// end stops the stream and fails the test if anything was lost.
func (s *stream) end(t *testing.T) {
	t.Helper()
	close(s.stop)
	s.sender.Wait()
	if !await(t, 2*time.Second, func() bool { return s.back.Load() == s.sent.Load() }) {
		t.Errorf("of %d datagrams %d came back", s.sent.Load(), s.back.Load())
	}
	t.Logf("%d datagrams", s.sent.Load())
}

// A flow that the old policy permits and the new one too loses no packet.
func TestApplyLosesNothing(t *testing.T) {
	s := newSite(t)
	w := s.workstation(t)
	ds, dg := startDaemon(t, s.server), startDaemon(t, s.gateway)
	listenEcho(t, s.server, server4+":7")
	const policy = `version: 1
name: seamless
filter-lists:
  echo: [{from: %s, to: %s, protocol: udp, to-port: 7%s}]
  more:
%s  rest: [{from: any, to: %[2]s}]
rules:
  - {name: echo, filter-list: echo, action: permit%[5]s}
  - {name: more, filter-list: more, action: block%[5]s}
  - {name: rest, filter-list: rest, action: block%[5]s}
`
	more := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "    - {from: 10.77.%d.%d, to: 10.9.0.10, protocol: tcp, to-port: %d}\n", i>>8&0xff, i&0xff, 1+i%1000)
		}
		return b.String()
	}
	ours := []string{
		fmt.Sprintf(policy, "any", "me", "", more(1), ""),
		fmt.Sprintf(policy, "10.1.0.0/16", "me", ", stateful: true", more(40), ""),
	}
	gateways := []string{
		fmt.Sprintf(policy, "10.1.0.0/16", "10.9.0.0/24", "", more(1), ", path: forward"),
		fmt.Sprintf(policy, "10.1.1.0/24", "10.9.0.10", "", more(30), ", path: forward"),
	}
	ds.apply(t, ours[0])
	dg.apply(t, gateways[0])
	stream := startStream(t, w, server4+":7")
	eventually(t, 10*time.Second, "datagrams come back", func() bool { return stream.back.Load() > 10 })
	for i := range 10 {
		ds.apply(t, ours[(i+1)%2])
		dg.apply(t, gateways[(i+1)%2])
	}
	large := fmt.Sprintf(policy, "any", "me", "", more(5000), "")
	ds.apply(t, large)
	ds.apply(t, strings.Replace(large, "to-port: 17}", "to-port: 4017}", 1))
	ds.apply(t, ours[0])
	stream.end(t)
	ds.untroubled(t)
	dg.untroubled(t)
}

// An SA that the new policy wants lives on, and goes on to count. One that it
// does not is deleted, which the peer is told.
func TestApplyAndSAs(t *testing.T) {
	s, w, ds, dw := secureHosts(t, "")
	listenSwaps(t, s.server, server4+":8443")
	must(t, transfer(w, "", server4+":8443", megabyte))
	onePair(t, ds, dw)
	before := ds.sas(t)[0]
	other := strings.Replace(hostPolicy("", workstation4, workstation6), "filter-lists:\n", `# A comment moves all lines.
filter-lists:
  telnet: [{from: any, to: me, protocol: tcp, to-port: 23}]
`, 1) + "  - {name: telnet, filter-list: telnet, action: block}\n"
	ds.apply(t, other)
	after := ds.sas(t)
	if len(after) != 1 || after[0] != before {
		t.Fatalf("the SAs were %+v, and are %+v", before, after)
	}
	must(t, transfer(w, "", server4+":8443", megabyte))
	onePair(t, ds, dw)
	if now := ds.sas(t)[0]; now.InSPI != before.InSPI || now.OutSPI != before.OutSPI || now.InBytes <= before.InBytes || now.OutBytes <= before.OutBytes {
		t.Errorf("the SAs were %+v, and are %+v", before, now)
	}

	ds.apply(t, strings.Replace(hostPolicy("", workstation4, workstation6), "action: secure, authentication: [{preshared-key: {file: psk}}]", "action: block", 1))
	if sas := ds.sas(t); len(sas) > 0 {
		t.Errorf("with a policy that blocks the peer there are the SAs %+v", sas)
	}
	eventually(t, 5*time.Second, "the peer deletes its SAs", func() bool { return len(dw.sas(t)) == 0 })
	ds.untroubled(t)
}

// entries returns how many entries of connection tracking a host has for a TCP
// port.
func entries(t *testing.T, h *lab.Host, port uint16) (n int) {
	t.Helper()
	var flows []*netlink.ConntrackFlow
	must(t, h.Do(func() (err error) {
		flows, err = netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		return err
	}))
	for _, f := range flows {
		if f.Forward.Protocol == unix.IPPROTO_TCP && f.Forward.DstPort == port {
			n++
		}
	}
	return n
}

// An established connection that the new policy blocks is cut: neither end
// waits in vain, and nothing of it is left.
func TestApplyCutsConnections(t *testing.T) {
	const policy = `version: 1
name: cut
filter-lists:
  last:
%s  tcp: [{from: any, to: me, protocol: tcp, to-port: %d}, {from: me, to: any, protocol: tcp, to-port: %[2]d}]
  rest: [{from: any, to: me}]
rules:
  - {name: last, filter-list: last, action: permit}
  - {name: tcp, filter-list: tcp, action: permit}
  - {name: rest, filter-list: rest, action: block}
`
	_, f, d := peers(t)
	w := f.parties["work"].host
	open := fmt.Sprintf(policy, f.lastFilters(), 8443)
	d.apply(t, open)
	for _, tt := range []struct {
		name     string
		from, to *lab.Host
		address  string
	}{
		{"that came in", w, d.host, server4},
		{"that went out", d.host, w, workstation4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d.apply(t, open)
			l, err := tt.to.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(tt.address), 8443).String())
			must(t, err)
			defer l.Close()
			client, err := tt.from.Dial(t.Context(), "tcp", l.Addr().String())
			must(t, err)
			defer client.Close()
			server, err := l.Accept()
			must(t, err)
			defer server.Close()
			_, err = client.Write([]byte("x"))
			must(t, err)
			_, err = io.ReadFull(server, make([]byte, 1))
			must(t, err)
			if n := entries(t, d.host, 8443); n != 1 {
				t.Fatalf("%d entries of one connection", n)
			}

			out, err := d.run("apply", d.write(t, "policy.yaml", []byte(fmt.Sprintf(policy, f.lastFilters(), 8444))))
			must(t, err)
			if !strings.Contains(string(out), "1 connection") {
				t.Errorf("apply says %q of the connection", out)
			}
			if n := entries(t, d.host, 8443); n != 0 {
				t.Errorf("%d entries of the connection are left", n)
			}
			for _, end := range []struct {
				where *lab.Host
				conn  net.Conn
			}{{tt.from, client}, {tt.to, server}} {
				end.conn.SetDeadline(time.Now().Add(3 * time.Second))
				_, err := end.conn.Read(make([]byte, 1))
				if e, ok := err.(net.Error); err == nil || ok && e.Timeout() {
					t.Errorf("the end in %s waits on: %v", end.where.Name, err)
				}
			}
		})
	}
	t.Run("that both policies permit", func(t *testing.T) {
		d.apply(t, open)
		listenSwaps(t, d.host, server4+":8443")
		c, err := w.Dial(t.Context(), "tcp", server4+":8443")
		must(t, err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		must(t, swap(c, megabyte))
		d.apply(t, strings.Replace(open, "from: any, to: me, protocol: tcp", "from: 10.1.0.0/16, to: me, protocol: tcp", 1))
		must(t, swap(c, megabyte))
	})
	d.untroubled(t)
}
