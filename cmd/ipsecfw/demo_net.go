package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// The addresses of the demonstration. The rule files in examples name them.
const (
	workstationAddr = "10.1.0.20"
	strangerAddr    = "10.1.0.66"
	serverAddr      = "10.2.0.10"
	lookupAddr      = "10.9.0.53"
)

const (
	payrollPort = 8443
	blockedPort = 9999
	lookupPort  = 53
)

// demoNet is the network of the demonstration: four hosts, each on a cable
// of its own to the gateway between them.
type demoNet struct {
	net                                            *lab.Net
	gateway, workstation, stranger, server, lookup *lab.Host
}

func newDemoNet() (d *demoNet, err error) {
	n, err := lab.New("ipsecfw-demo")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	d = &demoNet{net: n}
	if d.gateway, err = n.Host("gateway"); err != nil {
		return nil, err
	}
	if err := d.gateway.Forwarding(); err != nil {
		return nil, err
	}
	for _, h := range []struct {
		host               **lab.Host
		name, addr, router string
		bits               int
	}{
		{&d.workstation, "workstation", workstationAddr, "10.1.0.17", 29},
		{&d.stranger, "stranger", strangerAddr, "10.1.0.65", 29},
		{&d.server, "server", serverAddr, "10.2.0.1", 24},
		{&d.lookup, "lookup", lookupAddr, "10.9.0.1", 24},
	} {
		if *h.host, err = n.Host(h.name); err != nil {
			return nil, err
		}
		near, far := fmt.Sprintf("%s/%d", h.addr, h.bits), fmt.Sprintf("%s/%d", h.router, h.bits)
		if err := n.Link(*h.host, d.gateway, "eth0", h.name, []string{near}, []string{far}); err != nil {
			return nil, err
		}
		if err := (*h.host).Route("default", h.router); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// conversation is the packets of one kind between two ends, one way. The
// ports are 0 where a packet shows none.
type conversation struct {
	kind     lab.Kind
	src, dst netip.AddrPort
}

// involves reports whether the conversation has an end at an address, and
// goes to or from a port.
func (c conversation) involves(addr string, port uint16) bool {
	a := netip.MustParseAddr(addr)
	return (c.src.Addr() == a || c.dst.Addr() == a) && (c.src.Port() == port || c.dst.Port() == port)
}

// wire counts what passes a cable of the gateway.
type wire struct {
	capture *lab.Capture
	seen    map[conversation]int
}

// watch begins to count what passes the cable to a host.
func (d *demoNet) watch(host *lab.Host) (*wire, error) {
	w := &wire{seen: map[conversation]int{}}
	var err error
	w.capture, err = d.gateway.Capture(host.Name, func(packet []byte, _ bool) {
		kind, p := lab.Classify(packet)
		w.seen[conversation{kind, netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort)}]++
	})
	return w, err
}

// count returns how many packets were in conversations that match, once the
// wire is closed.
func (w *wire) count(match func(conversation) bool) int {
	n := 0
	for c, packets := range w.seen {
		if match(c) {
			n += packets
		}
	}
	return n
}

func (w *wire) kind(k lab.Kind) int {
	return w.count(func(c conversation) bool { return c.kind == k })
}

// clear counts the packets in clear with an end at an address and a port.
func (w *wire) clear(addr string, port uint16) int {
	return w.count(func(c conversation) bool { return c.kind == lab.Clear && c.involves(addr, port) })
}

// answerLookups is a name server that knows one address for every name. It
// ends when the connection is closed.
func answerLookups(c net.PacketConn, answer netip.Addr) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.Authoritative, m.Additionals = true, true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: answer.As4()},
			}}
		}
		if b, err := m.Pack(); err == nil {
			c.WriteTo(b, from)
		}
	}
}

// resolver asks the lookup host from another one.
func resolver(from *lab.Host) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return from.Dial(ctx, "udp", fmt.Sprintf("%s:%d", lookupAddr, lookupPort))
	}}
}
