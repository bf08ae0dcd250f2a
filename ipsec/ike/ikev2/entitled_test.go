package ikev2

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

func secret(s string) ike.AuthMethod { return ike.PresharedKey{Secret: []byte(s)} }

func one(a netip.Addr) ipsec.TrafficSelector {
	return ipsec.SelectPrefix(netip.PrefixFrom(a, a.BitLen()), 6, 0, 0xffff)
}

// tunnel is a rule for all of 10.0.0.0/24 that asks for what the host's policy
// asks for, unless a test changes that.
func tunnel() ike.ChildPolicy {
	hosts := ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.0/24"), 6, 0, 0xffff)
	return ike.ChildPolicy{
		Name: "tunnel", Mode: ipsec.Tunnel,
		Proposals: []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}}}},
		Local:     []ipsec.TrafficSelector{hosts}, Remote: []ipsec.TrafficSelector{hosts},
	}
}

// pair is two hosts that authenticate with one preshared key.
type pair struct {
	*iketest.Sim
	a, b *iketest.Host
}

func newPair() *pair {
	sim := iketest.NewSim(1, time.Unix(1e9, 0))
	sim.Faults.Delay = time.Millisecond
	add := func(a string) *iketest.Host {
		return sim.Add(&iketest.Host{
			Addr: netip.MustParseAddr(a), Policy: ike.Policy{Auth: []ike.AuthMethod{secret("staff")}}, Children: []ike.ChildPolicy{tunnel()},
			Responder: func(c ike.MachineConfig) ike.Machine { return NewResponder(c) },
		})
	}
	return &pair{sim, add("10.0.0.1"), add("10.0.0.2")}
}

// acquire asks for a Child SA from a to b; m is nil for a new IKE SA.
func (p *pair) acquire(t *testing.T, m ike.Machine, rule ike.ChildPolicy) ike.Machine {
	t.Helper()
	if m == nil {
		m = NewInitiator(p.a.Config(p.b.Addr))
	}
	if err := p.a.Do(m, ike.Acquire{Child: rule, Local: one(p.a.Addr), Remote: one(p.b.Addr)}); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestEntitled has a peer that authenticated by one rule and wants a Child SA
// of another, at each end and in each exchange.
func TestEntitled(t *testing.T) {
	rule := func(peerID string, auth ...ike.AuthMethod) ike.ChildPolicy {
		c := tunnel()
		c.Name, c.Auth, c.PeerID = "other", auth, peerID
		return c
	}
	for _, tt := range []struct {
		name string
		rule ike.ChildPolicy
		good bool
	}{
		{"same key", rule("", secret("staff")), true},
		{"same key among others", rule("", ike.Certificate{}, secret("admins"), secret("staff")), true},
		{"another key", rule("", secret("admins")), false},
		{"certificate", rule("", ike.Certificate{}), false},
		{"no methods", rule("", []ike.AuthMethod{}...), false},
		{"another name", rule("boss.example", secret("staff")), false},
	} {
		check := func(t *testing.T, h *iketest.Host, p *pair, before int) {
			t.Helper()
			if n := len(p.a.Alive()); len(p.b.Alive()) != n || n != before && !tt.good || n != before+1 && tt.good {
				t.Fatalf("%d Child SAs at a and %d at b; there were %d", n, len(p.b.Alive()), before)
			}
			if tt.good {
				return
			}
			var why *ike.NegotiationError
			if len(h.Failed) != 1 || !errors.As(h.Failed[0].Why, &why) || !errors.Is(why, ike.ErrAuthentication) || why.Hint != hintSameAuth {
				t.Errorf("%s: failures %v", h.Addr, h.Failed)
			}
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Run("responder, IKE_AUTH", func(t *testing.T) {
				p := newPair()
				p.b.Children = []ike.ChildPolicy{tt.rule}
				p.acquire(t, nil, tunnel())
				p.Run(time.Second)
				check(t, p.b, p, 0)
			})
			t.Run("responder, CREATE_CHILD_SA", func(t *testing.T) {
				p := newPair()
				m := p.acquire(t, nil, tunnel())
				p.Run(time.Second)
				p.b.Children = []ike.ChildPolicy{tt.rule}
				p.acquire(t, m, tunnel())
				p.Run(time.Second)
				check(t, p.b, p, 1)
			})
			t.Run("initiator, IKE_AUTH", func(t *testing.T) {
				p := newPair()
				p.acquire(t, nil, tt.rule)
				p.Run(time.Second)
				check(t, p.a, p, 0)
				if len(p.a.Established) != 1 {
					t.Error("the IKE SA is good, and is gone")
				}
			})
			t.Run("initiator, CREATE_CHILD_SA", func(t *testing.T) {
				p := newPair()
				m := p.acquire(t, nil, tunnel())
				p.Run(time.Second)
				p.acquire(t, m, tt.rule)
				p.Run(time.Second)
				check(t, p.a, p, 1)
			})
		})
	}
}

// asked remembers whose rules were asked for.
type asked struct {
	ike.Policies
	remote []netip.Addr
}

func (a *asked) Child(local, remote netip.Addr, l, r []ipsec.TrafficSelector, transport bool) []ike.ChildPolicy {
	a.remote = append(a.remote, remote)
	return a.Policies.Child(local, remote, l, r, transport)
}

// A peer that pretends to be behind a NAT and sends from another's address
// gets no Child SA of the rules for that address, neither with IKE_AUTH nor
// later.
func TestMovedToAnotherAddress(t *testing.T) {
	victim, outside := netip.MustParseAddr("10.0.0.77"), netip.MustParseAddr("192.0.2.1")
	for _, tt := range []struct {
		name string
		when wire.ExchangeType
	}{
		{"with IKE_AUTH", wire.IKEAuth},
		{"with CREATE_CHILD_SA", wire.CreateChildSA},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair()
			var rules asked
			p.b.Responder = func(c ike.MachineConfig) ike.Machine {
				rules.Policies, c.Policies = c.Policies, &rules
				return NewResponder(c)
			}
			p.NAT = &iketest.NAT{Inside: p.a.Addr, Outside: outside}
			p.Mangle = func(_, _ netip.AddrPort, data []byte) []byte {
				if h, err := wire.ParseHeader(data); err == nil && h.Exchange == tt.when && !h.Response {
					p.NAT = &iketest.NAT{Inside: p.a.Addr, Outside: victim}
				}
				return data
			}
			m := p.acquire(t, nil, tunnel())
			p.Run(time.Second)
			p.acquire(t, m, tunnel())
			p.Run(time.Second)
			if len(p.b.Alive()) != 2 || len(rules.remote) != 2 {
				t.Fatalf("%d Child SAs, asked for %v", len(p.b.Alive()), rules.remote)
			}
			for _, a := range rules.remote {
				if a != outside {
					t.Errorf("b asked for the rules of %s, and the peer was chosen to be %s", a, outside)
				}
			}
		})
	}
}

// Nothing that a responder asks for counts before it has authenticated.
func TestRequestBeforeAuthentication(t *testing.T) {
	p := newPair()
	p.a.Policy.Proposals = []ipsec.Proposal{suiteByHand()}
	p.acquire(t, nil, tunnel())
	p.Run(2500 * time.Microsecond) // IKE_AUTH is on its way
	a, b := p.a.Machines[0].(*SA), p.b.Machines[0].(*SA)
	if a.State() != AuthSent || b.State() != InitAnswered {
		t.Fatalf("a is %s, b %s", a.State(), b.State())
	}
	data, err := wire.EncodeEncrypted(b.cur.header(wire.Informational, 0, false), []wire.Payload{&wire.Delete{Protocol: ipsec.ProtoIKE}}, b.cur.out)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.a.Do(a, ike.Datagram{Local: a.local, Remote: a.remote, Data: data}); !errors.Is(err, errIgnored) {
		t.Errorf("a deletion by nobody in particular: %v", err)
	}
	p.Run(time.Second)
	if len(p.a.Alive()) != 1 || len(p.b.Alive()) != 1 {
		t.Errorf("not connected: %v", p.a.Failed)
	}
}
