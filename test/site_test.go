package test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// The addresses of the site. Each host has a network of its own behind the
// gateway.
const (
	server4, server6           = "10.9.0.10", "fd00:9::10"
	workstation4, workstation6 = "10.1.1.10", "fd00:1:1::10"
	stranger4                  = "10.1.2.66"
	resolver4                  = "10.9.0.53" // on the gateway
)

// site is a server, and whoever talks to it by way of a gateway:
//
//	server ── srv0 gateway wks0 ── workstation
//	                       str0 ── stranger
type site struct {
	net             *lab.Net
	server, gateway *lab.Host
}

// newSite makes the server and the gateway. Every host checks the source
// addresses of what it receives strictly (RFC 3704 section 2.2).
func newSite(t *testing.T) *site {
	t.Helper()
	s := newGateway(t)
	s.server = s.host(t, "server", "srv0", []string{server4 + "/24", server6 + "/64"}, []string{"10.9.0.1/24", "fd00:9::1/64", resolver4 + "/24"})
	return s
}

// newGateway makes a site of nothing but the gateway.
func newGateway(t *testing.T) *site {
	t.Helper()
	need(t)
	n, err := lab.New("ipsecfw-" + strings.ToLower(strings.NewReplacer("Test", "", "/", "-").Replace(t.Name())))
	must(t, err)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &site{net: n}
	s.gateway, err = n.Host("gateway")
	must(t, err)
	must(t, s.gateway.Forwarding())
	return s
}

// host makes a host behind the gateway, which is its default route. The first
// addresses at the gateway are the next hops.
func (s *site) host(t *testing.T, name, gatewayIf string, own, gateways []string) *lab.Host {
	t.Helper()
	h, err := s.net.Host(name)
	must(t, err)
	must(t, h.Sysctl("net.ipv4.conf.all.rp_filter", "1"))
	must(t, h.Sysctl("net.ipv4.conf.default.rp_filter", "1"))
	must(t, s.net.Link(h, s.gateway, "eth0", gatewayIf, own, gateways))
	var families []bool
	for _, gateway := range gateways {
		via := netip.MustParsePrefix(gateway).Addr()
		if !slices.Contains(families, via.Is4()) {
			families = append(families, via.Is4())
			must(t, h.Route("default", via.String()))
		}
	}
	return h
}

// workstation adds the one who may talk to the server.
func (s *site) workstation(t *testing.T) *lab.Host {
	t.Helper()
	return s.host(t, "workstation", "wks0", []string{workstation4 + "/24", workstation6 + "/64"}, []string{"10.1.1.1/24", "fd00:1:1::1/64"})
}

// stranger adds the one who may not.
func (s *site) stranger(t *testing.T) *lab.Host {
	t.Helper()
	return s.host(t, "stranger", "str0", []string{stranger4 + "/24"}, []string{"10.1.2.1/24"})
}

// wire counts the packets between two parties.
type wire struct {
	capture  *lab.Capture
	esp, udp atomic.Int64 // ESP packets, and those of them that are UDP-encapsulated
	clear    atomic.Int64
	bytes    atomic.Int64 // of ESP packets
	witness  atomic.Pointer[string]
}

// fragment tells which packet a fragment is of, in one direction.
type fragment struct {
	src netip.Addr
	id  uint32
}

func fragmentOf(b []byte, p packet.Packet) fragment {
	if p.Is4() {
		return fragment{p.Src, uint32(binary.BigEndian.Uint16(b[4:]))}
	}
	return fragment{p.Src, binary.BigEndian.Uint32(b[p.HeaderLen-4:])}
}

// watch counts what passes an interface between two parties, of whom the
// addresses are given. A fragment is what its packet's first fragment is.
func watch(t *testing.T, h *lab.Host, ifname string, left, right []string) *wire {
	t.Helper()
	w := new(wire)
	isOf := func(addrs []string, addr netip.Addr) bool { return slices.Contains(addrs, addr.String()) }
	var err error
	fragments := map[fragment]lab.Kind{}
	w.capture, err = h.Capture(ifname, func(b []byte, _ bool) {
		kind, p := lab.Classify(b)
		if p.Src.IsValid() && !(isOf(left, p.Src) && isOf(right, p.Dst) || isOf(right, p.Src) && isOf(left, p.Dst)) {
			return
		}
		if p.Fragment && p.Protocol == 17 {
			key := fragmentOf(b, p)
			if p.FragmentOffset == 0 {
				fragments[key] = kind
			}
			kind = fragments[key]
		}
		switch kind {
		case lab.ESP:
			w.esp.Add(1)
			w.bytes.Add(int64(p.Len))
			if p.Protocol == 17 {
				w.udp.Add(1)
			}
		case lab.Clear:
			w.clear.Add(1)
			what := fmt.Sprintf("%v:%d → %v:%d, protocol %d, %d bytes: %x", p.Src, p.SrcPort, p.Dst, p.DstPort, p.Protocol, p.Len, b[:min(len(b), 128)])
			w.witness.CompareAndSwap(nil, &what)
		}
	})
	must(t, err)
	return w
}

// end stops counting.
func (w *wire) end(t *testing.T) {
	t.Helper()
	if err := w.capture.Close(); err != nil {
		t.Error(err)
	}
}

// secret ends the watch and fails the test if anything passed in clear, or
// less than so many bytes of ESP.
func (w *wire) secret(t *testing.T, bytes int64) {
	t.Helper()
	w.end(t)
	if n := w.clear.Load(); n > 0 {
		t.Errorf("%d clear packets on the wire, the first: %s", n, *w.witness.Load())
	}
	if n := w.bytes.Load(); n < bytes {
		t.Errorf("%d bytes of ESP on the wire; what was sent is at least %d", n, bytes)
	}
}
