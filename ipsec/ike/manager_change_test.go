package ike_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
)

// with returns policies in which the rule "all" is changed.
func with(r rules, change func(*ike.ChildPolicy)) rules {
	r.children = []ike.ChildPolicy{all("all"), all("other")}
	change(&r.children[0])
	return r
}

// TestManagerPolicyChangesInFlight swaps the policies of one end while a Child
// SA is on its way: with delays of 10 ms, IKE_SA_INIT arrives at 10 ms,
// IKE_AUTH at 30 ms and its answer at 40 ms, and CREATE_CHILD_SA and its answer
// at 10 and 20 ms. No SA comes of a rule that is not any more what it was.
func TestManagerPolicyChangesInFlight(t *testing.T) {
	changes := []struct {
		name   string
		change func(*ike.ChildPolicy)
		stays  bool // what was asked for is still right
	}{
		{"nothing", func(*ike.ChildPolicy) {}, true},
		{"wider", func(p *ike.ChildPolicy) {
			p.Local, p.Remote = append(p.Local, host(addrA)), append(p.Remote, host(addrA))
		}, true},
		{"lifetime", func(p *ike.ChildPolicy) { p.Lifetime = time.Hour }, false},
		{"name", func(p *ike.ChildPolicy) { p.Name = "renamed" }, false},
		{"mode", func(p *ike.ChildPolicy) { p.Mode = ipsec.Tunnel }, false},
		{"cipher", func(p *ike.ChildPolicy) {
			p.Proposals = []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{{Type: ipsec.TypeEncr, ID: ipsec.EncrChaCha20Poly1305}}}}
		}, false},
		{"selectors", func(p *ike.ChildPolicy) { p.Remote = []ipsec.TrafficSelector{host(addrC)} }, false},
		{"peers", func(p *ike.ChildPolicy) {
			p.Peers = &ike.PeerGroup{Name: "both", Names: []string{addrA.String(), addrB.String()}}
		}, false},
	}
	for _, c := range changes {
		for _, tt := range []struct {
			name string
			late time.Duration // after the packet
			with bool          // there is an IKE SA already
		}{
			{"IKE_AUTH", 35 * time.Millisecond, false},
			{"IKE_SA_INIT", 5 * time.Millisecond, false},
			{"CREATE_CHILD_SA", 15 * time.Millisecond, true},
		} {
			t.Run("initiator, "+tt.name+", "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					net := iketest.NewNetwork(1, iketest.Faults{Delay: 10 * time.Millisecond})
					a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
					before := 0
					if tt.with {
						a.acquire(addrB, "other")
						pass(time.Second)
						before = 1
					}
					a.acquire(addrB, "all")
					time.Sleep(tt.late)
					a.SetPolicies(with(psk(addrB), c.change))
					pass(time.Second)
					fs := a.sad.Failures()
					if c.stays {
						before++
						if len(fs) != 0 {
							t.Errorf("failures %v", fs)
						}
					} else if len(fs) != 1 || !errors.Is(fs[0], ike.ErrPolicyChanged) {
						t.Errorf("failures %v, want ErrPolicyChanged", fs)
					}
					if shared(a, b) != before || len(a.sad.Alive()) != before || len(b.sad.Alive()) != before {
						t.Errorf("a has %d Child SAs, b %d, want %d", len(a.sad.Alive()), len(b.sad.Alive()), before)
					}
				})
			})
		}
	}
}

// TestManagerPolicyChangesAtResponder has the other end change its mind before
// the request that it is about has come.
func TestManagerPolicyChangesAtResponder(t *testing.T) {
	for _, tt := range []struct {
		name string
		late time.Duration
		with bool
	}{
		{"IKE_AUTH", 25 * time.Millisecond, false},
		{"CREATE_CHILD_SA", 5 * time.Millisecond, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{Delay: 10 * time.Millisecond})
				only := psk(addrA)
				only.children = only.children[:1]
				a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, only)
				before := 0
				if tt.with {
					a.acquire(addrB, "other")
					pass(time.Second)
					before = 1
				}
				a.acquire(addrB, "all")
				time.Sleep(tt.late)
				only.children = []ike.ChildPolicy{all("all")}
				only.children[0].Remote = []ipsec.TrafficSelector{host(addrC)}
				b.SetPolicies(only)
				pass(time.Second)
				if len(a.sad.Alive()) != before || len(b.sad.Alive()) != before {
					t.Errorf("a has %d Child SAs, b %d, want %d", len(a.sad.Alive()), len(b.sad.Alive()), before)
				}
			})
		})
	}
}

// A Child SA is not replaced by another of a rule that is not what it was, by
// whichever end, and not while a rekeying is on its way either.
func TestManagerRekeyOfChangedRule(t *testing.T) {
	for _, tt := range []struct {
		name     string
		whose    func(a, b *node) *node // the policies are changed of
		who      func(a, b *node) *node // replaces
		inFlight bool
	}{
		{"ours, by us", func(a, b *node) *node { return a }, func(a, b *node) *node { return a }, false},
		{"ours, by the peer", func(a, b *node) *node { return a }, func(a, b *node) *node { return b }, false},
		{"ours, by us, in flight", func(a, b *node) *node { return a }, func(a, b *node) *node { return a }, true},
		{"ours, by the peer, in flight", func(a, b *node) *node { return a }, func(a, b *node) *node { return b }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{Delay: 10 * time.Millisecond})
				a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
				a.acquire(addrB, "all")
				pass(time.Second)
				old := a.sad.Alive()[0].InSPI
				x, y := tt.who(a, b), tt.whose(a, b)
				rekey := func() { x.RekeyChild(x.sad.Alive()[0].InSPI) }
				if tt.inFlight {
					rekey()
					time.Sleep(5 * time.Millisecond)
				}
				y.SetPolicies(with(psk(addrB), func(p *ike.ChildPolicy) { p.Lifetime = time.Hour }))
				if !tt.inFlight {
					rekey()
				}
				pass(10 * time.Second)
				if shared(a, b) != 1 || len(a.sad.Alive()) != 1 || len(b.sad.Alive()) != 1 || a.sad.Alive()[0].InSPI != old {
					t.Errorf("a has %v, b %v, want the old one", a.sad.Alive(), b.sad.Alive())
				}
			})
		})
	}
}

// TestManagerEnds begins CloseAll and then goes on asking, at both ends.
func TestManagerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{Delay: 10 * time.Millisecond})
		a, b, c := start(t, net, addrA, psk(addrB, addrC)), start(t, net, addrB, psk(addrA)), start(t, net, addrC, psk(addrA))
		a.acquire(addrB, "all")
		pass(time.Second)
		a.acquire(addrB, "other")
		time.Sleep(15 * time.Millisecond) // b has its SA by now, and a not yet
		done := make(chan error)
		go func() { done <- a.CloseAll(t.Context()) }()
		synctest.Wait()
		sent := net.Sent(addrA)
		told := len(a.sad.Failures())
		if told != 1 || !errors.Is(a.sad.Failures()[0], ike.ErrClosed) {
			t.Errorf("failures %v, want ErrClosed for what was on its way", a.sad.Failures())
		}
		a.acquire(addrB, "all")
		a.acquire(addrC, "all")
		c.acquire(addrA, "all")
		b.acquire(addrA, "all")
		pass(5 * time.Millisecond)
		for _, err := range a.sad.Failures()[told:] {
			if !errors.Is(err, ike.ErrClosed) {
				t.Errorf("failed with %v, want ErrClosed", err)
			}
		}
		if n := len(a.sad.Failures()); n != told+2 {
			t.Errorf("%d failures, want %d", n, told+2)
		}
		if err := <-done; err != nil {
			t.Errorf("CloseAll: %v", err)
		}
		pass(10 * time.Second)
		b.acquire(addrA, "all")
		pass(time.Minute)
		if len(a.sad.Alive())+len(b.sad.Alive())+len(c.sad.Alive()) != 0 || len(a.Peers()) != 0 {
			t.Errorf("a has %d Child SAs, b %d, c %d", len(a.sad.Alive()), len(b.sad.Alive()), len(c.sad.Alive()))
		}
		if gone := a.sad.Removed(); len(gone) != 1 {
			t.Errorf("a removed %v, want the SA that it had before", gone)
		}
		if n := net.Sent(addrA) - sent; n > 4 {
			t.Errorf("a sent %d messages after its end", n)
		}
		if n := net.Sent(addrC); n == 0 {
			t.Error("c did not even try")
		}
	})
}

// A peer that goes on asking under an IKE SA that is being closed gets nothing.
func TestManagerEndsUnderLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(10) {
			net := iketest.NewNetwork(seed, iketest.Faults{Loss: 0.3, Jitter: 300 * time.Millisecond})
			a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
			a.acquire(addrB, "all")
			pass(20 * time.Second)
			a.acquire(addrB, "other")
			b.acquire(addrA, "other")
			pass(50 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			if err := a.CloseAll(ctx); err != nil {
				t.Errorf("seed %d: CloseAll: %v", seed, err)
			}
			cancel()
			b.acquire(addrA, "all")
			pass(2 * time.Minute)
			if n := len(a.sad.Alive()) + len(a.Peers()); n != 0 {
				t.Errorf("seed %d: %d SAs after the end", seed, n)
			}
			a.stop()
			b.stop()
		}
	})
}
