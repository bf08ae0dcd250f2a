package ike_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/ikev2"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

var (
	addrA = netip.MustParseAddr("10.0.0.1")
	addrB = netip.MustParseAddr("10.0.0.2")
	addrC = netip.MustParseAddr("10.0.0.3")
)

// rules are policies with one preshared key for some peers.
type rules struct {
	secret   string
	localID  string
	peers    []netip.Addr
	children []ike.ChildPolicy
	forceUDP bool
	patience time.Duration
	most     int // Child SAs of one IKE SA
}

func (r rules) Peer(_, remote netip.Addr) (ike.Policy, bool) {
	return ike.Policy{
		Auth: key(r.secret),
		// One without a second key exchange, so that there are two exchanges.
		Proposals: classical,
		LocalID:   r.localID,
		ForceUDP:  r.forceUDP,
		Patience:  r.patience, MaxChildren: r.most,
	}, slices.Contains(r.peers, remote)
}

func (r rules) Child(_, _ netip.Addr, _, _ []ipsec.TrafficSelector, _ bool) []ike.ChildPolicy {
	return r.children
}

const secret = "correct horse"

// classical is algorithms as they were before the post-quantum ones.
var classical = []ipsec.Proposal{{Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{
	{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256},
	{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256},
	{Type: ipsec.TypeGroup, ID: ipsec.GroupX25519},
}}}

func key(secret string) []ike.AuthMethod {
	return []ike.AuthMethod{ike.PresharedKey{Secret: []byte(secret)}}
}

// all is a rule for every packet between the hosts of this file.
func all(name string) ike.ChildPolicy {
	net := ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.0/24"), 0, 0, 0xffff)
	return ike.ChildPolicy{
		Name: name, Mode: ipsec.Transport,
		Proposals: []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}}}},
		Local:     []ipsec.TrafficSelector{net}, Remote: []ipsec.TrafficSelector{net},
		Auth: key(secret),
	}
}

func host(a netip.Addr) ipsec.TrafficSelector {
	return ipsec.SelectPrefix(netip.PrefixFrom(a, a.BitLen()), 0, 0, 0xffff)
}

// node is a host with a Manager that runs.
type node struct {
	*ike.Manager
	addr netip.Addr
	sad  *iketest.SAD
	stop context.CancelFunc
}

var spiSpace ipsec.SPI = 0x1000

// start runs a Manager for the length of a test, or until stop.
func start(t *testing.T, n *iketest.Network, a netip.Addr, r ike.Policies, change ...func(*ike.ManagerConfig)) *node {
	t.Helper()
	spiSpace += 0x1000
	x := &node{addr: a, sad: iketest.NewSAD(spiSpace)}
	cfg := ike.ManagerConfig{
		Policies: r, Transport: n, DataPath: x.sad, Rand: iketest.Rand(uint64(spiSpace)),
		Initiator: func(c ike.MachineConfig) ike.Machine { return ikev2.NewInitiator(c) },
		Responder: func(c ike.MachineConfig) ike.Machine { return ikev2.NewResponder(c) },
	}
	for _, f := range change {
		f(&cfg)
	}
	x.Manager = ike.NewManager(cfg)
	n.Attach(a, x.Manager)
	ctx, cancel := context.WithCancel(t.Context())
	x.stop = cancel
	go func() {
		if err := x.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	return x
}

func (x *node) acquire(to netip.Addr, rule string) {
	x.Acquire(x.addr, to, all(rule), host(x.addr), host(to))
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// shared reports how many SAs of x have their counterpart at y.
func shared(x, y *node) (n int) {
	for _, a := range x.sad.Alive() {
		for _, b := range y.sad.Alive() {
			if a.InSPI == b.OutSPI && a.OutSPI == b.InSPI && slices.Equal(a.OutKeys.Encr, b.InKeys.Encr) {
				n++
			}
		}
	}
	return n
}

func psk(peers ...netip.Addr) rules {
	return rules{secret: secret, peers: peers, children: []ike.ChildPolicy{all("all"), all("other")}}
}

func TestManagerConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{Delay: 5 * time.Millisecond})
		a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
		for range 1000 {
			a.acquire(addrB, "all")
		}
		pass(time.Second)
		if n := shared(a, b); n != 1 {
			t.Fatalf("%d Child SAs for a thousand packets, want 1; failures %v", n, a.sad.Failures())
		}
		if n := net.Sent(addrA); n != 2 {
			t.Errorf("%d messages, want 2", n)
		}
		a.acquire(addrB, "other")
		pass(time.Second)
		if n := shared(a, b); n != 2 {
			t.Errorf("%d Child SAs for two rules, want 2", n)
		}
		peers := a.Peers()
		if len(peers) != 1 || len(peers[0].Children) != 2 || peers[0].RemoteID != "10.0.0.2" {
			t.Fatalf("peers %+v, want one with two children", peers)
		}
		a.DeleteChild(peers[0].Children[0].In)
		pass(time.Second)
		if n := shared(a, b); n != 1 || len(b.sad.Alive()) != 1 {
			t.Errorf("%d Child SAs after one was deleted, b has %d", n, len(b.sad.Alive()))
		}
		if err := a.CloseAll(t.Context()); err != nil {
			t.Errorf("CloseAll: %v", err)
		}
		pass(time.Second)
		if len(a.sad.Alive())+len(b.sad.Alive())+len(a.Peers())+len(b.Peers()) != 0 {
			t.Errorf("after CloseAll: a %v, b %v", a.sad.Alive(), b.sad.Alive())
		}
	})
}

func TestManagerUnderFaults(t *testing.T) {
	for _, tt := range []struct {
		name   string
		faults iketest.Faults
	}{
		{"loss", iketest.Faults{Loss: 0.3, Delay: 5 * time.Millisecond}},
		{"duplicates", iketest.Faults{Duplicate: 1, Delay: 5 * time.Millisecond}},
		{"reordering", iketest.Faults{Duplicate: 0.5, Jitter: 2 * time.Second}},
		{"all at once", iketest.Faults{Loss: 0.2, Duplicate: 0.3, Jitter: time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for seed := range uint64(8) {
					net := iketest.NewNetwork(seed, tt.faults)
					a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
					for range 30 { // the application goes on sending
						if len(a.sad.Alive()) == 0 {
							a.acquire(addrB, "all")
						}
						pass(2 * time.Second)
					}
					if shared(a, b) == 0 {
						t.Errorf("seed %d: no Child SA; a %v, b %v", seed, a.sad.Failures(), b.sad.Failures())
					}
					a.stop()
					b.stop()
				}
			})
		})
	}
}

// TestManagerSimultaneous begins at both ends at once, or nearly: whatever
// comes up must be usable, and stay.
func TestManagerSimultaneous(t *testing.T) {
	for _, lag := range []time.Duration{0, 3 * time.Millisecond, 5 * time.Millisecond, 12 * time.Millisecond, 18 * time.Millisecond} {
		t.Run(lag.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{Delay: 5 * time.Millisecond})
				a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
				a.acquire(addrB, "all")
				time.Sleep(lag)
				b.acquire(addrA, "all")
				pass(2 * time.Minute)
				n := shared(a, b)
				if n == 0 || len(a.sad.Alive()) != n || len(b.sad.Alive()) != n {
					t.Errorf("a has %d Child SAs, b %d, and they share %d", len(a.sad.Alive()), len(b.sad.Alive()), n)
				}
			})
		})
	}
}

// TestManagerStranger has a wrong key: packet after packet must not mean
// negotiation after negotiation.
func TestManagerStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		wrong := psk(addrB)
		wrong.secret = "wrong"
		a, b := start(t, net, addrA, wrong), start(t, net, addrB, psk(addrA))
		for range 100 {
			a.acquire(addrB, "all")
			pass(100 * time.Millisecond)
		}
		if len(a.sad.Alive())+len(b.sad.Alive()) != 0 {
			t.Fatal("a stranger got a Child SA")
		}
		// At 0, 1, 3 and 7 s, of two messages each.
		if n := net.Sent(addrA); n != 8 {
			t.Errorf("%d messages in 10 s, want 8", n)
		}
		fs := a.sad.Failures()
		if len(fs) != 100 || !errors.Is(fs[99], ike.ErrAuthentication) {
			t.Errorf("%d failures told, want 100: %v", len(fs), fs[len(fs)-1])
		}
		// The refusals are over: nothing of it remains.
		pass(time.Minute)
		a.SetPolicies(psk(addrB))
		a.acquire(addrB, "all")
		pass(time.Second)
		if shared(a, b) != 1 {
			t.Errorf("no Child SA with the right key: %v", a.sad.Failures())
		}
	})
}

func TestManagerNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		a := start(t, net, addrA, psk(addrB))
		a.acquire(addrB, "all")
		a.acquire(addrC, "all") // no rule
		pass(40 * time.Second)
		fs := a.sad.Failures()
		if len(fs) != 2 || !errors.Is(fs[1], ike.ErrNoAnswer) {
			t.Errorf("failures %v, want one for the rule, one for no answer", fs)
		}
		if n := net.Sent(addrA); n != ike.Patient.Sends {
			t.Errorf("%d messages, want %d", n, ike.Patient.Sends)
		}
	})
}

func TestManagerNoRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrC))
		a.acquire(addrB, "all")
		pass(40 * time.Second)
		if n := net.Sent(addrB); n != 0 {
			t.Errorf("%d answers to a peer that no rule concerns", n)
		}
		b.UnknownSPI(netip.AddrPortFrom(addrB, 0), netip.AddrPortFrom(addrA, 0), 0x1234)
		pass(time.Second)
		if n := net.Sent(addrB); n != 0 {
			t.Errorf("INVALID_SPI to a peer that no rule concerns")
		}
	})
}

// TestManagerRestart kills one end and starts it again with nothing in its
// memory. The other end keeps its SAs until it learns of it.
func TestManagerRestart(t *testing.T) {
	setup := func(t *testing.T, after time.Duration) (net *iketest.Network, a, b *node) {
		net = iketest.NewNetwork(1, iketest.Faults{Delay: 5 * time.Millisecond})
		a, b = start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
		a.acquire(addrB, "all")
		pass(time.Second)
		if shared(a, b) != 1 {
			t.Fatalf("not connected: %v", a.sad.Failures())
		}
		b.stop()
		net.Attach(addrB, nil)
		pass(after)
		return net, a, start(t, net, addrB, psk(addrA))
	}
	// One that is back within moments is no twin, which would know of the first.
	for _, after := range []time.Duration{5 * time.Second, 100 * time.Millisecond} {
		t.Run(fmt.Sprintf("the restarted end sends first, after %s", after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, b := setup(t, after)
				b.acquire(addrA, "all")
				pass(100 * time.Millisecond)
				if shared(a, b) != 1 || len(a.sad.Alive()) != 1 {
					t.Errorf("a has %d Child SAs, %d of them shared: the old one should be gone at once", len(a.sad.Alive()), shared(a, b))
				}
				pass(10 * time.Second)
				if shared(a, b) != 1 || len(a.sad.Alive()) != 1 || len(b.sad.Alive()) != 1 {
					t.Errorf("then a has %d and b %d Child SAs", len(a.sad.Alive()), len(b.sad.Alive()))
				}
			})
		})
	}
	t.Run("the other end goes on sending", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, a, b := setup(t, 5*time.Second)
			var took time.Duration
			for ; took < 20*time.Second && shared(a, b) == 0; took += 100 * time.Millisecond {
				if alive := a.sad.Alive(); len(alive) > 0 { // a seals, b does not know the SPI
					b.UnknownSPI(netip.AddrPortFrom(addrB, 0), netip.AddrPortFrom(addrA, 0), alive[0].OutSPI)
				} else {
					a.acquire(addrB, "all")
				}
				pass(100 * time.Millisecond)
			}
			if took > 6*time.Second {
				t.Errorf("recovery took %s", took)
			}
			if len(a.sad.Alive()) != 1 {
				t.Errorf("a has %d Child SAs", len(a.sad.Alive()))
			}
		})
	})
	t.Run("the other end asks for another Child SA", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, a, b := setup(t, 5*time.Second)
			var took time.Duration
			for ; took < 20*time.Second && shared(a, b) == 0; took += 100 * time.Millisecond {
				a.acquire(addrB, "other")
				pass(100 * time.Millisecond)
			}
			if took > 7*time.Second {
				t.Errorf("recovery took %s", took)
			}
		})
	})
	t.Run("a forged INVALID_SPI ends nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			net, a, b := setup(t, 5*time.Second)
			b.acquire(addrA, "all")
			pass(time.Second)
			alive := a.sad.Alive()[0]
			for range 100 {
				b.UnknownSPI(netip.AddrPortFrom(addrB, 0), netip.AddrPortFrom(addrA, 0), alive.OutSPI)
				pass(time.Second)
			}
			if shared(a, b) != 1 || len(a.sad.Failures()) != 0 {
				t.Errorf("the SA is gone: %v", a.sad.Failures())
			}
			if n := net.Sent(addrA); n > 30 {
				t.Errorf("%d messages of a in 100 s, for which rate limits should care", n)
			}
		})
	})
}

// firstWords has a stranger's machine say its first words to b and go away.
func firstWords(t *testing.T, b *node, from netip.Addr, p ike.Policy, seed uint64) {
	t.Helper()
	rand := iketest.Rand(seed)
	m := ikev2.NewInitiator(ike.MachineConfig{
		Local: netip.AddrPortFrom(from, 500), Remote: netip.AddrPortFrom(b.addr, 500), Rand: rand, Policy: p,
		NewSPI: func() ipsec.SPI { return 0x999 }, NewIKESPI: func() uint64 { return rand.Uint64() | 1 },
		FirstContact: func() bool { return false },
	})
	effects, err := m.Handle(time.Now(), ike.Acquire{Child: all("all"), Local: host(from), Remote: host(b.addr)})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range effects {
		if s, ok := e.(ike.Send); ok {
			b.HandleDatagram(s.Remote, s.Local, s.Data)
		}
	}
}

func TestManagerFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		flooders := []netip.Addr{addrA}
		for i := range 200 {
			flooders = append(flooders, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		}
		b := start(t, net, addrB, psk(flooders...), func(c *ike.ManagerConfig) { c.HalfOpen, c.CookiesFrom = 40, 4 })
		for i, from := range flooders[1:] {
			firstWords(t, b, from, ike.Policy{Auth: key("x")}, uint64(i))
		}
		pass(time.Second)
		// The first four got an answer with state, the rest only a cookie.
		if n := net.Sent(addrB); n != 200 {
			t.Errorf("%d answers to 200 requests", n)
		}
		a := start(t, net, addrA, psk(addrB))
		a.acquire(addrB, "all")
		pass(time.Second)
		if shared(a, b) != 1 {
			t.Errorf("an honest peer gets no SA under a flood: %v", a.sad.Failures())
		}
		if n := net.Sent(addrA); n != 3 {
			t.Errorf("%d messages, want 3: one more, with the cookie", n)
		}
	})
}

func TestManagerUDP(t *testing.T) {
	for _, tt := range []struct {
		name         string
		forceA       bool
		forceB       bool
		nat          bool
		portA, portB uint16 // of b's and a's ESP as the other end sees it
	}{
		{name: "no NAT"},
		{name: "forced by the initiator", forceA: true, portA: 4500, portB: 4500},
		{name: "forced by the responder", forceB: true, portA: 4500, portB: 4500},
		{name: "initiator behind a NAT", nat: true, portA: 20001, portB: 4500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{Delay: time.Millisecond})
				seenAs := addrA
				if tt.nat {
					seenAs = addrC
					net.SetNAT(&iketest.NAT{Inside: addrA, Outside: addrC})
				}
				ra, rb := psk(addrB), psk(seenAs)
				ra.forceUDP, rb.forceUDP = tt.forceA, tt.forceB
				tunnel := all("all")
				tunnel.Mode = ipsec.Tunnel
				ra.children, rb.children = []ike.ChildPolicy{tunnel}, []ike.ChildPolicy{tunnel}
				a, b := start(t, net, addrA, ra), start(t, net, addrB, rb)
				a.Acquire(addrA, addrB, tunnel, host(addrA), host(addrB))
				pass(time.Second)
				if shared(a, b) != 1 {
					t.Fatalf("not connected: %v %v", a.sad.Failures(), b.sad.Failures())
				}
				x, y := a.sad.Alive()[0], b.sad.Alive()[0]
				want := tt.forceA || tt.forceB || tt.nat
				if x.UDPEncap != want || y.UDPEncap != want {
					t.Errorf("UDP: a %v, b %v, want %v", x.UDPEncap, y.UDPEncap, want)
				}
				if y.RemoteAddr.Port() != tt.portA || x.RemoteAddr.Port() != tt.portB || y.RemoteAddr.Addr() != seenAs {
					t.Errorf("a sends to %s, b to %s", x.RemoteAddr, y.RemoteAddr)
				}
				p := a.Peers()[0]
				if tt.nat && (!p.NATLocal || p.NATRemote) {
					t.Errorf("a: NAT here %v, there %v", p.NATLocal, p.NATRemote)
				}
			})
		})
	}
}

// When a peer's NAT gives it another port or address, its Child SAs go there.
func TestManagerPeerMoves(t *testing.T) {
	for _, tt := range []struct {
		name    string
		outside netip.Addr
	}{{"another port", addrC}, {"another address", netip.MustParseAddr("10.0.0.77")}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{Delay: time.Millisecond})
				nat := &iketest.NAT{Inside: addrA, Outside: addrC}
				net.SetNAT(nat)
				ra, rb := psk(addrB), psk(addrC)
				one, other := all("all"), all("other")
				one.Mode, other.Mode = ipsec.Tunnel, ipsec.Tunnel
				ra.children = []ike.ChildPolicy{one, other}
				rb.children = ra.children
				a, b := start(t, net, addrA, ra), start(t, net, addrB, rb)
				a.Acquire(addrA, addrB, one, host(addrA), host(addrB))
				pass(time.Second)
				was := b.sad.Alive()[0]
				nat.Rebind()
				nat.Outside = tt.outside
				a.Acquire(addrA, addrB, other, host(addrA), host(addrB))
				pass(5 * time.Second)
				if shared(a, b) != 2 {
					t.Fatalf("%d pairs of SAs, want 2: %v %v", shared(a, b), a.sad.Failures(), b.sad.Failures())
				}
				want := b.Peers()[0].Remote
				if want == was.RemoteAddr || want.Addr() != tt.outside {
					t.Fatalf("b sends IKE messages to %s", want)
				}
				for _, sa := range b.sad.Alive() {
					if sa.RemoteAddr != want || sa.LocalAddr != was.LocalAddr {
						t.Errorf("packets of %s go from %s to %s, want to %s", sa.InSPI, sa.LocalAddr, sa.RemoteAddr, want)
					}
				}
			})
		})
	}
}

// The SAs of a peer that only sends ESP follow it too.
func TestManagerMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{Delay: time.Millisecond})
		nat := &iketest.NAT{Inside: addrA, Outside: addrC}
		net.SetNAT(nat)
		ra, rb := psk(addrB), psk(addrC)
		a, b := start(t, net, addrA, ra), start(t, net, addrB, rb)
		a.Acquire(addrA, addrB, all("all"), host(addrA), host(addrB))
		pass(time.Second)
		if shared(a, b) != 1 {
			t.Fatalf("%d pairs of SAs: %v %v", shared(a, b), a.sad.Failures(), b.sad.Failures())
		}
		was := b.sad.Alive()[0]
		nat.Rebind()
		now := nat.Open(4500)
		b.Moved(was.InSPI+1, was.LocalAddr, now) // of which nobody knows
		for range 3 {
			b.Moved(was.InSPI, was.LocalAddr, now)
		}
		pass(100 * time.Millisecond)
		if sa := b.sad.Alive()[0]; sa.RemoteAddr != now || was.RemoteAddr == now || b.Peers()[0].Remote != now {
			t.Errorf("packets go to %s, messages to %s; the peer is at %s", sa.RemoteAddr, b.Peers()[0].Remote, now)
		}
	})
}

func TestManagerNotInstalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
		a.sad.Refuse()
		a.acquire(addrB, "all")
		pass(time.Second)
		if len(b.sad.Alive()) != 0 {
			t.Error("b still has an SA that a could not install")
		}
		if len(a.sad.Failures()) != 1 {
			t.Errorf("failures %v, want one", a.sad.Failures())
		}
	})
}

func TestManagerSetPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
		a.acquire(addrB, "all")
		pass(time.Second)
		a.SetPolicies(psk(addrB))
		pass(time.Second)
		if shared(a, b) != 1 {
			t.Error("the SA is gone though the policy is the same")
		}
		a.SetPolicies(psk(addrC))
		pass(time.Second)
		if len(a.sad.Alive())+len(b.sad.Alive()) != 0 {
			t.Error("the SA outlived its rule")
		}
	})
}

func TestManagerStrayDatagrams(t *testing.T) {
	message := func(version uint8, x wire.ExchangeType, response bool, first wire.PayloadType) []byte {
		b, err := wire.Encode(wire.Header{SPIi: 7, SPIr: 8, Version: wire.Version2, Exchange: x, Initiator: true, Response: response, MessageID: 3},
			[]wire.Payload{&wire.Encrypted{Body: make([]byte, 40)}})
		if err != nil {
			t.Fatal(err)
		}
		b[16], b[17] = byte(first), version
		return b
	}
	for _, tt := range []struct {
		name string
		data []byte
		want wire.NotifyType // 0 for no answer
	}{
		{"empty", nil, 0},
		{"noise", []byte("not IKE, but longer than a header of it"), 0},
		{"IKEv1", message(0x10, 2, false, 1), 0},
		{"IKEv3", message(0x30, wire.IKESAInit, false, 1), wire.InvalidMajorVersion},
		{"unknown SPI", message(wire.Version2, wire.Informational, false, wire.TypeEncrypted), wire.InvalidIKESPI},
		{"response to nothing", message(wire.Version2, wire.Informational, true, wire.TypeEncrypted), 0},
		{"unprotected request", message(wire.Version2, wire.Informational, false, 0), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []wire.NotifyType
				catch := transport(func(data []byte) {
					h, ps, err := wire.Decode(data)
					if err != nil || !h.Response || h.SPIi != 7 || h.SPIr != 8 || h.MessageID != 3 || h.Initiator {
						t.Errorf("answer %+v: %v", h, err)
					}
					n, _ := wire.Find[*wire.Notify](ps)
					got = append(got, n.Kind)
				})
				a := start(t, iketest.NewNetwork(1, iketest.Faults{}), addrA, psk(addrB), func(c *ike.ManagerConfig) { c.Transport = catch })
				for range 5 { // within a second: one answer
					a.HandleDatagram(netip.AddrPortFrom(addrA, 500), netip.AddrPortFrom(addrB, 500), tt.data)
				}
				pass(time.Millisecond)
				var want []wire.NotifyType
				if tt.want != 0 {
					want = []wire.NotifyType{tt.want}
				}
				if !slices.Equal(got, want) {
					t.Errorf("answers %v, want %v", got, want)
				}
			})
		})
	}
}

// transport is an ike.Transport that looks at what is sent.
type transport func(data []byte)

func (f transport) Send(_, _ netip.AddrPort, data []byte) error {
	f(data)
	return nil
}
