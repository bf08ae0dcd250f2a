package daemon

import (
	"os"
	"strings"
	"testing"
)

// The boot settings are those of the last file that has some.
func TestBootSettings(t *testing.T) {
	file := func(name, extra string) string {
		return "version: 1\nname: " + name + "\n" + extra + `
filter-lists:
  ` + name + `: [{from: 10.1.0.1, to: me}]
rules:
  - {name: ` + name + `, filter-list: ` + name + `, action: permit}
`
	}
	for _, tt := range []struct {
		name                string
		persistent, applied string // their boot settings; "none" for no file
		stateful            bool
	}{
		{"neither says anything", "", "", true},
		{"the persistent one alone says something", "boot: {mode: block}", "", false},
		{"the later one overrides", "boot: {mode: block}", "boot: {mode: stateful}", true},
		{"the later one alone", "none", "boot: {mode: block}", false},
		{"the persistent one alone", "boot: {mode: block}", "none", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := state{dir: t.TempDir()}
			var k kept
			if tt.persistent != "none" {
				up := upload(file("base", "persistent: true\n"+tt.persistent))
				k.Persistent = &up
			}
			if tt.applied != "none" {
				up := upload(file("later", tt.applied))
				k.Applied = &up
			}
			if err := s.keep(k); err != nil {
				t.Fatal(err)
			}
			rs, err := s.bootRules()
			if err != nil || rs == nil {
				t.Fatalf("ruleset %v, error %v", rs, err)
			}
			if got := strings.Contains(rs.String(), "established"); got != tt.stateful {
				t.Errorf("stateful is %v, want %v:\n%s", got, tt.stateful, rs)
			}
		})
	}
}

// Without a policy the boot changes nothing; with one that cannot be read it
// says so.
func TestBootOfNothing(t *testing.T) {
	s := state{dir: t.TempDir()}
	if rs, err := s.bootRules(); rs != nil || err != nil {
		t.Errorf("ruleset %v, error %v", rs, err)
	}
	if err := os.WriteFile(s.path(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.bootRules(); err == nil {
		t.Error("a policy that cannot be read is no error")
	}
}
