package ike_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
)

// lane is a data path that chooses an SA for each packet as the real one does:
// the newest, and one on standby when there is no other.
type lane struct {
	*iketest.SAD
	mu       sync.Mutex
	outbound []*ipsec.ChildSA
}

func (l *lane) Install(c ike.InstallChild) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.Standby {
		l.outbound = append(l.outbound, c.SA)
	} else {
		l.outbound = slices.Insert(l.outbound, 0, c.SA)
	}
	return l.SAD.Install(c)
}

func (l *lane) Remove(in ipsec.SPI, reason string, late bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outbound = slices.DeleteFunc(l.outbound, func(sa *ipsec.ChildSA) bool { return sa.InSPI == in })
	l.SAD.Remove(in, reason, late)
}

// send returns the SPI of the next packet, or 0 if it has to wait.
func (l *lane) send() ipsec.SPI {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.outbound) == 0 {
		return 0
	}
	return l.outbound[0].OutSPI
}

func (l *lane) has(spi ipsec.SPI) bool {
	return slices.ContainsFunc(l.Alive(), func(sa *ipsec.ChildSA) bool { return sa.InSPI == spi })
}

// TestBothBegin has two hosts begin at the same instant, or nearly. In the end
// there is one IKE SA, and no packet of either has got lost on the way there.
func TestBothBegin(t *testing.T) {
	stayed := map[netip.Addr]int{}
	for _, tt := range []struct {
		name  string
		later time.Duration // b begins
		delay time.Duration
		rules []string // of a and of b
	}{
		{"at the same instant", 0, 10 * time.Millisecond, []string{"all", "all"}},
		{"a moment later", 5 * time.Millisecond, 10 * time.Millisecond, []string{"all", "all"}},
		{"while the answer is on its way", 15 * time.Millisecond, 10 * time.Millisecond, []string{"all", "all"}},
		{"over a slow network", 100 * time.Millisecond, 300 * time.Millisecond, []string{"all", "all"}},
		{"for two rules", 0, 20 * time.Millisecond, []string{"all", "more"}},
	} {
		for seed := range uint64(6) { // either end's IKE SA may stay
			t.Run(fmt.Sprintf("%s, %d", tt.name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					net := iketest.NewNetwork(seed, iketest.Faults{Delay: tt.delay})
					two := func(peer netip.Addr) rules {
						return rules{secret: secret, peers: []netip.Addr{peer}, children: []ike.ChildPolicy{all("all"), all("more")}}
					}
					var lanes [2]*lane
					host := func(i int, addr, peer netip.Addr) *node {
						return start(t, net, addr, two(peer), func(c *ike.ManagerConfig) {
							lanes[i] = &lane{SAD: c.DataPath.(*iketest.SAD)}
							c.DataPath, c.Rand = lanes[i], iketest.Rand(seed*100+uint64(i))
						})
					}
					a, b := host(0, addrA, addrB), host(1, addrB, addrA)
					a.acquire(addrB, tt.rules[0])
					pass(tt.later)
					b.acquire(addrA, tt.rules[1])
					var mu sync.Mutex
					sent, lost := 0, 0
					for range 4000 {
						for i, l := range lanes {
							spi, peer := l.send(), lanes[1-i]
							if spi == 0 {
								continue
							}
							sent++
							// It comes after what was said before it.
							time.AfterFunc(tt.delay+time.Microsecond, func() {
								mu.Lock()
								defer mu.Unlock()
								if !peer.has(spi) {
									lost++
								}
							})
						}
						pass(5 * time.Millisecond)
					}
					pass(time.Second)
					p, q := a.Peers(), b.Peers()
					if len(p) != 1 || len(q) != 1 || p[0].SPIi != q[0].SPIi {
						t.Fatalf("%d and %d IKE SAs are left", len(p), len(q))
					}
					if p[0].Initiator {
						stayed[addrA]++
					} else {
						stayed[addrB]++
					}
					if lost != 0 || sent < 6000 {
						t.Errorf("%d of %d packets lost", lost, sent)
					}
					if n := shared(a, b); n == 0 || n != len(a.sad.Alive()) || n != len(b.sad.Alive()) {
						t.Errorf("%d and %d Child SAs, %d of them shared", len(a.sad.Alive()), len(b.sad.Alive()), n)
					}
					have, pairs := map[string]int{}, map[string]int{}
					for _, x := range a.sad.Alive() {
						have[x.Policy]++
						for _, y := range b.sad.Alive() {
							if y.InSPI == x.OutSPI {
								pairs[x.Policy+" and "+y.Policy]++
							}
						}
					}
					for of, n := range pairs {
						if n > 1 {
							t.Errorf("%d Child SAs for the rules %s", n, of)
						}
					}
					for _, rule := range tt.rules {
						if have[rule]+have["all"] == 0 {
							t.Errorf("no Child SA for the rule %s", rule)
						}
					}
					if len(a.sad.Failures())+len(b.sad.Failures()) != 0 {
						t.Errorf("failures %v %v", a.sad.Failures(), b.sad.Failures())
					}
				})
			})
		}
	}
	if stayed[addrA] < 5 || stayed[addrB] < 5 {
		t.Errorf("what a began stayed %d times, and what b began %d times", stayed[addrA], stayed[addrB])
	}
}

// TestBothBeginUnderLoss has messages get lost, so that a beginning may come
// when the other one is over: there is one IKE SA nevertheless, after a while.
func TestBothBeginUnderLoss(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(seed, iketest.Faults{Delay: 10 * time.Millisecond, Loss: 0.2})
				a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
				a.acquire(addrB, "all")
				b.acquire(addrA, "all")
				pass(15 * time.Second)
				net.SetFaults(iketest.Faults{Delay: 10 * time.Millisecond})
				pass(90 * time.Second)
				p, q := a.Peers(), b.Peers()
				if len(p) != 1 || len(q) != 1 || p[0].SPIi != q[0].SPIi {
					t.Fatalf("%d and %d IKE SAs are left", len(p), len(q))
				}
				if n := shared(a, b); n == 0 || n != len(a.sad.Alive()) || n != len(b.sad.Alive()) {
					t.Errorf("%d and %d Child SAs, %d of them shared", len(a.sad.Alive()), len(b.sad.Alive()), n)
				}
			})
		})
	}
}
