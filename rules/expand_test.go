package rules

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
)

// policyOf returns a rule file with one list, "a", of the filters, one for
// each line, and the rules and other keys that are given.
func policyOf(t testing.TB, filters, more string) *File {
	t.Helper()
	src := "version: 1\nname: test\nfilter-lists:\n  a:\n"
	for _, line := range strings.Split(filters, "\n") {
		src += "    - " + line + "\n"
	}
	return mustParse(t, "t.yaml", []byte(src+more+"\n"))
}

const blockAll = "rules: [{name: a, filter-list: a, action: block}]"

func addresses(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// selectorTexts writes entries as their selectors.
func selectorTexts(entries []filter.Entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Selector.String())
	}
	return out
}

func TestEntriesExpand(t *testing.T) {
	const sets = "address-sets: {in: [10.0.0.1, \"fd00::1\"], out: [{set: in}, 10.0.0.2, {dns: b.example}], dyn: [dns-servers]}\n"
	a := Addresses{
		Names: map[string][]netip.Addr{
			"a.example": addresses("192.0.2.1", "2001:db8::1", "192.0.2.1", "::ffff:192.0.2.9", "224.0.0.1", "255.255.255.255", "0.0.0.0"),
			"b.example": addresses("192.0.2.2"),
		},
		DNSServers:      addresses("192.0.2.53", "fe80::53%eth0"),
		DHCPServers:     addresses("192.0.2.67"),
		DefaultGateways: []netip.Addr{{}, netip.MustParseAddr("fe80::1")},
	}
	for _, tt := range []struct{ name, filter, want string }{
		{"fixed", "{from: any, to: me}", "from any to me"},
		{"a list", "{from: [10.0.0.1, 10.0.1.0/24], to: me}", "from 10.0.0.1 to me, from 10.0.1.0/24 to me"},
		{"two lists", "{from: [10.0.0.1, 10.0.0.2], to: [10.0.0.3, 10.0.0.4]}",
			"from 10.0.0.1 to 10.0.0.3, from 10.0.0.1 to 10.0.0.4, from 10.0.0.2 to 10.0.0.3, from 10.0.0.2 to 10.0.0.4"},
		{"a set", "{from: {set: in}, to: me}", "from 10.0.0.1 to me, from fd00::1 to me"},
		{"sets in sets, once each", "{from: [{set: out}, {set: in}, 10.0.0.2], to: me}",
			"from 10.0.0.1 to me, from fd00::1 to me, from 10.0.0.2 to me, from 192.0.2.2 to me"},
		{"families", "{from: {set: in}, to: 10.0.0.9}", "from 10.0.0.1 to 10.0.0.9"},
		{"family of the protocol", "{from: {set: in}, to: any, protocol: icmpv6}", "from fd00::1 to any protocol icmpv6"},
		{"family of the other protocol", "{from: {set: in}, to: any, protocol: icmp}", "from 10.0.0.1 to any protocol icmp"},
		{"me and me", "{from: [me, 10.0.0.1], to: [me, 10.0.0.2]}", "from me to 10.0.0.2, from 10.0.0.1 to me, from 10.0.0.1 to 10.0.0.2"},
		{"a name: no duplicates, unicast only", "{from: {dns: A.example}, to: me}",
			"from 192.0.2.1 to me, from 2001:db8::1 to me, from 192.0.2.9 to me"},
		{"a name that is not known", "{from: {dns: c.example}, to: me}", ""},
		{"dns-servers", "{from: me, to: dns-servers, protocol: udp, to-port: 53}",
			"from me to 192.0.2.53 protocol udp to-port 53, from me to fe80::53 protocol udp to-port 53"},
		{"dhcp-servers", "{from: dhcp-servers, to: me}", "from 192.0.2.67 to me"},
		{"default-gateway", "{from: me, to: default-gateway}", "from me to fe80::1"},
		{"a set of them", "{from: me, to: {set: dyn}}", "from me to 192.0.2.53, from me to fe80::53"},
		{"everything else", "{from: me, to: 10.0.0.1, protocol: sctp, from-port: 1-2, to-port: 3}", "from me to 10.0.0.1 protocol sctp from-port 1-2 to-port 3"},
		{"icmp", "{from: any, to: me, protocol: icmp, icmp-type: destination-unreachable, icmp-code: 4}", "from any to me protocol icmp icmp-type destination-unreachable icmp-code 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			entries := policyOf(t, tt.filter, sets+blockAll).Entries(a)
			if got := strings.Join(selectorTexts(entries), ", "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			for _, e := range entries {
				if e.Name != "a" || e.List != "a" || e.Index != 0 || e.Position != "t.yaml:5:7" || !e.Mirrored || e.Action != filter.Block {
					t.Errorf("entry %+v", e)
				}
			}
			if _, err := filter.New(entries, filter.Settings{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEntriesOptions(t *testing.T) {
	const psk = "authentication: [{preshared-key: {file: psk}}]"
	for _, tt := range []struct{ name, filter, rule, more, want string }{
		{"permit", "{from: any, to: me}", "action: permit", "", ""},
		{"reject", "{from: any, to: me}", "action: x", "filter-actions: {x: {block: {reject: true}}}", "reject"},
		{"request", "{from: any, to: me}", "action: request-security, " + psk, "", "accept allow"},
		{"require", "{from: any, to: me}", "action: require-security, " + psk, "", ""},
		{"accept", "{from: any, to: me}", "action: x, " + psk, "filter-actions: {x: {negotiate: {accept-unsecured: true}}}", "accept"},
		{"log and limit", "{from: any, to: me, log: true, limit: {rate: 3/hour, burst: 9}}", "action: permit", "", "log 3/hour+9"},
		{"stateful", "{from: me, to: any, stateful: true}", "action: permit", "", "stateful"},
		{"not mirrored", "{from: any, to: me, mirrored: false}", "action: block", "", "straight"},
		{"forward", "{from: any, to: 10.0.0.1}", "action: block, path: forward", "", "forward"},
		{"connection", "{from: any, to: me}", "action: block, connection: lan", "", "on lan"},
		{"several", "{from: any, to: me}", "action: block, connection: [eth0, remote]", "", "on eth0; on remote"},
		{"disabled", "{from: any, to: me}", "action: block, enabled: false", "", "nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := policyOf(t, tt.filter, tt.more+"\nrules: [{name: a, filter-list: a, "+tt.rule+"}]")
			entries := f.Entries(Addresses{})
			var got []string
			for _, e := range entries {
				var words []string
				add := func(is bool, word string) {
					if is {
						words = append(words, word)
					}
				}
				add(e.Options.Reject, "reject")
				add(e.Options.AcceptUnsecured, "accept")
				add(e.Options.AllowUnsecured, "allow")
				add(e.Options.Log, "log")
				if l := e.Options.Limit; l != (filter.Limit{}) {
					words = append(words, fmt.Sprintf("%d/%s+%d", l.Packets, l.Per, l.Burst))
				}
				add(e.Stateful, "stateful")
				add(!e.Mirrored, "straight")
				add(e.Forward, "forward")
				add(e.Selector.Connection != filter.Connection{}, "on "+e.Selector.Connection.String())
				got = append(got, strings.Join(words, " "))
			}
			if len(entries) == 0 {
				got = []string{"nothing"}
			}
			if got := strings.Join(got, "; "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if _, err := filter.New(entries, filter.Settings{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// A name never stands for more addresses than Parse counted.
func TestEntriesAreBounded(t *testing.T) {
	var many []netip.Addr
	for a := netip.MustParseAddr("10.0.0.1"); len(many) < 1000; a = a.Next() {
		many = append(many, a)
	}
	f := policyOf(t, "{from: {dns: a.example}, to: dns-servers}", blockAll)
	got := f.Entries(Addresses{Names: map[string][]netip.Addr{"a.example": many}, DNSServers: many})
	if len(got) != MaxAddresses*MaxAddresses {
		t.Errorf("%d entries, want %d", len(got), MaxAddresses*MaxAddresses)
	}
}

// Sets that name each other twice do not take time that grows with each.
func TestSetsInSets(t *testing.T) {
	sets := "address-sets:\n  s0: [10.0.0.1]\n"
	for i := range 200 {
		sets += fmt.Sprintf("  s%d: [{set: s%d}, 10.1.%d.0/24, {set: s%d}]\n", i+1, i, i, max(0, i-1))
		if i == 0 {
			sets = strings.Replace(sets, ", {set: s0}]", "]", 1)
		}
	}
	_, err := Parse("t.yaml", []byte("version: 1\nname: t\n"+sets+"filter-lists: {a: [{from: {set: s9}, to: me}, {from: {set: s200}, to: me}]}\n"+blockAll))
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), "pairs of sides") {
		t.Errorf("error %v", err)
	}
}

func TestNeedsAndUnused(t *testing.T) {
	f := mustParse(t, "t.yaml", []byte(`version: 1
name: test
address-sets:
  used: [{dns: b.example}, {set: inner}]
  inner: [default-gateway]
  idle: [{dns: idle.example}]
peers:
  friends: {units: [A]}
  strangers: {units: [B]}
filter-lists:
  a: [{from: {set: used}, to: [me, {dns: A.example.}]}]
  off: [{from: dhcp-servers, to: me}]
  idle: [{from: dns-servers, to: {dns: c.example}}]
filter-actions:
  idle: {negotiate: {}}
  off: {block: {}}
  answer: {negotiate: {}}
rules:
  - {name: a, filter-list: a, action: block}
  - {name: off, filter-list: off, action: off, enabled: false}
default-response:
  action: answer
  peers: friends
  authentication: [{certificate: {authority: a, own: b, key: c}}]
assert:
  - {from: {dns: d.example}, to: me, never: clear}
`))
	want := Needs{Names: []string{"a.example", "b.example", "d.example"}, DefaultGateways: true}
	if got := f.Needs(); !reflect.DeepEqual(got, want) {
		t.Errorf("needs %+v, want %+v", got, want)
	}
	var got []string
	for _, w := range f.Unused() {
		if w.Hint == "" {
			t.Errorf("no hint: %+v", w)
		}
		got = append(got, w.Position+" "+w.Text)
	}
	unused := []string{
		`t.yaml:6:3 no filter in force uses the address set "idle"`,
		`t.yaml:9:3 no enabled rule uses the peer group "strangers"`,
		`t.yaml:12:3 no enabled rule uses the filter list "off"`,
		`t.yaml:13:3 no enabled rule uses the filter list "idle"`,
		`t.yaml:15:3 no enabled rule uses the filter action "idle"`,
		`t.yaml:16:3 no enabled rule uses the filter action "off"`,
	}
	if !reflect.DeepEqual(got, unused) {
		t.Errorf("unused\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(unused, "\n"))
	}
}

func TestFilters(t *testing.T) {
	f := policyOf(t, "{from: [me, {dns: a.example}], to: default-gateway, log: true}\n{from: {set: s}, to: any}",
		"address-sets: {s: [10.0.0.1]}\nrules: [{name: x, filter-list: a, action: permit, connection: [lan, eth0]}, {name: off, filter-list: a, action: block, enabled: false}]")
	got := f.Filters()
	if len(got) != 2 {
		t.Fatalf("%d filters: %+v", len(got), got)
	}
	g := got[0]
	if g.Rule != "x" || g.List != "a" || g.Index != 0 || g.Position != "t.yaml:5:7" || g.From != "[me, {dns: a.example}]" || g.To != "default-gateway" ||
		!g.Filter.Log || fmt.Sprint(g.On) != "[lan eth0]" || g.Action != "permit" || g.Does != filter.Permit {
		t.Errorf("filter %+v", g)
	}
	if g := got[1]; g.From != "{set: s}" || g.To != "any" || g.Index != 1 {
		t.Errorf("filter %+v", g)
	}
}
