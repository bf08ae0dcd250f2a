package nft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/ipsecfw/ipsecfw/filter"
)

// namespace puts the test into a fresh network namespace, which goes away
// with the test's thread.
func namespace(t testing.TB) netns.NsHandle {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func nftCommand(t testing.TB, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("nft", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("nft %v: %v: %s", args, err, stderr.Bytes())
	}
	return out
}

// object is what the tests want of the objects of nft's JSON.
type object struct {
	Family, Table, Name, Chain, Hook, Policy string
	Prio                                     int
	Type                                     any
	Elem                                     []any
}

// inForce reads the table back with nft.
func inForce(t testing.TB) (sets, chains map[string]object, rules map[string]int) {
	t.Helper()
	out := nftCommand(t, "-j", "list", "ruleset")
	var doc struct{ NFTables []map[string]object }
	// What nft says of an xtables target stands before and after the JSON.
	if err := json.NewDecoder(bytes.NewReader(out[bytes.IndexByte(out, '{'):])).Decode(&doc); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	sets, chains, rules = map[string]object{}, map[string]object{}, map[string]int{}
	for _, m := range doc.NFTables {
		for kind, o := range m {
			switch {
			case o.Family != "inet" || o.Table != tableName:
			case kind == "set":
				sets[o.Name] = o
			case kind == "chain":
				chains[o.Name] = o
			case kind == "rule":
				rules[o.Chain]++
			}
		}
	}
	return sets, chains, rules
}

// check compares what is in force with the ruleset.
func check(t testing.TB, rs Ruleset) {
	t.Helper()
	sets, chains, rules := inForce(t)
	want := rs.tables[0]
	if len(sets) != len(want.sets) || len(chains) != len(want.chains) {
		t.Errorf("%d sets and %d chains are in force, want %d and %d", len(sets), len(chains), len(want.sets), len(want.chains))
	}
	for _, s := range want.sets {
		if got := sets[s.name]; len(got.Elem) != s.len() {
			t.Errorf("set %s has %d elements, want %d", s.name, len(got.Elem), s.len())
		}
	}
	for _, c := range want.chains {
		got := chains[c.name]
		if c.hook != nil && (got.Hook != c.hook.name || got.Prio != int(c.hook.priority) || got.Policy != "accept") {
			t.Errorf("chain %s is %+v", c.name, got)
		}
		if rules[c.name] != len(c.rules) {
			t.Errorf("chain %s has %d rules, want %d", c.name, rules[c.name], len(c.rules))
		}
	}
}

func TestApply(t *testing.T) {
	namespace(t)
	rs := Compile(payroll(t), testConfig)
	for range 2 { // the second time replaces the first
		must(t, Apply(rs))
		check(t, rs)
	}
	sets, _, _ := inForce(t)
	for _, tt := range []struct{ set, kind, element string }{
		{"in262784_permit_v4_src32_proto_sport16", "[ipv4_addr inet_proto inet_service]", "[map[concat:[10.9.0.53 udp 53]]]"},
		{"in246400_negotiate_v4_src16_proto_dport16", "[ipv4_addr inet_proto inet_service]", "[map[concat:[10.1.0.0 tcp 8443]]]"},
	} {
		if s := sets[tt.set]; fmt.Sprint(s.Type) != tt.kind || fmt.Sprint(s.Elem) != tt.element {
			t.Errorf("set %s is %v of %v, want %s of %s", tt.set, s.Elem, s.Type, tt.element, tt.kind)
		}
	}
	other := Compile(mustSPD(t), testConfig)
	must(t, Apply(other))
	check(t, other)
}

func TestRemove(t *testing.T) {
	namespace(t)
	for _, want := range []bool{false, true, false} {
		if want {
			must(t, Apply(Compile(payroll(t), testConfig)))
		} else {
			must(t, Remove())
		}
		if got, err := Present(); err != nil || got != want {
			t.Errorf("present: %v, %v; want %v", got, err, want)
		}
	}
	if out := nftCommand(t, "list", "ruleset"); len(out) != 0 {
		t.Errorf("left behind: %s", out)
	}
}

func TestApplyAllOrNothing(t *testing.T) {
	namespace(t)
	good := Compile(payroll(t), testConfig)
	must(t, Apply(good))
	before := nftCommand(t, "-j", "list", "ruleset")
	last := len(good.tables[0].chains) - 1
	for _, tt := range []struct {
		name string
		s    statement
	}{
		{"a set that is not there", lookup{name: "missing", keys: []key{{ip4Saddr, 32}}}},
		{"a chain that is not there", gotoChain("missing")},
		{"an operand that is too long", is(ip6Saddr, make([]byte, 100)...)},
	} {
		// Not in a subtest: its goroutine would be on a thread outside.
		was := good.tables[0]
		was.chains = slices.Clone(was.chains)
		was.chains[last].rules = append(slices.Clone(was.chains[last].rules), rule{tt.s})
		bad := Ruleset{[]table{was}}
		if err := Apply(bad); err == nil {
			t.Errorf("%s: no error", tt.name)
		}
		if after := nftCommand(t, "-j", "list", "ruleset"); !bytes.Equal(before, after) {
			t.Errorf("%s: was %s\nis %s", tt.name, before, after)
		}
	}
	if err := Apply(Ruleset{}); err == nil {
		t.Error("an empty ruleset: no error")
	}
	check(t, good)
}

func TestOtherTables(t *testing.T) {
	namespace(t)
	nftCommand(t, "add table inet other; add set inet other s { type ipv4_addr; }; add element inet other s { 10.0.0.1 };"+
		"add chain inet other input { type filter hook input priority -10; }; add rule inet other input ip saddr @s counter drop;"+
		"add table ip other; add chain ip other c; add table inet ipsecfw_probe0; add chain inet ipsecfw_probe0 mine")
	before := nftCommand(t, "-j", "list", "ruleset")
	rs := Compile(payroll(t), testConfig)
	Probe()
	must(t, Apply(rs))
	must(t, Apply(rs))
	must(t, Remove())
	if after := nftCommand(t, "-j", "list", "ruleset"); !bytes.Equal(before, after) {
		t.Errorf("was %s\nis %s", before, after)
	}
}

func TestProbe(t *testing.T) {
	namespace(t)
	f := Probe()
	if out := nftCommand(t, "list", "ruleset"); len(out) != 0 {
		t.Errorf("the probe left behind: %s", out)
	}
	cfg := testConfig
	cfg.Features = f
	must(t, Apply(Compile(payroll(t), cfg)))
	for _, tt := range []struct {
		name string
		has  bool
		set  func(*Features)
	}{
		{"inet", f.Inet, func(f *Features) { f.Inet = true }},
		{"fib", f.FIB, func(f *Features) { f.FIB = true }},
		{"native queue", f.NativeQueue, func(f *Features) { f.NativeQueue = true }},
	} {
		cfg.Features = f
		tt.set(&cfg.Features)
		rs := Compile(payroll(t), cfg)
		if err := Apply(rs); tt.has != (err == nil) {
			t.Errorf("%s is there: %v; Apply with it: %v", tt.name, tt.has, err)
		}
	}
}

// many makes n filters of one address and port each.
func many(t testing.TB, n int, v6 bool) *filter.SPD {
	entries := make([]filter.Entry, n)
	for i := range entries {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if v6 {
			a = netip.AddrFrom16([16]byte{0xfd, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		}
		entries[i] = filter.Entry{Name: "many", Mirrored: true, Action: filter.Block, Selector: filter.Selector{
			From: filter.Address(a), To: filter.Address(a.Next()), Protocol: 17, HasProtocol: true,
			FromPort: filter.PortRange{Lo: 53, Hi: 53}, ToPort: filter.PortRange{Lo: 9, Hi: 9}}}
	}
	return mustSPD(t, entries...)
}

// Read back without nft, which is slow with many elements.
func TestApplyManyElements(t *testing.T) {
	namespace(t)
	for _, v6 := range []bool{false, true} {
		const n = 20000
		rs := Compile(many(t, n, v6), testConfig)
		must(t, Apply(rs))
		for i := range rs.tables[0].sets {
			s := &rs.tables[0].sets[i]
			inForce := map[string]bool{}
			must(t, readSet(&rs.tables[0], s.name, func(e *read) { inForce[string(e.key)] = true }))
			if len(inForce) != s.len() || s.len() < n {
				t.Errorf("set %s has %d elements for %d tuples of %d filters", s.name, len(inForce), s.len(), n)
			}
			for i := range s.len() {
				if !inForce[string(s.appendKey(nil, i))] {
					t.Fatalf("set %s has no element for %+v", s.name, s.tuples[i])
				}
			}
		}
	}
}
