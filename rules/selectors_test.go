package rules

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
)

func TestTrafficSelectors(t *testing.T) {
	me4, me6 := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("2001:db8::1")
	both := []netip.Addr{me4, me6}
	net := func(s string) filter.Side { return filter.Subnet(netip.MustParsePrefix(s)) }
	staff := filter.Selector{From: net("10.1.0.0/16"), To: filter.Me(), Protocol: 6, HasProtocol: true, ToPort: filter.PortRange{Lo: 8443, Hi: 8443}}
	nets := filter.Selector{From: net("10.1.0.0/16"), To: net("10.2.0.0/16")}
	all := filter.Selector{From: filter.Any(), To: filter.Me()}
	ranges := filter.Selector{From: filter.Range(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9")), To: filter.Me(),
		Protocol: 17, HasProtocol: true, FromPort: filter.PortRange{Lo: 1024, Hi: 65535}}
	for _, tt := range []struct {
		name          string
		s             filter.Selector
		d             filter.Direction
		mirror        bool
		me            []netip.Addr
		local, remote string
	}{
		{"inbound", staff, filter.Inbound, false, both, "[10.1.0.1 tcp 8443]", "[10.1.0.0/16 tcp]"},
		{"the answers", staff, filter.Outbound, true, both, "[10.1.0.1 tcp 8443]", "[10.1.0.0/16 tcp]"},
		{"me on the far side", staff, filter.Outbound, false, both, "[]", "[]"},
		{"me on the far side, mirrored", staff, filter.Inbound, true, both, "[]", "[]"},
		{"no address of the family", staff, filter.Inbound, false, []netip.Addr{me6}, "[]", "[]"},
		{"no address", all, filter.Inbound, false, nil, "[]", "[]"},
		{"two subnets, outbound", nets, filter.Outbound, false, nil, "[10.1.0.0/16]", "[10.2.0.0/16]"},
		{"two subnets, inbound", nets, filter.Inbound, false, nil, "[10.2.0.0/16]", "[10.1.0.0/16]"},
		{"two subnets, outbound, mirrored", nets, filter.Outbound, true, nil, "[10.2.0.0/16]", "[10.1.0.0/16]"},
		{"any, both families", all, filter.Inbound, false, both, "[10.1.0.1 2001:db8::1]", "[0.0.0.0/0 ::/0]"},
		{"any, one family", all, filter.Inbound, false, []netip.Addr{me6}, "[2001:db8::1]", "[::/0]"},
		{"ranges", ranges, filter.Inbound, false, both, "[10.1.0.1 udp]", "[10.0.0.1-10.0.0.9 udp 1024-65535]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			local, remote := TrafficSelectors(tt.s, tt.d, tt.mirror, tt.me)
			if got := fmt.Sprint(local); got != tt.local {
				t.Errorf("local %s, want %s", got, tt.local)
			}
			if got := fmt.Sprint(remote); got != tt.remote {
				t.Errorf("remote %s, want %s", got, tt.remote)
			}
		})
	}
}
