package ike

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// flooded is a Manager that a test steps by hand, with its world: a policy for
// everybody but the hosts of 203.0.113.0/24, machines that keep a diary, and
// the data path.
type flooded struct {
	*Manager
	now      time.Time
	diary    []string
	failures map[flow]error
}

var here = netip.MustParseAddr("10.0.0.1")

func newFlooded() *flooded {
	f := &flooded{now: time.Unix(1e9, 0), failures: make(map[flow]error)}
	made := func(MachineConfig) Machine { return &diarist{f: f} }
	f.Manager = NewManager(ManagerConfig{
		Policies: f, Transport: f, DataPath: f, Initiator: made, Responder: made,
		Now: func() time.Time { return f.now },
	})
	return f
}

func (f *flooded) Peer(_, remote netip.Addr) (Policy, bool) {
	return Policy{}, !netip.MustParsePrefix("203.0.113.0/24").Contains(remote)
}
func (f *flooded) Child(_, _ netip.Addr, _, _ []ipsec.TrafficSelector, _ bool) []ChildPolicy {
	return nil
}
func (f *flooded) Send(_, _ netip.AddrPort, _ []byte) error       { return nil }
func (f *flooded) NewSPI() ipsec.SPI                              { return 0x1000 }
func (f *flooded) Install(InstallChild) error                     { return nil }
func (f *flooded) Traffic(ipsec.SPI) (received, sent uint64)      { return 0, 0 }
func (f *flooded) Move(ipsec.SPI, netip.AddrPort, netip.AddrPort) {}
func (f *flooded) Remove(ipsec.SPI, string, bool)                 {}
func (f *flooded) Failed(policy string, remote netip.Addr, err error) {
	f.failures[flow{policy, here, remote}] = err
}

func (f *flooded) want(policy string, remote netip.Addr) {
	f.Acquire(here, remote, ChildPolicy{Name: policy}, ipsec.TrafficSelector{}, ipsec.TrafficSelector{})
}

func (f *flooded) count(err error) (n int) {
	for _, why := range f.failures {
		if errors.Is(why, err) {
			n++
		}
	}
	return n
}

// entry returns the only entry.
func (f *flooded) entry(t *testing.T) *entry {
	t.Helper()
	if len(f.entries) != 1 {
		t.Fatalf("%d IKE SAs, want 1", len(f.entries))
	}
	for e := range f.entries {
		return e
	}
	return nil
}

// diarist is a machine that sends for three seconds and ends then, if it hears
// nothing.
type diarist struct {
	f     *flooded
	until time.Time
	rule  string
}

func (d *diarist) Handle(now time.Time, ev Event) ([]Effect, error) {
	d.f.diary = append(d.f.diary, fmt.Sprintf("%T", ev))
	switch ev := ev.(type) {
	case Acquire:
		d.rule, d.until = ev.Child.Name, now.Add(3*time.Second)
		return []Effect{Send{}}, nil
	case Datagram:
		d.until = time.Time{}
	case Tick:
		d.until = time.Time{}
		return []Effect{Failed{Policy: d.rule, Whole: true, Why: ErrNoIKE}, Closed{}}, nil
	}
	return nil, nil
}

func (d *diarist) Deadline() (time.Time, bool) { return d.until, !d.until.IsZero() }

func peer(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }

// The negotiations that we begin are bounded, at once and in all; those that
// are refused leave nothing behind.
func TestManagerBegunBound(t *testing.T) {
	f := newFlooded()
	at := 0
	for _, tt := range []struct {
		name  string
		after time.Duration
		begun int // of 500 more
	}{
		{"a burst", 0, 400},
		{"a second later", time.Second, 200},
		{"another", time.Second, 200},
		{"when so many are under way", 900 * time.Millisecond, 180},
		{"when no more may be", 50 * time.Millisecond, 10},
	} {
		f.now = f.now.Add(tt.after)
		before := len(f.entries)
		for range 500 {
			at++
			f.want("rule", peer(at))
		}
		f.empty()
		if n := len(f.entries) - before; n != tt.begun {
			t.Errorf("%s: %d negotiations, want %d", tt.name, n, tt.begun)
		}
	}
	f.now = f.now.Add(20 * time.Millisecond) // room for 4 more by rate
	f.cfg.Begun = len(f.entries) + 3
	for range 5 {
		at++
		f.want("rule", peer(at))
	}
	f.empty()
	if len(f.entries) != f.cfg.Begun || f.begun != f.cfg.Begun {
		t.Errorf("%d negotiations, %d counted, want %d", len(f.entries), f.begun, f.cfg.Begun)
	}
	if len(f.flows) != len(f.entries) || len(f.inbox.asked) != len(f.entries) {
		t.Errorf("%d flows remembered and %d asked for, with %d negotiations", len(f.flows), len(f.inbox.asked), len(f.entries))
	}
	if n := f.count(ErrBusy); n != at-len(f.entries) || f.count(ErrNoAnswer) != 0 {
		t.Errorf("%d of %d told that we are busy: %d are being asked", n, at, len(f.entries))
	}
	// Those that stand make room.
	for e := range f.entries {
		f.establish(e, Established{})
	}
	if f.now = f.now.Add(2 * time.Second); f.begun != 0 {
		t.Errorf("%d counted as under way when all are established", f.begun)
	}
	f.want("rule", peer(at))
	f.empty()
	if f.begun != 1 {
		t.Error("no negotiation begins though all others are established")
	}
}

// All that is over is forgotten.
func TestManagerFloodEnds(t *testing.T) {
	f := newFlooded()
	for i := range 300 {
		f.want("rule", peer(i))
	}
	f.empty()
	f.now = f.now.Add(3 * time.Second)
	f.ring()
	if f.count(ErrNoIKE) != 300 || len(f.entries)+len(f.byPeer)+len(f.inbox.asked)+f.begun != 0 || f.Manager.failures.Len() != 300 {
		t.Errorf("%d failures told; left %d IKE SAs, %d peers, %d flows asked for, %d counted, %d failures",
			f.count(ErrNoIKE), len(f.entries), len(f.byPeer), len(f.inbox.asked), f.begun, f.Manager.failures.Len())
	}
}

// The memory of failures is bounded, and the oldest go first.
func TestManagerFlowsBound(t *testing.T) {
	f := newFlooded()
	name := func(i int) flow { return flow{fmt.Sprint(i), here, netip.MustParseAddr("203.0.113.7")} }
	for i := range maxFlows + 100 {
		f.want(name(i).policy, name(i).remote)
		f.empty()
	}
	if len(f.flows) != maxFlows || f.Manager.failures.Len() != maxFlows {
		t.Errorf("%d flows and %d failures remembered, want %d", len(f.flows), f.Manager.failures.Len(), maxFlows)
	}
	if f.flows[name(99)] != nil || f.flows[name(100)] == nil || f.flows[name(maxFlows+99)] == nil {
		t.Error("it is not the oldest that were forgotten")
	}
	// With nothing to forget, more are refused.
	f = newFlooded()
	for i := range maxFlows + 100 {
		f.want(fmt.Sprint(i), peer(1))
		f.empty()
	}
	if len(f.flows) != maxFlows || f.count(ErrBusy) != 100 {
		t.Errorf("%d flows, %d refused, want %d and 100", len(f.flows), f.count(ErrBusy), maxFlows)
	}
}

// answer brings an answer to an entry's first message.
func (f *flooded) answer(t *testing.T, e *entry) {
	t.Helper()
	h := wire.Header{SPIi: f.newIKESPI(e), Version: wire.Version2, Exchange: wire.IKESAInit, Response: true}
	data, err := wire.Encode(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.HandleDatagram(netip.AddrPortFrom(here, 500), netip.AddrPortFrom(e.remote, 500), data)
}

// An answer that waits is heard before what is wanted, and before the time
// for it is over.
func TestManagerHearsFirst(t *testing.T) {
	for _, tt := range []struct {
		name string
		step func(f *flooded)
		want []string
	}{
		{"an acquire", func(f *flooded) { f.want("other", peer(1)); f.empty() }, []string{"ike.Acquire", "ike.Datagram", "ike.Acquire"}},
		{"a tick", func(f *flooded) { f.now = f.now.Add(time.Hour); f.ring() }, []string{"ike.Acquire", "ike.Datagram"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFlooded()
			f.want("rule", peer(1))
			f.empty()
			f.answer(t, f.entry(t))
			tt.step(f)
			if !slices.Equal(f.diary, tt.want) || len(f.failures) != 0 {
				t.Errorf("the machine had %v, want %v; failures %v", f.diary, tt.want, f.failures)
			}
		})
	}
}

// A peer that this host could not hear may speak IKE.
func TestManagerDeaf(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after int // datagrams of a flood: before we asked, and after
		noIKE         bool
	}{
		{"all is heard", 0, maxDatagrams, true},
		{"one too many", 0, maxDatagrams + 1, false},
		{"too many before", 2 * maxDatagrams, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFlooded()
			flood := func(n int) {
				for range n {
					f.HandleDatagram(netip.AddrPortFrom(here, 500), netip.AddrPortFrom(peer(2), 500), []byte("noise"))
				}
				f.empty()
			}
			flood(tt.before)
			f.want("rule", peer(1))
			f.empty()
			flood(tt.after)
			f.now = f.now.Add(3 * time.Second)
			f.ring()
			why := f.failures[flow{"rule", here, peer(1)}]
			if !errors.Is(why, ErrNoAnswer) || errors.Is(why, ErrNoIKE) != tt.noIKE {
				t.Errorf("failed with %v", why)
			}
		})
	}
	t.Run("something waits", func(t *testing.T) {
		f := newFlooded()
		f.want("rule", peer(1))
		f.empty()
		e := f.entry(t)
		f.answer(t, e)
		f.feed(e, Tick{})
		if why := f.failures[flow{"rule", here, peer(1)}]; !errors.Is(why, ErrNoAnswer) || errors.Is(why, ErrNoIKE) {
			t.Errorf("failed with %v, want ErrNoAnswer, and not ErrNoIKE", why)
		}
	})
}

// Packets that come while an SA is on its way ask for no second one.
func TestManagerAsksOnce(t *testing.T) {
	f := newFlooded()
	f.want("rule", peer(1))
	f.empty()
	e := f.entry(t)
	f.want("rule", peer(1))
	f.carryOut(e, InstallChild{SA: &ipsec.ChildSA{Policy: "rule"}})
	f.empty()
	if !slices.Equal(f.diary, []string{"ike.Acquire"}) || len(f.flows)+len(f.inbox.asked) != 0 {
		t.Errorf("the machine had %v; %d flows, %d asked for", f.diary, len(f.flows), len(f.inbox.asked))
	}
	f.want("rule", peer(1)) // the SA may not cover what comes later
	f.empty()
	if !slices.Equal(f.diary, []string{"ike.Acquire", "ike.Acquire"}) {
		t.Errorf("the machine had %v", f.diary)
	}
}

// There is no IKE SA with a link-local address of IPv6, whoever begins.
func TestManagerLinkLocal(t *testing.T) {
	for _, text := range []string{"fe80::2", "fe80::2%eth0"} {
		t.Run(text, func(t *testing.T) {
			f, a := newFlooded(), netip.MustParseAddr(text)
			f.want("rule", a)
			h := wire.Header{SPIi: 1, Version: wire.Version2, Exchange: wire.IKESAInit, Initiator: true}
			data, err := wire.Encode(h, nil)
			if err != nil {
				t.Fatal(err)
			}
			f.HandleDatagram(netip.MustParseAddrPort("[fe80::1]:500"), netip.AddrPortFrom(a, 500), data)
			f.HandleDatagram(netip.MustParseAddrPort("[fe80::1]:500"), netip.MustParseAddrPort("[2001:db8::1]:500"), data)
			f.empty()
			why := f.failures[flow{"rule", here, a}]
			if why == nil || errors.Is(why, ErrNoIKE) || len(f.entries)+len(f.flows)+len(f.inbox.asked)+len(f.diary) != 0 {
				t.Errorf("failed with %v; %d IKE SAs, %d flows, machines had %v", why, len(f.entries), len(f.flows), f.diary)
			}
		})
	}
}

func TestLimiter(t *testing.T) {
	l, now := newLimiter(time.Second), time.Unix(1e9, 0)
	for i := range 2 * maxLimited {
		if got, want := l.allow(peer(i), now), i < maxLimited; got != want {
			t.Fatalf("address %d: %v, want %v", i, got, want)
		}
	}
	now = now.Add(time.Second)
	if !l.allow(peer(3*maxLimited), now) || !l.allow(peer(0), now) || l.allow(peer(0), now) || len(l.last) != 2 {
		t.Errorf("%d addresses remembered, want the two of this second", len(l.last))
	}
}

func TestBucket(t *testing.T) {
	b, now := bucket{rate: 2, most: 3}, time.Unix(1e9, 0)
	for _, tt := range []struct {
		after time.Duration
		want  int // of ten
	}{{0, 3}, {0, 0}, {400 * time.Millisecond, 0}, {600 * time.Millisecond, 2}, {time.Hour, 3}, {-time.Minute, 0}, {time.Minute, 0}, {time.Second, 2}} {
		now = now.Add(tt.after)
		n := 0
		for range 10 {
			if b.take(now) {
				n++
			}
		}
		if n != tt.want {
			t.Errorf("%s later: %d, want %d", tt.after, n, tt.want)
		}
	}
}

// What peers began is counted by subnet only as long as it is half-open.
func TestManagerNearEnds(t *testing.T) {
	for _, established := range []bool{false, true} {
		f := newFlooded()
		for i := range 12 {
			h := wire.Header{SPIi: uint64(i + 1), Version: wire.Version2, Exchange: wire.IKESAInit, Initiator: true}
			data, err := wire.Encode(h, nil)
			if err != nil {
				t.Fatal(err)
			}
			f.HandleDatagram(netip.AddrPortFrom(here, 500), netip.AddrPortFrom(peer(i/4), 500), data)
		}
		f.empty()
		if len(f.near) != 4 || f.near[near(peer(1))] != 4 || f.near[block(peer(1))] != 12 || f.halfOpen != 12 {
			t.Errorf("half-open: %v, %d in all, want four of three peers in one block", f.near, f.halfOpen)
		}
		for e := range f.entries {
			if established {
				f.establish(e, Established{})
			}
			f.carryOut(e, Closed{})
		}
		if len(f.near)+f.halfOpen+len(f.byInit)+len(f.byPeer) != 0 {
			t.Errorf("established %v: left %v, %d in all", established, f.near, f.halfOpen)
		}
	}
}
