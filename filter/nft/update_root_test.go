package nft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// listing is what nft says is in force, without handles and what counts, by
// the names of things.
func listing(t testing.TB) map[string]string {
	t.Helper()
	out := nftCommand(t, "-j", "list", "ruleset")
	var doc struct {
		NFTables []map[string]map[string]any
	}
	must(t, json.NewDecoder(bytes.NewReader(out[bytes.IndexByte(out, '{'):])).Decode(&doc))
	text := func(v any) string {
		b, err := json.Marshal(v)
		must(t, err)
		return string(b)
	}
	found := map[string]string{}
	for _, m := range doc.NFTables {
		for kind, o := range m {
			delete(o, "handle")
			if kind == "rule" {
				found[fmt.Sprintf("rules of %s %s", o["family"], o["chain"])] += text(timeless(o["expr"])) + "\n"
				continue
			}
			if elements, ok := o["elem"].([]any); ok {
				names := make([]string, len(elements))
				for i, e := range elements {
					names[i] = text(timeless(e))
				}
				slices.Sort(names)
				o["elem"] = names
			}
			delete(o, "size") // as much as there was room for when it was made
			found[fmt.Sprintf("%s %s %s", kind, o["family"], o["name"])] = text(o)
		}
	}
	return found
}

// timeless drops counters and the time that is left.
func timeless(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = timeless(v[i])
		}
	case map[string]any:
		delete(v, "counter")
		delete(v, "expires")
		for k := range v {
			v[k] = timeless(v[k])
		}
	}
	return v
}

func TestUpdate(t *testing.T) {
	for name, cfg := range kernels() {
		t.Log(name)
		testUpdate(t, cfg)
	}
}

func testUpdate(t *testing.T, cfg Config) {
	applied := namespace(t)
	updated := namespace(t)
	a := &arena{t: t, r: rand.New(rand.NewPCG(1, 2))}
	entries := []filter.Entry{a.entry(0)}
	policy := func() Ruleset {
		cfg.Count, cfg.DefaultResponse = true, a.r.IntN(4) > 0
		s, err := filter.New(entries, filter.Settings{Exemptions: filter.Exemptions{Kerberos: a.r.IntN(4) == 0}})
		must(t, err)
		return Compile(s, cfg)
	}
	old := policy()
	must(t, Apply(old))
	for n := range 30 {
		for range 1 + a.r.IntN(4) {
			switch i := a.r.IntN(len(entries)); a.r.IntN(4) {
			case 0:
				if len(entries) > 1 {
					entries = slices.Delete(slices.Clone(entries), i, i+1)
				}
			case 1:
				entries = slices.Clone(entries)
				entries[i] = a.entry(n)
			default:
				entries = slices.Insert(slices.Clone(entries), i, a.entry(n))
			}
		}
		next := policy()
		if err := Update(old, next); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		got := listing(t)
		must(t, netns.Set(applied))
		must(t, Apply(next))
		want := listing(t)
		must(t, netns.Set(updated))
		for k := range want {
			if got[k] != want[k] {
				t.Errorf("step %d: %s is\n%s\nwant\n%s", n, k, got[k], want[k])
			}
			delete(got, k)
		}
		for k := range got {
			t.Errorf("step %d: %s is left", n, k)
		}
		if t.Failed() {
			return
		}
		old = next
	}
}

// with is a policy that permits a port, and one that changes.
func with(t testing.TB, extra ...uint16) *filter.SPD {
	var entries []filter.Entry
	for _, p := range append([]uint16{7100}, extra...) {
		entries = append(entries, ports(filter.Permit, filter.Any(), filter.Me(), 17, p, p))
	}
	return walled(t, filter.Settings{}, entries...)
}

func TestUpdateKeeps(t *testing.T) {
	w := newWires(t)
	cfg := testConfig
	cfg.Count, cfg.DefaultResponse = true, true
	limited := ports(filter.Permit, filter.Any(), filter.Me(), 17, 7400, 7400)
	limited.Options.Limit = filter.Limit{Packets: 1, Per: filter.PerHour, Burst: 2}
	compile := func(extra ...filter.Entry) Ruleset {
		return Compile(walled(t, filter.Settings{}, append(extra, limited, ports(filter.Permit, filter.Any(), filter.Me(), 17, 7100, 7100))...), cfg)
	}
	old := compile()
	next := compile(ports(filter.Permit, filter.Any(), filter.Me(), 17, 7200, 7200), ports(filter.Permit, subnet("10.77.0.0/16"), filter.Me(), 6, 7300, 7300))
	must(t, Apply(old))
	peer := netip.MustParseAddr("10.77.1.9")
	must(t, AddResponse(old, peer))
	way := path{w.peer, w.host, "10.77.1.2", "10.77.1.1"}
	packet := func(port int, want fate) {
		t.Helper()
		w.check(way, []datagram{{fmt.Sprint("to port ", port), "10.77.1.2:0", fmt.Sprintf("10.77.1.1:%d", port), 0, 1, want}})
	}
	count := func(rs Ruleset) uint64 {
		counters, err := Counters(rs)
		must(t, err)
		for e, c := range counters {
			if e.Name == "permit 7100" {
				return c.Packets
			}
		}
		return 0
	}
	packet(7100, arrives)
	packet(7200, lost)
	packet(7400, arrives)
	must(t, Update(old, next))
	packet(7100, arrives)
	packet(7200, arrives)
	packet(7400, arrives)
	packet(7400, lost) // of the two since Apply
	if n := count(next); n != 2 {
		t.Errorf("after the update the filter has counted %d packets, want 2", n)
	}
	if peers, err := Response(next); err != nil || !slices.Equal(peers, []netip.Addr{peer}) {
		t.Errorf("after the update the peers are %v, %v", peers, err)
	}
	must(t, Update(next, next))
	must(t, Update(next, old))
	packet(7200, lost)
	packet(7100, arrives)
	if n := count(old); n != 3 {
		t.Errorf("after both updates the filter has counted %d packets, want 3", n)
	}
	// Egress still comes before conntrack confirms what leaves: what it drops
	// leaves no connection behind.
	w.check(path{w.host, w.peer, "10.77.1.1", "10.77.1.2"}, []datagram{{"blocked", "10.77.1.1:7999", "10.77.1.2:7998", 0, 1, refused}})
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
	must(t, err)
	for _, f := range flows {
		if f.Forward.DstPort == 7998 {
			t.Errorf("a blocked packet has made a connection: %v", f)
		}
	}
}

func TestUpdateStale(t *testing.T) {
	namespace(t)
	old, next := Compile(with(t), testConfig), Compile(with(t, 7200), testConfig)
	stale := func(name string) {
		t.Helper()
		before := listing(t)
		if err := Update(old, next); !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v", name, err)
		}
		after := listing(t)
		for k := range after {
			if before[k] != after[k] {
				t.Errorf("%s: %s was %s and is %s", name, k, before[k], after[k])
			}
		}
	}
	stale("no table")
	if err := Update(old, old); !errors.Is(err, ErrStale) {
		t.Errorf("no table, and no difference: %v", err)
	}
	if err := Update(Ruleset{}, next); !errors.Is(err, ErrStale) {
		t.Errorf("no ruleset: %v", err)
	}
	must(t, Apply(next))
	stale("the new one already")
	must(t, Apply(old))
}

// A set has room for some more elements; what has many more, Apply makes.
func TestUpdateGrows(t *testing.T) {
	namespace(t)
	few, more, many := Compile(many(t, 100, false), testConfig), Compile(many(t, 200, false), testConfig), Compile(many(t, 1000, false), testConfig)
	must(t, Apply(few))
	must(t, Update(few, more))
	if err := Update(more, many); !errors.Is(err, ErrStale) || !errors.Is(err, unix.ENFILE) {
		t.Errorf("an update beyond the room: %v", err)
	}
	must(t, Apply(many))
	must(t, Update(many, few))
	check(t, few)
}

// A flow that both policies permit loses no packet while they change.
func TestUpdateLosesNothing(t *testing.T) {
	w := newWires(t)
	a, b := Compile(with(t), testConfig), Compile(with(t, 7200, 7201), testConfig)
	must(t, Apply(a))
	w.check(path{w.peer, w.host, "10.77.1.2", "10.77.1.1"}, []datagram{{"the first", "10.77.1.2:0", "10.77.1.1:7000", 0, 1, arrives}})
	server := w.socket(w.host, netip.MustParseAddrPort("10.77.1.1:7000"), 0)
	defer server.Close()
	client := w.socket(w.peer, netip.MustParseAddrPort("10.77.1.2:0"), 0)
	defer client.Close()
	stop, done := make(chan struct{}), make(chan error, 1)
	rounds := 0
	go func() { // packets go to and fro
		buf := make([]byte, 10)
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			deadline := time.Now().Add(2 * time.Second)
			server.SetReadDeadline(deadline)
			client.SetReadDeadline(deadline)
			if _, err := client.WriteToUDPAddrPort([]byte{1}, netip.MustParseAddrPort("10.77.1.1:7000")); err != nil {
				done <- err
				return
			}
			_, from, err := server.ReadFromUDPAddrPort(buf)
			if err == nil {
				_, err = server.WriteToUDPAddrPort([]byte{2}, from)
			}
			if err == nil {
				_, _, err = client.ReadFromUDPAddrPort(buf)
			}
			if err != nil {
				done <- err
				return
			}
			rounds++
		}
	}()
	for range 100 {
		must(t, Update(a, b))
		must(t, Update(b, a))
		must(t, Apply(a))
	}
	close(stop)
	if err := <-done; err != nil {
		t.Errorf("after %d rounds: %v", rounds, err)
	}
	if rounds < 100 {
		t.Errorf("only %d packets each way during 300 changes", rounds)
	}
}

// What 100,000 filters take, and one of them that changes.
func BenchmarkMany(b *testing.B) {
	ns := namespace(b)
	run := func(name string, body func(b *testing.B)) { // each has a thread of its own
		b.Run(name, func(b *testing.B) {
			runtime.LockOSThread()
			must(b, netns.Set(ns))
			body(b)
		})
	}
	const n = 100_000
	was := many(b, n, false)
	entries := make([]filter.Entry, n)
	for i, e := range was.Entries() {
		entries[i] = *e
	}
	entries[n/2].Selector.FromPort = filter.PortRange{Lo: 54, Hi: 54}
	one := mustSPD(b, entries...)
	slices.Reverse(entries)
	reversed := mustSPD(b, entries...)
	for _, count := range []bool{false, true} {
		cfg := testConfig
		cfg.Count = count
		old, next := Compile(was, cfg), Compile(one, cfg)
		run(fmt.Sprintf("apply/count=%v", count), func(b *testing.B) {
			for b.Loop() {
				must(b, Apply(old))
			}
		})
		run(fmt.Sprintf("update/count=%v", count), func(b *testing.B) {
			for b.Loop() {
				must(b, Update(old, next))
				old, next = next, old
			}
		})
		run(fmt.Sprintf("update of another order/count=%v", count), func(b *testing.B) {
			other := Compile(reversed, cfg)
			must(b, Update(old, other))
			for b.Loop() {
				must(b, Update(other, next))
				other, next = next, other
			}
			old = other
		})
	}
	run("counters", func(b *testing.B) {
		cfg := testConfig
		cfg.Count = true
		rs := Compile(was, cfg)
		must(b, Apply(rs))
		for b.Loop() {
			_, err := Counters(rs)
			must(b, err)
		}
	})
}
