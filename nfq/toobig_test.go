package nfq

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// setDF sets the "don't fragment" flag.
func setDF(b []byte) []byte {
	b[6] |= 0x40
	packet.FinishHeaderChecksum(b)
	return b
}

// What becomes of a packet that does not fit, and what its sender is told.
func TestTooBig(t *testing.T) {
	nets := func(a string) []ipsec.TrafficSelector {
		return []ipsec.TrafficSelector{ipsec.SelectPrefix(netip.MustParsePrefix(a), 0, 0, 0xffff)}
	}
	const forwarded = true
	for _, tt := range []struct {
		name      string
		mode      ipsec.Mode
		v6        bool
		df        bool
		option    ipsec.DF
		forwarded bool
		size      int // of data
		told      int // the MTU; 0 if the sender is not told
		sent      int // packets on the wire
	}{
		{"may be fragmented", ipsec.Transport, false, false, 0, false, 3000, 0, 3},
		{"may not", ipsec.Transport, false, true, 0, false, 1460, 1466, 0},
		{"fits", ipsec.Transport, false, true, 0, false, 1438, 0, 1},
		{"IPv6 of this host", ipsec.Transport, true, false, 0, false, 1440, 1466, 2},
		{"IPv6 of this host, which the stack would fragment", ipsec.Transport, true, false, 0, false, 3000, 0, 3},
		{"through a tunnel", ipsec.Tunnel, false, false, 0, forwarded, 3000, 0, 3},
		{"through a tunnel, may not", ipsec.Tunnel, false, true, 0, forwarded, 1460, 1446, 0},
		{"through a tunnel that does not care", ipsec.Tunnel, false, true, ipsec.DFClear, forwarded, 1460, 0, 2},
		{"through a tunnel that always forbids it", ipsec.Tunnel, false, false, ipsec.DFSet, forwarded, 3000, 0, 3},
		{"IPv6 through a tunnel", ipsec.Tunnel, true, false, 0, forwarded, 1440, 1426, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := client4, server4
			netC, netS := "10.1.0.20/32", "10.1.0.1/32"
			if tt.v6 {
				client, server, netC, netS = client6, server6, "fd00::20/128", "fd00::1/128"
			}
			from, to := client, server
			h := newHost(t, client, 0)
			now := time.Unix(1000, 0)
			h.cfg.Now = func() time.Time { return now }
			e := negotiate("site", filter.Any(), filter.Any())
			if tt.forwarded {
				from, to, netC, netS = netip.MustParseAddr("10.5.1.9"), netip.MustParseAddr("10.5.2.9"), "10.5.1.0/24", "10.5.2.0/24"
				if tt.v6 {
					from, to, netC, netS = netip.MustParseAddr("fd05:1::9"), netip.MustParseAddr("fd05:2::9"), "fd05:1::/64", "fd05:2::/64"
				}
				e = negotiate("site", filter.Subnet(netip.MustParsePrefix(netC)), filter.Subnet(netip.MustParsePrefix(netS)))
				e.Forward = true
			}
			h.under(t, e)
			sa, _ := pair(t, "site", tt.mode, false, client, server)
			sa.ChildSA.Local, sa.ChildSA.Remote, sa.ChildSA.DF = nets(netC), nets(netS), tt.option
			h.Install(sa, false)
			pkt := clear(from, to, packet.UDP, 40000, 9, 0, make([]byte, tt.size))
			if tt.df {
				setDF(pkt)
			}
			v, _ := h.NewOutbound().Handle(Queued{ID: 1, Packet: bytes.Clone(pkt), Forwarded: tt.forwarded, Queue: h})
			var errors, sealed [][]byte
			for _, s := range h.sent {
				for b := s.bytes; len(b) > 0; b = b[min(s.size, len(b)):] {
					one := b[:min(s.size, len(b))]
					var p packet.Packet
					if err := packet.Parse(one, &p); err != nil {
						t.Fatal(err)
					}
					if len(one) > 1500 {
						t.Errorf("%d bytes are on the wire", len(one))
					}
					if p.HasICMP {
						errors = append(errors, one)
						continue
					}
					sealed = append(sealed, one)
					if wantDF := tt.option == ipsec.DFSet && tt.mode == ipsec.Tunnel; p.Is4() && (one[6]&0x40 != 0) != wantDF && !tt.df {
						t.Errorf("DF is %v on the wire", one[6]&0x40 != 0)
					}
					if p.Is4() && one[4] == 0 && one[5] == 0 {
						t.Error("a packet has no identification")
					}
				}
			}
			errors = append(errors, h.injected...)
			if v == Replace && len(sealed) == 0 {
				sealed = append(sealed, nil)
			}
			if len(sealed) != tt.sent {
				t.Errorf("%d packets are sent, want %d (counters %v)", len(sealed), tt.sent, h.Counters.Map())
			}
			if tt.told == 0 {
				if len(errors) != 0 {
					t.Errorf("the sender is told: %x", errors)
				}
				return
			}
			if len(errors) != 1 {
				t.Fatalf("the sender is told %d times", len(errors))
			}
			var p packet.Packet
			var x packet.TooBig
			if err := packet.Parse(errors[0], &p); err != nil || !packet.ParseTooBig(errors[0], &p, &x) {
				t.Fatalf("the sender is told %x", errors[0])
			}
			if x.MTU != tt.told || x.Src != from || x.Dst != to || p.Dst != from || x.Protocol != packet.UDP {
				t.Errorf("told MTU %d, want %d: %+v to %s", x.MTU, tt.told, x, p.Dst)
			}
			if tt.forwarded != (len(h.injected) == 0) {
				t.Error("the sender is told by the wrong way")
			}
			if wantFrom := map[bool]netip.Addr{true: client, false: to}[tt.forwarded]; p.Src != wantFrom {
				t.Errorf("%s tells, want %s", p.Src, wantFrom)
			}
			if tt.sent == 0 && h.Counters.OutTooBig.Load() != 1 {
				t.Error("it is not counted")
			}
		})
	}
}

// Senders are not told all the time.
func TestTooBigIsToldAtTimes(t *testing.T) {
	h := newHost(t, client4, 0)
	now := time.Unix(1000, 0)
	h.cfg.Now = func() time.Time { return now }
	sa, _ := pair(t, "echo", ipsec.Transport, false, client4, server4)
	h.Install(sa, false)
	o := h.NewOutbound()
	send := func() int {
		o.Handle(Queued{ID: 1, Packet: setDF(clear(client4, server4, packet.UDP, 40000, 7, 0, make([]byte, 1460))), Queue: h})
		return len(h.injected)
	}
	if send() != 1 || h.verdicts[1] != Replace {
		t.Errorf("verdict %d, told %d times; want the flow confirmed and the sender told", h.verdicts[1], len(h.injected))
	}
	if send() != 1 || h.verdicts[1] != Drop {
		t.Errorf("at once again: verdict %d, told %d times", h.verdicts[1], len(h.injected))
	}
	sa.Path.Learn(1400, now)
	if send() != 2 {
		t.Error("another size is no news")
	}
	now = now.Add(tellEvery4)
	if send() != 3 {
		t.Error("after a while it is not told again")
	}
}

// Congestion in a tunnel is told to who understands it, and else a loss.
func TestCongestion(t *testing.T) {
	for _, tt := range []struct {
		inner, outer, want uint8
		drop               bool
	}{{0, 0, 0, false}, {2, 3, 3, false}, {2, 2, 2, false}, {0, 3, 0, true}} {
		s := newHost(t, server4, 0)
		a, b := pair(t, "echo", ipsec.Tunnel, false, client4, server4)
		s.Install(b, false)
		pkt := clear(client4, server4, packet.UDP, 40000, 7, 0, []byte("x"))
		pkt[1] = tt.inner
		packet.FinishHeaderChecksum(pkt)
		sealed, err := a.Out.Seal(make([]byte, 64), pkt, ipv4InESP)
		if err != nil {
			t.Fatal(err)
		}
		in := s.NewInbound(false)
		in.Receive(sealed, 64, netip.AddrPortFrom(server4, 0), netip.AddrPortFrom(client4, 0), tt.outer, 0)
		in.Flush()
		if (len(s.injected) == 0) != tt.drop || (s.Counters.InCongestion.Load() == 1) != tt.drop {
			t.Errorf("%+v: %d packets reach the stack, %d are counted", tt, len(s.injected), s.Counters.InCongestion.Load())
		}
		if !tt.drop && s.injected[0][1] != tt.want {
			t.Errorf("%+v: ECN is %d", tt, s.injected[0][1])
		}
	}
}
