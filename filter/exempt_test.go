package filter

import (
	"testing"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

func TestExempt(t *testing.T) {
	in, out, forward := Context{Direction: Inbound}, Context{Direction: Outbound}, Context{Direction: Forward}
	own, reply := Context{Direction: Outbound, Own: true}, Context{Direction: Inbound, State: StateReply}
	local := Context{Direction: Outbound, Interface: Interface{Name: "lo"}}
	broadcast := Context{Direction: Inbound, Broadcast: true}
	all := Exemptions{Multicast: true, RSVP: true, Kerberos: true}
	none := Exemptions{}
	icmp6 := func(kind, hops uint8) *packet.Packet {
		p := flow(58, "[fe80::1]:0", "[fe80::2]:0")
		p.HasICMP, p.ICMPType, p.HopLimit = true, kind, hops
		return p
	}
	icmp4 := func(kind, code uint8) *packet.Packet {
		p := flow(1, "10.0.0.2:0", "10.0.0.1:0")
		p.HasICMP, p.ICMPType, p.ICMPCode = true, kind, code
		return p
	}
	aboutOwn := Context{Direction: Inbound, State: StateReply, Own: true}
	for _, tt := range []struct {
		name string
		x    Exemptions
		c    Context
		p    *packet.Packet
		want bool
	}{
		{"loopback", none, local, flow(6, "10.0.0.1:1", "10.0.0.1:2"), true},
		{"IKE in", none, in, flow(17, "10.0.0.2:999", "10.0.0.1:500"), true},
		{"IKE through a NAT, in", none, in, flow(17, "10.0.0.2:999", "10.0.0.1:4500"), true},
		{"from IKE's port, in", none, in, flow(17, "10.0.0.2:500", "10.0.0.1:53"), false},
		{"TCP 500", none, in, flow(6, "10.0.0.2:500", "10.0.0.1:500"), false},
		{"IKE of our own, out", none, own, flow(17, "10.0.0.1:500", "10.0.0.2:500"), true},
		{"IKE's port of another program, out", none, out, flow(17, "10.0.0.1:500", "10.0.0.2:500"), false},
		{"ESP in", none, in, flow(50, "10.0.0.2:0", "10.0.0.1:0"), true},
		{"ESP of another program, out", none, out, flow(50, "10.0.0.1:0", "10.0.0.2:0"), false},
		{"AH in", none, in, flow(51, "10.0.0.2:0", "10.0.0.1:0"), true},
		{"AH of our own, out", none, own, flow(51, "10.0.0.1:0", "10.0.0.2:0"), true},
		{"AH of another program, out", none, out, flow(51, "10.0.0.1:0", "10.0.0.2:0"), false},
		{"forwarded AH", all, forward, flow(51, "10.0.0.1:0", "10.0.0.2:0"), false},
		{"forwarded ESP", all, forward, flow(50, "10.0.0.1:0", "10.0.0.2:0"), false},
		{"port unreachable about our IKE", none, aboutOwn, icmp4(3, 3), true},
		{"unreachable about our IKE, IPv6", none, aboutOwn, icmp6(1, 64), true},
		{"port unreachable about something else", none, in, icmp4(3, 3), false},
		{"an MTU", none, aboutOwn, icmp4(3, 4), false},
		{"an MTU, IPv6", none, aboutOwn, icmp6(2, 64), false},
		{"a redirect", none, aboutOwn, icmp4(5, 1), false},
		{"the type that is unreachable in IPv6", none, aboutOwn, icmp4(1, 0), false},
		{"port unreachable, out", none, own, icmp4(3, 3), false},
		{"multicast in", none, in, flow(17, "10.0.0.2:5353", "224.0.0.251:5353"), true},
		{"multicast out", none, out, flow(17, "10.0.0.1:5353", "224.0.0.251:5353"), false},
		{"multicast out, exempt", all, out, flow(17, "10.0.0.1:5353", "224.0.0.251:5353"), true},
		{"multicast of IPv6, exempt", all, out, flow(17, "[fe80::1]:5353", "[ff02::fb]:5353"), true},
		{"forwarded multicast", none, forward, flow(17, "10.0.0.1:5353", "239.1.1.1:5353"), true},
		{"broadcast in", none, broadcast, flow(17, "10.0.0.2:67", "10.0.0.255:68"), true},
		{"limited broadcast in", none, in, flow(17, "10.0.0.2:67", "255.255.255.255:68"), true},
		{"neighbour solicitation", none, in, icmp6(135, 255), true},
		{"neighbour solicitation by a router", none, in, icmp6(135, 254), false},
		{"echo request of IPv6", none, in, icmp6(128, 255), false},
		{"listener report", none, out, icmp6(143, 1), true},
		{"listener report by a router", none, out, icmp6(143, 64), false},
		{"RSVP", all, in, flow(46, "10.0.0.2:0", "10.0.0.1:0"), true},
		{"RSVP, not exempt", none, in, flow(46, "10.0.0.2:0", "10.0.0.1:0"), false},
		{"Kerberos request", all, out, flow(6, "10.0.0.1:40000", "10.0.0.2:88"), true},
		{"Kerberos answer", all, reply, flow(6, "10.0.0.2:88", "10.0.0.1:40000"), true},
		{"from Kerberos' port without a request", all, in, flow(17, "10.0.0.2:88", "10.0.0.1:40000"), false},
		{"from Kerberos' port, a new connection", all, Context{Direction: Inbound, State: StateNew}, flow(6, "10.0.0.2:88", "10.0.0.1:445"), false},
		{"Kerberos, not exempt", none, out, flow(6, "10.0.0.1:40000", "10.0.0.2:88"), false},
		{"SCTP 88", all, out, flow(132, "10.0.0.1:40000", "10.0.0.2:88"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			why, ok := tt.x.Exempt(tt.c, tt.p)
			if ok != tt.want || ok && why == "" {
				t.Errorf("exempt %v (%q), want %v", ok, why, tt.want)
			}
			s, err := New([]Entry{{Name: "all", Selector: Selector{From: Any(), To: Any()}, Mirrored: true, Action: Block},
				{Name: "forwarded", Selector: Selector{From: Any(), To: Any()}, Mirrored: true, Forward: true, Action: Block}}, Settings{Exemptions: tt.x})
			if err != nil {
				t.Fatal(err)
			}
			if d := s.Decide(tt.c, tt.p); (d.Action == Permit) != tt.want || (d.Exempt != "") != tt.want || d.Why() == "" {
				t.Errorf("Decide: %s", d.Why())
			}
		})
	}
}
