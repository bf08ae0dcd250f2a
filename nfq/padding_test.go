package nfq

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Packets in a tunnel that is to hide their lengths all have one length on the
// wire, and arrive as they were.
func TestPadding(t *testing.T) {
	for _, tt := range []struct {
		name     string
		mode     ipsec.Mode
		tfc      int
		unpadded bool
		longest  int // of the clear packets that look alike; 0 for none
	}{
		{"to a length", ipsec.Tunnel, 800, false, 800},
		{"to what fits", ipsec.Tunnel, ipsec.TFCFull, false, 1400},
		{"not at all", ipsec.Tunnel, 0, false, 0},
		{"not for a peer that does not take it", ipsec.Tunnel, 800, true, 0},
		{"not in transport mode", ipsec.Transport, 800, false, 0},
	} {
		for _, encap := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, encap=%v", tt.name, encap), func(t *testing.T) {
				client, server := newHost(t, client4, 0), newHost(t, server4, 0)
				ofClient, ofServer := pair(t, "echo", tt.mode, encap, client4, server4)
				ofClient.TFC, ofClient.Unpadded = tt.tfc, tt.unpadded
				client.Install(ofClient, false)
				server.Install(ofServer, false)
				o := client.NewOutbound()
				lengths := map[int]bool{}
				for id, n := range []int{1, 100, 772, 800, 1300} {
					client.sent, server.injected = nil, nil
					pkt := clear(client4, server4, packet.UDP, 40000, 7, 0, bytes.Repeat([]byte{byte(n)}, n))
					_, contents := o.Handle(Queued{ID: uint32(id), Packet: bytes.Clone(pkt)})
					got := carry(t, client, server, contents) // what goes in place of a packet for a tunnel is a dummy
					if len(got) != 1 || !bytes.Equal(got[0][packet.IPv4HeaderLen:], pkt[packet.IPv4HeaderLen:]) {
						t.Fatalf("%d bytes: %d packets arrived: %x", n, len(got), got)
					}
					if len(pkt) <= tt.longest {
						lengths[len(client.sent[0].bytes)] = true
					}
					for _, s := range client.sent {
						if !s.udp && len(s.bytes) > 1500 {
							t.Errorf("%d bytes: a packet of %d on the wire", n, len(s.bytes))
						}
					}
				}
				if tt.longest > 0 && len(lengths) != 1 {
					t.Errorf("packets of the lengths %v", lengths)
				}
				// None was longer than it had to be.
				client.sent = nil
				o.Handle(Queued{ID: 9, Packet: clear(client4, server4, packet.UDP, 40000, 7, 0, []byte("x"))})
				if tt.longest == 0 && len(client.sent) > 0 && len(client.sent[0].bytes) > 120 {
					t.Errorf("padded to %d", len(client.sent[0].bytes))
				}
			})
		}
	}
}
