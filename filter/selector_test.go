package filter

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func subnet(s string) Side { return Subnet(netip.MustParsePrefix(s)) }

func tcp(from, to Side, fromPort, toPort PortRange) Selector {
	return Selector{From: from, To: to, Protocol: 6, HasProtocol: true, FromPort: fromPort, ToPort: toPort}
}

func TestSelectorCheck(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    Selector
		want string // in the error; empty for none
	}{
		{"any to me", Selector{From: Any(), To: Me()}, ""},
		{"all of IPv4 to all of IPv4", Selector{From: subnet("0.0.0.0/0"), To: subnet("0.0.0.0/0")}, ""},
		{"ports", tcp(subnet("10.0.0.0/8"), Me(), PortRange{1024, 65535}, PortRange{443, 443}), ""},
		{"protocol 0", Selector{From: Any(), To: Me(), HasProtocol: true}, ""},
		{"zero", Selector{}, "a side is missing"},
		{"no to", Selector{From: Any()}, "a side is missing"},
		{"two families", Selector{From: subnet("10.0.0.0/8"), To: subnet("fd00::/8")}, "different families"},
		{"range of two families", Selector{From: Range(addr("10.0.0.1"), addr("fd00::1")), To: Me()}, "same family"},
		{"range backwards", Selector{From: Range(addr("10.0.0.9"), addr("10.0.0.1")), To: Me()}, "lower to a higher address"},
		{"range without an end", Selector{From: Range(addr("10.0.0.9"), netip.Addr{}), To: Me()}, "plain"},
		{"mapped address", Selector{From: Address(addr("::ffff:10.0.0.1")), To: Me()}, "plain"},
		{"zone", Selector{From: Me(), To: Address(addr("fe80::1%eth0"))}, "plain"},
		{"ports without a protocol", Selector{From: Any(), To: Me(), ToPort: PortRange{80, 80}}, "needs the protocol"},
		{"ports of icmp", Selector{From: Any(), To: Me(), Protocol: 1, HasProtocol: true, FromPort: PortRange{80, 80}}, "needs the protocol"},
		{"icmp type", Selector{From: Any(), To: Me(), Protocol: 1, HasProtocol: true, ICMP: ICMP{Type: 8, HasType: true}}, ""},
		{"icmp type of tcp", Selector{From: Any(), To: Me(), Protocol: 6, HasProtocol: true, ICMP: ICMP{Type: 8, HasType: true}}, "needs the protocol icmp"},
		{"icmp code without a type", Selector{From: Any(), To: Me(), Protocol: 1, HasProtocol: true, ICMP: ICMP{HasCode: true}}, "code needs a type"},
		{"interface without a name", Selector{From: Any(), To: Me(), Connection: Connection{Kind: ConnectionInterface}}, "name of an interface"},
		{"interface with a long name", Selector{From: Any(), To: Me(), Connection: Connection{ConnectionInterface, "sixteen-bytes-xx"}}, "name of an interface"},
		{"lan with a name", Selector{From: Any(), To: Me(), Connection: Connection{ConnectionLAN, "eth0"}}, "name of an interface"},
		{"ports backwards", tcp(Any(), Me(), PortRange{}, PortRange{90, 80}), "lower to a higher port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.s.Check()
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrSelector) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one that says %q", err, tt.want)
			}
			if _, err := New([]Entry{{Name: "r", List: "l", Position: "p.yaml:3:5", Selector: tt.s, Action: Block}}, Settings{}); !errors.Is(err, ErrSelector) ||
				!strings.HasPrefix(err.Error(), `p.yaml:3:5: rule "r", filter 1 of list "l"`) {
				t.Errorf("New: %v", err)
			}
		})
	}
}

func TestSelectorString(t *testing.T) {
	for _, tt := range []struct {
		s    Selector
		want string
	}{
		{Selector{From: Any(), To: Me()}, "from any to me"},
		{tcp(subnet("10.1.0.0/16"), Me(), PortRange{}, PortRange{8443, 8443}), "from 10.1.0.0/16 to me protocol tcp to-port 8443"},
		{tcp(Any(), Any(), PortRange{1024, 65535}, PortRange{0, 1023}), "from any to any protocol tcp from-port 1024-65535 to-port 0-1023"},
		{Selector{From: Me(), To: Any(), Protocol: 200, HasProtocol: true}, "from me to any protocol 200"},
		{Selector{From: Me(), To: Any(), Protocol: 1, HasProtocol: true, ICMP: ICMP{Type: 8, HasType: true}, Connection: Connection{Kind: ConnectionLAN}},
			"from me to any protocol icmp icmp-type echo-request connection lan"},
		{Selector{From: Any(), To: Me(), Protocol: 58, HasProtocol: true, ICMP: ICMP{Type: 1, HasType: true, Code: 4, HasCode: true}, Connection: Connection{ConnectionInterface, "eth0"}},
			"from any to me protocol icmpv6 icmp-type destination-unreachable icmp-code 4 connection eth0"},
	} {
		if got := tt.s.String(); got != tt.want {
			t.Errorf("String() = %q, want %q", got, tt.want)
		}
	}
}

// Each selector is heavier than the next.
func TestWeightOrder(t *testing.T) {
	https := PortRange{443, 443}
	on := func(s Selector, kind ConnectionKind, name string) Selector {
		s.Connection = Connection{kind, name}
		return s
	}
	echo := Selector{From: Any(), To: Me(), Protocol: 1, HasProtocol: true, ICMP: ICMP{Type: 8, HasType: true}}
	echo0 := echo
	echo0.ICMP.HasCode = true
	order := []Selector{
		tcp(Address(addr("10.1.0.5")), Me(), https, https),
		tcp(Address(addr("10.1.0.5")), Me(), PortRange{}, https),
		tcp(Address(addr("10.1.0.5")), Me(), PortRange{}, PortRange{440, 447}),
		tcp(Address(addr("10.1.0.5")), Me(), PortRange{}, PortRange{440, 448}),
		{From: Address(addr("10.1.0.5")), To: Me(), Protocol: 6, HasProtocol: true},
		{From: Address(addr("10.1.0.5")), To: Me()},
		{From: Range(addr("10.1.0.1"), addr("10.1.0.9")), To: Me()},
		tcp(subnet("10.1.0.0/16"), Me(), PortRange{}, https),
		{From: subnet("10.1.0.0/16"), To: Me(), Protocol: 1, HasProtocol: true},
		{From: subnet("10.1.0.0/16"), To: Me()},
		{From: subnet("2001:db8::/48"), To: Me()},
		tcp(Any(), Me(), https, https),
		tcp(Any(), Me(), PortRange{}, https),
		on(tcp(Any(), Me(), PortRange{}, PortRange{440, 447}), ConnectionInterface, "eth0"),
		echo,
		on(Selector{From: Any(), To: Me()}, ConnectionInterface, "eth0"),
		on(Selector{From: Any(), To: Me()}, ConnectionLAN, ""),
		{From: Any(), To: Me()},
		{From: subnet("10.1.0.0/16"), To: Any()},
		{From: Any(), To: Any()},
	}
	for i := range order[1:] {
		if a, b := order[i], order[i+1]; a.weight() <= b.weight() {
			t.Errorf("%v weighs %d, not more than the %d of %v", a, a.weight(), b.weight(), b)
		}
	}
	if echo0.weight() <= echo.weight() {
		t.Errorf("an ICMP code adds nothing to the weight %d", echo.weight())
	}
	if a, b := (Selector{From: subnet("10.1.0.0/16"), To: Me()}), (Selector{From: subnet("2001:db8::/112"), To: Me()}); a.weight() != b.weight() {
		t.Errorf("an IPv4 /16 weighs %d, an IPv6 /112 %d; want the same", a.weight(), b.weight())
	}
}

func TestWords(t *testing.T) {
	for _, tt := range []struct {
		got, want string
	}{
		{Permit.String(), "permit"}, {Block.String(), "block"}, {Negotiate.String(), "negotiate"}, {Action(0).String(), "invalid action"},
		{Outbound.String(), "outbound"}, {Inbound.String(), "inbound"}, {Direction(0).String(), "invalid direction"},
		{ProtocolName(6), "tcp"}, {ProtocolName(58), "icmpv6"}, {ProtocolName(222), "222"}, {PortRange{}.String(), "any"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	for _, name := range ProtocolKeywords() {
		if n, ok := ProtocolNumber(name); !ok || ProtocolName(n) != name {
			t.Errorf("protocol %q has number %d, whose name is %q", name, n, ProtocolName(n))
		}
	}
}
