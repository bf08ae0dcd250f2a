package nfq

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ah"
)

// authenticated makes the two ends of an SA of AH between client and server, for
// a protocol, or all when it is 0.
func authenticated(t testing.TB, rule string, mode ipsec.Mode, protocol uint8, client, server netip.Addr) (ofClient, ofServer *SA) {
	t.Helper()
	integ := ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256}
	end := func(in, out ipsec.SPI, local, remote netip.Addr) *SA {
		keys := func(spi ipsec.SPI) ipsec.Keys { return ipsec.Keys{Integ: bytes.Repeat([]byte{byte(spi)}, 32)} }
		all := func(a netip.Addr) []ipsec.TrafficSelector {
			return []ipsec.TrafficSelector{ipsec.SelectPrefix(netip.PrefixFrom(a, a.BitLen()), protocol, 0, 0xffff)}
		}
		c := &ipsec.ChildSA{
			Policy: rule, Mode: mode, Protocol: ipsec.ProtoAH, Integ: integ, InSPI: in, OutSPI: out, InKeys: keys(in), OutKeys: keys(out),
			Local: all(local), Remote: all(remote), LocalAddr: netip.AddrPortFrom(local, 0), RemoteAddr: netip.AddrPortFrom(remote, 0),
		}
		o, err := ah.NewOutbound(c.Outbound())
		if err != nil {
			t.Fatal(err)
		}
		i, err := ah.NewInbound(c.Inbound())
		if err != nil {
			t.Fatal(err)
		}
		return &SA{ChildSA: c, Out: o, In: i, Path: NewPath(remote.Is6(), 1500)}
	}
	return end(0x2001, 0x2002, client, server), end(0x2002, 0x2001, server, client)
}

// AH alone, and around ESP, carries what ESP does: in one piece, in segments, and
// in fragments.
func TestAuthenticated(t *testing.T) {
	small, big := []byte("hello"), bytes.Repeat([]byte("payroll "), 5000)
	for _, tt := range []struct {
		name           string
		nested         bool
		mode           ipsec.Mode
		client, server netip.Addr
		protocol       uint8
		data           []byte
	}{
		{"transport", false, ipsec.Transport, client4, server4, packet.TCP, small},
		{"transport, IPv6", false, ipsec.Transport, client6, server6, packet.TCP, small},
		{"tunnel", false, ipsec.Tunnel, client4, server4, packet.TCP, small},
		{"tunnel, IPv6", false, ipsec.Tunnel, client6, server6, packet.TCP, small},
		{"segments", false, ipsec.Transport, client4, server4, packet.TCP, big},
		{"segments, tunnel, IPv6", false, ipsec.Tunnel, client6, server6, packet.TCP, big},
		{"fragments", false, ipsec.Transport, client4, server4, packet.UDP, big},
		{"fragments, IPv6", false, ipsec.Transport, client6, server6, packet.UDP, big},
		{"fragments, tunnel", false, ipsec.Tunnel, client4, server4, packet.UDP, big},
		{"around ESP", true, ipsec.Transport, client4, server4, packet.TCP, small},
		{"around ESP, IPv6", true, ipsec.Transport, client6, server6, packet.UDP, small},
		{"around ESP, tunnel", true, ipsec.Tunnel, client4, server4, packet.TCP, small},
		{"around ESP, segments", true, ipsec.Transport, client4, server4, packet.TCP, big},
		{"around ESP, segments, tunnel, IPv6", true, ipsec.Tunnel, client6, server6, packet.TCP, big},
		{"around ESP, fragments", true, ipsec.Transport, client6, server6, packet.UDP, big},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := newHost(t, tt.client, 0), newHost(t, tt.server, 0)
			rule, port := "staff", uint16(8443)
			if tt.protocol == packet.UDP {
				rule, port = "echo", 7
			}
			if tt.nested {
				a, b := authenticated(t, rule, ipsec.Transport, protocolESP, tt.client, tt.server)
				c.Install(a, false)
				s.Install(b, false)
				a, b = pair(t, rule, tt.mode, false, tt.client, tt.server)
				a.ChildSA.Nested, b.ChildSA.Nested = true, true
				c.Install(a, false)
				s.Install(b, false)
			} else {
				a, b := authenticated(t, rule, tt.mode, 0, tt.client, tt.server)
				c.Install(a, false)
				s.Install(b, false)
			}
			want := clear(tt.client, tt.server, tt.protocol, 40000, port, 0x10, tt.data)
			v, contents := c.NewOutbound().Handle(Queued{ID: 1, Packet: bytes.Clone(want), Queue: c})
			if v == Held {
				t.Fatal("it is held")
			}
			if v != Replace {
				contents = nil
			}
			for _, x := range c.sent {
				if x.size > 1500 {
					t.Errorf("%d bytes are too many for the path", x.size)
				}
			}
			got := carry(t, c, s, contents)
			var data []byte
			for _, b := range got {
				var p packet.Packet
				if err := packet.Parse(b, &p); err != nil || p.Src != tt.client || p.DstPort != port {
					t.Fatalf("the stack gets %x", b[:min(len(b), 60)])
				}
				header := 8
				if tt.protocol == packet.TCP {
					header = 20
				}
				data = append(data, b[p.HeaderLen+header:p.Len]...)
			}
			if !bytes.Equal(data, tt.data) {
				t.Errorf("%d bytes came, or others, want %d (counters %v)", len(data), len(tt.data), s.Counters.Map())
			}
		})
	}
}

// AH protects the header: what came with it reaches the stack, and a change of what
// does not change on the way does not.
func TestAuthenticatedHeader(t *testing.T) {
	for _, at := range []int{1, 4, 8, 12, 13, 19} { // the first and third are changed by routers
		c, s := newHost(t, client4, 0), newHost(t, server4, 0)
		a, b := authenticated(t, "staff", ipsec.Transport, 0, client4, server4)
		c.Install(a, false)
		s.Install(b, false)
		pkt := clear(client4, server4, packet.TCP, 40000, 8443, 0x10, []byte("x"))
		pkt[5], pkt[8] = 77, 33
		packet.FinishHeaderChecksum(pkt)
		_, sealed := c.NewOutbound().Handle(Queued{ID: 1, Packet: bytes.Clone(pkt), Queue: c})
		sealed = bytes.Clone(sealed)
		sealed[at]++
		packet.FinishHeaderChecksum(sealed)
		s.NewArrivals().take(Queued{Packet: sealed})
		mutable := at == 1 || at == 8
		if mutable != (len(s.injected) == 1) {
			t.Errorf("with byte %d changed, %d packets reach the stack", at, len(s.injected))
		}
		if mutable {
			pkt[at]++
			packet.FinishHeaderChecksum(pkt)
			if !bytes.Equal(s.injected[0], pkt) {
				t.Errorf("the stack gets %x, want %x", s.injected[0], pkt)
			}
		}
	}
}

// ESP of a rule that wants AH around it is nothing without, and the other way
// round; and it is not sent while the AH is missing.
func TestNotNested(t *testing.T) {
	pkt := func() []byte { return clear(client4, server4, packet.TCP, 40000, 8443, 0x10, []byte("x")) }
	for _, nested := range []bool{true, false} {
		c, s := newHost(t, client4, 0), newHost(t, server4, 0)
		a, b := pair(t, "staff", ipsec.Transport, false, client4, server4)
		ofC, ofS := authenticated(t, "staff", ipsec.Transport, protocolESP, client4, server4)
		a.ChildSA.Nested, b.ChildSA.Nested = !nested, nested
		for _, x := range []*SA{a, ofC} {
			c.Install(x, false)
		}
		for _, x := range []*SA{b, ofS} {
			s.Install(x, false)
		}
		_, contents := c.NewOutbound().Handle(Queued{ID: 1, Packet: pkt(), Queue: c})
		if got := carry(t, c, s, contents); len(got) != 0 || s.Counters.InNotNested.Load() != 1 {
			t.Errorf("nested %v: %d packets reach the stack, %d are counted", nested, len(got), s.Counters.InNotNested.Load())
		}
	}
	c := newHost(t, client4, 0)
	a, _ := pair(t, "staff", ipsec.Transport, false, client4, server4)
	a.ChildSA.Nested = true
	c.Install(a, false)
	if v, _ := c.NewOutbound().Handle(Queued{ID: 1, Packet: pkt(), Queue: c}); v != Held || len(c.sent) != 0 {
		t.Errorf("without the AH: verdict %d, want Held", v)
	}
	around, _ := authenticated(t, "staff", ipsec.Transport, protocolESP, client4, server4)
	c.Install(around, false)
	c.Release("staff", server4)
	if c.verdicts[1] != Replace || c.contents[1][9] != protocolAH {
		t.Errorf("with the AH: verdict %d, want it sealed by both", c.verdicts[1])
	}
}

// An AH packet that came before its SA is opened with its header.
func TestEarlyAuthenticated(t *testing.T) {
	c, s := newHost(t, client4, 0), newHost(t, server4, 0)
	a, b := authenticated(t, "staff", ipsec.Transport, 0, client4, server4)
	c.Install(a, false)
	s.Expect(b.InSPI)
	_, sealed := c.NewOutbound().Handle(Queued{ID: 1, Packet: clear(client4, server4, packet.TCP, 40000, 8443, 0x10, []byte("x")), Queue: c})
	s.NewArrivals().take(Queued{Packet: bytes.Clone(sealed)})
	if len(s.injected) != 0 {
		t.Fatal("it is there before its SA")
	}
	s.Install(b, false)
	if len(s.injected) != 1 {
		t.Errorf("it is lost: %v", s.Counters.Map())
	}
}

// The headers that belong to every hop stay before ESP, and the rest goes inside.
func TestExtensionHeaders(t *testing.T) {
	plain := clear(client6, server6, packet.UDP, 40000, 7, 0, []byte("hello"))
	hop, dest := []byte{60, 0, 1, 4, 0, 0, 0, 0}, []byte{packet.UDP, 0, 1, 4, 0, 0, 0, 0}
	b := append(append(append(bytes.Clone(plain[:40]), hop...), dest...), plain[40:]...)
	b[6] = 0
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	c, s := newHost(t, client6, 0), newHost(t, server6, 0)
	x, y := pair(t, "echo", ipsec.Transport, false, client6, server6)
	c.Install(x, false)
	s.Install(y, false)
	v, sealed := c.NewOutbound().Handle(Queued{ID: 1, Packet: bytes.Clone(b), Queue: c})
	if v != Replace || sealed[6] != 0 || sealed[40] != protocolESP {
		t.Fatalf("verdict %d: %x", v, sealed)
	}
	got := carry(t, c, s, bytes.Clone(sealed))
	// The raw socket's kernel has done what the hop-by-hop options say.
	want := append(append(bytes.Clone(plain[:40]), dest...), plain[40:]...)
	want[6] = 60
	binary.BigEndian.PutUint16(want[4:], uint16(len(want)-40))
	if len(got) != 1 || !bytes.Equal(got[0], want) {
		t.Errorf("the stack gets %x, want %x", got, want)
	}
}
