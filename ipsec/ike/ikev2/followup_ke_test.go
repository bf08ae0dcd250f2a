package ikev2

import (
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// withMethods adds key exchanges to the proposals of a host: the first is of
// type KE, the others are additional ones.
func withMethods(methods ...uint16) func(*iketest.Host) {
	add := func(p ipsec.Proposal, methods []uint16) ipsec.Proposal {
		for i, m := range methods {
			t := ipsec.TypeGroup
			if i > 0 {
				t = ipsec.TypeADDKE1 + ipsec.TransformType(i-1)
			}
			p.Transforms = append(slices.Clip(p.Transforms), ipsec.Transform{Type: t, ID: m})
		}
		return p
	}
	return func(h *iketest.Host) {
		h.Policy.Proposals = []ipsec.Proposal{add(ipsec.Proposal{Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{
			{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}, {Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256},
		}}, methods)}
		h.Children = []ike.ChildPolicy{tunnel()}
		h.Children[0].Proposals[0] = add(h.Children[0].Proposals[0], methods)
	}
}

var (
	twoMethods   = withMethods(ipsec.GroupX25519, ipsec.GroupMLKEM768)
	threeMethods = withMethods(ipsec.GroupX25519, ipsec.GroupMLKEM768, ipsec.GroupP256)
)

const (
	rekeyKE     = "CREATE_CHILD_SA {N(REKEY_SA), SA, Nonce, KE, TSi, TSr}"
	childKE     = "CREATE_CHILD_SA {SA, Nonce, KE, TSi, TSr}"
	childLinked = "CREATE_CHILD_SA = {SA, Nonce, KE, TSi, TSr, N(ADDITIONAL_KEY_EXCHANGE)}"
)

// TestFollowup has the exchanges of RFC 9370 section 2.2.4, which end with the
// SA, at both ends.
//
//	HDR(CREATE_CHILD_SA), SK {SA, Ni, KEi} -->
//	                          <-- HDR(CREATE_CHILD_SA), SK {SA, Nr, KEr,
//	                                  N(ADDITIONAL_KEY_EXCHANGE)(link1)}
//	HDR(IKE_FOLLOWUP_KE), SK {KEi(1), N(ADDITIONAL_KEY_EXCHANGE)(link1)} -->
//	                          <-- HDR(IKE_FOLLOWUP_KE), SK {KEr(1),
//	                                  N(ADDITIONAL_KEY_EXCHANGE)(link2)}
//	HDR(IKE_FOLLOWUP_KE), SK {KEi(2), N(ADDITIONAL_KEY_EXCHANGE)(link2)} -->
//	                          <-- HDR(IKE_FOLLOWUP_KE), SK {KEr(2)}
func TestFollowup(t *testing.T) {
	ends(t, "new Child SA", threeMethods, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.Acquire{Child: a.Children[0], Local: one(a.Addr), Remote: one(b.Addr)})
		s.exchange(a, childKE, childLinked)
		s.exchange(a, followReq, followMore)
		if len(a.Alive()) != 1 || len(b.Alive()) != 1 {
			t.Fatal("a Child SA before its last key exchange")
		}
		s.exchange(a, followReq, followResp)
		s.settled(2)
		s.failures(0, 0)
	})
	ends(t, "Child SA rekeyed", twoMethods, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		s.exchange(a, rekeyKE, childLinked)
		s.exchange(a, followReq, followResp)
		s.exchange(a, delReq, delResp)
		s.settled(1)
		s.failures(0, 0)
	})
	ends(t, "IKE SA rekeyed", threeMethods, func(s *steps, a, b *iketest.Host) {
		old := s.machine(b).cur
		s.do(a, ike.RekeyIKE{})
		s.exchange(a, ikeReq, linkResp)
		s.exchange(a, followReq, followMore)
		if s.machine(a).cur.spiI != old.spiI || s.machine(b).cur != old {
			t.Fatal("a new IKE SA before its last key exchange")
		}
		s.exchange(a, followReq, followResp)
		s.exchange(a, delIKE, emptyResp)
		s.settled(1)
		s.failures(0, 0)
		if s.machine(a).cur.spiI == old.spiI || s.begun() != a {
			t.Error("the IKE SA is still the old one")
		}
	})
	ends(t, "two at a time", twoMethods, func(s *steps, a, b *iketest.Host) {
		for range 2 {
			s.do(a, ike.Acquire{Child: a.Children[0], Local: one(a.Addr), Remote: one(b.Addr)})
		}
		req1, req2 := s.says(a, childKE), s.says(a, childKE)
		s.recv(req2)
		s.recv(s.says(b, childLinked))
		s.recv(req1)
		s.recv(s.says(b, childLinked))
		follow2, follow1 := s.says(a, followReq), s.says(a, followReq)
		s.recv(follow1)
		s.recv(s.says(b, followResp))
		s.recv(follow2)
		s.recv(s.says(b, followResp))
		s.settled(3)
		s.failures(0, 0)
	})
}

// TestFollowupKeys computes the keys from the formulas of RFC 9370 section
// 2.2.4, with SK(0), Ni, Nr, SK(1) and SK(2) that are made up.
func TestFollowupKeys(t *testing.T) {
	sha256, err := xform.NewPRF(ipsec.PRFHMACSHA256)
	if err != nil {
		t.Fatal(err)
	}
	part := func(b byte, n int) []byte { return slices.Repeat([]byte{b}, n) }
	d := part(1, 32)
	a := agreed(ipsec.Proposal{Transforms: []ipsec.Transform{
		{Type: ipsec.TypeADDKE1, ID: ipsec.GroupMLKEM768}, {Type: ipsec.TypeADDKE1 + 1, ID: ipsec.GroupNone}, {Type: ipsec.TypeADDKE1 + 2, ID: ipsec.GroupP256},
	}}, part(2, 32), part(3, 32), part(4, 16))
	if !slices.Equal(a.left, []uint16{ipsec.GroupMLKEM768, ipsec.GroupP256}) {
		t.Fatalf("additional key exchanges %v", a.left)
	}
	before := a.seed
	a.mix(part(5, 32))
	a.mix(part(6, 48))
	all := slices.Concat(part(2, 32), part(3, 32), part(4, 16), part(5, 32), part(6, 48))
	if !slices.Equal(a.seed, all) || slices.Max(before) != 0 {
		t.Errorf("seed %x, want %x; what it was before is wiped: %x", a.seed, all, before)
	}
	gcm := ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}
	toR, toI, err := childKeys(sha256, d, a.seed, gcm, ipsec.Transform{})
	if want := plusByHand(d, all, 72); err != nil || !slices.Equal(slices.Concat(toR.Encr, toI.Encr), want) {
		t.Errorf("KEYMAT %x %x, want %x", toR.Encr, toI.Encr, want)
	}
	old := &session{prf: sha256, keys: ikeKeys{d: d}}
	fresh, err := old.heir(true, 7, 8, proposalPRF(ipsec.PRFHMACSHA256))
	if err != nil {
		t.Fatal(err)
	}
	_, m, _ := established(t)
	if err := fresh.inherit(old, &a, m); err != nil {
		t.Fatal(err)
	}
	by := &byHand{spiI: 7, spiR: 8, ni: part(3, 32), nr: part(4, 16)}
	by.derive(prfByHand(d, all))
	if !slices.Equal(fresh.keys.d, by.sk.d) || !slices.Equal(fresh.keys.pi, by.sk.pi) || a.seed != nil {
		t.Errorf("SK_d %x, want %x; seed left %x", fresh.keys.d, by.sk.d, a.seed)
	}
}

// TestFollowupCollision is about rekeyings that collide (RFC 9370 section
// 2.2.4): the exchange with the lowest nonce just ends, as there is nothing to
// delete yet.
func TestFollowupCollision(t *testing.T) {
	for _, tt := range []struct {
		name           string
		begin          func(s *steps, h *iketest.Host)
		req, resp, del string
		delResp        string
	}{
		{"Child SA", func(s *steps, h *iketest.Host) { s.rekey(h) }, rekeyKE, childLinked, delReq, delResp},
		{"IKE SA", func(s *steps, h *iketest.Host) { s.do(h, ike.RekeyIKE{}) }, ikeReq, linkResp, delIKE, emptyResp},
	} {
		ends(t, tt.name+", both notice", twoMethods, func(s *steps, a, b *iketest.Host) {
			s.nonce[a], s.nonce[b] = 0, 1
			tt.begin(s, a)
			tt.begin(s, b)
			req1, req2 := s.says(a, tt.req), s.says(b, tt.req)
			s.nonce[a] = 1
			s.recv(req1)
			s.recv(req2)
			resp1, resp2 := s.says(b, tt.resp), s.says(a, tt.resp)
			s.recv(resp1)
			if len(s.said[a]) != 0 {
				t.Fatalf("A has the lowest nonce and says %s", s.said[a][0].says)
			}
			s.recv(resp2)
			s.exchange(b, followReq, followResp)
			s.exchange(b, tt.del, tt.delResp)
			s.quiet()
			// B forgets what A has left, at the latest after 20 s.
			s.sim.Mangle = nil
			s.wait(25 * time.Second)
			s.said = map[*iketest.Host][]*letter{}
			s.settled(1)
			s.failures(0, 0)
			if tt.del == delIKE && s.begun() != b {
				t.Error("A's IKE SA has survived")
			}
		})

		// A has got beyond CREATE_CHILD_SA when it hears of B's wish.
		ends(t, tt.name+", one is further", twoMethods, func(s *steps, a, b *iketest.Host) {
			tt.begin(s, a)
			tt.begin(s, b)
			req1, req2 := s.says(a, tt.req), s.says(b, tt.req)
			s.recv(req1)
			s.recv(s.says(b, tt.resp))
			follow := s.says(a, followReq)
			s.recv(req2)
			s.recv(s.says(a, busyResp))
			s.recv(follow)
			s.recv(s.says(b, followResp))
			s.exchange(a, tt.del, tt.delResp)
			s.wait(2 * time.Second)
			s.settled(1)
			s.failures(0, 0)
		})
	}
}

// TestFollowupUnfinished has series that break off.
func TestFollowupUnfinished(t *testing.T) {
	// The peer forgets what it has begun, and so do we, after a while.
	ends(t, "forgotten", twoMethods, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		s.exchange(a, rekeyKE, childLinked)
		s.says(a, followReq)
		u := s.machine(b).unfinished[0]
		seed := u.seed
		s.machine(a).queue = nil
		s.machine(a).cur.ours.pending = nil
		s.wait(followupTime + time.Second)
		if len(s.machine(b).unfinished) != 0 || slices.Max(seed) != 0 {
			t.Error("B keeps it, or its secrets")
		}
	})

	// We are too slow, and begin again.
	//
	//	HDR(IKE_FOLLOWUP_KE), SK {KEi(1), N(ADDITIONAL_KEY_EXCHANGE)(link1)} -->
	//	                          <-- HDR(IKE_FOLLOWUP_KE), SK {N(STATE_NOT_FOUND)}
	for _, tt := range []struct {
		name                     string
		begin                    func(s *steps, h *iketest.Host)
		req, resp, del, delValue string
	}{
		{"Child SA, too slow", func(s *steps, h *iketest.Host) { s.rekey(h) }, rekeyKE, childLinked, delReq, delResp},
		{"IKE SA, too slow", func(s *steps, h *iketest.Host) { s.do(h, ike.RekeyIKE{}) }, ikeReq, linkResp, delIKE, emptyResp},
	} {
		ends(t, tt.name, twoMethods, func(s *steps, a, b *iketest.Host) {
			tt.begin(s, a)
			s.exchange(a, tt.req, tt.resp)
			s.machine(b).unfinished = nil
			s.exchange(a, followReq, lostState)
			s.quiet()
			s.until(a)
			s.exchange(a, tt.req, tt.resp)
			s.exchange(a, followReq, followResp)
			s.exchange(a, tt.del, tt.delValue)
			s.settled(1)
			s.failures(0, 0)
		})
	}

	// What does not fit ends the series.
	ends(t, "another link", twoMethods, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		s.recv(s.says(a, rekeyKE))
		s.says(b, childLinked) // lost
		key, err := xform.GenerateKey(ipsec.GroupMLKEM768, a.Config(b.Addr).Rand)
		if err != nil {
			t.Fatal(err)
		}
		s.ask(a, wire.IKEFollowupKE, &wire.KE{Group: ipsec.GroupMLKEM768, Data: key.Public()}, &wire.Notify{Kind: wire.AdditionalKeyExchange, Data: []byte("guessed")})
		s.exchange(a, followReq, lostState)
		if len(s.machine(b).unfinished) != 1 {
			t.Error("B has forgotten what was begun")
		}
	})

	// Closing ends it, and leaves no secrets.
	ends(t, "closed", twoMethods, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		s.exchange(a, rekeyKE, childLinked)
		m, n := s.machine(a), s.machine(b)
		mine, theirs := m.cur.ours.pending[0].task.(*createChild).agreed.seed, n.unfinished[0].seed
		s.says(a, followReq)
		s.do(a, ike.Close{Reason: "test", Silent: true})
		s.do(b, ike.Close{Reason: "test", Silent: true})
		for _, x := range [][]byte{mine, theirs, m.cur.keys.d, n.cur.keys.d, m.cur.keys.pi, n.cur.keys.pr} {
			if slices.Max(x) != 0 {
				t.Error("a secret is left")
			}
		}
	})
}

// TestFollowupForgotten has a peer that forgets time and again what it agreed
// on: it is given up (RFC 9370 section 2.2.4).
func TestFollowupForgotten(t *testing.T) {
	for _, tt := range []struct {
		name      string
		begin     func(s *steps, h *iketest.Host)
		req, resp string
	}{
		{"Child SA", func(s *steps, h *iketest.Host) { s.rekey(h) }, rekeyKE, childLinked},
		{"IKE SA", func(s *steps, h *iketest.Host) { s.do(h, ike.RekeyIKE{}) }, ikeReq, linkResp},
	} {
		ends(t, tt.name, twoMethods, func(s *steps, a, b *iketest.Host) {
			tt.begin(s, a)
			for range maxTries {
				s.until(a)
				s.exchange(a, tt.req, tt.resp)
				s.machine(b).unfinished = nil
				s.exchange(a, followReq, lostState)
			}
			s.exchange(a, delIKE, emptyResp)
			if len(a.Alive())+len(b.Alive()) != 0 || len(a.Failed) == 0 {
				t.Errorf("%d and %d Child SAs, %v", len(a.Alive()), len(b.Alive()), a.Failed)
			}
		})
	}
}

// noMember is a key for which every public value is none of its group.
type noMember struct{ xform.PrivateKey }

func (noMember) Shared([]byte) ([]byte, error) { return nil, xform.ErrPublicValue }

// TestPublicValueRefused has answers whose public values are none: the peer is
// at fault, and the IKE SA ends at once (RFC 6989 section 2.5).
func TestPublicValueRefused(t *testing.T) {
	child := func(s *steps, h *iketest.Host) { s.rekey(h) }
	whole := func(s *steps, h *iketest.Host) { s.do(h, ike.RekeyIKE{}) }
	for _, tt := range []struct {
		name    string
		begin   func(s *steps, h *iketest.Host)
		spoil   func(task)
		between [2]string // an exchange before
		last    [2]string
	}{
		{"Child SA", child, func(t task) { t.(*createChild).request.key = noMember{} }, [2]string{}, [2]string{rekeyKE, childLinked}},
		{"Child SA, additional", child, func(t task) { t.(*createChild).agreed.key = noMember{} }, [2]string{rekeyKE, childLinked}, [2]string{followReq, followResp}},
		{"IKE SA", whole, func(t task) { t.(*rekeyIKE).key = noMember{} }, [2]string{}, [2]string{ikeReq, linkResp}},
		{"IKE SA, additional", whole, func(t task) { t.(*rekeyIKE).agreed.key = noMember{} }, [2]string{ikeReq, linkResp}, [2]string{followReq, followResp}},
	} {
		ends(t, tt.name, twoMethods, func(s *steps, a, b *iketest.Host) {
			tt.begin(s, a)
			if tt.between[0] != "" {
				s.exchange(a, tt.between[0], tt.between[1])
			}
			tt.spoil(s.machine(a).cur.ours.pending[0].task)
			s.exchange(a, tt.last[0], tt.last[1])
			s.says(a, delIKE)
			if m := s.machine(a); m.state != Closing || len(a.Alive()) != 0 || len(a.Failed) == 0 {
				t.Errorf("%s, %d Child SAs, %v", m.state, len(a.Alive()), a.Failed)
			}
		})
	}
}
