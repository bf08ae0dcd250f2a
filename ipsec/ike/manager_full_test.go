package ike_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// limited is a host that speaks with b by seven rules, with a limit.
func limited(r rules, most int) rules {
	r.most, r.children = most, nil
	for i := range 7 {
		r.children = append(r.children, all(fmt.Sprint(i)))
	}
	return r
}

// TestManagerFull asks for seven Child SAs of which an IKE SA takes a few, at
// once and one after the other, with the limit at either end.
func TestManagerFull(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b int
		ikes int
	}{
		{"no limit", 0, 0, 1},
		{"one, as we want it", 1, 0, 7},
		{"one, as the peer wants it", 0, 1, 7},
		{"one at both ends", 1, 1, 7},
		{"three, as we want it", 3, 0, 3},
		{"three, as the peer wants it", 0, 3, 3},
		{"seven", 7, 7, 1},
	} {
		for _, wait := range []time.Duration{0, 12 * time.Millisecond, time.Second} {
			t.Run(fmt.Sprintf("%s, %s apart", tt.name, wait), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					net := iketest.NewNetwork(1, iketest.Faults{Delay: 5 * time.Millisecond})
					a, b := start(t, net, addrA, limited(psk(addrB), tt.a)), start(t, net, addrB, limited(psk(addrA), tt.b))
					for i := range 7 {
						a.acquire(addrB, fmt.Sprint(i))
						pass(wait)
					}
					pass(5 * time.Second)
					if n := shared(a, b); n != 7 || len(a.sad.Failures()) != 0 {
						t.Errorf("%d Child SAs, want 7; failures %v", n, a.sad.Failures())
					}
					if n := len(a.Peers()); n != tt.ikes || len(b.Peers()) != n {
						t.Errorf("%d IKE SAs at a, %d at b, want %d", n, len(b.Peers()), tt.ikes)
					}
					for _, p := range a.Peers() {
						if most := max(tt.a, tt.b); most > 0 && len(p.Children) > most {
							t.Errorf("an IKE SA with %d Child SAs", len(p.Children))
						}
					}
				})
			})
		}
	}
}

// Both ends ask for Child SAs at the same moment, in IKE SAs with room for
// one more. None is lost, and none is one too many.
func TestManagerFullBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{Delay: 5 * time.Millisecond})
		a, b := start(t, net, addrA, limited(psk(addrB), 2)), start(t, net, addrB, limited(psk(addrA), 2))
		a.acquire(addrB, "0")
		pass(time.Second)
		a.acquire(addrB, "1")
		b.acquire(addrA, "2")
		pass(time.Second)
		if n := shared(a, b); n != 3 || len(a.sad.Failures())+len(b.sad.Failures()) != 0 {
			t.Errorf("%d Child SAs, want 3; failures %v %v", n, a.sad.Failures(), b.sad.Failures())
		}
		for _, p := range append(a.Peers(), b.Peers()...) {
			if len(p.Children) > 2 {
				t.Errorf("an IKE SA with %d Child SAs", len(p.Children))
			}
		}
	})
}

// The last room is taken by the peer while we had no time to ask for it.
func TestManagerFullMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{Delay: 10 * time.Millisecond})
		a, b := start(t, net, addrA, limited(psk(addrB), 2)), start(t, net, addrB, limited(psk(addrA), 0))
		a.acquire(addrB, "0")
		pass(time.Second)
		a.RekeyChild(a.sad.Alive()[0].InSPI)
		synctest.Wait()
		a.acquire(addrB, "1")
		b.acquire(addrA, "2")
		pass(time.Second)
		if n := shared(a, b); n != 3 || len(a.Peers()) != 2 || len(a.sad.Failures())+len(b.sad.Failures()) != 0 {
			t.Errorf("%d Child SAs in %d IKE SAs, want 3 in 2; failures %v %v", n, len(a.Peers()), a.sad.Failures(), b.sad.Failures())
		}
	})
}

// late is a network that loses the first message, and what b says in IKE_AUTH
// for a while.
type late struct {
	*iketest.Network
	began time.Time
	n     *atomic.Int32
}

func (l late) Send(local, remote netip.AddrPort, data []byte) error {
	n := l.n.Add(1)
	h, err := wire.ParseHeader(data)
	if err != nil {
		return err
	}
	if n == 1 || h.Exchange == wire.IKEAuth && h.Response && time.Since(l.began) < 600*time.Millisecond {
		return nil
	}
	return l.Network.Send(local, remote, data)
}

// Of two IKE SAs that are begun at once the first one is late. It must not say
// that it is the only one, as the peer has the other already.
func TestManagerFullLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := late{iketest.NewNetwork(1, iketest.Faults{Delay: 5 * time.Millisecond}), time.Now(), new(atomic.Int32)}
		lossy := func(c *ike.ManagerConfig) { c.Transport = net }
		a, b := start(t, net.Network, addrA, limited(psk(addrB), 1), lossy), start(t, net.Network, addrB, limited(psk(addrA), 1), lossy)
		a.acquire(addrB, "0")
		a.acquire(addrB, "1")
		pass(40 * time.Second)
		if shared(a, b) != 2 || len(b.sad.Removed()) != 0 {
			t.Errorf("%d Child SAs, b removed %v; failures %v", shared(a, b), b.sad.Removed(), a.sad.Failures())
		}
	})
}

// What was made counts, also when it is gone, and what replaces it does not.
func TestManagerFullCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{Delay: 5 * time.Millisecond})
		a, b := start(t, net, addrA, limited(psk(addrB), 1)), start(t, net, addrB, limited(psk(addrA), 1))
		a.acquire(addrB, "0")
		pass(time.Second)
		for range 3 {
			a.RekeyChild(a.sad.Alive()[0].InSPI)
			pass(time.Second)
			b.RekeyChild(b.sad.Alive()[0].InSPI)
			pass(time.Second)
		}
		if shared(a, b) != 1 || len(a.Peers()) != 1 || len(a.sad.Removed()) != 6 {
			t.Fatalf("%d Child SAs in %d IKE SAs, %d replaced", shared(a, b), len(a.Peers()), len(a.sad.Removed()))
		}
		first := a.Peers()[0].SPIi
		a.DeleteChild(a.sad.Alive()[0].InSPI)
		a.acquire(addrB, "0") // while the first IKE SA is deleted, as it is of no use any more
		pass(time.Second)
		if shared(a, b) != 1 || len(a.Peers()) != 1 || len(b.Peers()) != 1 || a.Peers()[0].SPIi == first {
			t.Errorf("%d Child SAs in %d IKE SAs, want 1 in another one", shared(a, b), len(a.Peers()))
		}
		if len(a.sad.Failures())+len(b.sad.Failures()) != 0 {
			t.Errorf("failures %v %v", a.sad.Failures(), b.sad.Failures())
		}
	})
}

// A peer that refuses to replace an SA is not asked again and again.
func TestManagerRekeyRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{Delay: 5 * time.Millisecond})
		a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
		a.acquire(addrB, "all")
		pass(time.Second)
		b.SetPolicies(with(psk(addrA), func(p *ike.ChildPolicy) { p.Lifetime = time.Hour }))
		sent := net.Sent(addrA)
		for range 61 {
			a.RekeyChild(a.sad.Alive()[0].InSPI)
			pass(time.Second)
		}
		if n := net.Sent(addrA) - sent; n < 3 || n > 5 { // and what asks whether b lives
			t.Errorf("%d messages in a minute, want three attempts", n)
		}
		a.acquire(addrB, "other")
		pass(time.Second)
		if shared(a, b) != 2 || len(a.sad.Failures()) != 0 {
			t.Errorf("%d Child SAs, failures %v", shared(a, b), a.sad.Failures())
		}
	})
}

// Several IKE SAs that are begun at once do not end each other, even if the
// answers of the first get lost.
func TestManagerFullUnderLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(10) {
			net := iketest.NewNetwork(seed, iketest.Faults{Loss: 0.2, Delay: 5 * time.Millisecond, Jitter: 20 * time.Millisecond})
			a, b := start(t, net, addrA, limited(psk(addrB), 1)), start(t, net, addrB, limited(psk(addrA), 1))
			for range 30 { // the applications go on sending
				for i := range 7 {
					if !slices.ContainsFunc(a.sad.Alive(), func(sa *ipsec.ChildSA) bool { return sa.Policy == fmt.Sprint(i) }) {
						a.acquire(addrB, fmt.Sprint(i))
					}
				}
				pass(2 * time.Second)
			}
			if n := shared(a, b); n != 7 || len(a.sad.Removed()) != 0 {
				t.Errorf("seed %d: %d Child SAs, want 7; a removed %v; failures %v", seed, n, a.sad.Removed(), a.sad.Failures())
			}
			a.stop()
			b.stop()
		}
	})
}

// RekeyChild does nothing about what is unknown or on its way, however often
// it is called.
func TestManagerRekeyChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{Delay: 5 * time.Millisecond})
		a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
		a.acquire(addrB, "all")
		pass(time.Second)
		before := a.sad.Alive()[0].InSPI
		sent := net.Sent(addrA)
		for i := range 20000 {
			a.RekeyChild(before)
			a.RekeyChild(0x7000_0000 + before)
			if i%1000 == 0 {
				pass(time.Millisecond)
			}
		}
		pass(time.Second)
		if shared(a, b) != 1 || a.sad.Alive()[0].InSPI == before || len(a.sad.Alive()) != 1 || len(b.sad.Alive()) != 1 {
			t.Errorf("a has %d Child SAs, b %d; failures %v", len(a.sad.Alive()), len(b.sad.Alive()), a.sad.Failures())
		}
		if n := net.Sent(addrA) - sent; n != 2 {
			t.Errorf("%d messages, want 2: the new SA, and the end of the old one", n)
		}
		// Both at once, as when both count the same bytes.
		a.RekeyChild(a.sad.Alive()[0].InSPI)
		b.RekeyChild(b.sad.Alive()[0].InSPI)
		pass(10 * time.Second)
		if shared(a, b) != 1 || len(a.sad.Alive()) != 1 || len(b.sad.Alive()) != 1 {
			t.Errorf("a has %d Child SAs, b %d", len(a.sad.Alive()), len(b.sad.Alive()))
		}
		if len(a.sad.Failures())+len(b.sad.Failures()) != 0 {
			t.Errorf("failures %v %v", a.sad.Failures(), b.sad.Failures())
		}
		// The peer has done it, and not yet deleted the old one.
		sent = net.Sent(addrA)
		b.RekeyChild(b.sad.Alive()[0].InSPI)
		pass(7 * time.Millisecond)
		if alive := a.sad.Alive(); len(alive) == 2 {
			a.RekeyChild(alive[0].InSPI)
		} else {
			t.Errorf("a has %d Child SAs while one is replaced, want both", len(alive))
		}
		pass(10 * time.Second)
		if n := net.Sent(addrA) - sent; n != 2 || shared(a, b) != 1 {
			t.Errorf("%d messages, want 2 answers; %d Child SAs", n, shared(a, b))
		}
		gone := a.sad.Alive()[0].InSPI
		a.DeleteChild(gone)
		a.RekeyChild(gone)
		pass(time.Second)
		if len(a.sad.Alive())+len(b.sad.Alive()) != 0 {
			t.Error("a deleted SA was replaced")
		}
	})
}

// A flow that the peer refuses for good is not tried again and again in new
// IKE SAs.
func TestManagerFullIsNotRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		theirs := psk(addrA)
		theirs.children = theirs.children[:1]
		theirs.children[0].Mode = ipsec.Tunnel
		a := start(t, net, addrA, psk(addrB))
		start(t, net, addrB, theirs)
		a.acquire(addrB, "all")
		pass(500 * time.Millisecond)
		fs := a.sad.Failures()
		if len(fs) != 1 || errors.Is(fs[0], ike.ErrFull) || len(a.Peers()) != 1 {
			t.Errorf("%d IKE SAs, failures %v", len(a.Peers()), fs)
		}
	})
}
