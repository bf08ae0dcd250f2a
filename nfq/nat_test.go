package nfq

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/esp"
	"github.com/ipsecfw/ipsecfw/ipsec/ipsock"
)

// behind is a client behind a NAT, and its SAs with a server that may be behind
// another one.
type behind struct {
	own, server netip.Addr // as the client knows the two
	in, out     ipsec.SPI  // the server's
	seal        Sealer     // what the client sends,
	open        Opener     // and gets
	at          netip.AddrPort
}

// join gives a host SAs for a rule with a client behind a NAT, which shows it at
// a port of its outside address.
func join(t testing.TB, h *host, rule, own, server string, outside netip.Addr, port uint16, spi ipsec.SPI) *behind {
	t.Helper()
	encr := ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}
	keys := func(spi ipsec.SPI) ipsec.Keys { return ipsec.Keys{Encr: bytes.Repeat([]byte{byte(spi)}, 36)} }
	one := func(a netip.Addr) []ipsec.TrafficSelector {
		return []ipsec.TrafficSelector{ipsec.SelectPrefix(netip.PrefixFrom(a, a.BitLen()), 0, 0, 0xffff)}
	}
	b := &behind{own: netip.MustParseAddr(own), server: netip.MustParseAddr(server), in: spi, out: spi + 1, at: netip.AddrPortFrom(outside, port)}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	b.seal, err = esp.NewOutbound(ipsec.Params{SPI: b.in, Encr: encr, Keys: keys(b.in)})
	must(err)
	b.open, err = esp.NewInbound(ipsec.Params{SPI: b.out, Encr: encr, Keys: keys(b.out)})
	must(err)
	sa := &SA{ChildSA: &ipsec.ChildSA{
		Policy: rule, Mode: ipsec.Transport, Protocol: ipsec.ProtoESP, Encr: encr, InSPI: b.in, OutSPI: b.out,
		Local: one(h.addr), Remote: one(outside), UDPEncap: true, PeerID: own,
		LocalAddr: netip.AddrPortFrom(h.addr, 4500), RemoteAddr: b.at, OriginalLocal: b.server, OriginalRemote: b.own,
	}, Path: NewPath(outside.Is6(), 1500), Since: time.Unix(1, 0)}
	sa.Out, err = esp.NewOutbound(ipsec.Params{SPI: b.out, Encr: encr, Keys: keys(b.out)})
	must(err)
	sa.In, err = esp.NewInbound(ipsec.Params{SPI: b.in, Encr: encr, Keys: keys(b.in)})
	must(err)
	h.Install(sa, false)
	return b
}

// sends gives a host what a client sends, and returns what the stack was given.
func (b *behind) sends(t testing.TB, h *host, pkt []byte, at netip.AddrPort) []byte {
	t.Helper()
	var p packet.Packet
	if err := packet.Parse(pkt, &p); err != nil {
		t.Fatal(err)
	}
	sealed, err := b.seal.Seal(make([]byte, ipsock.Headroom), pkt[p.HeaderLen:], p.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	in, had := h.NewInbound(true), len(h.injected)
	in.Receive(sealed, ipsock.Headroom, netip.AddrPortFrom(h.addr, 4500), at, 0, 0)
	in.Flush()
	if len(h.injected) == had {
		return nil
	}
	return h.injected[had]
}

// gets returns what a client opens of what the host's stack sends.
func (b *behind) gets(t testing.TB, h *host, pkt []byte, pending bool) []byte {
	t.Helper()
	v, out := h.NewOutbound().Handle(Queued{ID: 1, Packet: slices.Clone(pkt), ChecksumPending: pending, Queue: h})
	var p packet.Packet
	if v != Replace || packet.Parse(out, &p) != nil || p.Protocol != protocolUDP {
		t.Fatalf("verdict %d, %x", v, out)
	}
	if port := p.DstPort; port != b.at.Port() {
		t.Errorf("it goes to port %d, where another client is; want %d", port, b.at.Port())
		return nil
	}
	payload, next, err := b.open.Open(nil, slices.Clone(out[p.HeaderLen+udpHeaderLen:]))
	if err != nil {
		t.Fatal(err)
	}
	// The client's NATs put the addresses that it knows before it, and it has
	// to make the checksum right.
	from, to := p.Src, p.Dst
	whole := append(header(b.server, b.own, next, len(payload)), payload...)
	if err := packet.Parse(whole, &p); err != nil {
		t.Fatal(err)
	}
	packet.UpdatePseudo(whole, &p, sumOf(from, to), sumOf(b.server, b.own))
	return whole
}

// header is the IP header of a packet with n bytes of payload.
func header(from, to netip.Addr, protocol uint8, n int) []byte {
	if from.Is4() {
		return packet.AppendIPv4Header(nil, from, to, protocol, 0, 64, n, true)
	}
	return packet.AppendIPv6Header(nil, from, to, protocol, 0, 64, n)
}

func parsed(t testing.TB, b []byte) packet.Packet {
	t.Helper()
	var p packet.Packet
	if err := packet.Parse(b, &p); err != nil {
		t.Fatalf("%v: %x", err, b)
	}
	return p
}

// What comes through NATs gets the checksum of the addresses that it has here.
func TestNATChecksums(t *testing.T) {
	outside6, front6 := netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr("2001:db8::10")
	for _, tt := range []struct {
		name        string
		addr        netip.Addr // of the server
		outside     netip.Addr
		own, server string
		protocol    uint8
		change      func(pkt []byte, at int)
		want, right bool // whether it comes, and whether its checksum is right
	}{
		{"UDP", server4, natOutside, "192.168.1.2", "10.1.0.1", packet.UDP, nil, true, true},
		{"UDP, server behind a NAT", server4, natOutside, "192.168.1.2", "203.0.113.80", packet.UDP, nil, true, true},
		{"TCP, both behind a NAT", server4, natOutside, "192.168.1.2", "203.0.113.80", packet.TCP, nil, true, true},
		{"UDP over IPv6", server6, outside6, "fd11::2", front6.String(), packet.UDP, nil, true, true},
		{"TCP over IPv6", server6, outside6, "fd11::2", front6.String(), packet.TCP, nil, true, true},
		{"UDP without a checksum", server4, natOutside, "192.168.1.2", "203.0.113.80", packet.UDP,
			func(pkt []byte, at int) { pkt[at+6], pkt[at+7] = 0, 0 }, true, true},
		{"damaged by its sender", server4, natOutside, "192.168.1.2", "203.0.113.80", packet.UDP,
			func(pkt []byte, at int) { pkt[at+8] ^= 1 }, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t, tt.addr, 0)
			rule, port := "echo", uint16(7)
			if tt.protocol == packet.TCP {
				rule, port = "staff", 8443
			}
			b := join(t, h, rule, tt.own, tt.server, tt.outside, 20001, 0x2001)
			pkt := clear(b.own, b.server, tt.protocol, 5000, port, 0x10, []byte("hello"))
			p := parsed(t, pkt)
			if tt.change != nil {
				tt.change(pkt, p.HeaderLen)
			}
			got := b.sends(t, h, pkt, b.at)
			if (got != nil) != tt.want {
				t.Fatalf("it came: %v", got != nil)
			}
			q := parsed(t, got)
			if q.Src != tt.outside || q.Dst != tt.addr || packet.VerifyChecksum(got, &q) != tt.right {
				t.Errorf("from %s to %s, checksum right: %v", q.Src, q.Dst, packet.VerifyChecksum(got, &q))
			}
			back := b.gets(t, h, clear(tt.addr, tt.outside, tt.protocol, port, 5000, 0x10, []byte("hello")), false)
			if q = parsed(t, back); q.DstPort != 5000 || !packet.VerifyChecksum(back, &q) {
				t.Errorf("the answer is %+v, %x", q, back)
			}
		})
	}
}

// Two clients behind one NAT with the same port to the same port: the stack
// tells them apart, and each gets its answers, as does a third SA of the first.
func TestNATTwoClients(t *testing.T) {
	for _, tt := range []struct {
		name, rule string
		protocol   uint8
		port       uint16
		pending    bool
	}{
		{"UDP", "echo", packet.UDP, 7, false},
		{"TCP", "staff", packet.TCP, 8443, false},
		{"TCP with its checksum to be done", "staff", packet.TCP, 8443, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t, server4, 0)
			a := join(t, h, tt.rule, "192.168.1.2", "10.1.0.1", natOutside, 20001, 0x2001)
			b := join(t, h, tt.rule, "192.168.1.3", "10.1.0.1", natOutside, 20002, 0x3001)
			asks := func(c *behind) uint16 {
				got := c.sends(t, h, clear(c.own, c.server, tt.protocol, 5000, tt.port, 0x10, []byte(c.own.String())), c.at)
				p := parsed(t, got)
				if !packet.VerifyChecksum(got, &p) || !bytes.HasSuffix(got, []byte(c.own.String())) {
					t.Errorf("the stack was given %x", got)
				}
				return p.SrcPort
			}
			of := map[*behind]uint16{a: asks(a), b: asks(b)}
			if of[a] != 5000 || of[b] == 5000 {
				t.Fatalf("the ports are %d and %d", of[a], of[b])
			}
			for range 2 {
				for c, port := range of {
					answer := clear(server4, natOutside, tt.protocol, tt.port, port, 0x10, []byte(c.own.String()))
					if tt.pending {
						q := parsed(t, answer)
						u := answer[q.HeaderLen:]
						binary.BigEndian.PutUint16(u[16:], packet.Fold(packet.PseudoSum(answer, &q, len(u))))
					}
					got := c.gets(t, h, answer, tt.pending)
					if p := parsed(t, got); p.DstPort != 5000 || !packet.VerifyChecksum(got, &p) || !bytes.HasSuffix(got, []byte(c.own.String())) {
						t.Errorf("%s got %x", c.own, got)
					}
				}
				// New keys of the first client change nothing.
				delete(of, a)
				a = join(t, h, tt.rule, "192.168.1.2", "10.1.0.1", natOutside, 20001, 0x4001)
				of[a] = 5000
			}
			// What this host begins goes to who has the newest SA, and goes on so.
			const syn, ack = 2, 0x10
			a.gets(t, h, clear(server4, natOutside, tt.protocol, 40000, tt.port, syn, nil), false)
			begun := clear(server4, natOutside, tt.protocol, 40000, tt.port, ack, nil)
			a.gets(t, h, begun, false)
			join(t, h, tt.rule, "192.168.1.3", "10.1.0.1", natOutside, 20002, 0x5001)
			a.gets(t, h, begun, false)
			// With whom a connection was is not guessed.
			if tt.protocol == packet.TCP {
				forgotten := clear(server4, natOutside, tt.protocol, 41000, tt.port, ack, nil)
				if v, _ := h.NewOutbound().Handle(Queued{ID: 2, Packet: forgotten, Queue: h}); v != Held {
					t.Errorf("verdict %d on a packet of a connection that nobody knows", v)
				}
			}
		})
	}
}

// Where the NAT itself is a peer, what begins goes to it, whoever came last.
func TestNATItself(t *testing.T) {
	h := newHost(t, server4, 0)
	itself := join(t, h, "echo", natOutside.String(), "10.1.0.1", natOutside, 4500, 0x2001)
	join(t, h, "echo", "192.168.1.3", "10.1.0.1", natOutside, 20002, 0x3001)
	itself.gets(t, h, clear(server4, natOutside, packet.UDP, 7, 40000, 0, nil), false)
}

// A flow whose peer has no SA any more does not go to its neighbour.
func TestNATOtherPeersFlow(t *testing.T) {
	h := newHost(t, server4, 0)
	a := join(t, h, "echo", "192.168.1.2", "10.1.0.1", natOutside, 20001, 0x2001)
	join(t, h, "echo", "192.168.1.3", "10.1.0.1", natOutside, 20002, 0x3001)
	a.sends(t, h, clear(a.own, a.server, packet.UDP, 5000, 7, 0, nil), a.at)
	h.SAD().Remove(a.in)
	answer := clear(server4, natOutside, packet.UDP, 7, 5000, 0, []byte("for the first"))
	if v, _ := h.NewOutbound().Handle(Queued{ID: 1, Packet: answer, Queue: h}); v != Held || len(h.acquired) != 1 {
		t.Errorf("verdict %d, asked for %v", v, h.acquired)
	}
}

// Where the SPD does not want the port secured that a flow would get, it gets
// none: its answers would leave in clear.
func TestNATPortOutsidePolicy(t *testing.T) {
	h := newHost(t, server4, 0)
	s := filter.Selector{From: filter.Any(), To: filter.Any(), Protocol: packet.UDP, HasProtocol: true,
		FromPort: filter.PortRange{Lo: 5000, Hi: 5000}, ToPort: filter.PortRange{Lo: 7, Hi: 7}}
	spd, err := filter.New([]filter.Entry{
		{Name: "narrow", List: "narrow", Position: "test:1:1", Selector: s, Mirrored: true, Action: filter.Negotiate},
		{Name: "rest", List: "rest", Position: "test:2:1", Selector: filter.Selector{From: filter.Any(), To: filter.Any()}, Mirrored: true, Action: filter.Permit},
	}, filter.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	h.SetSPD(spd)
	a := join(t, h, "narrow", "192.168.1.2", "10.1.0.1", natOutside, 20001, 0x2001)
	b := join(t, h, "narrow", "192.168.1.3", "10.1.0.1", natOutside, 20002, 0x3001)
	if a.sends(t, h, clear(a.own, a.server, packet.UDP, 5000, 7, 0, nil), a.at) == nil {
		t.Error("the first client is not heard")
	}
	before := h.Counters.InMismatch.Load()
	if got := b.sends(t, h, clear(b.own, b.server, packet.UDP, 5000, 7, 0, nil), b.at); got != nil || h.Counters.InMismatch.Load() != before+1 {
		t.Errorf("the stack was given %x", got)
	}
}

// Fragments inside an SA have neither port nor checksum: none comes through a NAT.
func TestNATFragment(t *testing.T) {
	outside6 := netip.MustParseAddr("2001:db8::9")
	h := newHost(t, server6, 0)
	b := join(t, h, "echo", "fd11::2", server6.String(), outside6, 20001, 0x2001)
	udp := clear(b.own, b.server, packet.UDP, 5000, 7, 0, []byte("hello"))
	inner := append([]byte{packet.UDP, 0, 0, 1, 0, 0, 0, 9}, udp[packet.IPv6HeaderLen:]...)
	const fragmentHeader = 44
	pkt := append(packet.AppendIPv6Header(nil, b.own, b.server, fragmentHeader, 0, 64, len(inner)), inner...)
	sealed, err := b.seal.Seal(make([]byte, ipsock.Headroom), inner, fragmentHeader)
	if err != nil {
		t.Fatal(err)
	}
	in := h.NewInbound(true)
	in.Receive(sealed, ipsock.Headroom, netip.AddrPortFrom(h.addr, 4500), b.at, 0, 0)
	in.Flush()
	if p := parsed(t, pkt); !p.Fragment || len(h.injected) != 0 {
		t.Errorf("the stack was given %x", h.injected)
	}
}

// ESP that comes from another place is told once a second, if it is authentic.
func TestNATMoved(t *testing.T) {
	h := newHost(t, server4, 0)
	now := time.Unix(1000, 0)
	h.cfg.Now = func() time.Time { return now }
	b := join(t, h, "echo", "192.168.1.2", "10.1.0.1", natOutside, 20001, 0x2001)
	pkt := clear(b.own, b.server, packet.UDP, 5000, 7, 0, nil)
	there := netip.AddrPortFrom(natOutside, 30001)
	b.sends(t, h, pkt, b.at)
	for range 3 {
		b.sends(t, h, pkt, there)
	}
	if !slices.Equal(h.moved, []netip.AddrPort{there}) {
		t.Errorf("told of %v", h.moved)
	}
	now = now.Add(time.Second)
	in := h.NewInbound(true)
	forged := append(make([]byte, ipsock.Headroom), 0, 0, 0x20, 1, 0, 0, 0, 99)
	in.Receive(append(forged, make([]byte, 40)...), ipsock.Headroom, netip.AddrPortFrom(h.addr, 4500), there, 0, 0)
	if len(h.moved) != 1 {
		t.Error("told of a forged packet")
	}
	b.sends(t, h, pkt, there)
	if len(h.moved) != 2 {
		t.Errorf("told %d times", len(h.moved))
	}
}

// icmpError makes an ICMP error about a packet.
func icmpError(from, to netip.Addr, about []byte) []byte {
	about = about[:min(len(about), 48)]
	protocol, kind := uint8(packet.ICMP), byte(3)
	if !from.Is4() {
		protocol, kind = packet.ICMPv6, 1
	}
	b := append(header(from, to, protocol, 8+len(about)), kind, 3, 0, 0, 0, 0, 0, 0)
	b = append(b, about...)
	var p packet.Packet
	if packet.Parse(b, &p) != nil || !packet.FinishChecksum(b, &p) {
		panic("no ICMP error")
	}
	return b
}

// An ICMP error through a NAT is about the flow as its reader knows it.
func TestNATErrors(t *testing.T) {
	for _, tt := range []struct {
		name        string
		addr        netip.Addr
		outside     netip.Addr
		a, b, front string
	}{
		{"IPv4", server4, natOutside, "192.168.1.2", "192.168.1.3", "203.0.113.80"},
		{"IPv6", server6, netip.MustParseAddr("2001:db8::9"), "fd11::2", "fd11::3", "2001:db8::10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t, tt.addr, 0)
			join(t, h, "echo", tt.a, tt.front, tt.outside, 20001, 0x2001).sends(t, h,
				clear(netip.MustParseAddr(tt.a), netip.MustParseAddr(tt.front), packet.UDP, 5000, 7, 0, nil), netip.AddrPortFrom(tt.outside, 20001))
			b := join(t, h, "echo", tt.b, tt.front, tt.outside, 20002, 0x3001)
			asked := clear(b.own, b.server, packet.UDP, 5000, 7, 0, []byte("anybody?"))
			port := parsed(t, b.sends(t, h, asked, b.at)).SrcPort
			sa := h.SAD().Inbound(b.in)

			// The client could not take the answer. Its error has the outer
			// addresses before it by now.
			answer := clear(b.server, b.own, packet.UDP, 7, 5000, 0, []byte("here"))
			came := icmpError(b.own, b.server, answer)
			p := parsed(t, came)
			if tt.addr.Is4() {
				copy(came[12:], tt.outside.AsSlice())
				copy(came[16:], tt.addr.AsSlice())
			} else {
				copy(came[8:], tt.outside.AsSlice())
				copy(came[24:], tt.addr.AsSlice())
			}
			p = parsed(t, came)
			if _, ok := h.SAD().untranslate(came, &p, sa); !ok || !packet.VerifyChecksum(came, &p) {
				t.Fatal("it does not come, or with a wrong checksum")
			}
			q, _ := quote(came, &p)
			want := clear(tt.addr, tt.outside, packet.UDP, 7, port, 0, []byte("here"))
			if !bytes.Equal(q.b[q.src:q.src+2*q.size], want[q.src:q.src+2*q.size]) || !bytes.Equal(q.b[q.at:q.at+4], want[q.at:q.at+4]) {
				t.Errorf("it is about %x, want %x", q.b, want)
			}
			damaged := icmpError(tt.outside, tt.addr, answer)
			damaged[len(damaged)-1] ^= 1
			if p = parsed(t, damaged); tt.addr.Is4() {
				if _, ok := h.SAD().untranslate(damaged, &p, sa); ok {
					t.Error("a damaged one is let in")
				}
			}

			// This host could not take what the client asked.
			goes := icmpError(tt.addr, tt.outside, clear(tt.outside, tt.addr, packet.UDP, port, 7, 0, []byte("anybody?")))
			p = parsed(t, goes)
			if got := h.SAD().Outbound("echo", &p, goes); got != sa {
				t.Errorf("it goes by %+v", got)
			}
			h.SAD().translate(goes, &p, sa, false)
			if q, _ = quote(goes, &p); binary.BigEndian.Uint16(q.b[q.at:]) != 5000 || !packet.VerifyChecksum(goes, &p) {
				t.Errorf("it is about %x", q.b)
			}
		})
	}
}

// FuzzNAT has an authentic peer behind a NAT put anything inside: nothing of it
// makes the engine fail, and what the stack gets is of the rule.
func FuzzNAT(f *testing.F) {
	udp := clear(netip.MustParseAddr("192.168.1.2"), server4, packet.UDP, 5000, 7, 0, []byte("hello"))
	f.Add(udp[packet.IPv4HeaderLen:], uint8(packet.UDP), false)
	f.Add(icmpError(server4, natOutside, udp)[packet.IPv4HeaderLen:], uint8(packet.ICMP), false)
	f.Add([]byte{8, 0, 0, 0, 0, 7, 0, 1}, uint8(packet.ICMP), true)
	f.Fuzz(func(t *testing.T, payload []byte, next uint8, v6 bool) {
		addr, outside, own, other := server4, natOutside, "192.168.1.2", "192.168.1.3"
		if v6 {
			addr, outside, own, other = server6, netip.MustParseAddr("2001:db8::9"), "fd11::2", "fd11::3"
		}
		h := newHost(t, addr, 0)
		spd, err := filter.New([]filter.Entry{{Name: "all", List: "all", Position: "test:1:1",
			Selector: filter.Selector{From: filter.Any(), To: filter.Any()}, Mirrored: true, Action: filter.Negotiate}}, filter.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		h.SetSPD(spd)
		a := join(t, h, "all", own, addr.String(), outside, 20001, 0x2001)
		b := join(t, h, "all", other, addr.String(), outside, 20002, 0x3001)
		for _, c := range []*behind{a, b} {
			if sealed, err := c.seal.Seal(make([]byte, ipsock.Headroom), payload, next); err == nil {
				in := h.NewInbound(true)
				in.Receive(sealed, ipsock.Headroom, netip.AddrPortFrom(addr, 4500), c.at, 0, 0)
				in.Flush()
			}
		}
		for _, pkt := range h.injected {
			if p := parsed(t, pkt); p.Src != outside || p.Dst != addr || p.Fragment {
				t.Errorf("the stack was given %x", pkt)
			}
		}
		var p packet.Packet
		for _, pkt := range h.injected { // and back, as if the stack sent the like
			if packet.Parse(pkt, &p) == nil {
				p.Src, p.Dst = p.Dst, p.Src
				if sa := h.SAD().Outbound("all", &p, pkt); sa != nil {
					h.SAD().translate(pkt, &p, sa, false)
				}
			}
		}
		h.SAD().flows.sound(t)
	})
}
