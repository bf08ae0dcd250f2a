package nfq

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// A peer whose NAT gave it another place gets what is inside UDP there, by the
// same SAs in the same order.
func TestMove(t *testing.T) {
	elsewhere := netip.MustParseAddr("192.0.2.7")
	tests := []struct {
		name   string
		mode   ipsec.Mode
		encap  bool
		remote netip.AddrPort
		want   bool
	}{
		{"another address", ipsec.Tunnel, true, netip.AddrPortFrom(elsewhere, 20001), true},
		{"another port", ipsec.Tunnel, true, netip.AddrPortFrom(server4, 20001), true},
		{"another port, transport", ipsec.Transport, true, netip.AddrPortFrom(server4, 20001), true},
		{"another address, transport", ipsec.Transport, true, netip.AddrPortFrom(elsewhere, 20001), false},
		{"without UDP", ipsec.Tunnel, false, netip.AddrPortFrom(elsewhere, 20001), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newHost(t, client4, 0)
			a, _ := pair(t, "echo", tt.mode, tt.encap, client4, server4)
			waiting, _ := pair(t, "echo", tt.mode, tt.encap, client4, server4)
			waiting.ChildSA.InSPI, waiting.ChildSA.OutSPI = 0x3001, 0x3002
			c.Install(a, false)
			c.Install(waiting, true)
			local, before := netip.AddrPortFrom(client4, 4500), a.RemoteAddr
			sa := c.SAD().Move(a.InSPI, local, tt.remote, NewPath(false, 1400))
			if moved := sa != nil; moved != tt.want {
				t.Fatalf("moved: %v, want %v", moved, tt.want)
			}
			want, mtu := before, 1500
			if tt.want {
				want, mtu = tt.remote, 1400
				if waits := c.SAD().Move(waiting.InSPI, local, tt.remote, NewPath(false, mtu)); waits == nil || c.SAD().Inbound(waiting.InSPI) != waits {
					t.Error("the SA on standby has not moved")
				}
			}
			pkt := clear(client4, server4, packet.UDP, 40000, 7, 0, []byte("hello"))
			var p packet.Packet
			if err := packet.Parse(pkt, &p); err != nil {
				t.Fatal(err)
			}
			now := c.SAD().Inbound(a.InSPI)
			if now.RemoteAddr != want || now.Path.MTU() != mtu || c.SAD().Outbound("echo", &p, pkt) != now || now.OutSPI != a.OutSPI || !now.Since.Equal(a.Since) {
				t.Errorf("the SA is %+v", now)
			}
			if a.RemoteAddr != before {
				t.Error("what a worker may be using has changed")
			}
			v, contents := c.NewOutbound().Handle(Queued{ID: 1, Packet: pkt, Queue: c})
			if v != Replace {
				t.Fatalf("verdict %d", v)
			}
			switch {
			case tt.mode == ipsec.Transport:
				if port := binary.BigEndian.Uint16(contents[packet.IPv4HeaderLen+2:]); port != want.Port() {
					t.Errorf("a packet went to port %d, want %d", port, want.Port())
				}
			case len(c.sent) != 1 || c.sent[0].remote != want:
				t.Errorf("packets %+v were sent, want one to %s", c.sent, want)
			}
			if all := c.SAD().All(); len(all) != 2 {
				t.Errorf("%d pairs of SAs", len(all))
			}
			if c.SAD().Remove(a.InSPI) != now || c.SAD().Inbound(a.InSPI) != nil {
				t.Error("it is not removed")
			}
			if _, err := a.Out.Seal(nil, nil, 6); err == nil {
				t.Error("a removed SA still seals")
			}
		})
	}
	if newSAD(time.Now).Move(0x1001, netip.AddrPort{}, netip.AddrPort{}, nil) != nil {
		t.Error("an SA that is not there was moved")
	}
}
