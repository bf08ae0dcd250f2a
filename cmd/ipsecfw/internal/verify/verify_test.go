package verify

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/rules"
)

// policyOf reads a rule file of the given sections. Names in it stand for the
// addresses of a small network.
func policyOf(t *testing.T, sections string) *Policy {
	t.Helper()
	f, err := rules.Parse("f.yaml", []byte("version: 1\nname: test\n"+sections))
	if err != nil {
		t.Fatal(err)
	}
	p := &Policy{Files: []*rules.File{f}, Addresses: rules.Addresses{
		Names:      map[string][]netip.Addr{"db.example": {netip.MustParseAddr("10.3.0.1"), netip.MustParseAddr("10.3.0.2")}},
		DNSServers: []netip.Addr{netip.MustParseAddr("10.9.0.53")},
	}}
	if p.SPD, err = filter.New(f.Entries(p.Addresses), filter.Settings{Exemptions: f.Exemptions}); err != nil {
		t.Fatal(err)
	}
	return p
}

// lines compares what was found with what should be, a line each.
func lines(t *testing.T, got string, want ...string) {
	t.Helper()
	if w := strings.Join(want, "\n"); got != w {
		t.Errorf("got\n%s\nwant\n%s", got, w)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

const key = "authentication: [{preshared-key: {file: psk}}]"

func TestContradictions(t *testing.T) {
	for _, tt := range []struct {
		name     string
		sections string
		want     []string
	}{
		{"permit and block", `filter-lists:
  a: [{from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 443}]
  b: [{from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 443, mirrored: false}]
rules:
  - {name: a, filter-list: a, action: permit}
  - {name: b, filter-list: b, action: block}
`, []string{`f.yaml:4:7: filter 1 of list "a" of rule "a" and filter 1 of list "b" of rule "b" at f.yaml:5:7 weigh the same and do different things (permit, block) with the same packets: inbound from 10.1.0.0/16 to me protocol tcp to-port 443; for example inbound on eth0, new: tcp from 10.1.0.1:40000 to 198.51.100.1:443; make one of the two more specific`}},
		{"sides that cross", `filter-lists:
  a: [{from: 10.1.2.0/24, to: any, mirrored: false}]
  b: [{from: any, to: 10.2.3.0/24, mirrored: false}]
rules:
  - {name: a, filter-list: a, action: permit, path: forward}
  - {name: b, filter-list: b, action: block, path: forward}
`, []string{`f.yaml:4:7: filter 1 of list "a" of rule "a" and filter 1 of list "b" of rule "b" at f.yaml:5:7 weigh the same and do different things (permit, block) with the same packets: forward from 10.1.2.0/24 to 10.2.3.0/24; for example forward on eth0, new: tcp from 10.1.2.1:40000 to 10.2.3.1:443; make one of the two more specific`}},
		{"a heavier filter decides", `filter-lists:
  a: [{from: 10.1.2.0/24, to: any, mirrored: false}]
  b: [{from: any, to: 10.2.3.0/24, mirrored: false}]
  c: [{from: 10.1.2.0/24, to: 10.2.3.0/24}]
rules:
  - {name: a, filter-list: a, action: permit, path: forward}
  - {name: b, filter-list: b, action: block, path: forward}
  - {name: c, filter-list: c, action: block, path: forward}
`, nil},
		{"stateful weighs more", `filter-lists:
  a: [{from: 10.1.2.0/24, to: me, stateful: true}]
  b: [{from: 10.1.2.0/24, to: me}]
rules:
  - {name: a, filter-list: a, action: permit}
  - {name: b, filter-list: b, action: block}
`, nil},
		{"only one logs", `filter-lists:
  a: [{from: 10.1.2.0/24, to: me, log: true}]
  b: [{from: 10.1.2.0/24, to: me}]
rules:
  - {name: a, filter-list: a, action: permit}
  - {name: b, filter-list: b, action: permit}
`, nil},
		{"limits", `filter-lists:
  a: [{from: 10.1.2.0/24, to: me, mirrored: false, limit: {rate: 5/second, burst: 7}}]
  b: [{from: 10.1.2.0/24, to: me, mirrored: false}]
rules:
  - {name: a, filter-list: a, action: permit}
  - {name: b, filter-list: b, action: permit}
`, []string{`f.yaml:4:7: filter 1 of list "a" of rule "a" and filter 1 of list "b" of rule "b" at f.yaml:5:7 weigh the same and do different things (permit at most 5/second, 7 at once, permit) with the same packets: inbound from 10.1.2.0/24 to me; for example inbound on eth0, new: tcp from 10.1.2.1:40000 to 198.51.100.1:443; make one of the two more specific`}},
		{"drop and reject", `filter-lists:
  a: [{from: 10.1.2.3, to: me, mirrored: false}]
filter-actions:
  refuse: {block: {reject: true}}
rules:
  - {name: a, filter-list: a, action: refuse}
  - {name: b, filter-list: a, action: block}
`, []string{`f.yaml:4:7: filter 1 of list "a" of rule "a" and filter 1 of list "a" of rule "b" at f.yaml:4:7 weigh the same and do different things (reject, block) with the same packets: inbound from 10.1.2.3 to me; for example inbound on eth0, new: tcp from 10.1.2.3:40000 to 198.51.100.1:443; make one of the two more specific`}},
		{"two rules that negotiate", `filter-lists:
  a: [{from: 10.1.2.3, to: me, mirrored: false}]
rules:
  - {name: a, filter-list: a, action: require-security, ` + key + `}
  - {name: b, filter-list: a, action: require-security, ` + key + `}
`, []string{`f.yaml:4:7: filter 1 of list "a" of rule "a" and filter 1 of list "a" of rule "b" at f.yaml:4:7 weigh the same and do different things (negotiate by rule "a", negotiate by rule "b") with the same packets: inbound from 10.1.2.3 to me; for example inbound on eth0, new: tcp from 10.1.2.3:40000 to 198.51.100.1:443; make one of the two more specific`}},
		{"other interfaces", `filter-lists:
  a: [{from: 10.1.2.3, to: me}]
rules:
  - {name: a, filter-list: a, action: permit, connection: lan}
  - {name: b, filter-list: a, action: block, connection: remote}
`, nil},
		{"a name stands for what a filter names", `filter-lists:
  a: [{from: {dns: db.example}, to: me, mirrored: false}]
  b: [{from: 10.3.0.2, to: me, mirrored: false}]
rules:
  - {name: a, filter-list: a, action: permit}
  - {name: b, filter-list: b, action: block}
`, []string{`f.yaml:4:7: filter 1 of list "a" of rule "a" and filter 1 of list "b" of rule "b" at f.yaml:5:7 weigh the same and do different things (permit, block) with the same packets: inbound from 10.3.0.2 to me; for example inbound on eth0, new: tcp from 10.3.0.2:40000 to 198.51.100.1:443; make one of the two more specific`}},
	} {
		t.Run(tt.name, func(t *testing.T) { lines(t, text(policyOf(t, tt.sections).Errors()), tt.want...) })
	}
}

func TestAssertions(t *testing.T) {
	const policy = `filter-lists:
  web: [{from: any, to: me, protocol: tcp, to-port: 443}]
  sql: [{from: 10.2.0.0/16, to: me, protocol: tcp, to-port: 5432}]
  soft: [{from: 10.3.0.0/16, to: me, protocol: tcp, to-port: 5432}]
  rest: [{from: any, to: me}]
rules:
  - {name: web, filter-list: web, action: permit}
  - {name: sql, filter-list: sql, action: require-security, ` + key + `}
  - {name: soft, filter-list: soft, action: request-security, ` + key + `}
  - {name: rest, filter-list: rest, action: block}
assert:
  - `
	for _, tt := range []struct {
		name, assert string
		want         []string
	}{
		{"secured", "{from: 10.2.0.0/16, to: me, protocol: tcp, to-port: 5432, always: secured}", nil},
		{"never clear", "{from: 10.2.0.0/16, to: me, protocol: tcp, to-port: 5432, never: clear}", nil},
		{"blocked", "{from: any, to: me, protocol: tcp, to-port: 22, always: blocked}", nil},
		{"clear", "{from: any, to: me, protocol: tcp, to-port: 443, always: clear}", nil},
		{"nothing that a name stands for", "{from: {dns: none.example}, to: me, always: secured}", nil},
		{"requested security may be none", "{from: any, to: me, protocol: tcp, to-port: 5432, mirrored: false, never: clear}",
			[]string{`f.yaml:14:5: the assertion never clear does not hold: inbound on eth0, new: tcp from 10.3.0.1:40000 to 198.51.100.1:5432: negotiate: f.yaml:6:10: rule "soft", filter 1 of list "soft" (from 10.3.0.0/16 to me protocol tcp to-port 5432) is the most specific filter that matches, of weight 246400`}},
		{"described", "{from: any, to: me, mirrored: false, always: blocked, description: nothing comes in}",
			[]string{`f.yaml:14:5: the assertion always blocked (nothing comes in) does not hold: inbound on eth0, new: tcp from 10.2.0.1:40000 to 198.51.100.1:5432: negotiate: f.yaml:5:9: rule "sql", filter 1 of list "sql" (from 10.2.0.0/16 to me protocol tcp to-port 5432) is the most specific filter that matches, of weight 246400`}},
		{"no filter matches", "{from: any, to: any, path: forward, mirrored: false, never: clear}",
			[]string{`f.yaml:14:5: the assertion never clear does not hold: forward on eth0, new: tcp from 192.0.2.1:40000 to 198.51.100.1:443: permit: no filter matches`}},
	} {
		t.Run(tt.name, func(t *testing.T) { lines(t, text(policyOf(t, policy+tt.assert+"\n").Errors()), tt.want...) })
	}
}

func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		name     string
		sections string
		want     []string
	}{
		{"nothing", `filter-lists:
  a: [{from: 10.1.2.0/24, to: me}]
rules:
  - {name: a, filter-list: a, action: permit}
`, nil},
		{"unused and disabled", `filter-lists:
  a: [{from: 10.1.2.0/24, to: me}]
  b: [{from: 10.2.2.0/24, to: me}]
rules:
  - {name: a, filter-list: a, action: permit}
  - {name: b, filter-list: b, action: permit, enabled: false}
`, []string{`f.yaml:5:3: warning: no enabled rule uses the filter list "b"; remove it, or write an enabled rule that uses it`}},
		{"dead", `filter-lists:
  a: [{from: 10.1.2.0/24, to: me, protocol: tcp, to-port: 22}]
  b: [{from: 10.1.2.0/25, to: me, protocol: tcp}, {from: 10.1.2.128/25, to: me, protocol: tcp}]
rules:
  - {name: a, filter-list: a, action: permit}
  - {name: b, filter-list: b, action: permit}
`, []string{`f.yaml:4:7: warning: filter 1 of list "a" of rule "a" never decides: other filters take all of its packets, f.yaml:5:7 (filter 1 of list "b"), f.yaml:5:51 (filter 2 of list "b"); remove it, or make it more specific`}},
		{"exempt", `exemptions: 0
filter-lists:
  a: [{from: any, to: me, protocol: rsvp}]
rules:
  - {name: a, filter-list: a, action: block}
`, []string{`f.yaml:5:7: warning: filter 1 of list "a" of rule "a" never decides: its packets are exempt; remove it, or choose other exemptions`}},
		{"other proofs", `filter-lists:
  a: [{from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 1}]
  b: [{from: me, to: 10.1.2.0/24, protocol: tcp, to-port: 2}]
rules:
  - {name: a, filter-list: a, action: require-security, ` + key + `}
  - {name: b, filter-list: b, action: require-security, authentication: [{preshared-key: {file: other}}]}
`, []string{`f.yaml:7:5: warning: rule "a" wants other proofs of the peers 10.1.2.0/24 than rule "b" at f.yaml:8:5, whose filter is asked first: a peer authenticates once, and gets no SA by this rule unless it proves what both want; give both the same authentication, peer-id and peers`}},
		{"the same proofs", `filter-lists:
  a: [{from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 1}]
  b: [{from: me, to: 10.1.2.0/24, protocol: tcp, to-port: 2}]
rules:
  - {name: a, filter-list: a, action: require-security, ` + key + `}
  - {name: b, filter-list: b, action: require-security, ` + key + `}
`, nil},
		{"other proofs of other peers", `filter-lists:
  a: [{from: 10.1.0.0/16, to: me}]
  b: [{from: 10.2.0.0/16, to: me}]
  c: [{from: "fd00::/8", to: me}]
rules:
  - {name: a, filter-list: a, action: require-security, ` + key + `}
  - {name: b, filter-list: b, action: require-security, authentication: [{preshared-key: {file: b}}]}
  - {name: c, filter-list: c, action: require-security, authentication: [{preshared-key: {file: c}}]}
`, nil},
		{"other proofs of a tunnel's peer", `filter-lists:
  a: [{from: 10.1.0.0/16, to: me}]
  b: [{from: 10.2.0.0/16, to: 10.7.0.0/16}]
filter-actions:
  tunnel: {negotiate: {mode: tunnel, tunnel: {local: 10.1.0.1, remote: 10.1.0.2}}}
rules:
  - {name: a, filter-list: a, action: require-security, ` + key + `}
  - {name: b, filter-list: b, action: tunnel, peer-id: gw.example, path: forward, ` + key + `}
`, []string{`f.yaml:10:5: warning: rule "b" wants other proofs of the peers 10.1.0.2 than rule "a" at f.yaml:9:5, whose filter is asked first: a peer authenticates once, and gets no SA by this rule unless it proves what both want; give both the same authentication, peer-id and peers`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines(t, strings.Join(policyOf(t, tt.sections).Warnings(), "\n"), tt.want...)
		})
	}
}
