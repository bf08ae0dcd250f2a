package verify

import (
	"strings"
	"testing"
)

// TestNetworks puts site-to-site tunnels together that fit, and that do not.
func TestNetworks(t *testing.T) {
	const actions = `filter-actions:
  to a: {negotiate: {mode: tunnel, tunnel: {local: 192.0.2.1, remote: 192.0.2.10}}}
  to b: {negotiate: {mode: tunnel, tunnel: {local: 192.0.2.1, remote: 192.0.2.11}}}
`
	two := func(a, b string) string {
		return "filter-lists:\n  a: [" + a + "]\n  b: [" + b + "]\n" + actions + `rules:
  - {name: a, filter-list: a, action: to a, path: forward, ` + key + `}
  - {name: b, filter-list: b, action: to b, path: forward, ` + key + `}
`
	}
	one := func(a string) string {
		return "filter-lists:\n  a: [" + a + "]\n" + actions + "rules: [{name: a, filter-list: a, action: to a, path: forward, " + key + "}]\n"
	}
	for _, tt := range []struct {
		name     string
		sections string
		refused  []string // parts of each error
		warnings []string
	}{
		{"apart", two("{from: 10.1.0.0/16, to: 10.2.0.0/16}", "{from: 10.1.0.0/16, to: 10.3.0.0/16}"), nil, nil},
		{"several of each", two("{from: [10.1.0.0/16, 10.4.0.0/16], to: [10.2.0.0/16, 10.5.0.0/16]}", "{from: [10.1.0.0/16, 10.4.0.0/16], to: 10.3.0.0/16}"), nil, nil},
		{"the same at two peers", two("{from: 10.1.0.0/16, to: 10.2.0.0/16}", "{from: 10.1.0.0/16, to: 10.2.0.0/16}"),
			[]string{"negotiate by rule \"a\", negotiate by rule \"b\""}, nil},
		{"across each other", two("{from: 10.1.0.0/16, to: 10.2.0.0-10.2.9.255}", "{from: 10.1.0.0/16, to: 10.2.4.0-10.2.40.255}"),
			[]string{"overlap"}, nil},
		{"one inside the other", two("{from: 10.1.0.0/16, to: 10.2.0.0/16}", "{from: 10.1.0.0/16, to: 10.2.7.0/24}"), nil,
			[]string{`the remote network 10.2.7.0/24 of rule "b" is a part of 10.2.0.0/16 of rule "a" at f.yaml:4:7, whose tunnel leads to 192.0.2.10 and not to 192.0.2.11`}},
		{"for other local networks", two("{from: 10.1.0.0/16, to: 10.2.0.0/16}", "{from: 10.4.0.0/16, to: 10.2.7.0/24}"), nil, nil},
		{"the same at both ends", one("{from: 192.168.1.0/24, to: 192.168.1.0/24}"),
			[]string{`the networks 192.168.1.0/24 and 192.168.1.0/24 at the two ends of the tunnel of rule "a" are the same`}, nil},
		{"the remote inside the local", one("{from: 10.0.0.0/8, to: 10.2.0.0/16}"),
			[]string{"the second is a part of the first, so that hosts look for"}, nil},
		{"both across each other", one("{from: 10.1.0.0-10.1.9.0, to: 10.1.5.0-10.2.0.0}"), []string{"overlap, so that hosts"}, nil},
		{"the local inside the remote", one("{from: 10.1.0.0/16, to: 10.0.0.0/8}"), nil,
			[]string{`the remote network 10.0.0.0/8 of rule "a" contains the local one, 10.1.0.0/16`}},
		{"everything through the tunnel", one("{from: 10.1.0.0/16, to: 0.0.0.0/0}"), nil, nil},
		{"the local inside the remote, but for itself", "filter-lists:\n  a: [{from: 10.1.0.0/16, to: 10.0.0.0/8}]\n  b: [{from: 10.1.0.0/16, to: 10.1.0.0/16}]\n" + actions + `rules:
  - {name: a, filter-list: a, action: to a, path: forward, ` + key + `}
  - {name: b, filter-list: b, action: permit, path: forward}
`, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := policyOf(t, tt.sections)
			contain(t, text(p.Errors()), tt.refused)
			var found []string
			for _, w := range p.Warnings() {
				if strings.Contains(w, "network") {
					found = append(found, w)
				}
			}
			contain(t, strings.Join(found, "\n"), tt.warnings)
		})
	}
}

// contain fails unless each line contains what is wanted of it.
func contain(t *testing.T, got string, want []string) {
	t.Helper()
	var lines []string
	if got != "" {
		lines = strings.Split(got, "\n")
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), got)
	}
	for i := range want {
		if !strings.Contains(lines[i], want[i]) {
			t.Errorf("%s\nhas no %s", lines[i], want[i])
		}
	}
}
