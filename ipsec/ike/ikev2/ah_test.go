package ikev2_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

func ahProposals(more ...ipsec.Transform) []ipsec.Proposal {
	return []ipsec.Proposal{{Protocol: ipsec.ProtoAH, Transforms: slices.Concat([]ipsec.Transform{
		{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256}, {Type: ipsec.TypeESN, ID: ipsec.ESNYes}, {Type: ipsec.TypeESN, ID: ipsec.ESNNo},
	}, more)}}
}

// authentic is web under AH.
func authentic(m ipsec.Mode, more ...ipsec.Transform) ike.ChildPolicy {
	p := web()
	p.Mode, p.Proposals = m, ahProposals(more...)
	return p
}

// nested is web as ESP inside AH.
func nested(m ipsec.Mode) ike.ChildPolicy {
	p := web()
	p.Mode = m
	around := p
	around.Mode, around.Outer, around.Proposals = ipsec.Transport, true, ahProposals()
	around.Local, around.Remote = []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 50)}, []ipsec.TrafficSelector{anyPort("10.0.0.2/32", 50)}
	p.Around = &around
	return p
}

// mirrors returns a nested policy and what goes around it, as the other end has
// them.
func mirrors(p ike.ChildPolicy) []ike.ChildPolicy {
	around := mirror(*p.Around)
	p = mirror(p)
	p.Around = &around
	return []ike.ChildPolicy{p, around}
}

// under sets the policies of both ends.
func (w *world) under(p ike.ChildPolicy) {
	w.a.Children, w.b.Children = []ike.ChildPolicy{p}, []ike.ChildPolicy{mirror(p)}
	if p.Around != nil {
		w.a.Children, w.b.Children = []ike.ChildPolicy{p, *p.Around}, mirrors(p)
	}
}

func (w *world) acquire(t *testing.T, a ike.Acquire) ike.Machine {
	t.Helper()
	m := initiator(w.a.Config(addrB))
	if err := w.a.Do(m, a); err != nil {
		t.Fatal(err)
	}
	w.Run(2 * time.Second)
	return m
}

// TestAH makes Child SAs of AH, and has them replaced and deleted (RFC 7296
// section 3.3.3: no encryption, and keys for integrity alone).
func TestAH(t *testing.T) {
	for _, tt := range []struct {
		name string
		mode ipsec.Mode
		more []ipsec.Transform
		a, b time.Duration // lifetimes
	}{
		{"transport, replaced by the initiator", ipsec.Transport, nil, 100 * time.Second, 0},
		{"tunnel, replaced by the responder", ipsec.Tunnel, nil, 0, 100 * time.Second},
		{"with key exchanges", ipsec.Transport, []ipsec.Transform{group(ipsec.GroupP256)}, 100 * time.Second, 100 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			var said []ipsec.ProtocolID
			trace := func(m ike.Message) {
				for _, p := range m.Payloads {
					switch p := p.(type) {
					case *wire.Delete:
						said = append(said, p.Protocol)
					case *wire.Notify:
						if p.Kind == wire.RekeySA {
							said = append(said, p.Protocol)
						}
					}
				}
			}
			child := authentic(tt.mode, tt.more...)
			w.under(child)
			child.Lifetime, w.b.Children[0].Lifetime = tt.a, tt.b
			w.a.Children[0].Lifetime = tt.a
			cfg := w.a.Config(addrB)
			cfg.Trace = trace
			m := initiator(cfg)
			if err := w.a.Do(m, packet(child)); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			w.check(t, 1)
			sa := w.a.Installed[0].SA
			if sa.Protocol != ipsec.ProtoAH || sa.Mode != tt.mode || sa.Encr != (ipsec.Transform{}) || sa.Integ.ID != ipsec.IntegHMACSHA256 || !sa.ESN || sa.Nested {
				t.Errorf("%+v", sa)
			}
			if k := sa.OutKeys; len(k.Encr) != 0 || len(k.Integ) != 32 {
				t.Errorf("keys of %d and %d bytes", len(k.Encr), len(k.Integ))
			}
			w.Run(400 * time.Second)
			w.check(t, 1)
			if n := len(w.a.Installed); n < 4 || n > 8 {
				t.Errorf("%d SAs in four lifetimes", n)
			}
			if len(said) < 6 || slices.ContainsFunc(said, func(p ipsec.ProtocolID) bool { return p != ipsec.ProtoAH }) {
				t.Errorf("REKEY_SA and Delete of %v", said)
			}
			if err := w.a.Do(m, ike.DeleteChild{InSPI: w.a.Alive()[0]}); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			w.check(t, 0)
		})
	}
}

// TestAHOrESP lets the ends choose between the two.
func TestAHOrESP(t *testing.T) {
	both := func(first, second []ipsec.Proposal) ike.ChildPolicy {
		p := web()
		p.Proposals = slices.Concat(first, second)
		return p
	}
	for _, tt := range []struct {
		name string
		a, b ike.ChildPolicy
		want ipsec.ProtocolID // 0 for none
	}{
		{"the responder's first", both(espProposals(), ahProposals()), both(ahProposals(), espProposals()), ipsec.ProtoAH},
		{"the only one in common", both(ahProposals(), espProposals()), web(), ipsec.ProtoESP},
		{"nothing in common", authentic(ipsec.Transport), web(), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			w.a.Children, w.b.Children = []ike.ChildPolicy{tt.a}, []ike.ChildPolicy{mirror(tt.b)}
			w.acquire(t, packet(tt.a))
			if tt.want == 0 {
				if len(w.a.Failed) != 1 || !errors.Is(w.a.Failed[0].Why, ike.ErrNoProposal) {
					t.Errorf("failures %v", w.a.Failed)
				}
				return
			}
			w.check(t, 1)
			if got := w.a.Installed[0].SA.Protocol; got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// alive returns the SAs of a host.
func alive(h *iketest.Host) (out []*ipsec.ChildSA) {
	in := h.Alive()
	for _, x := range h.Installed {
		if slices.Contains(in, x.SA.InSPI) {
			out = append(out, x.SA)
		}
	}
	return out
}

// protocols returns those of the SAs of a host that are alive, AH first.
func protocols(h *iketest.Host) (out []ipsec.ProtocolID) {
	for _, sa := range alive(h) {
		out = append(out, sa.Protocol)
	}
	slices.Sort(out)
	return out
}

func TestNested(t *testing.T) {
	ah, esp := ipsec.ProtoAH, ipsec.ProtoESP
	for _, mode := range []ipsec.Mode{ipsec.Transport, ipsec.Tunnel} {
		rule := nested(mode)
		other := packet(rule) // which another SA of the rule is for
		begin := func(t *testing.T) (*world, ike.Machine) {
			t.Helper()
			w := newWorld(1)
			w.under(rule)
			m := w.acquire(t, packet(rule))
			w.check(t, 2)
			return w, m
		}
		want := func(t *testing.T, w *world, ps ...ipsec.ProtocolID) {
			t.Helper()
			w.check(t, len(ps))
			for _, h := range []*iketest.Host{w.a, w.b} {
				if got := protocols(h); !slices.Equal(got, ps) {
					t.Errorf("%s has %v, want %v", h.Addr, got, ps)
				}
			}
		}
		in := func(h *iketest.Host, p ipsec.ProtocolID) ipsec.SPI {
			for _, sa := range alive(h) {
				if sa.Protocol == p {
					return sa.InSPI
				}
			}
			return 0
		}
		t.Run(mode.String()+", both", func(t *testing.T) {
			w, _ := begin(t)
			want(t, w, ah, esp)
			for _, h := range []*iketest.Host{w.a, w.b} {
				first, second := h.Installed[0], h.Installed[1]
				if first.SA.Protocol != ah || !first.More || first.SA.Nested || first.SA.Mode != ipsec.Transport || first.SA.Local[0].Protocol != 50 || first.SA.Policy != "web" {
					t.Errorf("%s: first %+v", h.Addr, first.SA)
				}
				if second.SA.Protocol != esp || second.More || !second.SA.Nested || second.SA.Mode != mode {
					t.Errorf("%s: second %+v", h.Addr, second.SA)
				}
			}
		})
		t.Run(mode.String()+", AH is lost", func(t *testing.T) {
			w, m := begin(t)
			if err := w.b.Do(w.b.Machines[0], ike.DeleteChild{InSPI: in(w.b, ah)}); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			want(t, w, esp)
			if err := w.a.Do(m, other); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			want(t, w, ah, esp)
			if last := w.a.Installed[len(w.a.Installed)-1]; last.More {
				t.Error("the ESP that is there is not counted on")
			}
		})
		t.Run(mode.String()+", ESP is lost", func(t *testing.T) {
			w, m := begin(t)
			if err := w.b.Do(w.b.Machines[0], ike.DeleteChild{InSPI: in(w.b, esp)}); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			if err := w.a.Do(m, other); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			want(t, w, ah, esp)
		})
		t.Run(mode.String()+", replaced", func(t *testing.T) {
			w, m := begin(t)
			for _, p := range []ipsec.ProtocolID{esp, ah} {
				if err := w.a.Do(m, ike.RekeyChild{InSPI: in(w.a, p)}); err != nil {
					t.Fatal(err)
				}
				w.Run(time.Second)
				want(t, w, ah, esp)
			}
			if n := len(w.a.Installed); n != 4 || w.a.Installed[3].More || !w.a.Installed[2].SA.Nested {
				t.Errorf("%d SAs: %+v", n, w.a.Installed)
			}
		})
		t.Run(mode.String()+", an IKE SA for each", func(t *testing.T) {
			w := newWorld(1)
			w.a.Policy.MaxChildren, w.b.Policy.MaxChildren = 1, 1
			w.under(rule)
			w.acquire(t, packet(rule))
			want(t, w, ah, esp)
		})
		t.Run(mode.String()+", childless", func(t *testing.T) {
			w := newWorld(1)
			w.a.Policy.Childless = true
			w.under(rule)
			w.acquire(t, packet(rule))
			want(t, w, ah, esp)
		})
		t.Run(mode.String()+", ESP alone is refused", func(t *testing.T) {
			w := newWorld(1)
			w.under(rule)
			w.b.Children = w.b.Children[:1]
			w.acquire(t, packet(rule))
			if len(w.a.Failed) != 1 || w.a.Failed[0].Policy != "web" || len(w.a.Alive()) != 0 {
				t.Errorf("failures %v, %d SAs", w.a.Failed, len(w.a.Alive()))
			}
		})
	}
}

// What is asked of another IKE SA in the place of one brings AH with ESP.
func TestNestedReauth(t *testing.T) {
	w := newWorld(1)
	rule := nested(ipsec.Transport)
	w.under(rule)
	m := w.acquire(t, packet(rule))
	got := m.(interface{ Wanted() []ike.Acquire }).Wanted()
	if len(got) != 1 || got[0].Child.Around == nil {
		t.Errorf("wants %+v", got)
	}
}

// AH cannot pass a NAT: the initiator knows before it asks, the responder refuses,
// and what has ESP too goes by that.
func TestAHThroughNAT(t *testing.T) {
	mixed := web()
	mixed.Proposals = slices.Concat(ahProposals(), espProposals())
	for _, tt := range []struct {
		name string
		rule ike.ChildPolicy
		good bool
	}{
		{"AH", authentic(ipsec.Tunnel), false},
		{"ESP inside AH", nested(ipsec.Tunnel), false},
		{"AH or ESP", mixed, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			w.NAT = &iketest.NAT{Inside: addrA, Outside: netip.MustParseAddr("192.0.2.1")}
			tt.rule.Mode = ipsec.Tunnel
			w.under(tt.rule)
			w.acquire(t, packet(tt.rule))
			if tt.good {
				w.check(t, 1)
				if got := w.a.Installed[0].SA.Protocol; got != ipsec.ProtoESP {
					t.Errorf("%s", got)
				}
				return
			}
			if len(w.a.Installed)+len(w.b.Installed) != 0 || len(w.a.Failed) == 0 {
				t.Fatalf("SAs %d, failures %v", len(w.a.Installed), w.a.Failed)
			}
			why := w.a.Failed[0].Why
			var n *ike.NegotiationError
			if !errors.Is(why, ike.ErrNAT) || !errors.As(why, &n) || ike.CauseOf(why) != ike.CauseAHNAT || !strings.Contains(n.Hint, "without ah") {
				t.Errorf("%v", why)
			}
		})
	}
}

// TestPadding looks at who says that it takes no padding beyond that of ESP: in
// transport mode both ends, as it would be a part of the packet; in a tunnel none,
// as the packet inside says how long it is.
func TestPadding(t *testing.T) {
	for _, mode := range []ipsec.Mode{ipsec.Transport, ipsec.Tunnel} {
		w := newWorld(1)
		rule := web()
		rule.Mode = mode
		w.under(rule)
		w.acquire(t, packet(rule))
		w.check(t, 1)
		for _, h := range []*iketest.Host{w.a, w.b} {
			if got := h.Installed[0].SA.Unpadded; got != (mode == ipsec.Transport) {
				t.Errorf("%s mode: %s is told %v", mode, h.Addr, got)
			}
		}
	}
}
