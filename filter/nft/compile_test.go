package nft

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
)

var testConfig = Config{Interface: "ipsecfw0", InMark: 0x49500000, OutMark: 0x49500001, Queue: 4950, TCPQueue: 4951}

func mustSPD(t testing.TB, entries ...filter.Entry) *filter.SPD {
	t.Helper()
	s, err := filter.New(entries, 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func subnet(s string) filter.Side { return filter.Subnet(netip.MustParsePrefix(s)) }

func address(s string) filter.Side { return filter.Address(netip.MustParseAddr(s)) }

// The policy of the payroll server.
func payroll(t testing.TB) *filter.SPD {
	return mustSPD(t,
		filter.Entry{Name: "dns", Mirrored: true, Action: filter.Permit, Selector: filter.Selector{
			From: filter.Me(), To: address("10.9.0.53"), Protocol: 17, HasProtocol: true, ToPort: filter.PortRange{Lo: 53, Hi: 53}}},
		filter.Entry{Name: "staff", Mirrored: true, Action: filter.Negotiate, Selector: filter.Selector{
			From: subnet("10.1.0.0/16"), To: filter.Me(), Protocol: 6, HasProtocol: true, ToPort: filter.PortRange{Lo: 8443, Hi: 8443}}},
		filter.Entry{Name: "rest", Mirrored: true, Action: filter.Block, Selector: filter.Selector{
			From: filter.Any(), To: filter.Me()}},
	)
}

func TestCompilePayroll(t *testing.T) {
	want, err := os.ReadFile("testdata/payroll.nft")
	if err != nil {
		t.Fatal(err)
	}
	if got := Compile(payroll(t), testConfig).String(); got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

var _ = strings.Contains
