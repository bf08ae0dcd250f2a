package nfq

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// An ICMP error makes a path narrower if it quotes what we have sent, and only
// then.
func TestPathErrors(t *testing.T) {
	elsewhere := netip.MustParseAddr("192.0.2.66")
	for _, tt := range []struct {
		name           string
		encap          bool
		client, server netip.Addr
		mtu            int
		change         func(sealed []byte) []byte
		want           int // the path's MTU; 1500 if the error is of no use
	}{
		{"ESP", false, client4, server4, 1400, nil, 1400},
		{"ESP, IPv6", false, client6, server6, 1400, nil, 1400},
		{"in UDP", true, client4, server4, 1400, nil, 1400},
		{"in UDP, IPv6", true, client6, server6, 1300, nil, 1300},
		{"a router that does not tell", false, client4, server4, 0, nil, 1492},
		{"below what IPv4 is cut to", false, client4, server4, 300, nil, minMTU4},
		{"wider", false, client4, server4, 2000, nil, 1500},
		{"another SPI", false, client4, server4, 1400, func(b []byte) []byte { b[23]++; return b }, 1500},
		{"another SPI in UDP", true, client4, server4, 1400, func(b []byte) []byte { b[31]++; return b }, 1500},
		{"another port", true, client4, server4, 1400, func(b []byte) []byte { b[21]++; return b }, 1500},
		{"another source", false, client4, server4, 1400, func(b []byte) []byte { b[15]++; return b }, 1500},
		{"another destination", false, client4, server4, 1400, func(b []byte) []byte { b[19]++; return b }, 1500},
		{"another protocol", false, client4, server4, 1400, func(b []byte) []byte { b[9] = 51; return b }, 1500},
		{"nothing of the SPI", false, client4, server4, 1400, func(b []byte) []byte { b[3] = 22; return b[:22] }, 1500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t, tt.client, 0)
			sa, _ := pair(t, "staff", ipsec.Transport, tt.encap, tt.client, tt.server)
			path, err := h.Path(tt.client, tt.server, func(_, _ netip.Addr) (int, error) { return 1500, nil })
			if err != nil {
				t.Fatal(err)
			}
			sa.Path = path
			h.Install(sa, false)
			v, sealed := h.NewOutbound().Handle(Queued{Packet: clear(tt.client, tt.server, packet.TCP, 1, 8443, 0x10, make([]byte, 1350)), Queue: h})
			if v == Drop && len(h.sent) == 1 {
				v, sealed = Replace, h.sent[0].bytes
			}
			if v != Replace {
				t.Fatalf("verdict %d", v)
			}
			sealed = bytes.Clone(sealed)
			if tt.mtu == 0 { // it was as large as the link takes
				sealed[2], sealed[3] = 1500>>8, 1500&0xff
			}
			if tt.change != nil {
				sealed = tt.change(sealed)
			}
			quoted := packet.Packet{Src: tt.client, Dst: tt.server, Len: len(sealed)}
			from := elsewhere
			if !tt.client.Is4() {
				from = netip.MustParseAddr("2001:db8::66")
			}
			e := packet.AppendTooBig(nil, from, sealed, &quoted, tt.mtu)
			if h.NewArrivals().Work(Queued{Packet: e, Queue: h}); len(h.verdicts) != 1 || h.verdicts[0] != Drop {
				t.Errorf("verdicts %v, want Drop", h.verdicts)
			}
			if path.MTU() != tt.want {
				t.Errorf("MTU %d, want %d", path.MTU(), tt.want)
			}
			narrower, doubted := h.Counters.PathNarrower.Load(), h.Counters.PathDoubted.Load()
			if (narrower == 1) != (tt.want != 1500) || narrower+doubted != 1 {
				t.Errorf("counted %d and %d", narrower, doubted)
			}
		})
	}
}

// Errors are looked at so many times in a second.
func TestPathErrorsAreBounded(t *testing.T) {
	h := newHost(t, client4, 0)
	now := time.Unix(1000, 0)
	h.cfg.Now = func() time.Time { return now }
	sa, _ := pair(t, "staff", ipsec.Transport, false, client4, server4)
	sa.Path, _ = h.Path(client4, server4, func(_, _ netip.Addr) (int, error) { return 1500, nil })
	h.Install(sa, false)
	_, sealed := h.NewOutbound().Handle(Queued{Packet: clear(client4, server4, packet.TCP, 1, 8443, 0x10, nil), Queue: h})
	quoted := packet.Packet{Src: client4, Dst: server4, Len: len(sealed)}
	a := h.NewArrivals()
	say := func(mtu int) {
		a.take(Queued{Packet: packet.AppendTooBig(nil, server4, sealed, &quoted, mtu)})
	}
	for range maxErrors {
		say(1500)
	}
	say(1400)
	if sa.Path.MTU() != 1500 {
		t.Error("an error too many counts")
	}
	now = now.Add(time.Second)
	say(1400)
	if sa.Path.MTU() != 1400 {
		t.Error("a second later none does")
	}
}

func FuzzArrivals(f *testing.F) {
	f.Add(clear(server4, client4, packet.UDP, 1, 2, 0, []byte("x")))
	f.Add(append(packet.AppendIPv4Header(nil, server4, client4, packet.AH, 0, 64, 28, true), make([]byte, 28)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := newHost(t, client4, 0)
		sa, _ := pair(t, "staff", ipsec.Tunnel, false, client4, server4)
		h.Install(sa, false)
		if h.NewArrivals().take(Queued{Packet: b}); len(h.injected) != 0 || sa.Path.MTU() != 1500 {
			t.Errorf("%d packets to the stack, MTU %d", len(h.injected), sa.Path.MTU())
		}
	})
}
