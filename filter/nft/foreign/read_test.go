package foreign

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// What is too large is unknown, and does not hold up the rest.
func TestReadIsBounded(t *testing.T) {
	a := newArena(t)
	elements := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%d,", 10000+2*i)
		}
		return b.String()
	}
	rules := `table inet big {
	set large { type inet_service; elements = { ` + elements(maxElements+1) + ` } }
	set full { type inet_service; elements = { ` + elements(maxElements) + ` } }
	set intervals { type inet_service; flags interval; elements = { ` + elements(maxElements) + ` } }
	chain input {
		type filter hook input priority 0;
		tcp dport 80 tcp sport @large drop
		tcp dport 81 tcp sport @full drop
		tcp dport 82 tcp sport @intervals drop
		` + strings.Repeat("ip saddr 198.51.100.1 tcp dport 1 counter drop\n", 5000) + `
		tcp dport 83 drop
	}
}
table netdev away { }
table bridge away { }
table arp away { }
`
	file := t.TempDir() + "/rules.nft"
	must(t, os.WriteFile(file, []byte(rules), 0o600))
	a.command("nft", "-f", file)
	began := time.Now()
	tables, err := Read("ipsecfw")
	must(t, err)
	t.Logf("5,000 rules and three sets in %v", time.Since(began))
	for port, want := range map[uint16]Verdict{80: Unknown, 81: Drops, 82: Drops, 83: Drops, 84: Passes} {
		p := tcp("192.0.2.1", "10.0.0.1", port)
		p.SrcPort = 10000
		if v, where := tables.Judge(in, p); v != want {
			t.Errorf("port %d: it %s (%s)", port, v, where)
		}
		p.SrcPort = 10001
		if v, where := tables.Judge(in, p); port != 80 && port != 83 && v != Passes {
			t.Errorf("port %d from another: it %s (%s)", port, v, where)
		}
	}
}

// Ours are left out by their name, in whatever family.
func TestReadLeavesOursOut(t *testing.T) {
	a := newArena(t)
	a.command("nft", "table inet ipsecfw { chain input { type filter hook input priority 0; policy drop; }; }; table ip6 ipsecfw { chain input { type filter hook input priority 0; policy drop; }; }")
	for except, want := range map[string]Verdict{"ipsecfw": Passes, "": Drops} {
		tables, err := Read(except)
		must(t, err)
		if v, where := tables.Judge(in, tcp("192.0.2.1", "10.0.0.1", 80)); v != want {
			t.Errorf("but for %q: it %s (%s)", except, v, where)
		}
	}
}
