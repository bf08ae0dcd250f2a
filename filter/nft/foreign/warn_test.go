package foreign

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

func TestWarnings(t *testing.T) {
	a := newArena(t)
	a.command("nft", "-f", "testdata/firewalld.nft")
	tables, err := Read("ipsecfw")
	must(t, err)
	host := Host{
		Addresses:  []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		Interfaces: []Interface{a.own, a.in},
		Mark:       1,
	}
	subnet := func(s string) filter.Side { return filter.Subnet(netip.MustParsePrefix(s)) }
	permit := func(from, to filter.Side, protocol uint8, lo, hi uint16) filter.Entry {
		return filter.Entry{Name: "r", List: "l", Action: filter.Permit, Mirrored: true, Selector: filter.Selector{
			From: from, To: to, Protocol: protocol, HasProtocol: protocol != 0, ToPort: filter.PortRange{Lo: lo, Hi: hi}}}
	}
	any, me := filter.Any(), filter.Me()
	with := func(e filter.Entry, change func(*filter.Entry)) filter.Entry {
		change(&e)
		return e
	}
	negotiate := permit(any, me, packet.TCP, 5432, 5432)
	negotiate.Action = filter.Negotiate
	tests := []struct {
		name    string
		entries []filter.Entry
		want    []string // what each warning has in it
	}{
		{"a service that is open", []filter.Entry{permit(any, me, packet.TCP, 22, 22)}, nil},
		{"a service that is not", []filter.Entry{permit(any, me, packet.TCP, 80, 80)},
			[]string{`rule "r", filter 1 of list "l": another table drops it inbound, as in tcp 192.0.2.1 to 10.0.0.1 port 80: table inet firewalld, chain filter_INPUT, rule with handle`}},
		{"the lowest port of a range", []filter.Entry{permit(any, me, packet.TCP, 8000, 9000)}, nil},
		{"all of IP", []filter.Entry{permit(any, me, 0, 0, 0)}, []string{"inbound, as in tcp 192.0.2.1 to 10.0.0.1 port 1:"}},
		{"from a subnet that is denied", []filter.Entry{permit(subnet("198.51.100.0/24"), me, packet.TCP, 22, 22)},
			[]string{"tcp 198.51.100.0 to 10.0.0.1 port 22: table inet firewalld, chain in_public_deny"}},
		{"from a subnet that is trusted", []filter.Entry{permit(subnet("10.9.1.0/24"), me, packet.TCP, 80, 80)}, nil},
		{"answers to what the host asks", []filter.Entry{permit(me, any, packet.TCP, 443, 443)}, nil},
		{"answers, stateful", []filter.Entry{with(permit(me, any, packet.TCP, 443, 443), func(e *filter.Entry) { e.Stateful = true })}, nil},
		{"on another interface", []filter.Entry{with(permit(any, me, packet.UDP, 500, 500), func(e *filter.Entry) {
			e.Selector.Connection = filter.Connection{Kind: filter.ConnectionInterface, Name: "docker0"}
		})}, nil}, // it is exempt
		{"an interface that nobody knows", []filter.Entry{with(permit(any, me, packet.TCP, 80, 80), func(e *filter.Entry) {
			e.Selector.Connection = filter.Connection{Kind: filter.ConnectionInterface, Name: "eth7"}
		})}, []string{"port 80"}},
		{"blocked by ourselves", []filter.Entry{permit(any, me, packet.TCP, 80, 80),
			with(permit(any, me, packet.TCP, 80, 80), func(e *filter.Entry) { e.Action = filter.Block })}, nil},
		{"one warning for a generic filter", []filter.Entry{permit(subnet("198.51.100.4/32"), me, packet.TCP, 22, 22), permit(subnet("198.51.100.7/32"), me, packet.TCP, 22, 22)},
			[]string{"198.51.100.4"}},
		{"to an address that is refused", []filter.Entry{permit(me, subnet("2002::/16"), packet.TCP, 443, 443)}, []string{"outbound, as in tcp fd00::1 to 2002:: port 443"}},
		{"forwarded one way at least", []filter.Entry{with(permit(any, any, packet.TCP, 80, 80), func(e *filter.Entry) { e.Forward, e.Mirrored = true, false })}, nil},
		{"ping", []filter.Entry{permit(any, me, packet.ICMP, 0, 0)}, nil},
		{"IKE and ESP are open", []filter.Entry{negotiate}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := filter.New(tt.entries, filter.Settings{})
			must(t, err)
			check(t, Warnings(s, tables, host), tt.want)
		})
	}

	rules, err := os.ReadFile("testdata/firewalld.nft")
	must(t, err)
	closed := strings.ReplaceAll(strings.ReplaceAll(string(rules), "udp dport { 500, 4500 } accept", ""), "esp accept", "esp counter")
	a.command("nft", "flush ruleset; "+closed)
	shut, err := Read("ipsecfw")
	must(t, err)
	t.Run("IKE and ESP are closed", func(t *testing.T) {
		s, err := filter.New([]filter.Entry{negotiate}, filter.Settings{})
		must(t, err)
		check(t, Warnings(s, shut, host), []string{
			"IKE, which the policy needs: another table drops it inbound, as in udp 192.0.2.1 to 10.0.0.1 port 500: table inet firewalld, chain filter_INPUT",
			"ESP, which the policy needs: another table drops it inbound, as in esp 192.0.2.1 to 10.0.0.1: table inet firewalld, chain filter_INPUT",
		})
	})

	t.Run("at most 20", func(t *testing.T) {
		var entries []filter.Entry
		for i := range 2000 {
			entries = append(entries, with(permit(any, me, packet.TCP, uint16(10000+i), uint16(10000+i)), func(e *filter.Entry) { e.Index = i }))
		}
		s, err := filter.New(entries, filter.Settings{})
		must(t, err)
		if n := len(Warnings(s, tables, host)); n != maxWarnings {
			t.Errorf("%d warnings", n)
		}
		if n := len(Warnings(s, Tables{}, host)); n != 0 {
			t.Errorf("%d warnings without any table", n)
		}
	})
}

func check(t *testing.T, got []Warning, want []string) {
	t.Helper()
	ok := slices.EqualFunc(got, want, func(w Warning, part string) bool { return strings.Contains(w.String(), part) })
	if !ok {
		t.Errorf("warnings %v\nwant %q", got, want)
	}
}
