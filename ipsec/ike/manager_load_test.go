package ike

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// When cookies are asked for depends on the half-open IKE SAs, on how fast
// peers begin, and on what comes of it.
func TestLoad(t *testing.T) {
	type step struct {
		after    time.Duration
		begin    int // IKE_SA_INIT requests, evenly in that time
		prove    int // of those, how many authenticate
		halfOpen int
		want     bool
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"at rest", []step{{time.Second, 0, 0, 0, false}, {time.Minute, 1, 1, 1, false}}},
		{"at the threshold", []step{{time.Second, 5, 0, 31, false}, {time.Second, 1, 0, 32, true}}},
		{"not off at once", []step{{0, 0, 0, 32, true}, {time.Second, 0, 0, 20, true}, {time.Second, 0, 0, 3, true}, {4 * time.Second, 0, 0, 3, true}, {2 * time.Second, 0, 0, 3, false}}},
		{"nor while it is half", []step{{0, 0, 0, 32, true}, {time.Second, 0, 0, 3, true}, {2 * time.Second, 0, 0, 20, true}, {4 * time.Second, 0, 0, 3, true}, {6 * time.Second, 0, 0, 3, false}}},
		{"beginnings that lead to nothing", []step{{10 * time.Second, 100, 0, 15, false}, {time.Second, 10, 0, 16, true}}},
		{"a whole site comes back", []step{{10 * time.Second, 1000, 1000, 100, false}, {time.Second, 100, 100, 127, false}, {time.Second, 100, 100, 128, true}}},
		{"a flood", []step{{10 * time.Second, 1000, 0, 0, true}, {5 * time.Second, 0, 0, 0, true}, {20 * time.Second, 0, 0, 0, true}, {6 * time.Second, 0, 0, 0, false}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l load
			now := time.Unix(1e9, 0)
			for i, s := range tt.steps {
				for n := range s.begin {
					at := now.Add(s.after * time.Duration(n+1) / time.Duration(s.begin))
					l.begun.add(at)
					if n < s.prove {
						l.proved.add(at)
					}
				}
				now = now.Add(s.after)
				if got := l.wantCookies(now, s.halfOpen, 32, 256); got != s.want {
					t.Errorf("step %d: %v, want %v (threshold %d, %.1f begin a second)", i, got, s.want, l.threshold(now, 32, 256), l.begun.perSecond(now))
				}
			}
		})
	}
}

func TestCounted(t *testing.T) {
	c := counted{}
	add := func(n int, f func(i int) netip.Addr) {
		for i := range n {
			c.add(f(i), 1)
		}
	}
	v4 := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	add(3, func(int) netip.Addr { return v4(1) })
	if c.suspect(v4(1), 256) {
		t.Error("three are suspect")
	}
	add(1, func(int) netip.Addr { return v4(1) })
	if !c.suspect(v4(1), 256) || c.suspect(v4(2), 256) || c.full(v4(1), 256) {
		t.Error("four of one address: it alone has to return a cookie")
	}
	add(12, func(int) netip.Addr { return v4(1) })
	if !c.full(v4(1), 256) || c.full(v4(2), 256) {
		t.Error("sixteen of one address are the most, and are no other's")
	}
	add(16, func(i int) netip.Addr { return v4(i + 2) })
	if !c.suspect(v4(200), 256) || c.full(v4(200), 256) {
		t.Error("32 of a block: all of it has to return cookies")
	}
	add(32, func(i int) netip.Addr { return v4(i + 20) })
	if !c.full(v4(200), 256) || c.full(netip.MustParseAddr("10.0.1.1"), 256) {
		t.Error("64 of a block are the most, and are no other block's")
	}
	for a, n := range map[netip.Addr]int{v4(1): 16} {
		c.add(a, -n)
	}
	if _, ok := c[near(v4(1))]; ok {
		t.Error("what is 0 stays")
	}
}

// talkative is a responder's machine whose answers have a size.
type talkative struct{ size int }

func (m talkative) Handle(_ time.Time, ev Event) ([]Effect, error) {
	d, ok := ev.(Datagram)
	if !ok {
		return nil, nil
	}
	return []Effect{Send{Local: d.Local, Remote: d.Remote, Data: make([]byte, m.size)}}, nil
}
func (talkative) Deadline() (time.Time, bool) { return time.Time{}, false }

// counting notes how much was sent.
type counting struct{ bytes, datagrams int }

func (c *counting) Send(_, _ netip.AddrPort, data []byte) error {
	c.bytes += len(data)
	c.datagrams++
	return nil
}

// Nobody gets more than a small multiple of what he sent before he has proved
// to be where he says.
func TestManagerAmplification(t *testing.T) {
	init := func(spi uint64, cookie []byte) []byte {
		ps := []wire.Payload{&wire.Nonce{Data: make([]byte, 32)}}
		if cookie != nil {
			ps = append([]wire.Payload{&wire.Notify{Kind: wire.Cookie, Data: cookie}}, ps...)
		}
		b, err := wire.Encode(wire.Header{SPIi: spi, Version: wire.Version2, Exchange: wire.IKESAInit, Initiator: true}, ps)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	local, remote := netip.AddrPortFrom(here, 500), netip.AddrPortFrom(peer(1), 500)
	for _, size := range []int{100, 1000, 60000} {
		f, sent := newFlooded(), &counting{}
		f.cfg.Transport = sent
		f.cfg.Responder = func(MachineConfig) Machine { return talkative{size} }
		got := 0
		for i := range 50 {
			data := init(uint64(i/5+1), nil)
			got += len(data)
			f.HandleDatagram(local, remote, data)
			f.empty()
			if sent.bytes > amplification*got {
				t.Fatalf("answers of %d bytes: %d bytes for %d", size, sent.bytes, got)
			}
		}
		if sent.datagrams == 0 {
			t.Errorf("answers of %d bytes: none", size)
		}
	}
	// With a cookie the long answer comes.
	f, sent := newFlooded(), &counting{}
	f.cfg.Transport = sent
	f.cfg.Responder = func(MachineConfig) Machine { return talkative{1000} }
	_, answer, err := f.cookies.Check(f.now, remote, init(1, nil))
	if err != nil {
		t.Fatal(err)
	}
	_, ps, err := wire.Decode(answer)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := wire.FindNotify(ps, wire.Cookie)
	f.HandleDatagram(local, remote, init(1, n.Data))
	f.empty()
	if sent.bytes != 1000 {
		t.Errorf("with a cookie: %d bytes, want 1000", sent.bytes)
	}
	f.HandleDatagram(local, remote, append(init(2, nil), make([]byte, maxInit)...))
	f.empty()
	if sent.datagrams != 1 || len(f.entries) != 1 {
		t.Errorf("what is too large was looked at: %d answers", sent.datagrams)
	}
}

// One peer has a bounded number of IKE SAs; the oldest go.
func TestManagerPerPeer(t *testing.T) {
	f := newFlooded()
	var made []*entry
	for range maxPerPeer + 10 {
		e := f.newEntry(here, peer(1), Policy{})
		e.machine = closer{}
		f.Manager.count(e, 1)
		f.establish(e, Established{})
		made = append(made, e)
	}
	if len(f.entries) != maxPerPeer {
		t.Errorf("%d IKE SAs, want %d", len(f.entries), maxPerPeer)
	}
	if _, alive := f.entries[made[9]]; alive {
		t.Error("the oldest are not those that went")
	}
	if _, alive := f.entries[made[10]]; !alive {
		t.Error("too many went")
	}
}

// closer is a machine that does what Close says at once.
type closer struct{}

func (closer) Handle(_ time.Time, ev Event) ([]Effect, error) {
	if c, ok := ev.(Close); ok {
		return []Effect{Closed{Reason: c.Reason}}, nil
	}
	return nil, nil
}
func (closer) Deadline() (time.Time, bool) { return time.Time{}, false }
