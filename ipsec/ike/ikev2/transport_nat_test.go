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

var natted = netip.MustParseAddr("192.0.2.1") // where a's NAT shows it

// anywhere is a rule for transport mode with any host.
func anywhere() ike.ChildPolicy {
	c := tunnel()
	all := ipsec.SelectPrefix(netip.MustParsePrefix("0.0.0.0/0"), 0, 0, 0xffff)
	c.Name, c.Mode, c.Local, c.Remote = "transport", ipsec.Transport, []ipsec.TrafficSelector{all}, []ipsec.TrafficSelector{all}
	return c
}

// transportBehindNAT is established in transport mode, with a behind a NAT.
func transportBehindNAT(t *testing.T) (p *pair, a, b *SA) {
	t.Helper()
	p = newPair()
	p.NAT = &iketest.NAT{Inside: p.a.Addr, Outside: natted}
	p.a.Children, p.b.Children = []ike.ChildPolicy{anywhere()}, []ike.ChildPolicy{anywhere()}
	a = p.acquire(t, nil, anywhere()).(*SA)
	p.Run(time.Second)
	if len(p.a.Installed) != 1 || len(p.b.Installed) != 1 {
		t.Fatalf("a: %v, b: %v", p.a.Failed, p.b.Failed)
	}
	return p, a, p.b.Machines[0].(*SA)
}

// agrees checks what the ends of a NAT made of one Child SA: each knows the two
// hosts as it sees them, and as the other does.
func agrees(t *testing.T, p *pair, i int) {
	t.Helper()
	inside, outside, server := p.a.Addr, natted, p.b.Addr
	only := func(ts []ipsec.TrafficSelector, a netip.Addr) bool {
		return len(ts) > 0 && !slices.ContainsFunc(ts, func(x ipsec.TrafficSelector) bool { return x.Start != a || x.End != a })
	}
	if sa := p.a.Installed[i].SA; !only(sa.Local, inside) || !only(sa.Remote, server) || sa.OriginalLocal != outside || sa.OriginalRemote != server || !sa.UDPEncap || !sa.BehindNAT {
		t.Errorf("behind the NAT: %+v", sa)
	}
	if sa := p.b.Installed[i].SA; !only(sa.Local, server) || !only(sa.Remote, outside) || sa.OriginalLocal != server || sa.OriginalRemote != inside || !sa.UDPEncap || sa.BehindNAT {
		t.Errorf("before the NAT: %+v", sa)
	}
}

// TestTransportThroughNAT makes Child SAs in transport mode from either end, and
// replaces them from either end (RFC 7296 section 2.23.1).
func TestTransportThroughNAT(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, p *pair, a, b *SA)
	}{
		{"another from behind the NAT", func(t *testing.T, p *pair, a, b *SA) { p.acquire(t, a, anywhere()) }},
		{"another from before it", func(t *testing.T, p *pair, a, b *SA) {
			if err := p.b.Do(b, ike.Acquire{Child: anywhere(), Local: one(p.b.Addr), Remote: one(natted)}); err != nil {
				t.Fatal(err)
			}
		}},
		{"rekeyed from behind the NAT", func(t *testing.T, p *pair, a, b *SA) {
			if err := p.a.Do(a, ike.RekeyChild{InSPI: p.a.Installed[0].SA.InSPI}); err != nil {
				t.Fatal(err)
			}
		}},
		{"rekeyed from before it", func(t *testing.T, p *pair, a, b *SA) {
			if err := p.b.Do(b, ike.RekeyChild{InSPI: p.b.Installed[0].SA.InSPI}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, a, b := transportBehindNAT(t)
			agrees(t, p, 0)
			tt.do(t, p, a, b)
			p.Run(time.Second)
			if len(p.a.Installed) != 2 || len(p.b.Installed) != 2 {
				t.Fatalf("a: %v, b: %v", p.a.Failed, p.b.Failed)
			}
			agrees(t, p, 1)
		})
	}
}

// Without a NAT nothing is replaced, even where UDP is forced.
func TestTransportForcedUDP(t *testing.T) {
	p := newPair()
	forced := anywhere()
	forced.ForceUDP = true
	p.a.Children, p.b.Children = []ike.ChildPolicy{forced}, []ike.ChildPolicy{forced}
	p.acquire(t, nil, forced)
	p.Run(time.Second)
	if len(p.a.Installed) != 1 || len(p.b.Installed) != 1 {
		t.Fatalf("a: %v, b: %v", p.a.Failed, p.b.Failed)
	}
	for _, sa := range []*ipsec.ChildSA{p.a.Installed[0].SA, p.b.Installed[0].SA} {
		if sa.OriginalRemote.IsValid() && (sa.OriginalRemote != sa.RemoteAddr.Addr() || sa.OriginalLocal != sa.LocalAddr.Addr()) || !sa.UDPEncap {
			t.Errorf("%+v", sa)
		}
	}
	if !p.a.Installed[0].SA.BehindNAT || p.b.Installed[0].SA.BehindNAT {
		t.Error("keepalives are not the affair of the one that wanted UDP alone")
	}
}

// TestSubstitute has peers write selectors of all kinds.
func TestSubstitute(t *testing.T) {
	here, there := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("192.0.2.1")
	seen, own := netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("10.9.9.9")
	ports := func(a netip.Addr, lo, hi uint16) ipsec.TrafficSelector {
		return ipsec.TrafficSelector{Protocol: 6, StartPort: lo, EndPort: hi, Start: a, End: a}
	}
	list := func(ts ...ipsec.TrafficSelector) []ipsec.TrafficSelector { return ts }
	six := netip.MustParseAddr("fd00::1")
	for _, tt := range []struct {
		name                string
		natLocal, natRemote bool
		local, remote       []ipsec.TrafficSelector
		moved               bool
		wantL, wantR        []ipsec.TrafficSelector // nil for an error
	}{
		{"peer behind a NAT", false, true, list(one(here)), list(ports(own, 5, 5), one(own)), false, list(one(here)), list(ports(there, 5, 5), one(there))},
		{"we are", true, false, list(ports(seen, 80, 90)), list(one(there)), false, list(ports(here, 80, 90)), list(one(there))},
		{"both", true, true, list(one(seen)), list(one(own)), false, list(one(here)), list(one(there))},
		{"a network behind the NAT", false, true, list(one(here)), list(ipsec.SelectPrefix(netip.MustParsePrefix("10.9.9.0/24"), 0, 0, 0xffff)), false, nil, nil},
		{"two hosts behind the NAT", false, true, list(one(here)), list(one(own), one(seen)), false, nil, nil},
		{"a range on our side", false, true, list(ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.0/30"), 0, 0, 0xffff)), list(one(own)), false, nil, nil},
		{"another family", false, true, list(one(here)), list(one(six)), false, nil, nil},
		{"nothing", false, true, list(one(here)), nil, false, nil, nil},
		{"a peer that has moved", false, true, list(one(here)), list(one(own)), true, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &SA{local: netip.AddrPortFrom(here, 4500), remote: netip.AddrPortFrom(there, 20000), udp: true, ends: ike.Ends{Local: here, Remote: there}}
			s.peer.NATLocal, s.peer.NATRemote = tt.natLocal, tt.natRemote
			if tt.moved {
				s.remote = netip.AddrPortFrom(own, 20000)
			}
			l, r, original, err := s.substitute(tt.local, tt.remote)
			if tt.wantL == nil {
				if !errors.Is(err, ike.ErrSelectors) {
					t.Errorf("%v and %v, error %v", l, r, err)
				}
				return
			}
			if err != nil || !slices.Equal(l, tt.wantL) || !slices.Equal(r, tt.wantR) {
				t.Errorf("%v and %v, error %v", l, r, err)
			}
			if original != (ike.Ends{Local: tt.local[0].Start, Remote: tt.remote[0].Start}) {
				t.Errorf("the peer knows %+v", original)
			}
		})
	}
	t.Run("no NAT", func(t *testing.T) {
		s := &SA{udp: false}
		wide := list(ipsec.SelectPrefix(netip.MustParsePrefix("10.9.9.0/24"), 0, 0, 0xffff))
		if l, r, original, err := s.substitute(wide, wide); err != nil || !slices.Equal(l, wide) || !slices.Equal(r, wide) || original != (ike.Ends{}) {
			t.Errorf("%v and %v, %+v, error %v", l, r, original, err)
		}
	})
}

// A peer that answers with selectors of several hosts gets no SA, and is told
// that there is none.
func TestTransportThroughNATBadAnswer(t *testing.T) {
	_, a, _ := transportBehindNAT(t)
	r, err := a.newChildRequest(ike.Acquire{Child: a.children[0].policy, Local: one(a.local.Addr()), Remote: one(a.remote.Addr())}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	wide := []ipsec.TrafficSelector{ipsec.SelectPrefix(netip.MustParsePrefix("192.0.2.0/24"), 0, 0, 0xffff)}
	chosen := r.offered[0]
	chosen.SPI = []byte{0, 0, 9, 9}
	ps := []wire.Payload{
		&wire.Notify{Kind: wire.UseTransportMode}, &wire.SA{Proposals: []ipsec.Proposal{chosen}},
		&wire.TS{Selectors: wide}, &wire.TS{Responder: true, Selectors: []ipsec.TrafficSelector{one(a.remote.Addr())}},
	}
	if _, exists, err := a.complete(r, ps, r.ni, make([]byte, nonceLen)); !exists || !errors.Is(err, ike.ErrSelectors) {
		t.Errorf("exists: %v, error %v", exists, err)
	}
}

// TestPathMovedESP has ESP come from another place: only an answer by IKE from
// there makes it the peer's.
func TestPathMovedESP(t *testing.T) {
	t.Run("by a NAT", func(t *testing.T) {
		p, _, b := transportBehindNAT(t)
		p.NAT.Rebind()
		at := p.NAT.Open(4500)
		if err := p.b.Do(b, ike.Moved{Local: b.local, Remote: at}); err != nil {
			t.Fatal(err)
		}
		p.Run(time.Second)
		if b.remote != at || len(p.b.Changed) != 1 {
			t.Errorf("b sends to %s", b.remote)
		}
	})
	t.Run("by somebody else", func(t *testing.T) {
		p, _, b := transportBehindNAT(t)
		was := b.remote
		for range 5 {
			if err := p.b.Do(b, ike.Moved{Local: b.local, Remote: netip.MustParseAddrPort("203.0.113.9:4500")}); err != nil {
				t.Fatal(err)
			}
		}
		p.Run(20 * time.Second)
		if b.remote != was || len(p.b.Changed) != 0 || b.state != Established {
			t.Errorf("b sends to %s, and is %s", b.remote, b.state)
		}
	})
	t.Run("of a peer without a NAT", func(t *testing.T) {
		p, _, b := established(t)
		sent := len(p.b.Sent)
		if err := p.b.Do(b, ike.Moved{Local: b.local, Remote: netip.MustParseAddrPort("203.0.113.9:4500")}); err != nil {
			t.Fatal(err)
		}
		if len(p.b.Sent) != sent || b.trial != (trial{}) {
			t.Errorf("trial %+v", b.trial)
		}
	})
}

// A peer that moves to another address leaves its Child SAs in transport mode
// behind, and begins anew.
func TestTransportOtherAddress(t *testing.T) {
	p, a, b := transportBehindNAT(t)
	p.NAT.Rebind()
	p.NAT.Outside = netip.MustParseAddr("198.51.100.1")
	asks(t, p.a, a, 1)
	p.Run(10 * time.Second)
	if a.state != Closed || b.state != Closed || len(p.b.Removed) != 1 || len(p.a.Removed) != 1 {
		t.Errorf("a is %s, b is %s", a.state, b.state)
	}
}
