package nfq

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

var (
	natOutside = netip.MustParseAddr("203.0.113.1")
	natServer  = netip.MustParseAddr("198.51.100.1")
	natStart   = time.Unix(1_000_000, 0)
)

func natKey(own, name string) natPeerKey {
	return natPeerKey{outer: natOutside, own: netip.MustParseAddr(own), name: name, port: 4500}
}

func natTCP(remotePort uint16) natTuple {
	return natTuple{local: natServer, remote: natOutside, protocol: packet.TCP, localPort: 443, remotePort: remotePort}
}

// sound fails the test unless the table agrees with itself.
func (n *natFlows) sound(t testing.TB) {
	t.Helper()
	if len(n.byStack) != len(n.byWire) || len(n.byStack) > maxNATFlows {
		t.Fatalf("%d flows of the stack, %d of peers", len(n.byStack), len(n.byWire))
	}
	flows := 0
	for k, p := range n.peers {
		if p.key != k || p.sas == 0 && p.flows == 0 || p.flows > maxNATFlowsPerPeer {
			t.Fatalf("the peer %+v as %+v", p, k)
		}
		count, last := 0, time.Time{}
		for f := p.oldest; f != nil; f = f.newer {
			if f.peer != p || n.byStack[f.stack] != f || n.byWire[f.wire()] != f || f.seen.Before(last) || f.newer == nil && p.newest != f {
				t.Fatalf("the flow %+v of %+v", f, p)
			}
			count, last = count+1, f.seen
		}
		if count != p.flows {
			t.Fatalf("%d flows, counted as %d", count, p.flows)
		}
		flows += count
	}
	if flows != len(n.byStack) {
		t.Fatalf("%d flows with peers, %d in all", flows, len(n.byStack))
	}
}

// Two peers with one port: the first keeps it, the other gets another one, and
// what goes out finds its way to either.
func TestNATFlows(t *testing.T) {
	echoes := func(e echo, id uint16) natTuple {
		return natTuple{local: natServer, remote: natOutside, protocol: packet.ICMP, echo: e, remotePort: id}
	}
	udp := natTCP(5000)
	udp.protocol = packet.UDP
	gre := natTuple{local: natServer, remote: natOutside, protocol: 47}
	sctp := natTCP(5000)
	sctp.protocol = packet.SCTP
	for _, tt := range []struct {
		name   string
		flow   natTuple
		second func(port uint16) bool // whether the other one may get the port
		ok     bool
	}{
		{"TCP", natTCP(5000), func(p uint16) bool { return p >= 1024 }, true},
		{"TCP from a port of the system", natTCP(700), func(p uint16) bool { return p >= 512 && p < 1024 }, true},
		{"UDP", udp, func(p uint16) bool { return p >= 1024 }, true},
		{"echo", echoes(theyPing, 7), func(uint16) bool { return true }, true},
		{"a protocol without ports", gre, nil, false},
		{"a checksum that cannot be corrected", sctp, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n natFlows
			a, b := n.join(natKey("10.0.0.2", "a")), n.join(natKey("10.0.0.3", "b"))
			if port, ok := n.inbound(a, tt.flow, 0, natStart); !ok || port != tt.flow.remotePort {
				t.Fatalf("the first one: %d, %v", port, ok)
			}
			port, ok := n.inbound(b, tt.flow, 0, natStart)
			if ok != tt.ok || ok && (port == tt.flow.remotePort || !tt.second(port)) {
				t.Fatalf("the other one: %d, %v", port, ok)
			}
			if again, _ := n.inbound(b, tt.flow, 0, natStart.Add(time.Second)); ok && again != port {
				t.Errorf("the other one has the port %d, and then %d", port, again)
			}
			if p, real := n.outbound(tt.flow, 0, natStart); p != a || real != tt.flow.remotePort {
				t.Errorf("the answer to the first one goes to %+v, port %d", p, real)
			}
			moved := tt.flow
			moved.remotePort = port
			if p, real := n.outbound(moved, 0, natStart); ok && (p != b || real != tt.flow.remotePort) {
				t.Errorf("the answer to the other one goes to %+v, port %d", p, real)
			}
			n.sound(t)
		})
	}

	t.Run("echoes of both directions do not meet", func(t *testing.T) {
		var n natFlows
		a, b := n.join(natKey("10.0.0.2", "a")), n.join(natKey("10.0.0.3", "b"))
		n.begin(a, echoes(wePing, 7), 0, natStart)
		if port, ok := n.inbound(b, echoes(theyPing, 7), 0, natStart); !ok || port != 7 {
			t.Errorf("port %d, %v", port, ok)
		}
	})
	t.Run("a flow that this host began", func(t *testing.T) {
		var n natFlows
		a, b := n.join(natKey("10.0.0.2", "a")), n.join(natKey("10.0.0.3", "b"))
		n.begin(a, natTCP(80), tcpSYN, natStart)
		n.begin(b, natTCP(80), 0, natStart) // though another SA is newer by now
		if port, ok := n.inbound(a, natTCP(80), tcpSYN, natStart); !ok || port != 80 {
			t.Errorf("the answer has the port %d, %v", port, ok)
		}
		if p, _ := n.outbound(natTCP(80), 0, natStart); p != a {
			t.Errorf("it goes on with %+v", p)
		}
		n.sound(t)
	})
}

// Who has a name is one peer wherever the NAT puts it; who has none is not.
func TestNATPeers(t *testing.T) {
	moved := natKey("10.0.0.2", "a")
	moved.port = 30000
	nobody, elsewhere := natKey("10.0.0.2", ""), natKey("10.0.0.2", "")
	elsewhere.port = 30000
	for _, tt := range []struct {
		name string
		a, b natPeerKey
		same bool
	}{
		{"another port", natKey("10.0.0.2", "a"), moved, true},
		{"another name", natKey("10.0.0.2", "a"), natKey("10.0.0.2", "b"), false},
		{"another address behind the NAT", natKey("10.0.0.2", "a"), natKey("10.0.0.3", "a"), false},
		{"nobody at another port", nobody, elsewhere, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n natFlows
			a := n.join(tt.a)
			n.inbound(a, natTCP(5000), tcpSYN, natStart)
			n.inbound(a, natTCP(5000), 0, natStart)
			n.leave(a) // it comes back
			b := n.join(tt.b)
			if (a == b) != tt.same {
				t.Errorf("the same: %v", a == b)
			}
			if port, _ := n.inbound(b, natTCP(5000), 0, natStart.Add(time.Hour)); (port == 5000) != tt.same {
				t.Errorf("the flow has the port %d", port)
			}
			n.sound(t)
		})
	}
	t.Run("one of which nothing is left", func(t *testing.T) {
		var n natFlows
		n.leave(n.join(natKey("10.0.0.2", "a")))
		if len(n.peers) != 0 {
			t.Errorf("%d peers", len(n.peers))
		}
	})
}

func TestNATFlowsAge(t *testing.T) {
	udp := natTCP(5000)
	udp.protocol = packet.UDP
	ping := natTuple{local: natServer, remote: natOutside, protocol: packet.ICMP, echo: theyPing, remotePort: 7}
	for _, tt := range []struct {
		name  string
		flow  natTuple
		flags []uint8
		idle  time.Duration
	}{
		{"TCP that opens", natTCP(5000), []uint8{tcpSYN}, natIdleOpening},
		{"TCP that is open", natTCP(5000), []uint8{tcpSYN, 0}, natIdleTCP},
		{"TCP that ends", natTCP(5000), []uint8{tcpSYN, 0, tcpFIN, 0}, natIdleOpening},
		{"TCP that was cut off", natTCP(5000), []uint8{tcpSYN, 0, tcpRST, 0}, natIdleOpening},
		{"TCP that opens again", natTCP(5000), []uint8{tcpSYN, 0, tcpFIN, tcpSYN, 0}, natIdleTCP},
		{"UDP", udp, []uint8{0}, natIdleUDP},
		{"echo", ping, []uint8{0}, natIdleEcho},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n natFlows
			a, b := n.join(natKey("10.0.0.2", "a")), n.join(natKey("10.0.0.3", "b"))
			now := natStart
			for _, flags := range tt.flags {
				now = now.Add(time.Second)
				n.inbound(a, tt.flow, flags, now)
			}
			if p, _ := n.whose(tt.flow, now.Add(tt.idle-1)); p != a {
				t.Error("it is forgotten too early")
			}
			if port, _ := n.inbound(b, tt.flow, 0, now.Add(tt.idle)); port != tt.flow.remotePort {
				t.Error("it is remembered for too long")
			}
			n.sound(t)
		})
	}
}

// A peer with too many flows loses its own oldest, and all together have a bound.
func TestNATFlowsBounded(t *testing.T) {
	var n natFlows
	quiet := n.join(natKey("10.0.0.2", "quiet"))
	n.inbound(quiet, natTCP(1), tcpSYN, natStart)
	flow := func(i int) natTuple {
		f := natTCP(uint16(1024 + i))
		f.localPort = uint16(i >> 14)
		return f
	}
	loud := n.join(natKey("10.0.0.3", "loud"))
	for i := range maxNATFlowsPerPeer + 10 {
		n.inbound(loud, flow(i), tcpSYN, natStart.Add(time.Duration(i)))
	}
	if _, ok := n.known(loud, flow(9), natStart); ok || loud.flows != maxNATFlowsPerPeer {
		t.Errorf("%d flows, the oldest known: %v", loud.flows, ok)
	}
	n.sound(t)
	more := 0
	fill := func(now time.Time) {
		for ; len(n.byStack) < maxNATFlows; more++ {
			p := n.join(natKey(fmt.Sprintf("10.1.%d.%d", more>>8, more&0xff), "more"))
			for j := 0; j < 1000 && len(n.byStack) < maxNATFlows; j++ {
				f := natTCP(uint16(1024 + j))
				f.localPort = uint16(20000 + more)
				n.inbound(p, f, tcpSYN, now)
			}
		}
	}
	now := natStart.Add(time.Minute)
	fill(now)
	n.inbound(quiet, natTCP(3), tcpSYN, now)
	if _, ok := n.known(quiet, natTCP(1), now); !ok || loud.flows != maxNATFlowsPerPeer-natEvict {
		t.Errorf("the quiet one keeps its flow: %v; the loud one has %d", ok, loud.flows)
	}
	n.sound(t)
	// Those that were silent for too long make room first.
	fill(now)
	n.inbound(quiet, natTCP(4), tcpSYN, now.Add(time.Hour))
	if len(n.byStack) != 1 {
		t.Errorf("%d flows are left", len(n.byStack))
	}
	n.sound(t)
}

// When every port that is tried has an owner, nothing of the flow passes.
func TestNATFlowsNoPort(t *testing.T) {
	var n natFlows
	a, b := n.join(natKey("10.0.0.2", "a")), n.join(natKey("10.0.0.3", "b"))
	for port := 512; port < 1024; port++ {
		n.inbound(a, natTCP(uint16(port)), 0, natStart)
	}
	if port, ok := n.inbound(b, natTCP(600), 0, natStart); ok {
		t.Errorf("got the port %d of another", port)
	}
	n.sound(t)
}

// FuzzNATFlows lives through any sequence of events: the table stays sound, no
// two flows of the stack are one, and each finds its way back.
func FuzzNATFlows(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 0, 2, 1, 0, 9, 0, 0})
	f.Add([]byte{0, 1, 5, 1, 1, 5, 3, 2, 5, 5, 0, 0, 4, 1, 0, 0, 1, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		var n natFlows
		names := []string{"a", "b", "c", ""}
		var peers [4]*natPeer
		for i, name := range names {
			peers[i] = n.join(natKey(fmt.Sprintf("10.0.0.%d", i), name))
		}
		now := natStart
		for len(b) >= 3 {
			what, who, port := b[0], int(b[1])%4, uint16(b[2]%8)
			b = b[3:]
			flow := natTCP(1000 + port*10)
			if what&0x10 != 0 {
				flow.protocol, flow.echo, flow.localPort = packet.ICMP, theyPing, 0
			}
			if what&0x20 != 0 {
				flow.protocol = 47
			}
			flags := what >> 6
			switch p := peers[who]; what & 7 {
			case 0, 1, 2:
				seen, ok := n.inbound(p, flow, flags, now)
				if !ok {
					break
				}
				stack := flow
				stack.remotePort = seen
				if q, real := n.outbound(stack, 0, now); q != n.current(p) || real != flow.remotePort {
					t.Fatalf("%+v of %+v became port %d, which is %d of %+v", flow, p, seen, real, q)
				}
			case 3:
				n.begin(p, flow, flags, now)
			case 4:
				n.outbound(flow, flags, now)
			case 5:
				now = now.Add(time.Duration(port) * time.Hour / 2)
			case 6:
				if p.sas > 0 {
					n.leave(p)
				}
			case 7:
				if p.sas == 0 {
					peers[who] = n.join(natKey(fmt.Sprintf("10.0.0.%d", who), names[who]))
				}
			}
			n.sound(t)
		}
		if slices.ContainsFunc(peers[:], func(p *natPeer) bool { return p.sas < 0 }) {
			t.Fatal("a negative number of SAs")
		}
	})
}
