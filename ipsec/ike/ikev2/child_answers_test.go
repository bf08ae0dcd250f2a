package ikev2

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

func selector(prefix string) ipsec.TrafficSelector {
	return ipsec.SelectPrefix(netip.MustParsePrefix(prefix), 6, 0, 0xffff)
}

// transport is a rule for the two hosts.
func transport() ike.ChildPolicy {
	p := tunnel()
	p.Name, p.Mode = "transport", ipsec.Transport
	return p
}

// TestTransportDeclined has a peer that answers a request for transport mode
// with a tunnel: what it has made is deleted, nothing is installed, and it is
// said what to change and where (RFC 7296 section 1.3.1).
//
//	SK {N(USE_TRANSPORT_MODE), SA, Ni, TSi, TSr} -->
//	                          <-- SK {SA, Nr, TSi, TSr}
//	SK {D(SPIa)} -->
//	                          <-- SK {D(SPIb)}
func TestTransportDeclined(t *testing.T) {
	for _, tt := range []struct {
		name        string
		rule        ike.ChildPolicy
		req, resp   string
		hint        string
		other, ours ipsec.Mode
	}{
		{
			"wanted", transport(), "CREATE_CHILD_SA {N(USE_TRANSPORT_MODE), SA, Nonce, TSi, TSr}",
			"CREATE_CHILD_SA = {N(USE_TRANSPORT_MODE), SA, Nonce, TSi, TSr}", "allow transport mode there", ipsec.Tunnel, ipsec.Transport,
		},
		{"not wanted", tunnel(), childReq, childResp, "allow tunnel mode there", ipsec.Transport, ipsec.Tunnel},
	} {
		ends(t, tt.name, nil, func(s *steps, a, b *iketest.Host) {
			b.Children = append(b.Children, tt.rule)
			s.do(a, ike.Acquire{Child: tt.rule, Local: one(a.Addr), Remote: one(b.Addr)})
			s.recv(s.says(a, tt.req))
			resp := s.says(b, tt.resp)
			sa := s.alive(b)[1]
			ps := []wire.Payload{
				&wire.SA{Proposals: []ipsec.Proposal{{Number: 1, Protocol: ipsec.ProtoESP, SPI: []byte{0, 0, 0x12, 0x34}, Transforms: []ipsec.Transform{
					{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}, {Type: ipsec.TypeESN, ID: ipsec.ESNNo},
				}}}},
				&wire.Nonce{Data: make([]byte, 32)},
				&wire.TS{Selectors: sa.Remote}, &wire.TS{Responder: true, Selectors: sa.Local},
			}
			if tt.ours == ipsec.Tunnel {
				ps = append(ps, &wire.Notify{Kind: wire.UseTransportMode})
			}
			s.answer(resp, ps...)
			s.recv(resp)
			s.exchange(a, delReq, delResp)
			s.settled(1)
			if len(a.Installed) != 1 {
				t.Error("it was installed")
			}
			var why *ike.NegotiationError
			if len(a.Failed) != 1 || a.Failed[0].Policy != tt.rule.Name || !errors.As(a.Failed[0].Why, &why) || !errors.Is(why, ike.ErrMode) {
				t.Fatalf("failures %v", a.Failed)
			}
			if why.Cause != ike.CauseMode || why.Side != ike.PeerSide || !strings.Contains(why.Hint, tt.hint) || why.Ours.Mode != tt.ours || why.Theirs.Mode != tt.other {
				t.Errorf("%+v", why)
			}
		})
	}
}

// TestSinglePair has a peer that wants an SA for each pair of addresses.
//
//	SK {SA, Ni, TSi, TSr} -->
//	                          <-- SK {N(SINGLE_PAIR_REQUIRED)}
//	SK {SA, Ni, TSi, TSr}, with the packet's selectors alone -->
func TestSinglePair(t *testing.T) {
	ends(t, "", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.Acquire{Child: tunnel(), Local: one(a.Addr), Remote: one(b.Addr)})
		s.recv(s.says(a, childReq))
		resp := s.says(b, childResp)
		s.answer(resp, &wire.Notify{Kind: wire.SinglePairRequired})
		s.recv(resp)
		s.exchange(a, childReq, childResp)
		s.quiet()
		s.failures(0, 0)
		sa := s.alive(a)[1]
		if len(sa.Local) != 1 || len(sa.Remote) != 1 || sa.Local[0] != one(a.Addr) || sa.Remote[0] != one(b.Addr) {
			t.Errorf("selectors %v to %v", sa.Local, sa.Remote)
		}
	})
}

// TestAdditionalTS has a responder with two rules for parts of what is asked
// for: it says that the other part can be had too (RFC 7296 section 2.9).
func TestAdditionalTS(t *testing.T) {
	part := func(name, remote string) ike.ChildPolicy {
		p := tunnel()
		p.Name, p.Remote = name, []ipsec.TrafficSelector{selector(remote)}
		return p
	}
	for _, tt := range []struct {
		name  string
		rules []ike.ChildPolicy
		want  bool
	}{
		{"one narrower rule", []ike.ChildPolicy{part("low", "10.0.0.0/25")}, false},
		{"another rule for the rest", []ike.ChildPolicy{part("low", "10.0.0.0/25"), part("high", "10.0.0.128/25")}, true},
		{"another rule for less", []ike.ChildPolicy{part("low", "10.0.0.0/25"), part("less", "10.0.0.0/30")}, false},
	} {
		ends(t, tt.name, nil, func(s *steps, a, b *iketest.Host) {
			b.Children = tt.rules
			s.do(a, ike.Acquire{Child: tunnel(), Local: one(a.Addr), Remote: one(b.Addr)})
			want := childResp
			if tt.want {
				want = "CREATE_CHILD_SA = {SA, Nonce, TSi, TSr, N(ADDITIONAL_TS_POSSIBLE)}"
			}
			s.exchange(a, childReq, want)
			s.settled(2)
			if sa := s.alive(b)[1]; sa.Policy != "low" || sa.Remote[0] != selector("10.0.0.0/25") {
				t.Errorf("%s: %v", sa.Policy, sa.Remote)
			}
		})
	}
}

// TestNoMoreChildren has a peer that replaces no Child SA: the IKE SA as a
// whole is replaced before the Child SA ends.
//
//	SK {N(REKEY_SA), SA, Ni, TSi, TSr} -->
//	                          <-- SK {N(NO_ADDITIONAL_SAS)}
func TestNoMoreChildren(t *testing.T) {
	lifetime := func(h *iketest.Host) { h.Children[0].Lifetime = time.Hour }
	ends(t, "", lifetime, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		s.recv(s.says(a, rekeyReq))
		resp := s.says(b, childResp)
		s.answer(resp, &wire.Notify{Kind: wire.NoAdditionalSAs})
		s.recv(resp)
		m := s.machine(a)
		if !m.reauth.begun || !m.reauth.end.Equal(m.children[0].end) || m.children[0].rekey.IsZero() {
			t.Errorf("renewed %v, to end %s; the SA ends %s", m.reauth.begun, m.reauth.end, m.children[0].end)
		}
	})
}

// TestNoRuleExplained has a responder say why no rule of its own does.
func TestNoRuleExplained(t *testing.T) {
	none := tunnel()
	none.Remote = []ipsec.TrafficSelector{selector("192.0.2.0/24")}
	cbc := tunnel()
	cbc.Proposals = []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 128}, {Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256},
	}}}
	other := tunnel()
	other.Auth = []ike.AuthMethod{secret("somebody else's")}
	mode := tunnel()
	mode.Mode = ipsec.Transport
	for _, tt := range []struct {
		name  string
		rules []ike.ChildPolicy
		cause ike.Cause
		side  ike.Side
	}{
		{"none", nil, ike.CauseSelectors, ike.EitherSide},
		{"none covers it", []ike.ChildPolicy{none}, ike.CauseSelectors, ike.EitherSide},
		{"mode", []ike.ChildPolicy{mode, none}, ike.CauseMode, ike.EitherSide},
		{"authentication", []ike.ChildPolicy{other, mode}, ike.CauseKeyMismatch, ike.ThisSide},
		{"proposal", []ike.ChildPolicy{mode, cbc, other, none}, ike.CauseNoProposal, ike.EitherSide},
	} {
		ends(t, tt.name, nil, func(s *steps, a, b *iketest.Host) {
			b.Children = tt.rules
			s.do(a, ike.Acquire{Child: tunnel(), Local: one(a.Addr), Remote: one(b.Addr)})
			s.recv(s.says(a, childReq))
			s.recv(s.said[b][0])
			var why *ike.NegotiationError
			if len(b.Failed) != 1 || !errors.As(b.Failed[0].Why, &why) {
				t.Fatalf("failures %v", b.Failed)
			}
			if c := ike.CauseOf(why); c != tt.cause || why.Side != tt.side || len(why.Theirs.Proposals) != 1 {
				t.Errorf("cause %s, side %s: %v", c, why.Side, why)
			}
			if tt.cause == ike.CauseNoProposal && len(why.Ours.Proposals) != 1 {
				t.Errorf("the rule's own proposals: %v", why.Ours.Proposals)
			}
			if len(a.Alive()) != 1 || len(b.Alive()) != 1 {
				t.Error("an SA nevertheless")
			}
		})
	}
}

// TestNarrowedPastThePacket has a peer whose rule covers something, but not
// the packet that asked: the SA would be of no use, and each further packet
// would ask for one more.
func TestNarrowedPastThePacket(t *testing.T) {
	web := one(netip.MustParseAddr("10.0.0.2"))
	web.StartPort, web.EndPort = 80, 80
	ssh := web
	ssh.StartPort, ssh.EndPort = 22, 22
	for _, tt := range []struct {
		name   string
		packet ipsec.TrafficSelector // its far end
		want   bool
	}{
		{"the packet is covered", web, true},
		{"another port", ssh, false},
		{"no packet asked", ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.0/24"), 6, 0, 0xffff), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair()
			narrow := tunnel()
			narrow.Local = []ipsec.TrafficSelector{web}
			p.b.Children = []ike.ChildPolicy{narrow}
			m := NewInitiator(p.a.Config(p.b.Addr))
			if err := p.a.Do(m, ike.Acquire{Child: tunnel(), Local: one(p.a.Addr), Remote: tt.packet}); err != nil {
				t.Fatal(err)
			}
			p.Run(10 * time.Second)
			alive := 0
			if tt.want {
				alive = 1
			}
			if len(p.a.Alive()) != alive || len(p.b.Alive()) != alive {
				t.Errorf("%d and %d SAs, want %d", len(p.a.Alive()), len(p.b.Alive()), alive)
			}
			if failed := len(p.a.Failed) == 1 && errors.Is(p.a.Failed[0].Why, ike.ErrSelectors); failed == tt.want {
				t.Errorf("failures %v", p.a.Failed)
			}
		})
	}
}
