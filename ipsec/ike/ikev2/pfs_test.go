package ikev2

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// withGroups is the rule tunnel with these groups for the key exchange of each
// Child SA.
func withGroups(ids ...uint16) ike.ChildPolicy {
	p := tunnel()
	for _, id := range ids {
		p.Proposals[0].Transforms = append(p.Proposals[0].Transforms, ipsec.Transform{Type: ipsec.TypeGroup, ID: id})
	}
	return p
}

// seen is a protected message that went by.
type seen struct {
	wire.Header
	ps []wire.Payload
}

// watch reads all protected messages from now on, with the keys of whom they
// are for.
func (p *pair) watch(t *testing.T) *[]seen {
	var out []seen
	p.Mangle = func(_, to netip.AddrPort, data []byte) []byte {
		h, outer, err := wire.Decode(data)
		if err != nil {
			t.Errorf("decode: %v", err)
			return data
		}
		e, ok := wire.Find[*wire.Encrypted](outer)
		if !ok {
			return data
		}
		for _, x := range []*iketest.Host{p.a, p.b} {
			if x.Addr != to.Addr() || len(x.Machines) == 0 {
				continue
			}
			ps, err := wire.OpenEncrypted(data, e, x.Machines[0].(*SA).cur.in)
			if err != nil {
				t.Errorf("open %s: %v", h.Exchange, err)
			}
			out = append(out, seen{h, ps})
		}
		return data
	}
	return &out
}

// TestPFS makes a Child SA with IKE_AUTH, for which groups do not count, and
// then has each end ask for another one, and replace the first.
func TestPFS(t *testing.T) {
	const (
		none    = ipsec.GroupNone
		refused = 0xffff
		x, p, q = ipsec.GroupX25519, ipsec.GroupP256, ipsec.GroupP384
	)
	type groups = []uint16
	for _, tt := range []struct {
		name       string
		a, b       groups // of the rules of both ends
		whenA      uint16 // the group of what comes about when a asks
		whenB      uint16
		askA, askB groups // those of the KE payloads of the requests
	}{
		{"neither wants it", nil, nil, none, none, groups{none}, groups{none}},
		{"both want it", groups{x}, groups{x}, x, x, groups{x}, groups{x}},
		{"preferences differ", groups{x, p}, groups{p, x}, x, p, groups{x}, groups{p}},
		{"one in common, not the first", groups{x, q, p}, groups{p}, p, p, groups{x, p}, groups{p}},
		{"nothing in common", groups{x}, groups{p}, refused, refused, groups{x}, groups{p}},
		{"only a wants it", groups{x}, nil, x, x, groups{x}, groups{none, x}},
		{"only b wants it", nil, groups{x}, x, x, groups{none, x}, groups{x}},
		{"a wants a weak group, b none", groups{ipsec.GroupMODP1024}, nil, refused, refused, groups{ipsec.GroupMODP1024}, groups{none, x}},
		{"a takes both, b says nothing", groups{x, none}, nil, x, none, groups{x}, groups{none}},
		{"a takes both, b wants it", groups{x, none}, groups{x}, x, x, groups{x}, groups{x}},
		{"a takes both, b another", groups{none, x, p}, groups{p}, p, p, groups{none, p}, groups{p}},
	} {
		for _, by := range []string{"a", "b"} {
			for _, rekey := range []bool{false, true} {
				what := "another, by "
				if rekey {
					what = "replaced by "
				}
				t.Run(tt.name+", "+what+by, func(t *testing.T) {
					w := newPair()
					ruleA, ruleB := withGroups(tt.a...), withGroups(tt.b...)
					w.a.Children, w.b.Children = []ike.ChildPolicy{ruleA}, []ike.ChildPolicy{ruleB}
					w.acquire(t, nil, ruleA)
					w.Run(time.Second)
					if len(w.a.Alive()) != 1 || len(w.b.Alive()) != 1 {
						t.Fatalf("groups counted in IKE_AUTH: %v %v", w.a.Failed, w.b.Failed)
					}
					h, other, rule, want, ask := w.a, w.b, ruleA, tt.whenA, tt.askA
					if by == "b" {
						h, other, rule, want, ask = w.b, w.a, ruleB, tt.whenB, tt.askB
					}
					said := w.watch(t)
					var ev ike.Event = ike.Acquire{Child: rule, Local: one(h.Addr), Remote: one(other.Addr)}
					if rekey {
						ev = ike.RekeyChild{InSPI: h.Alive()[0]}
					}
					if err := h.Do(h.Machines[0], ev); err != nil {
						t.Fatal(err)
					}
					w.Run(10 * time.Second)

					installed, alive := 2, 2
					if want == refused {
						installed = 1
					}
					if rekey || want == refused {
						alive = 1
					}
					for _, x := range []*iketest.Host{w.a, w.b} {
						if len(x.Installed) != installed || len(x.Alive()) != alive {
							t.Fatalf("%s installed %d, %d alive; failures %v %v", x.Addr, len(x.Installed), len(x.Alive()), w.a.Failed, w.b.Failed)
						}
					}
					var asked []uint16
					var last seen
					for _, s := range *said {
						if s.Exchange != wire.CreateChildSA {
							continue
						}
						last = s
						if ke, ok := wire.Find[*wire.KE](s.ps); !s.Response && ok {
							asked = append(asked, ke.Group)
						} else if !s.Response {
							asked = append(asked, none)
						}
					}
					if !slices.Equal(asked, ask) {
						t.Errorf("asked with the groups %v, want %v", asked, ask)
					}
					if want == refused {
						if _, ok := wire.FindNotify(last.ps, wire.NoProposalChosen); !ok || !errors.Is(h.Failed[0].Why, ike.ErrNoProposal) {
							t.Errorf("the answer is %v, and %v", last.ps, h.Failed)
						}
						return
					}
					i, j := h.Installed[1].SA, other.Installed[1].SA
					if i.InSPI != j.OutSPI || !slices.Equal(i.InKeys.Encr, j.OutKeys.Encr) || !slices.Equal(i.OutKeys.Encr, j.InKeys.Encr) {
						t.Error("the ends have other keys or SPIs")
					}
					ke, ok := wire.Find[*wire.KE](last.ps)
					if ok != (want != none) || ok && ke.Group != want {
						t.Errorf("key exchange in the answer: %v, want the group %d", ok, want)
					}
				})
			}
		}
	}
}

// IKE_AUTH speaks of no groups, and brings no key exchange for its Child SA.
func TestNoGroupsInAuth(t *testing.T) {
	w := newPair()
	w.a.Policy.Proposals = []ipsec.Proposal{suiteByHand()}
	rule := withGroups(ipsec.GroupX25519, ipsec.GroupP256)
	w.b.Children = []ike.ChildPolicy{rule}
	said := w.watch(t)
	w.acquire(t, nil, rule)
	w.Run(time.Second)
	if len(*said) != 2 || len(w.a.Alive()) != 1 {
		t.Fatalf("%d messages, %d Child SAs", len(*said), len(w.a.Alive()))
	}
	for _, s := range *said {
		sa, ok := wire.Find[*wire.SA](s.ps)
		if !ok || s.Exchange != wire.IKEAuth {
			t.Fatalf("%s without SA", s.Exchange)
		}
		for _, p := range sa.Proposals {
			if _, ok := p.First(ipsec.TypeGroup); ok {
				t.Errorf("a proposal with a group: %s", p)
			}
		}
		if _, ok := wire.Find[*wire.KE](s.ps); ok {
			t.Error("a KE payload")
		}
	}
}
