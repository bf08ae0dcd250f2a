package nfq

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/esp"
	"github.com/ipsecfw/ipsecfw/ipsec/ipsock"
)

// host is an Engine among recorders.
type host struct {
	*Engine
	addr     netip.Addr
	acquired []string
	unknown  []ipsec.SPI
	moved    []netip.AddrPort
	sent     []sent
	injected [][]byte
	gso      []int
	verdicts map[uint32]Verdict
	contents map[uint32][]byte
}

// sent is what a host gave to its Wire: sealed packets for UDP sockets, or IP
// packets.
type sent struct {
	udp           bool
	local, remote netip.AddrPort
	size          int
	bytes         []byte
}

func (h *host) Acquire(d filter.Decision, _ *packet.Packet) {
	h.acquired = append(h.acquired, d.Entry.Name)
}
func (h *host) UnknownSPI(_, _ netip.AddrPort, spi ipsec.SPI) { h.unknown = append(h.unknown, spi) }
func (h *host) Moved(_ ipsec.SPI, _, remote netip.AddrPort)   { h.moved = append(h.moved, remote) }
func (h *host) SendUDP(o Outer, b []byte, size int) error {
	h.sent = append(h.sent, sent{true, o.Local, o.Remote, size, bytes.Clone(b)})
	return nil
}
func (h *host) SendIP(local, remote netip.Addr, b []byte, size int) error {
	h.sent = append(h.sent, sent{false, netip.AddrPortFrom(local, 0), netip.AddrPortFrom(remote, 0), size, bytes.Clone(b)})
	return nil
}
func (h *host) Inject(pkt []byte, gsoSize, _, _, _ int) error {
	h.injected = append(h.injected, bytes.Clone(pkt))
	h.gso = append(h.gso, gsoSize)
	return nil
}

// Interface 7 is a PPP link, interface 8 a LAN.
func (h *host) Interface(index int) filter.Interface {
	return map[int]filter.Interface{7: {Name: "ppp0", Remote: true}, 8: {Name: "eth0"}}[index]
}
func (h *host) Local(a netip.Addr) bool              { return a == h.addr }
func (h *host) Source(netip.Addr) (netip.Addr, bool) { return h.addr, true }
func (h *host) Verdict(id uint32, v Verdict, contents []byte) error {
	h.verdicts[id], h.contents[id] = v, bytes.Clone(contents)
	return nil
}

var (
	server4 = netip.MustParseAddr("10.1.0.1")
	client4 = netip.MustParseAddr("10.1.0.20")
	server6 = netip.MustParseAddr("fd00::1")
	client6 = netip.MustParseAddr("fd00::20")
)

// newHost makes a host whose policy negotiates TCP port 8443 and UDP port 7
// of any server, permits UDP port 53, and blocks the rest.
func newHost(t *testing.T, addr netip.Addr, hold int) *host {
	t.Helper()
	h := &host{addr: addr, verdicts: map[uint32]Verdict{}, contents: map[uint32][]byte{}}
	h.Engine = NewEngine(Config{Wire: h, Acquirer: h, Injector: h, Host: h, DefaultResponse: "default-response", Hold: hold, Log: slog.New(slog.DiscardHandler)})
	entry := func(name string, a filter.Action, protocol uint8, port uint16) filter.Entry {
		s := filter.Selector{From: filter.Any(), To: filter.Any(), Protocol: protocol, HasProtocol: protocol != 0}
		if port != 0 {
			s.ToPort = filter.PortRange{Lo: port, Hi: port}
		}
		return filter.Entry{Name: name, List: name, Position: "test:1:1", Selector: s, Mirrored: true, Action: a}
	}
	spd, err := filter.New([]filter.Entry{
		entry("staff", filter.Negotiate, packet.TCP, 8443),
		entry("echo", filter.Negotiate, packet.UDP, 7),
		entry("dns", filter.Permit, packet.UDP, 53),
		entry("rest", filter.Block, 0, 0),
	}, filter.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	h.SetSPD(spd)
	return h
}

// pair makes the two ends of an SA between client and server, for a rule.
func pair(t testing.TB, rule string, mode ipsec.Mode, encap bool, client, server netip.Addr) (ofClient, ofServer *SA) {
	t.Helper()
	encr := ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}
	end := func(in, out ipsec.SPI, local, remote netip.Addr) *SA {
		keys := func(spi ipsec.SPI) ipsec.Keys {
			return ipsec.Keys{Encr: bytes.Repeat([]byte{byte(spi)}, 36)}
		}
		o, err := esp.NewOutbound(ipsec.Params{SPI: out, Encr: encr, Keys: keys(out)})
		if err != nil {
			t.Fatal(err)
		}
		i, err := esp.NewInbound(ipsec.Params{SPI: in, Encr: encr, Keys: keys(in)})
		if err != nil {
			t.Fatal(err)
		}
		all := func(a netip.Addr) []ipsec.TrafficSelector {
			return []ipsec.TrafficSelector{ipsec.SelectPrefix(netip.PrefixFrom(a, a.BitLen()), 0, 0, 0xffff)}
		}
		port := uint16(0)
		if encap {
			port = 4500
		}
		return &SA{
			ChildSA: &ipsec.ChildSA{
				Policy: rule, Mode: mode, Protocol: ipsec.ProtoESP, Encr: encr, InSPI: in, OutSPI: out,
				Local: all(local), Remote: all(remote), UDPEncap: encap,
				LocalAddr: netip.AddrPortFrom(local, port), RemoteAddr: netip.AddrPortFrom(remote, port),
			},
			Out: o, In: i, Path: NewPath(remote.Is6(), 1500), Since: time.Unix(1, 0),
		}
	}
	return end(0x1001, 0x1002, client, server), end(0x1002, 0x1001, server, client)
}

// clear makes an IP packet with a finished checksum; protocol is TCP, with DF, or
// UDP.
func clear(from, to netip.Addr, protocol uint8, srcPort, dstPort uint16, flags uint8, data []byte) []byte {
	u := binary.BigEndian.AppendUint16(nil, srcPort)
	u = binary.BigEndian.AppendUint16(u, dstPort)
	if protocol == packet.TCP {
		u = append(u, 0, 0, 0, 1, 0, 0, 0, 1, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	} else {
		u = binary.BigEndian.AppendUint16(u, uint16(8+len(data)))
		u = append(u, 0, 0)
	}
	u = append(u, data...)
	var b []byte
	if from.Is4() {
		b = packet.AppendIPv4Header(nil, from, to, protocol, 0, 64, len(u), protocol == packet.TCP)
	} else {
		b = packet.AppendIPv6Header(nil, from, to, protocol, 0, 64, len(u))
	}
	b = append(b, u...)
	var p packet.Packet
	if err := packet.Parse(b, &p); err != nil {
		panic(err)
	}
	packet.FinishChecksum(b, &p)
	return b
}

// carry gives what one host sent to the other, with the packet that went in place
// of a clear one, and returns what reached the stack there.
func carry(t *testing.T, from, to *host, replaced []byte) [][]byte {
	t.Helper()
	raw, encap, arrivals := to.NewInbound(false), to.NewInbound(true), to.NewArrivals()
	local, remote := netip.AddrPortFrom(to.addr, 0), netip.AddrPortFrom(from.addr, 0)
	give := func(in *Inbound, b []byte, class uint8) {
		in.Receive(append(make([]byte, ipsock.Headroom), b...), ipsock.Headroom, local, remote, class, 0)
	}
	var pieces fragments
	whole := func(b []byte) {
		var p packet.Packet
		if err := packet.Parse(b, &p); err != nil {
			t.Fatalf("a packet on the wire: %v: %x", err, b)
		}
		if p.Fragment {
			if b = pieces.add(b, &p); b == nil {
				return
			}
			if err := packet.Parse(b, &p); err != nil {
				t.Fatalf("a packet that was put together: %v", err)
			}
		}
		if p.Is4() && packet.Fold(packet.Sum(0, b[:p.HeaderLen])) != 0xffff {
			t.Error("the checksum of an IP header is wrong")
		}
		switch p.Protocol {
		case protocolESP:
			give(raw, b[p.HeaderLen:p.Len], p.TrafficClass)
		case protocolAH:
			arrivals.take(Queued{Packet: bytes.Clone(b)})
		case protocolUDP:
			if !packet.VerifyChecksum(b, &p) {
				t.Error("UDP checksum is wrong")
			}
			if p.SrcPort != 4500 || p.DstPort != 4500 {
				t.Errorf("UDP ports %d, %d", p.SrcPort, p.DstPort)
			}
			give(encap, b[p.HeaderLen+8:], p.TrafficClass)
		default:
			t.Fatalf("protocol %d left the host", p.Protocol)
		}
	}
	for _, s := range from.sent {
		for b := s.bytes; len(b) > 0; {
			n := min(s.size, len(b))
			if s.udp {
				give(encap, b[:n], 0)
			} else {
				whole(b[:n])
			}
			b = b[n:]
		}
	}
	if replaced != nil {
		whole(replaced)
	}
	raw.Flush()
	encap.Flush()
	return to.injected
}

// fragments puts packets together.
type fragments map[uint32]*struct {
	head, data []byte
	got, total int
}

// add takes a fragment, and returns the packet when it is whole.
func (f *fragments) add(b []byte, p *packet.Packet) []byte {
	if *f == nil {
		*f = fragments{}
	}
	head, id := p.HeaderLen, uint32(binary.BigEndian.Uint16(b[4:]))
	if !p.Is4() {
		head = bytesBeforeFragment(b)
		id = binary.BigEndian.Uint32(b[head+4:])
	}
	data := b[head:p.Len]
	if !p.Is4() {
		data = data[8:]
	}
	x := (*f)[id]
	if x == nil {
		x = new(struct {
			head, data []byte
			got, total int
		})
		x.data = make([]byte, 1<<16)
		(*f)[id] = x
	}
	copy(x.data[p.FragmentOffset:], data)
	x.got += len(data)
	if p.FragmentOffset == 0 {
		x.head = bytes.Clone(b[:head])
		if !p.Is4() {
			x.head[6] = b[head]
		}
	}
	if !p.MoreFragments {
		x.total = int(p.FragmentOffset) + len(data)
	}
	if x.got != x.total {
		return nil
	}
	out := append(x.head, x.data[:x.total]...)
	if p.Is4() {
		out[6], out[7] = 0, 0
		binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
		packet.FinishHeaderChecksum(out)
	} else {
		binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
	}
	return out
}

// bytesBeforeFragment is the length of a plain IPv6 header: the tests fragment
// no others.
func bytesBeforeFragment(b []byte) int {
	if b[6] != 44 {
		panic("an IPv6 fragment with other extension headers")
	}
	return packet.IPv6HeaderLen
}

func TestThere(t *testing.T) {
	big := bytes.Repeat([]byte("payroll "), 5000)
	tests := []struct {
		name           string
		mode           ipsec.Mode
		encap          bool
		client, server netip.Addr
		protocol       uint8
		data           []byte
		pending        bool
		verdict        Verdict
	}{
		{"one segment", ipsec.Transport, false, client4, server4, packet.TCP, []byte("hello"), false, Replace},
		{"unfinished checksum", ipsec.Transport, false, client4, server4, packet.TCP, []byte("hello"), true, Replace},
		{"UDP encapsulation", ipsec.Transport, true, client4, server4, packet.TCP, []byte("hello"), false, Replace},
		{"IPv6", ipsec.Transport, false, client6, server6, packet.TCP, []byte("hello"), true, Replace},
		{"IPv6, UDP encapsulation", ipsec.Transport, true, client6, server6, packet.UDP, []byte("hello"), true, Replace},
		{"tunnel", ipsec.Tunnel, false, client4, server4, packet.TCP, []byte("hello"), true, Replace},
		{"large from the stack", ipsec.Transport, false, client4, server4, packet.TCP, big, true, Drop},
		{"large, UDP encapsulation", ipsec.Transport, true, client4, server4, packet.TCP, big, true, Drop},
		{"large, IPv6", ipsec.Transport, false, client6, server6, packet.TCP, big, true, Drop},
		{"large, tunnel", ipsec.Tunnel, true, client4, server4, packet.TCP, big, true, Replace},
		{"large datagram", ipsec.Transport, false, client4, server4, packet.UDP, big, false, Replace},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, s := newHost(t, tt.client, 0), newHost(t, tt.server, 0)
			rule, port := "staff", uint16(8443)
			if tt.protocol == packet.UDP {
				rule, port = "echo", 7
			}
			a, b := pair(t, rule, tt.mode, tt.encap, tt.client, tt.server)
			c.Install(a, false)
			s.Install(b, false)
			want := clear(tt.client, tt.server, tt.protocol, 40000, port, 0x10, tt.data)
			in := bytes.Clone(want)
			if tt.pending {
				var p packet.Packet
				packet.Parse(in, &p)
				in[p.HeaderLen+16-10*int(tt.protocol/packet.UDP)] ^= 0x55
			}
			v, contents := c.NewOutbound().Handle(Queued{ID: 1, Packet: in, ChecksumPending: tt.pending, Queue: c})
			if v != tt.verdict {
				t.Fatalf("verdict %d, want %d", v, tt.verdict)
			}
			if v != Replace {
				contents = nil
			}
			got := carry(t, c, s, contents)
			if len(got) != 1 {
				t.Fatalf("%d packets reached the stack, want 1 (counters %v)", len(got), s.Counters.Map())
			}
			var p, q packet.Packet
			if err := packet.Parse(got[0], &p); err != nil {
				t.Fatal(err)
			}
			packet.Parse(want, &q)
			header := 8
			if tt.protocol == packet.TCP {
				header = 20
			}
			if p.Src != q.Src || p.Dst != q.Dst || p.SrcPort != q.SrcPort || p.DstPort != q.DstPort {
				t.Errorf("headers differ: %+v, want %+v", p, q)
			}
			if !bytes.Equal(got[0][p.HeaderLen+header:p.Len], tt.data) {
				t.Error("the data differ")
			}
			if s.gso[0] == 0 && !packet.VerifyChecksum(got[0], &p) {
				t.Error("checksum is wrong")
			}
			if len(tt.data) > 2000 && tt.protocol == packet.TCP && s.gso[0] == 0 {
				t.Error("the segments were not merged")
			}
			for _, x := range c.sent {
				limit := 1500
				if x.udp {
					limit -= headerLen(tt.client) + udpHeaderLen
				}
				if x.size > limit {
					t.Errorf("sealed packets of %d bytes do not fit the path", x.size)
				}
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	tests := []struct {
		name string
		pkt  []byte
		want Verdict
	}{
		{"permitted, though it was queued", clear(client4, server4, packet.UDP, 40000, 53, 0, nil), Drop},
		{"blocked, though it was queued", clear(client4, server4, packet.TCP, 40000, 23, 2, nil), Drop},
		{"no SA", clear(client4, server4, packet.TCP, 40000, 8443, 2, nil), Held},
		{"not a packet", []byte{0x45, 0, 0}, Drop},
		{"empty", nil, Drop},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t, client4, 0)
			if v, _ := h.NewOutbound().Handle(Queued{ID: 1, Packet: tt.pkt, Queue: h}); v != tt.want {
				t.Errorf("verdict %d, want %d", v, tt.want)
			}
			if len(h.sent) != 0 {
				t.Error("something was sent")
			}
		})
	}
}

func TestHold(t *testing.T) {
	h := newHost(t, client4, 3)
	o := h.NewOutbound()
	for id := uint32(1); id <= 5; id++ {
		if v, _ := o.Handle(Queued{ID: id, Packet: clear(client4, server4, packet.TCP, uint16(id), 8443, 2, nil), Queue: h}); v != Held {
			t.Fatalf("packet %d: verdict %d", id, v)
		}
	}
	if h.verdicts[1] != Drop || h.verdicts[2] != Drop || len(h.verdicts) != 2 {
		t.Errorf("verdicts %v: want the two oldest dropped", h.verdicts)
	}
	if n := h.Counters.HoldOverflow.Load(); n != 2 {
		t.Errorf("%d dropped, want 2", n)
	}
	a, _ := pair(t, "staff", ipsec.Transport, false, client4, server4)
	h.Install(a, false)
	h.Release("staff", server4)
	for id := uint32(3); id <= 5; id++ {
		if h.verdicts[id] != Replace {
			t.Errorf("packet %d: verdict %d, want it sealed", id, h.verdicts[id])
		}
	}
	if h.Counters.Released.Load() != 3 {
		t.Errorf("released %d, want 3", h.Counters.Released.Load())
	}
}

func TestAbandon(t *testing.T) {
	h := newHost(t, client4, 0)
	o := h.NewOutbound()
	other := netip.MustParseAddr("10.1.0.99")
	o.Handle(Queued{ID: 1, Packet: clear(client4, server4, packet.TCP, 1, 8443, 2, nil), Queue: h})
	o.Handle(Queued{ID: 2, Packet: clear(client4, other, packet.TCP, 1, 8443, 2, nil), Queue: h})
	h.Abandon("staff", server4)
	if h.verdicts[1] != Drop || len(h.verdicts) != 1 {
		t.Errorf("verdicts %v: want packet 1 dropped, and packet 2 held", h.verdicts)
	}
	h.Abandon("staff", netip.Addr{})
	if h.verdicts[2] != Drop {
		t.Error("packet 2 is still held")
	}
}

// SAs with other peers say nothing about a packet that waits for its own.
func TestReleaseIsOfOnePeer(t *testing.T) {
	h := newHost(t, client4, 0)
	h.NewOutbound().Handle(Queued{ID: 1, Packet: clear(client4, server4, packet.TCP, 1, 8443, 2, nil), Queue: h})
	for i := range maxTries + 1 {
		h.Release("staff", netip.AddrFrom4([4]byte{10, 1, 0, byte(100 + i)}))
	}
	if len(h.verdicts) != 0 || len(h.acquired) != 1 {
		t.Errorf("verdicts %v, asked %d times; want the packet held, and asked for once", h.verdicts, len(h.acquired))
	}
}

// A packet that the SA's selectors do not cover does not release the hold, and
// asks again.
func TestNarrowSA(t *testing.T) {
	h := newHost(t, client4, 0)
	h.NewOutbound().Handle(Queued{ID: 1, Packet: clear(client4, server4, packet.TCP, 1, 8443, 2, nil), Queue: h})
	a, _ := pair(t, "staff", ipsec.Transport, false, client4, server4)
	a.ChildSA.Local[0].StartPort, a.ChildSA.Local[0].EndPort = 2, 2
	h.Install(a, false)
	h.Release("staff", server4)
	if len(h.verdicts) != 0 {
		t.Errorf("verdicts %v, want none", h.verdicts)
	}
	if len(h.acquired) != 2 {
		t.Errorf("asked %d times, want 2", len(h.acquired))
	}
}

func TestRefused(t *testing.T) {
	seal := func(t *testing.T, sa *SA, p []byte, next uint8) []byte {
		b, err := sa.Out.Seal(nil, p, next)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := clear(client4, server4, packet.TCP, 40000, 8443, 0x10, []byte("x"))
	udp := clear(client4, server4, packet.UDP, 40000, 53, 0, []byte("x"))
	inner := clear(netip.MustParseAddr("10.9.9.9"), server4, packet.TCP, 40000, 8443, 0x10, nil)
	tests := []struct {
		name    string
		mode    ipsec.Mode
		make    func(t *testing.T, sa *SA) []byte
		encap   bool
		counter func(*Counters) uint64
	}{
		{"truncated", ipsec.Transport, func(*testing.T, *SA) []byte { return []byte{0, 0, 16, 2} }, false, func(c *Counters) uint64 { return c.InRefused.Load() }},
		{"unknown SPI", ipsec.Transport, func(*testing.T, *SA) []byte { return make([]byte, 60) }, false, func(c *Counters) uint64 { return c.InUnknownSPI.Load() }},
		{"forged", ipsec.Transport, func(t *testing.T, sa *SA) []byte {
			b := seal(t, sa, good[20:], packet.TCP)
			b[len(b)-1]++
			return b
		}, false, func(c *Counters) uint64 { return c.InRefused.Load() }},
		{"not in UDP as agreed", ipsec.Transport, func(t *testing.T, sa *SA) []byte { return seal(t, sa, good[20:], packet.TCP) }, true, func(c *Counters) uint64 { return c.InRefused.Load() }},
		{"dummy", ipsec.Transport, func(t *testing.T, sa *SA) []byte { return seal(t, sa, []byte("abc"), dummyInESP) }, false, func(c *Counters) uint64 { return c.InDummy.Load() }},
		{"permitted in clear, not under this SA", ipsec.Transport, func(t *testing.T, sa *SA) []byte { return seal(t, sa, udp[20:], packet.UDP) }, false, func(c *Counters) uint64 { return c.InMismatch.Load() }},
		{"source that the tunnel is not for", ipsec.Tunnel, func(t *testing.T, sa *SA) []byte { return seal(t, sa, inner, ipv4InESP) }, false, func(c *Counters) uint64 { return c.InMismatch.Load() }},
		{"transport inside a tunnel SA", ipsec.Tunnel, func(t *testing.T, sa *SA) []byte { return seal(t, sa, good[20:], packet.TCP) }, false, func(c *Counters) uint64 { return c.InMismatch.Load() }},
		{"garbage inside", ipsec.Transport, func(t *testing.T, sa *SA) []byte { return seal(t, sa, []byte{1}, packet.TCP) }, false, func(c *Counters) uint64 { return c.InMismatch.Load() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newHost(t, server4, 0)
			a, b := pair(t, "staff", tt.mode, false, client4, server4)
			s.Install(b, false)
			in := s.NewInbound(tt.encap)
			in.Receive(append(make([]byte, ipsock.Headroom), tt.make(t, a)...), ipsock.Headroom,
				netip.AddrPortFrom(server4, 0), netip.AddrPortFrom(client4, 0), 0, 0)
			in.Flush()
			if len(s.injected) != 0 {
				t.Error("it reached the stack")
			}
			if n := tt.counter(&s.Counters); n != 1 {
				t.Errorf("counters %v", s.Counters.Map())
			}
		})
	}
}

// On a very narrow path a large packet becomes more than the worker's buffer
// holds at once.
func TestNarrowPath(t *testing.T) {
	for _, mode := range []ipsec.Mode{ipsec.Transport, ipsec.Tunnel} {
		t.Run(mode.String(), func(t *testing.T) {
			c, s := newHost(t, client4, 0), newHost(t, server4, 0)
			a, b := pair(t, "staff", mode, false, client4, server4)
			a.Path.mtu.Store(120)
			c.Install(a, false)
			s.Install(b, false)
			data := bytes.Repeat([]byte("payroll "), 8000)
			_, contents := c.NewOutbound().Handle(Queued{ID: 1, Packet: clear(client4, server4, packet.TCP, 40000, 8443, 0x10, data), Queue: c})
			if len(c.sent) < 2 {
				t.Errorf("sent in %d parts, want several", len(c.sent))
			}
			var got []byte
			for _, pkt := range carry(t, c, s, contents) {
				got = append(got, pkt[40:]...)
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%d bytes came, or others, want %d", len(got), len(data))
			}
		})
	}
}

// What the kernel would still cut into segments must not be sealed in its
// place, even if it fits the path.
func TestSmallSegments(t *testing.T) {
	c, s := newHost(t, client4, 0), newHost(t, server4, 0)
	a, b := pair(t, "staff", ipsec.Transport, false, client4, server4)
	c.Install(a, false)
	s.Install(b, false)
	pkt := clear(client4, server4, packet.TCP, 40000, 8443, 0x10, make([]byte, 1000))
	v, _ := c.NewOutbound().Handle(Queued{ID: 1, Packet: pkt, Segments: true, ChecksumPending: true, Queue: c})
	if v != Drop {
		t.Errorf("verdict %d, want it sent by other means", v)
	}
	if got := carry(t, c, s, nil); len(got) != 1 || len(got[0]) != len(pkt) {
		t.Errorf("%d packets reached the stack, want the one", len(got))
	}
}

// A packet that is sent by other means leaves an ESP packet without contents
// in its place, for connection tracking: one for each flow and while.
func TestConfirm(t *testing.T) {
	for _, mode := range []ipsec.Mode{ipsec.Transport, ipsec.Tunnel} {
		t.Run(mode.String(), func(t *testing.T) {
			c, s := newHost(t, client4, 0), newHost(t, server4, 0)
			now := time.Unix(1000, 0)
			c.cfg.Now = func() time.Time { return now }
			a, b := pair(t, "echo", mode, false, client4, server4)
			c.Install(a, false)
			s.Install(b, false)
			o := c.NewOutbound()
			steps := []struct {
				after time.Duration
				port  uint16
				want  Verdict
			}{
				{0, 40000, Replace}, {time.Second, 40000, Drop}, {0, 40001, Replace}, {confirmEvery, 40000, Replace},
			}
			for i, step := range steps {
				now = now.Add(step.after)
				pkt := clear(client4, server4, packet.UDP, step.port, 7, 0, make([]byte, 3000))
				v, contents := o.Handle(Queued{ID: 1, Packet: pkt, Queue: c})
				if v != step.want {
					t.Errorf("packet %d: verdict %d, want %d", i, v, step.want)
				}
				s.injected = nil
				if got := carry(t, c, s, contents); len(got) != 1 || len(got[0]) != len(pkt) {
					t.Errorf("packet %d: %d packets reached the stack, want the one", i, len(got))
				}
				c.sent = nil
			}
			if n := s.Counters.InDummy.Load(); n != 3 {
				t.Errorf("%d packets without contents came, want 3", n)
			}
		})
	}
}

func TestSAD(t *testing.T) {
	d := newSAD(time.Now)
	older, _ := pair(t, "staff", ipsec.Transport, false, client4, server4)
	newer, _ := pair(t, "staff", ipsec.Transport, false, client4, server4)
	newer.ChildSA.InSPI, newer.ChildSA.OutSPI, newer.Since = 0x2001, 0x2002, time.Unix(2, 0)
	waiting, _ := pair(t, "staff", ipsec.Transport, false, client4, server4)
	waiting.ChildSA.InSPI, waiting.ChildSA.OutSPI = 0x3001, 0x3002
	d.Add(older, false)
	d.Add(newer, false)
	d.Add(waiting, true)
	var p packet.Packet
	packet.Parse(clear(client4, server4, packet.TCP, 1, 8443, 2, nil), &p)
	if d.Inbound(0x3001) != waiting {
		t.Error("the SA on standby does not receive")
	}
	if d.Outbound("staff", &p, nil) != newer {
		t.Error("the newest SA is not the one in use")
	}
	if d.Outbound("other", &p, nil) != nil {
		t.Error("an SA of another rule was found")
	}
	if d.Remove(0x2001) != newer || d.Outbound("staff", &p, nil) != older {
		t.Error("after the newest went, the older is not in use")
	}
	if _, err := newer.Out.Seal(nil, nil, 6); err == nil {
		t.Error("a removed SA still seals")
	}
	if d.Remove(0x2001) != nil {
		t.Error("removed twice")
	}
	if len(d.All()) != 2 || d.Inbound(0x1001) != older {
		t.Error("the older SA is not there")
	}
	d.Remove(0x1001)
	if d.Outbound("staff", &p, nil) != waiting {
		t.Error("the SA on standby is not in use after all others went")
	}
}

// What was sent before an SA ended may come after the word of that.
func TestRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newSAD(time.Now)
		sa, peer := pair(t, "staff", ipsec.Transport, false, client4, server4)
		d.Add(sa, false)
		late, err := peer.Out.Seal(nil, make([]byte, 64), 17)
		if err != nil {
			t.Fatal(err)
		}
		if d.Retire(sa.InSPI) != sa || d.Retire(sa.InSPI) != nil || d.Remove(sa.InSPI) != nil {
			t.Error("the pair is not taken out once")
		}
		var p packet.Packet
		packet.Parse(clear(client4, server4, packet.TCP, 1, 8443, 2, nil), &p)
		if len(d.All()) != 0 || d.Outbound("staff", &p, nil) != nil {
			t.Error("a retired SA is at work")
		}
		if d.Inbound(sa.InSPI) != sa {
			t.Fatal("a retired SA does not receive")
		}
		if _, _, err := sa.In.Open(nil, late); err != nil {
			t.Errorf("what was sent before: %v", err)
		}
		time.Sleep(lateFor)
		synctest.Wait()
		if d.Inbound(sa.InSPI) != nil {
			t.Error("a retired SA receives for good")
		}
		if later, err := peer.Out.Seal(nil, make([]byte, 64), 17); err != nil {
			t.Error(err)
		} else if _, _, err := sa.In.Open(nil, later); err == nil {
			t.Error("its keys are not wiped")
		}
		if _, err := sa.Out.Seal(nil, nil, 6); err == nil {
			t.Error("it still seals")
		}
	})
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte("\x00\x00\x10\x02\x00\x00\x00\x01"), false)
	f.Fuzz(func(t *testing.T, b []byte, tunnel bool) {
		mode := ipsec.Transport
		if tunnel {
			mode = ipsec.Tunnel
		}
		s := newHost(t, server4, 0)
		a, own := pair(t, "staff", mode, false, client4, server4)
		s.Install(own, false)
		in := s.NewInbound(false)
		local, remote := netip.AddrPortFrom(server4, 0), netip.AddrPortFrom(client4, 0)
		in.Receive(append(make([]byte, ipsock.Headroom), b...), ipsock.Headroom, local, remote, 0, 0)
		// And as what an authentic peer put inside.
		var next uint8
		if len(b) > 0 {
			next, b = b[0], b[1:]
		}
		sealed, err := a.Out.Seal(nil, b, next)
		if err != nil {
			t.Fatal(err)
		}
		in.Receive(append(make([]byte, ipsock.Headroom), sealed...), ipsock.Headroom, local, remote, 0, 0)
		in.Flush()
		for _, pkt := range s.injected {
			var p packet.Packet
			if err := packet.Parse(pkt, &p); err != nil || p.Src != client4 || p.Dst != server4 || p.Protocol != packet.TCP {
				t.Errorf("the stack was given %x", pkt)
			}
		}
	})
}
