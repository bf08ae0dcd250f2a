package foreign

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// What other tables do to what filters that negotiate let pass, and to peers
// that no policy names.
func TestSecured(t *testing.T) {
	host := Host{
		Addresses:  []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		Interfaces: []Interface{{Name: "eth0"}, {Name: "eth1"}},
		Mark:       2,
	}
	engine := Engine{Device: Interface{Name: "engine0", Type: 0xfffe}, Mark: 1}
	subnet := func(s string) filter.Side { return filter.Subnet(netip.MustParsePrefix(s)) }
	service := filter.Entry{Name: "r", List: "l", Action: filter.Negotiate, Mirrored: true, Selector: filter.Selector{
		From: subnet("10.0.0.0/24"), To: filter.Me(), Protocol: packet.TCP, HasProtocol: true, ToPort: filter.PortRange{Lo: 443, Hi: 443}}}
	sites := filter.Entry{Name: "r", List: "l", Action: filter.Negotiate, Mirrored: true, Forward: true,
		Selector: filter.Selector{From: subnet("10.1.0.0/24"), To: subnet("10.2.0.0/24")}}
	permitted := service
	permitted.Action = filter.Permit
	tests := []struct {
		name, rules                  string
		entry                        filter.Entry
		needs, secured, translations []string // what each warning has in it
	}{
		{"no table", "table inet x { }", service, nil, nil, nil},
		{"a port that is closed", `table inet x { chain c { type filter hook input priority 0; policy drop; udp dport { 500, 4500 } accept; meta l4proto esp accept; tcp dport 22 accept; } }`,
			service, nil, []string{"another table drops it inbound, as in tcp 10.0.0.0 to 10.0.0.1 port 443: table inet x, chain c, by its policy"}, nil},
		{"a port that is open on the wire only", `table inet x { chain c { type filter hook input priority 0; iifname "eth0" accept; drop; } }`,
			service, nil, []string{"inbound"}, nil},
		{"a port that is open for our device", `table inet x { chain c { type filter hook input priority 0; policy drop; iifname "engine0" meta mark 1 accept; } }`,
			service, []string{"IKE", "ESP"}, nil, nil},
		{"a filter that does not negotiate", `table inet x { chain c { type filter hook input priority 0; tcp dport 443 drop; } }`, permitted, nil, nil, nil},
		{"the way out is closed", `table ip x { chain c { type filter hook output priority 0; tcp sport 443 drop; meta l4proto esp meta mark 2 drop; } }`,
			service, []string{"ESP, which the policy needs: another table drops it outbound"}, []string{"outbound"}, nil},
		{"nothing is passed on", `table ip x { chain c { type filter hook forward priority 0; policy drop; } }`, sites, nil, []string{"forward"}, nil},
		{"nothing from our device is passed on", `table ip x { chain c { type filter hook forward priority 0; iifname "engine0" drop; } }`, sites, nil, []string{"forward"}, nil},
		{"masquerade", `table ip x { chain c { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; } }`, sites, nil, nil,
			[]string{"another table gives it another source forward"}},
		{"masquerade of others", `table ip x { chain c { type nat hook postrouting priority srcnat; ip saddr 10.1.0.0/24 ip daddr 10.2.0.0/24 accept; oifname "eth0" ip saddr 10.1.0.0/24 masquerade; } }`, sites, nil, nil, nil},
		{"masquerade that depends", `table ip x { chain c { type nat hook postrouting priority srcnat; meta skuid 7 masquerade; } }`, sites, nil, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newArena(t)
			file := filepath.Join(t.TempDir(), "rules.nft")
			// nft wants a line's end after a chain.
			must(t, os.WriteFile(file, []byte(strings.TrimSuffix(tt.rules, "}")+"\n}\n"), 0o600))
			a.command("nft", "-f", file)
			tables, err := Read("ipsecfw")
			must(t, err)
			s, err := filter.New([]filter.Entry{tt.entry}, filter.Settings{})
			must(t, err)
			for _, x := range []struct {
				what string
				got  []Warning
				want []string
			}{{"needs", Needs(tables, host), tt.needs}, {"secured", Secured(s, tables, host, engine), tt.secured}, {"translations", Translations(s, tables, host), tt.translations}} {
				if len(x.got) != len(x.want) || slices.ContainsFunc(x.want, func(s string) bool {
					return !slices.ContainsFunc(x.got, func(w Warning) bool { return strings.Contains(w.String(), s) })
				}) {
					t.Errorf("%s are %v, want %q", x.what, x.got, x.want)
				}
			}
		})
	}
}
