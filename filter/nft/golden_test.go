package nft

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
)

var update = flag.Bool("update", false, "write what the rulesets are to testdata")

// One filter of each option.
func options(t testing.TB) *filter.SPD {
	entry := func(name string, action filter.Action, o filter.Options, s filter.Selector) filter.Entry {
		return filter.Entry{Name: name, Mirrored: true, Action: action, Options: o, Selector: s}
	}
	tcp := func(from filter.Side, port uint16) filter.Selector {
		return filter.Selector{From: from, To: filter.Me(), Protocol: 6, HasProtocol: true, ToPort: filter.PortRange{Lo: port, Hi: port}}
	}
	lan := tcp(subnet("10.0.0.0/8"), 445)
	lan.Connection.Kind = filter.ConnectionLAN
	vpn := tcp(subnet("10.0.0.0/8"), 445)
	vpn.Connection = filter.Connection{Kind: filter.ConnectionInterface, Name: "ppp0"}
	browse := entry("browse", filter.Permit, filter.Options{}, filter.Selector{From: filter.Me(), To: subnet("0.0.0.0/0"), Protocol: 6, HasProtocol: true, ToPort: filter.PortRange{Lo: 443, Hi: 443}})
	browse.Stateful = true
	site := entry("site", filter.Negotiate, filter.Options{}, filter.Selector{From: subnet("10.1.0.0/16"), To: subnet("10.2.0.0/16")})
	site.Forward = true
	s, err := filter.New([]filter.Entry{
		browse, site,
		entry("files", filter.Permit, filter.Options{}, lan),
		entry("remote files", filter.Block, filter.Options{Reject: true, Log: true}, vpn),
		entry("ask", filter.Negotiate, filter.Options{AcceptUnsecured: true, AllowUnsecured: true}, tcp(subnet("10.3.0.0/16"), 80)),
		entry("demand", filter.Negotiate, filter.Options{AllowUnsecured: true}, tcp(subnet("10.4.0.0/16"), 80)),
		entry("ping", filter.Permit, filter.Options{Limit: filter.Limit{Packets: 5, Per: filter.PerSecond, Burst: 10}}, filter.Selector{
			From: subnet("0.0.0.0/0"), To: filter.Me(), Protocol: 1, HasProtocol: true, ICMP: filter.ICMP{Type: 8, HasType: true}}),
	}, filter.Settings{Exemptions: filter.Exemptions{Multicast: true, RSVP: true, Kerberos: true}})
	must(t, err)
	return s
}

func TestGolden(t *testing.T) {
	full := testConfig
	full.Count, full.DefaultResponse, full.LogGroup = true, true, 7
	full.Soft = []SoftPeer{{netip.MustParseAddr("10.4.0.1"), time.Minute}, {netip.MustParseAddr("10.4.0.1"), time.Minute}}
	full.Response = []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	poor := testConfig
	poor.Features = Features{NativeQueue: true}
	poor.Broadcasts = []netip.Addr{netip.MustParseAddr("10.0.0.255"), netip.MustParseAddr("10.0.0.255")}
	dhcp := filter.Entry{Name: "ssh", Mirrored: true, Action: filter.Permit, Selector: filter.Selector{
		From: filter.Any(), To: filter.Me(), Protocol: 6, HasProtocol: true, ToPort: filter.PortRange{Lo: 22, Hi: 22}}}
	boot, err := CompileBoot(BootStateful, []filter.Entry{dhcp}, payroll(t), testConfig)
	must(t, err)
	for _, tt := range []struct {
		file string
		rs   Ruleset
	}{
		{"payroll.nft", Compile(payroll(t), testConfig)},
		{"options.nft", Compile(options(t), full)},
		{"two-tables.nft", Compile(payroll(t), poor)},
		{"boot.nft", boot},
	} {
		t.Run(tt.file, func(t *testing.T) {
			path, got := filepath.Join("testdata", tt.file), tt.rs.String()
			if *update {
				must(t, os.WriteFile(path, []byte(got), 0o644))
			}
			want, err := os.ReadFile(path)
			must(t, err)
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
