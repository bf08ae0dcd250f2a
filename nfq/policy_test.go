package nfq

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ipsock"
)

// under gives a host a policy of its own.
func (h *host) under(t *testing.T, entries ...filter.Entry) *host {
	t.Helper()
	for i := range entries {
		entries[i].Position, entries[i].Mirrored = "test:1:1", true
	}
	spd, err := filter.New(entries, filter.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	h.SetSPD(spd)
	return h
}

func negotiate(name string, from, to filter.Side) filter.Entry {
	return filter.Entry{Name: name, Action: filter.Negotiate, Selector: filter.Selector{From: from, To: to}}
}

// deliver gives a host what another one sealed, as having come by a link.
func (h *host) deliver(sealed []byte, from netip.Addr, link int) {
	in := h.NewInbound(false)
	in.Receive(append(make([]byte, ipsock.Headroom), sealed...), ipsock.Headroom, netip.AddrPortFrom(h.addr, 0), netip.AddrPortFrom(from, 0), 0, link)
	in.Flush()
}

func TestSoftPeer(t *testing.T) {
	soft, hard := negotiate("soft", filter.Me(), filter.Any()), negotiate("hard", filter.Me(), filter.Any())
	soft.Options.AllowUnsecured = true
	hard.Selector.Protocol, hard.Selector.HasProtocol = packet.TCP, true
	h := newHost(t, client4, 0).under(t, soft, hard)
	now := time.Unix(1000, 0)
	h.cfg.Now = func() time.Time { return now }
	out := h.NewOutbound()
	send := func(id uint32, protocol uint8) Verdict {
		v, _ := out.Handle(Queued{ID: id, Packet: clear(client4, server4, protocol, 40000, 9, 2, []byte("x")), Queue: h})
		return v
	}
	if v := send(1, packet.UDP); v != Held {
		t.Fatalf("before the peer is known: verdict %d", v)
	}
	if v := send(2, packet.TCP); v != Held {
		t.Fatalf("a packet of another rule: verdict %d", v)
	}
	h.Soften("soft", server4, now.Add(time.Minute))
	if h.verdicts[1] != Pass {
		t.Errorf("what waited got verdict %d, want Pass", h.verdicts[1])
	}
	if v := send(3, packet.UDP); v != Pass {
		t.Errorf("a packet to a soft peer: verdict %d, want Pass", v)
	}
	if v := send(4, packet.TCP); v != Held {
		t.Errorf("a packet of a rule that does not allow it: verdict %d, want Held", v)
	}
	h.Soften("hard", server4, now.Add(time.Minute))
	if h.verdicts[4] != Drop {
		t.Errorf("a rule that does not allow it: verdict %d, want Drop", h.verdicts[4])
	}
	now = now.Add(time.Minute)
	if v := send(5, packet.UDP); v != Held {
		t.Errorf("after its time: verdict %d, want Held", v)
	}
	h.Soften("soft", server4, now.Add(time.Minute))
	h.Harden(server4)
	if v := send(6, packet.UDP); v != Held {
		t.Errorf("after Harden: verdict %d, want Held", v)
	}
}

func TestDefaultResponse(t *testing.T) {
	block := filter.Entry{Name: "telnet", Action: filter.Block, Selector: filter.Selector{
		From: filter.Any(), To: filter.Any(), Protocol: packet.TCP, HasProtocol: true, ToPort: filter.PortRange{Lo: 23, Hi: 23}}}
	c, s := newHost(t, client4, 0).under(t), newHost(t, server4, 0).under(t, block)
	a, b := pair(t, "default-response", ipsec.Transport, false, client4, server4)
	other, _ := pair(t, "another", ipsec.Transport, false, client4, server4)
	pkt := func(port uint16) []byte { return clear(client4, server4, packet.TCP, 40000, port, 0x10, []byte("x")) }
	if v, _ := c.NewOutbound().Handle(Queued{ID: 1, Packet: pkt(80), Queue: c}); v != Drop {
		t.Errorf("without an SA: verdict %d, want Drop", v)
	}
	c.Install(other, false)
	if v, _ := c.NewOutbound().Handle(Queued{ID: 2, Packet: pkt(80), Queue: c}); v != Drop {
		t.Errorf("with an SA of another rule: verdict %d, want Drop", v)
	}
	c.SAD().Remove(other.InSPI)
	c.Install(a, false)
	s.Install(b, false)
	v, sealed := c.NewOutbound().Handle(Queued{ID: 3, Packet: pkt(80), Queue: c})
	if v != Replace {
		t.Fatalf("with an SA: verdict %d, want Replace", v)
	}
	s.deliver(sealed[20:], client4, 0)
	if len(s.injected) != 1 {
		t.Error("an answer under the default response did not reach the stack")
	}
	_, sealed = c.NewOutbound().Handle(Queued{ID: 4, Packet: pkt(23), Queue: c})
	s.deliver(sealed[20:], client4, 0)
	if len(s.injected) != 1 || s.Counters.InMismatch.Load() != 1 {
		t.Error("what a filter blocks came in under the default response")
	}
}

// A tunnel between networks: its packets are forwarded on both sides.
func TestForwardedTunnel(t *testing.T) {
	netC, netS := filter.Subnet(netip.MustParsePrefix("10.5.1.0/24")), filter.Subnet(netip.MustParsePrefix("10.5.2.0/24"))
	site := negotiate("site", netC, netS)
	site.Forward = true
	hostC, hostS := netip.MustParseAddr("10.5.1.9"), netip.MustParseAddr("10.5.2.9")
	opposite := negotiate("site", netS, netC)
	opposite.Forward = true
	c, s := newHost(t, client4, 0).under(t, site), newHost(t, server4, 0).under(t, opposite)
	a, b := pair(t, "site", ipsec.Tunnel, false, client4, server4)
	all := func(n string) []ipsec.TrafficSelector {
		return []ipsec.TrafficSelector{ipsec.SelectPrefix(netip.MustParsePrefix(n), 0, 0, 0xffff)}
	}
	a.Local, a.Remote, b.Local, b.Remote = all("10.5.1.0/24"), all("10.5.2.0/24"), all("10.5.2.0/24"), all("10.5.1.0/24")
	c.Install(a, false)
	s.Install(b, false)
	pkt := clear(hostC, hostS, packet.TCP, 40000, 80, 0x10, []byte("x"))
	c.NewOutbound().Handle(Queued{ID: 1, Packet: pkt, Forwarded: true, Queue: c})
	if len(c.sent) != 1 {
		t.Fatalf("%d packets sent, want 1", len(c.sent))
	}
	s.deliver(c.sent[0].bytes[packet.IPv4HeaderLen:], client4, 0)
	if len(s.injected) != 1 {
		t.Error("what came out of the tunnel did not reach the stack")
	}
	if v, _ := c.NewOutbound().Handle(Queued{ID: 2, Packet: pkt, Queue: c}); v != Drop || len(c.sent) != 1 {
		t.Error("a packet of the host itself went into a tunnel for forwarded ones")
	}
	back := clear(hostS, hostC, packet.TCP, 80, 40000, 0x10, []byte("x"))
	if v, _ := c.NewOutbound().Handle(Queued{ID: 3, Packet: back, Forwarded: true, Queue: c}); v != Drop {
		t.Error("a packet from the far network was to go into the tunnel again")
	}
	// The far end may not reach the gateway itself by a rule for what it forwards.
	s.addr = hostS
	c.NewOutbound().Handle(Queued{ID: 4, Packet: pkt, Forwarded: true, Queue: c})
	s.deliver(c.sent[1].bytes[packet.IPv4HeaderLen:], client4, 0)
	if len(s.injected) != 1 || s.Counters.InMismatch.Load() != 1 {
		t.Error("a rule for forwarded packets let one in to the host")
	}
}

func TestConnection(t *testing.T) {
	remote := negotiate("remote", filter.Any(), filter.Any())
	remote.Selector.Connection = filter.Connection{Kind: filter.ConnectionRemote}
	c, s := newHost(t, client4, 0).under(t, remote), newHost(t, server4, 0).under(t, remote)
	a, b := pair(t, "remote", ipsec.Transport, false, client4, server4)
	c.Install(a, false)
	s.Install(b, false)
	pkt := clear(client4, server4, packet.TCP, 40000, 80, 0x10, []byte("x"))
	if v, _ := c.NewOutbound().Handle(Queued{ID: 1, Packet: pkt, Link: 8, Queue: c}); v != Drop {
		t.Errorf("by a LAN: verdict %d, want Drop", v)
	}
	for _, tt := range []struct{ link, want int }{{8, 0}, {99, 0}, {7, 1}} {
		v, sealed := c.NewOutbound().Handle(Queued{ID: 2, Packet: pkt, Link: 7, Queue: c})
		if v != Replace {
			t.Fatalf("by a PPP link: verdict %d, want Replace", v)
		}
		s.deliver(sealed[20:], client4, tt.link)
		if len(s.injected) != tt.want {
			t.Errorf("came by link %d: %d packets reached the stack, want %d", tt.link, len(s.injected), tt.want)
		}
	}
}
