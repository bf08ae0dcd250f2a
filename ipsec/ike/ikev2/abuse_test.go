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

const refusedResp = "CREATE_CHILD_SA = {N(NO_PROPOSAL_CHOSEN)}"

// A peer chooses the group of a key exchange that no rule asks for among those
// that cost little, and the IKE SA's own.
func TestUnaskedExchange(t *testing.T) {
	own := func(group uint16) func(*iketest.Host) {
		return func(h *iketest.Host) {
			withMethods(group)(h)
			h.Children = []ike.ChildPolicy{tunnel()}
			h.Children[0].Legacy = true
		}
	}
	for _, tt := range []struct {
		name       string
		own, asked uint16
		good       bool
	}{
		{"x25519", ipsec.GroupP256, ipsec.GroupX25519, true},
		{"modp2048", ipsec.GroupX25519, ipsec.GroupMODP2048, true},
		{"modp8192", ipsec.GroupX25519, ipsec.GroupMODP8192, false},
		{"brainpool", ipsec.GroupX25519, ipsec.GroupBrainpoolP512, false},
		{"the IKE SA's own", ipsec.GroupMODP3072, ipsec.GroupMODP3072, true},
	} {
		ends(t, tt.name, own(tt.own), func(s *steps, a, b *iketest.Host) {
			rule := withGroups(tt.asked)
			rule.Legacy = true
			s.do(a, ike.Acquire{Child: rule, Local: one(a.Addr), Remote: one(b.Addr)})
			if !tt.good {
				s.exchange(a, childKE, refusedResp)
				s.settled(1)
				return
			}
			s.exchange(a, childKE, "CREATE_CHILD_SA = {SA, Nonce, KE, TSi, TSr}")
			s.settled(2)
		})
	}
}

// A peer gets as many key exchanges as one may want at once, and then as many
// as do no harm.
func TestEffort(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, tt := range []struct {
		name        string
		group       uint16
		first, then int // at once, and a second later
	}{
		{"cheap", ipsec.GroupX25519, effortAtOnce, effortPerSecond},
		{"costly", ipsec.GroupMODP8192, effortAtOnce / costlyEffort, effortPerSecond / costlyEffort},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var e effort
			for i, want := range []int{tt.first, tt.then} {
				n := 0
				for range 2 * effortAtOnce {
					if e.spend(tt.group, now.Add(time.Duration(i)*time.Second)) {
						n++
					}
				}
				if n != want {
					t.Errorf("second %d: %d, want %d", i, n, want)
				}
			}
		})
	}
	ends(t, "Child SA", withMethods(ipsec.GroupX25519), func(s *steps, a, b *iketest.Host) {
		s.machine(b).effort = effort{spent: effortAtOnce, last: s.sim.Now}
		s.do(a, ike.Acquire{Child: a.Children[0], Local: one(a.Addr), Remote: one(b.Addr)})
		s.exchange(a, childKE, busyResp)
		s.until(a)
		s.exchange(a, childKE, "CREATE_CHILD_SA = {SA, Nonce, KE, TSi, TSr}")
		s.settled(2)
	})
}

// A peer that rekeys the IKE SA again and again, and deletes none, makes us
// keep only a few of them.
func TestManyRekeyings(t *testing.T) {
	ends(t, "", nil, func(s *steps, a, b *iketest.Host) {
		m := s.machine(b)
		given := map[uint64]bool{m.cur.spiI: true, m.cur.spiR: true} // and not taken back
		number := m.cfg.NewIKESPI
		m.cfg.NewIKESPI = func() uint64 { spi := number(); given[spi] = true; return spi }
		m.cfg.FreeIKESPI = func(spi uint64) { delete(given, spi) }
		busy := 0
		for range 50 {
			s.do(a, ike.RekeyIKE{})
			s.recv(s.says(a, ikeReq))
			for s.said[b][0].says == busyResp {
				busy++
				s.recv(s.says(b, busyResp))
				s.until(a)
				s.recv(s.says(a, ikeReq))
			}
			s.recv(s.says(b, ikeResp))
			s.says(a, delIKE) // lost
			x := s.machine(a)
			for len(x.former) > 0 {
				x.drop(x.former[0])
			}
		}
		if len(m.former) != maxFormer || len(given) > maxFormer+2 {
			t.Errorf("%d former IKE SAs, and %d SPIs in use, want %d and one more", len(m.former), len(given), maxFormer)
		}
		if busy == 0 {
			t.Error("it could do so as fast as it liked")
		}
	})
}

// A new IKE SA has algorithms that the policy allows now, whoever begins.
func TestRekeyByThePolicyOfNow(t *testing.T) {
	strong, weak := proposalPRF(ipsec.PRFHMACSHA256), proposalPRF(ipsec.PRFHMACSHA1)
	both := func(h *iketest.Host) { h.Policy.Proposals = []ipsec.Proposal{strong, weak} }
	ends(t, "responder", both, func(s *steps, a, b *iketest.Host) {
		a.Policy.Proposals, b.Policy.Proposals = []ipsec.Proposal{weak}, []ipsec.Proposal{strong}
		s.do(a, ike.RekeyIKE{})
		s.exchange(a, ikeReq, refusedResp)
		s.failures(1, 1)
	})
	ends(t, "initiator", both, func(s *steps, a, b *iketest.Host) {
		other := proposalPRF(ipsec.PRFHMACSHA512)
		a.Policy.Proposals, b.Policy.Proposals = []ipsec.Proposal{other}, []ipsec.Proposal{strong, other}
		s.do(a, ike.RekeyIKE{})
		s.exchange(a, ikeReq, ikeResp)
		s.exchange(a, delIKE, emptyResp)
		s.settled(1)
		if p, _ := s.machine(b).cur.proposal.First(ipsec.TypePRF); p.ID != ipsec.PRFHMACSHA512 {
			t.Errorf("the new IKE SA has %s", p)
		}
	})
}

// Policies change, and the rule goes, while the key exchanges of a Child SA are
// under way: it comes to nothing at either end.
func TestFollowupPolicyChange(t *testing.T) {
	gone := func(s *steps, a, b, changed *iketest.Host, answer string) {
		changed.Children = nil
		s.exchange(a, followReq, answer)
		if len(changed.Failed) != 1 {
			t.Fatalf("%v", changed.Failed)
		}
	}
	for _, rekey := range []bool{false, true} {
		begin := func(s *steps, a, b *iketest.Host) {
			if rekey {
				s.rekey(a)
				s.exchange(a, rekeyKE, childLinked)
				return
			}
			s.do(a, ike.Acquire{Child: a.Children[0], Local: one(a.Addr), Remote: one(b.Addr)})
			s.exchange(a, childKE, childLinked)
		}
		name := map[bool]string{false: "new", true: "rekeyed"}[rekey]
		ends(t, name+", responder", twoMethods, func(s *steps, a, b *iketest.Host) {
			begin(s, a, b)
			gone(s, a, b, b, "IKE_FOLLOWUP_KE = {N(NO_PROPOSAL_CHOSEN)}")
			s.settled(1)
		})
		ends(t, name+", initiator", twoMethods, func(s *steps, a, b *iketest.Host) {
			begin(s, a, b)
			gone(s, a, b, a, followResp)
			if !errors.Is(a.Failed[0].Why, ike.ErrPolicyChanged) {
				t.Errorf("%v", a.Failed)
			}
			s.recv(s.says(a, delReq)) // the peer has it
			s.says(b, delResp)
			if len(a.Alive()) != 1 || len(b.Alive()) != 1 {
				t.Errorf("%d and %d Child SAs", len(a.Alive()), len(b.Alive()))
			}
		})
	}
}

// An IKE SA that was made by one rule's policy carries the Child SAs of another
// if its keys come of what that one asks for.
func TestEntitledExchange(t *testing.T) {
	key := ike.PPK{ID: "one", Secret: make([]byte, 32)}
	for _, tt := range []struct {
		name         string
		ppk, weak    bool // what the IKE SA has
		asks, legacy bool // what the rule does
		good         bool
		want         error
	}{
		{"nothing", false, false, false, false, true, nil},
		{"a PPK", true, false, true, false, true, nil},
		{"a PPK that is not needed", true, false, false, false, true, nil},
		{"no PPK", false, false, true, false, false, ike.ErrPPK},
		{"weak for legacy", false, true, false, true, true, nil},
		{"strong for legacy", false, false, false, true, true, nil},
		{"weak", false, true, false, false, false, ike.ErrNoProposal},
	} {
		for _, responder := range []bool{false, true} {
			name := map[bool]string{false: ", initiator", true: ", responder"}[responder]
			t.Run(tt.name+name, func(t *testing.T) {
				p := newPair()
				rule, plain := tunnel(), tunnel()
				rule.Name, rule.PPKRequired, rule.Legacy = "other", tt.asks, tt.legacy
				plain.Legacy = true
				for _, h := range []*iketest.Host{p.a, p.b} {
					h.Policy.Proposals = []ipsec.Proposal{proposalPRF(ipsec.PRFHMACSHA256)}
					if tt.weak {
						h.Policy.Proposals = []ipsec.Proposal{proposalPRF(ipsec.PRFHMACSHA1)}
					}
					if tt.ppk {
						h.Policy.PPKs = []ike.PPK{key}
					}
					h.Children = []ike.ChildPolicy{plain}
				}
				judge, ask := p.a, rule
				if responder {
					judge, ask = p.b, plain
					p.b.Children = []ike.ChildPolicy{rule}
				}
				p.acquire(t, nil, ask)
				p.Run(time.Second)
				if good := len(p.a.Alive()) == 1; good != tt.good || len(p.b.Alive()) != len(p.a.Alive()) {
					t.Fatalf("%d and %d Child SAs: %v %v", len(p.a.Alive()), len(p.b.Alive()), p.a.Failed, p.b.Failed)
				}
				var why *ike.NegotiationError
				if !tt.good && (!errors.As(judge.Failed[0].Why, &why) || !errors.Is(why, tt.want) || why.Hint != hintSameExchange) {
					t.Errorf("%v", judge.Failed)
				}
			})
		}
	}
}

// Who may be anybody gets few Child SAs.
func TestAnonymousChildren(t *testing.T) {
	p := newPair()
	for _, h := range []*iketest.Host{p.a, p.b} {
		h.Policy.Auth = []ike.AuthMethod{ike.Null{Ours: true, Theirs: true}}
	}
	m := p.acquire(t, nil, tunnel())
	p.Run(time.Second)
	for range 2 * maxAnonymous {
		p.acquire(t, m, tunnel())
		p.Run(time.Second)
	}
	if len(p.b.Alive()) != maxAnonymous || !p.b.Established[0].Peer.Anonymous {
		t.Errorf("%d Child SAs of %+v, want %d", len(p.b.Alive()), p.b.Established[0].Peer, maxAnonymous)
	}
}

// A peer has moved from where rules know it, and is asked for a Child SA of the
// rules for where it was.
func TestEnds(t *testing.T) {
	p := newPair()
	rule := tunnel()
	rule.Mode, rule.Auth = ipsec.Transport, p.a.Policy.Auth
	var rules asked
	cfg := p.a.Config(p.b.Addr)
	rules.Policies, cfg.Policies = cfg.Policies, &rules
	was := one(p.a.Addr.Next().Next()).Start
	cfg.Ends = ike.Ends{Local: p.a.Addr, Remote: was}
	m := NewInitiator(cfg)
	if err := p.a.Do(m, ike.Acquire{Child: rule, Local: one(p.a.Addr), Remote: one(was)}); err != nil {
		t.Fatal(err)
	}
	if _, remote := m.bounds(rule); remote[0].Start != was {
		t.Errorf("bound to %v, want %s", remote, was)
	}
	if err := m.inForce(rule, rule.Local, rule.Remote); err != nil || len(rules.remote) == 0 {
		t.Fatalf("%v, asked for %v", err, rules.remote)
	}
	for _, a := range rules.remote {
		if a != was {
			t.Errorf("asked for the rules of %s, want those of %s", a, was)
		}
	}
}

// An answer to IKE_SA_INIT that nobody vouches for, and that is of no use,
// leaves nothing for the one that is.
func TestForgedUsePPK(t *testing.T) {
	p := newPair()
	for _, h := range []*iketest.Host{p.a, p.b} {
		h.Policy.Proposals = []ipsec.Proposal{proposalPRF(ipsec.PRFHMACSHA256)}
	}
	p.a.Policy.PPKs = []ike.PPK{{ID: "one", Secret: make([]byte, 32)}}
	m := NewInitiator(p.a.Config(p.b.Addr))
	forged := false
	p.Mangle = func(from, to netip.AddrPort, data []byte) []byte {
		h, ps, err := wire.Decode(data)
		if err != nil || h.Exchange != wire.IKESAInit || !h.Response || forged {
			return data
		}
		forged = true
		for _, x := range ps {
			if ke, ok := x.(*wire.KE); ok {
				ke.Data = make([]byte, 32) // which no key exchange takes
			}
		}
		bad, err := wire.Encode(h, append(ps, &wire.Notify{Kind: wire.UsePPK}))
		if err != nil {
			t.Error(err)
		}
		if err := p.a.Do(m, ike.Datagram{Local: to, Remote: from, Data: bad}); err == nil {
			t.Error("the forged answer was taken")
		}
		return data
	}
	p.acquire(t, m, tunnel())
	p.Run(time.Second)
	if !forged || len(p.a.Alive()) != 1 {
		t.Errorf("forged %v, not connected: %v %v", forged, p.a.Failed, p.b.Failed)
	}
}
