package test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// AH alone, and around ESP, carries packets of every size between two hosts, on a
// path that turns out to be narrow.
func TestAHSizes(t *testing.T) {
	for _, x := range []struct {
		width
		pairs int
	}{
		{width{name: "IPv4 transport", mode: "transport", udp: "auto", mtu: 1500, narrow: 1400, methods: "{ah: sha256}"}, 1},
		{width{name: "IPv6 transport", v6: true, mode: "transport", udp: "auto", mtu: 1500, narrow: 1400, methods: "{ah: sha256}"}, 1},
		{width{name: "IPv4 tunnel", mode: "tunnel", udp: "auto", mtu: 1500, methods: "{ah: sha256}"}, 1},
		{width{name: "IPv6 tunnel", v6: true, mode: "tunnel", udp: "auto", mtu: 1500, narrow: 1400, methods: "{ah: sha256}"}, 1},
		{width{name: "around ESP, IPv4", mode: "transport", udp: "auto", mtu: 1500, narrow: 1400, methods: "{ah: sha256, esp: aes256gcm16}"}, 2},
		{width{name: "around ESP, IPv6", v6: true, mode: "transport", udp: "auto", mtu: 1500, methods: "{ah: sha256, esp: aes256gcm16}"}, 2},
		{width{name: "around ESP, tunnel", mode: "tunnel", udp: "auto", mtu: 1500, methods: "{ah: sha256, esp: aes256gcm16}"}, 2},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := x.width.make(t)
			var ah, others atomic.Int64
			capture, err := w.gateway.Capture("wks0", func(b []byte, _ bool) {
				var p packet.Packet
				if packet.Parse(b, &p) != nil {
					return
				}
				between := p.Src.String() == w.serverOut && p.Dst.String() == w.workOut || p.Src.String() == w.workOut && p.Dst.String() == w.serverOut
				ike := p.Protocol == packet.UDP && (p.SrcPort == 500 || p.SrcPort == 4500)
				switch {
				case !between || ike:
				case p.Protocol == packet.AH:
					ah.Add(1)
				default:
					others.Add(1)
				}
			})
			must(t, err)
			swaps, echoes := net.JoinHostPort(w.server, "8443"), net.JoinHostPort(w.server, "7")
			listenSwaps(t, w.site.server, swaps)
			listenEcho(t, w.site.server, echoes)
			must(t, transfer(w.workstation, w.client, swaps, 2*megabyte))
			c, err := w.workstation.DialFrom(within(t, time.Minute), "udp", w.client, echoes)
			must(t, err)
			defer c.Close()
			for _, n := range []int{1, 1300, 1472, 3000, 20_000} {
				if err := bounce(c, make([]byte, n)); err != nil {
					t.Errorf("UDP, %d bytes: %v", n, err)
				}
			}
			if err := capture.Close(); err != nil {
				t.Error(err)
			}
			if ah.Load() < 100 || others.Load() != 0 {
				t.Errorf("%d packets of AH are on the wire, and %d others", ah.Load(), others.Load())
			}
			for _, d := range []*daemon{w.ds, w.dw} {
				if list := d.sas(t); len(list) != x.pairs {
					t.Errorf("%s has the SAs %+v, want %d pairs", d.host.Name, list, x.pairs)
				}
				d.untroubled(t)
			}
			if t.Failed() {
				t.Logf("counters: %s", w.ds.counters(t))
			}
		})
	}
}
