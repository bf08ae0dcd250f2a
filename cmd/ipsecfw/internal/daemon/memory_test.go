package daemon

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/ipsecfw/ipsecfw/rules"
)

func memoryIn(t *testing.T, dir string) *memory {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return recall(state{dir: dir}, slog.New(slog.DiscardHandler))
}

// What names stood for outlives policies without them: one that comes back
// needs it.
func TestMemoryKeepsNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	m := memoryIn(t, dir)
	m.learn(rules.Addresses{Names: map[string][]netip.Addr{"db.test": {a}}, DNSServers: []netip.Addr{c}})
	m.learn(rules.Addresses{Names: map[string][]netip.Addr{"web.test": {b}}})
	m.learn(rules.Addresses{})
	want := rules.Addresses{Names: map[string][]netip.Addr{"db.test": {a}, "web.test": {b}}, DNSServers: []netip.Addr{c}}
	if got := m.known(); !reflect.DeepEqual(got, want) {
		t.Errorf("known %+v, want %+v", got, want)
	}
	if got := memoryIn(t, dir).known(); !reflect.DeepEqual(got, want) {
		t.Errorf("known after a restart %+v, want %+v", got, want)
	}
	m.learn(rules.Addresses{Names: map[string][]netip.Addr{"db.test": {c}}})
	if got := m.known().Names["db.test"]; len(got) != 1 || got[0] != c {
		t.Errorf("db.test stands for %v, want %s", got, c)
	}
}

// Who was secured once is known after a restart, and when that cannot be read,
// nobody is spoken to in clear, for good.
func TestMemoryOfSecuredPeers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	m := memoryIn(t, dir)
	m.secure(a, true)
	if m = memoryIn(t, dir); !m.wasSecured(a) || m.wasSecured(b) {
		t.Errorf("after a restart: %v, %v", m.wasSecured(a), m.wasSecured(b))
	}
	if err := os.WriteFile(state{dir: dir}.seenPath(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m = memoryIn(t, dir); !m.wasSecured(b) {
		t.Error("with a file that cannot be read a peer may be spoken to in clear")
	}
	m.secure(a, true)
	if m = memoryIn(t, dir); !m.wasSecured(b) {
		t.Error("what could not be read was forgotten")
	}
	m.forget()
	if m.wasSecured(a) || m.wasSecured(b) {
		t.Error("a policy that is gone still counts")
	}
}

// One name that comes to stand for what the policy does not go with holds up
// no other.
func TestReaddressed(t *testing.T) {
	up := upload(`version: 1
name: names
filter-lists:
  a: [{from: {dns: a.test}, to: me}]
  b: [{from: {dns: b.test}, to: me}]
  fixed: [{from: 10.9.0.9, to: me}]
rules:
  - {name: a, filter-list: a, action: permit}
  - {name: b, filter-list: b, action: permit}
  - {name: fixed, filter-list: fixed, action: block}
`)
	x, err := load(&up, nil)
	if err != nil {
		t.Fatal(err)
	}
	names := func(a, b string) rules.Addresses {
		return rules.Addresses{Names: map[string][]netip.Addr{"a.test": {netip.MustParseAddr(a)}, "b.test": {netip.MustParseAddr(b)}}}
	}
	p, err := combine([]*part{x}, names("10.0.0.1", "10.0.0.2"), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		now   rules.Addresses
		want  *rules.Addresses
		fails bool
	}{
		{"both go", names("10.1.0.1", "10.1.0.2"), &rules.Addresses{Names: names("10.1.0.1", "10.1.0.2").Names}, false},
		{"one does not", names("10.9.0.9", "10.1.0.2"), &rules.Addresses{Names: names("10.0.0.1", "10.1.0.2").Names}, true},
		{"none does", names("10.9.0.9", "10.9.0.9"), nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, err := p.readdressed(tt.now, 2)
			if (err != nil) != tt.fails || (q == nil) != (tt.want == nil) {
				t.Fatalf("policy %v, error %v", q, err)
			}
			if q != nil && !reflect.DeepEqual(q.addresses, *tt.want) {
				t.Errorf("addresses %+v, want %+v", q.addresses, *tt.want)
			}
		})
	}
}
