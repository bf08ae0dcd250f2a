package ikev2

import (
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// TestCollisionSentences has a case for each sentence of RFC 7296 sections
// 2.25.1 and 2.25.2: what B answers to a request of A while a request of its
// own, which A has not got yet, is on the way, and what there is at last.
func TestCollisionSentences(t *testing.T) {
	rekey := func(s *steps, x, _ *iketest.Host) { s.rekey(x) }
	create := func(s *steps, x, y *iketest.Host) {
		s.do(x, ike.Acquire{Child: tunnel(), Local: one(x.Addr), Remote: one(y.Addr)})
	}
	del := func(s *steps, x, _ *iketest.Host) { s.do(x, ike.DeleteChild{InSPI: x.Alive()[0]}) }
	rekeyIKE := func(s *steps, x, _ *iketest.Host) { s.do(x, ike.RekeyIKE{}) }
	closeIKE := func(s *steps, x, _ *iketest.Host) { s.do(x, ike.Close{Reason: "test"}) }
	lose := func(s *steps, x, _ *iketest.Host) {
		m := s.machine(x)
		m.remove(m.children[0], "lost")
		m.effects = nil
		x.Removed = append(x.Removed, ike.RemoveChild{InSPI: x.Alive()[0]})
	}
	delUnknown := func(s *steps, x, _ *iketest.Host) {
		s.ask(x, wire.Informational, &wire.Delete{Protocol: ipsec.ProtoESP, SPIs: spis(0x4711)})
	}
	for _, tt := range []struct {
		name     string
		state    func(s *steps, b, a *iketest.Host) // of B
		under    string                             // B's request; empty for none
		request  func(s *steps, a, b *iketest.Host)
		req      string
		resp     string
		children int // -1 if no IKE SA is left
	}{
		{"rekey a Child SA that is being closed", del, delReq, rekey, rekeyReq, busyResp, 0},
		{"rekey a Child SA that is being rekeyed", rekey, rekeyReq, rekey, rekeyReq, childResp, 1},
		{"rekey a Child SA that does not exist", lose, "", rekey, rekeyReq, noneResp, 1},
		{"close a Child SA that is being closed", del, delReq, del, delReq, emptyResp, 0},
		{"close a Child SA that is being rekeyed", rekey, rekeyReq, del, delReq, delResp, 0},
		{"close a Child SA that does not exist", nil, "", delUnknown, delReq, emptyResp, 1},
		{"rekey the IKE SA while a Child SA is created", create, childReq, rekeyIKE, ikeReq, busyResp, 2},
		{"rekey the IKE SA while a Child SA is rekeyed", rekey, rekeyReq, rekeyIKE, ikeReq, busyResp, 1},
		{"rekey the IKE SA while a Child SA is closed", del, delReq, rekeyIKE, ikeReq, busyResp, 0},

		{"rekey an IKE SA that is being rekeyed", rekeyIKE, ikeReq, rekeyIKE, ikeReq, ikeResp, 1},
		{"rekey an IKE SA that is being closed", closeIKE, delIKE, rekeyIKE, ikeReq, busyResp, -1},
		{"close an IKE SA that is being rekeyed", rekeyIKE, ikeReq, closeIKE, delIKE, emptyResp, -1},
		{"close an IKE SA that is being closed", closeIKE, delIKE, closeIKE, delIKE, emptyResp, -1},
		{"create a Child SA while the IKE SA is rekeyed", rekeyIKE, ikeReq, create, childReq, busyResp, 2},
		{"rekey a Child SA while the IKE SA is rekeyed", rekeyIKE, ikeReq, rekey, rekeyReq, busyResp, 1},
		{"delete a Child SA while the IKE SA is rekeyed", rekeyIKE, ikeReq, del, delReq, delResp, 0},
	} {
		ends(t, tt.name, nil, func(s *steps, a, b *iketest.Host) {
			if tt.state != nil {
				tt.state(s, b, a)
			}
			if tt.under != "" {
				s.says(b, tt.under) // A gets it when it is sent again
			}
			tt.request(s, a, b)
			s.recv(s.says(a, tt.req))
			s.recv(s.says(b, tt.resp))
			s.pass(10 * time.Second)
			s.failures(0, 0)
			if tt.children >= 0 {
				s.settled(tt.children)
				return
			}
			if len(a.Machines)+len(b.Machines) != 0 || len(a.Alive())+len(b.Alive()) != 0 {
				t.Errorf("%d and %d IKE SAs are left, %d and %d Child SAs", len(a.Machines), len(b.Machines), len(a.Alive()), len(b.Alive()))
			}
		})
	}
}

// pass has the messages go by themselves for a while.
func (s *steps) pass(d time.Duration) {
	mangle := s.sim.Mangle
	s.sim.Mangle = nil
	s.wait(d)
	s.sim.Mangle, s.said = mangle, map[*iketest.Host][]*letter{}
}

// TestBusyNow has the peer without time for a moment, and again much later: it
// is not out of step (RFC 7296 section 2.25).
//
//	send req1: N(REKEY_SA,SPIa1) -->
//	                              <-- send req2: N(REKEY_SA,SPIb1)
//	recv req2 <--
//	send resp2: SA, Nr1 -->
//	                              --> recv resp2
//	                              <-- send req3: D(SPIb1)
//	                              --> recv req1
//	                              <-- send resp1: N(TEMPORARY_FAILURE)
func TestBusyNow(t *testing.T) {
	ends(t, "", nil, func(s *steps, a, b *iketest.Host) {
		for range 3 {
			s.rekey(a)
			s.rekey(b)
			req1 := s.says(a, rekeyReq)
			s.exchange(b, rekeyReq, childResp)
			s.says(b, delReq)
			s.recv(req1)
			s.recv(s.says(b, busyResp))
			s.pass(10 * time.Minute)
			s.settled(1)
		}
	})
}

// TestNothingNewOnReplaced has the peer in the midst of rekeying the IKE SA:
// what we want goes to the new one (RFC 7296 section 1.3.2).
func TestNothingNewOnReplaced(t *testing.T) {
	ends(t, "finished", twoMethods, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.RekeyIKE{})
		s.exchange(a, ikeReq, linkResp)
		follow := s.says(a, followReq)
		s.do(b, ike.Acquire{Child: b.Children[0], Local: one(b.Addr), Remote: one(a.Addr)})
		s.do(b, ike.RekeyIKE{})
		s.quiet()
		s.recv(follow)
		s.recv(s.says(b, followResp))
		req := s.says(b, childKE)
		s.exchange(a, delIKE, emptyResp)
		s.recv(req)
		s.recv(s.says(a, childLinked))
		s.exchange(b, followReq, followResp)
		s.settled(2)
		s.failures(0, 0)
		if s.begun() != a {
			t.Error("B has rekeyed what A has just rekeyed")
		}
	})
	// If the peer does not go on, we do.
	ends(t, "given up", twoMethods, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.RekeyIKE{})
		s.exchange(a, ikeReq, linkResp)
		s.says(a, followReq)
		s.do(b, ike.Acquire{Child: b.Children[0], Local: one(b.Addr), Remote: one(a.Addr)})
		m := s.machine(a)
		m.cur.ours.pending = nil
		s.quiet()
		s.wait(followupTime)
		s.exchange(b, childKE, childLinked)
		s.exchange(b, followReq, followResp)
		s.settled(2)
	})
}

// TestBrokenFormer has INVALID_SYNTAX on an IKE SA that was replaced: it ends
// that one only (RFC 7296 section 2.21.3).
func TestBrokenFormer(t *testing.T) {
	ends(t, "said", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.RekeyIKE{})
		s.recv(s.says(a, ikeReq))
		s.says(b, ikeResp) // late
		m := s.machine(a)
		if err := m.request(m.cur, wire.ExchangeType(99), nil, &saying{}); err != nil {
			t.Fatal(err)
		}
		s.send(a)
		req := s.said[a][0]
		s.said[a] = nil
		s.recv(req)
		if n := s.machine(b); n.state != Established || len(n.former) != 0 || len(b.Alive()) != 1 {
			t.Errorf("B is %s with %d former sessions and %d Child SAs", n.state, len(n.former), len(b.Alive()))
		}
	})
	ends(t, "heard", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.RekeyIKE{})
		s.exchange(a, ikeReq, ikeResp)
		req := s.says(a, delIKE)
		h, err := wire.ParseHeader(req.data.Data)
		if err != nil {
			t.Fatal(err)
		}
		old := s.machine(b).session(h)
		data, err := wire.EncodeEncrypted(old.header(h.Exchange, h.MessageID, true), []wire.Payload{&wire.Notify{Kind: wire.InvalidSyntax}}, old.out)
		if err != nil {
			t.Fatal(err)
		}
		s.recv(&letter{to: a, data: ike.Datagram{Local: req.data.Remote, Remote: req.data.Local, Data: data}})
		if m := s.machine(a); m.state != Established || len(m.former) != 0 || len(a.Alive()) != 1 {
			t.Errorf("A is %s with %d former sessions and %d Child SAs", m.state, len(m.former), len(a.Alive()))
		}
	})
}

// TestHintWhileClosing forges INVALID_IKE_SPI: it must not end what is being
// closed before the peer knows (RFC 7296 section 2.21.4).
func TestHintWhileClosing(t *testing.T) {
	ends(t, "", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.Close{Reason: "test"})
		req := s.says(a, delIKE) // lost
		h, err := wire.ParseHeader(req.data.Data)
		if err != nil {
			t.Fatal(err)
		}
		h.Response, h.Initiator = true, !h.Initiator
		forged, err := wire.Encode(h, []wire.Payload{&wire.Notify{Kind: wire.InvalidIKESPI}})
		if err != nil {
			t.Fatal(err)
		}
		s.recv(&letter{to: a, data: ike.Datagram{Local: req.data.Remote, Remote: req.data.Local, Data: forged}})
		s.do(a, ike.Probe{})
		s.until(a)
		s.exchange(a, delIKE, emptyResp)
		if len(a.Machines)+len(b.Machines) != 0 {
			t.Errorf("%d and %d IKE SAs are left", len(a.Machines), len(b.Machines))
		}
	})
}

// TestAnswerLacksPayloads has the peer make a Child SA with an answer that is of
// no use: it is deleted (RFC 7296 section 2.21).
func TestAnswerLacksPayloads(t *testing.T) {
	chosen := tunnel().Proposals[0]
	chosen.Number, chosen.Protocol, chosen.SPI = 1, ipsec.ProtoESP, []byte{1, 2, 3, 4}
	for _, tt := range []struct {
		name string
		ps   []wire.Payload
	}{
		{"nonce", []wire.Payload{&wire.SA{Proposals: []ipsec.Proposal{chosen}}, &wire.TS{Selectors: tunnel().Local}, &wire.TS{Responder: true, Selectors: tunnel().Remote}}},
		{"selectors", []wire.Payload{&wire.SA{Proposals: []ipsec.Proposal{chosen}}, &wire.Nonce{Data: make([]byte, 32)}}},
	} {
		ends(t, tt.name, nil, func(s *steps, a, b *iketest.Host) {
			s.do(a, ike.Acquire{Child: tunnel(), Local: one(a.Addr), Remote: one(b.Addr)})
			s.recv(s.says(a, childReq))
			resp := s.says(b, childResp)
			s.answer(resp, tt.ps...)
			s.recv(resp)
			s.says(a, delReq)
			if len(a.Failed) != 1 || len(a.Alive()) != 1 {
				t.Errorf("failures %v, %d Child SAs", a.Failed, len(a.Alive()))
			}
		})
	}
}

// TestNotRekeyed has a peer that refuses to rekey until the lifetime is nearly
// over: both authenticate anew, and what could not be rekeyed ends in time
// (RFC 7296 section 2.8).
func TestNotRekeyed(t *testing.T) {
	const life = 100 * time.Second
	for _, tt := range []struct {
		name      string
		change    func(*iketest.Host)
		begin     func(s *steps, a *iketest.Host)
		req, resp string
		why       wire.NotifyType
	}{
		{"Child SA", func(h *iketest.Host) { h.Children[0].Lifetime = life }, func(s *steps, a *iketest.Host) { s.rekey(a) }, rekeyReq, childResp, wire.TSUnacceptable},
		{"IKE SA", func(h *iketest.Host) { h.Policy.Lifetime = life }, func(s *steps, a *iketest.Host) { s.do(a, ike.RekeyIKE{}) }, ikeReq, ikeResp, wire.NoProposalChosen},
	} {
		ends(t, tt.name, func(h *iketest.Host) { h.Policy.Liveness = time.Hour; tt.change(h) }, func(s *steps, a, b *iketest.Host) {
			n := s.machine(b)
			n.renew = time.Time{} // B does nothing by itself
			n.children[0].rekey = time.Time{}
			m, began, asked := s.machine(a), s.sim.Now, 0
			tt.begin(s, a)
			for !m.reauth.begun && asked < 10 {
				s.until(a)
				req := s.says(a, tt.req)
				h, err := wire.ParseHeader(req.data.Data)
				if err != nil {
					t.Fatal(err)
				}
				data, err := wire.EncodeEncrypted(n.cur.header(h.Exchange, h.MessageID, true), []wire.Payload{&wire.Notify{Kind: tt.why}}, n.cur.out)
				if err != nil {
					t.Fatal(err)
				}
				s.recv(&letter{to: a, data: ike.Datagram{Local: req.data.Remote, Remote: req.data.Local, Data: data}})
				asked++
			}
			if asked < 3 || asked > 5 {
				t.Errorf("asked %d times", asked)
			}
			if end := m.reauth.end.Sub(began); end > life || end < life-5*time.Second {
				t.Errorf("the IKE SA ends after %s", end)
			}
			if len(m.Wanted()) != 1 {
				t.Error("the other IKE SA is not to have the Child SA")
			}
			s.until(a)
			s.says(a, delIKE)
		})
	}
}

// TestMessageNumbersEnd has the IKE SA rekeyed before its message numbers do
// not suffice any more, and closed when they do not (RFC 7296 section 2.2).
func TestMessageNumbersEnd(t *testing.T) {
	ends(t, "rekeyed", nil, func(s *steps, a, b *iketest.Host) {
		m, n := s.machine(a), s.machine(b)
		m.cur.ours.next, n.cur.theirs.next = manyRequests-1, manyRequests-1
		s.do(a, ike.Acquire{Child: tunnel(), Local: one(a.Addr), Remote: one(b.Addr)})
		s.exchange(a, childReq, childResp)
		s.until(a)
		s.exchange(a, ikeReq, ikeResp)
		s.exchange(a, delIKE, emptyResp)
		s.settled(2)
		if m.cur.ours.next != 0 {
			t.Errorf("the next request is %d", m.cur.ours.next)
		}
	})
	ends(t, "none left", nil, func(s *steps, a, b *iketest.Host) {
		s.machine(a).cur.ours.next = 1<<32 - 1
		s.do(a, ike.Acquire{Child: tunnel(), Local: one(a.Addr), Remote: one(b.Addr)})
		s.quiet()
		if len(a.Machines)+len(a.Alive()) != 0 {
			t.Errorf("%d IKE SAs and %d Child SAs are left", len(a.Machines), len(a.Alive()))
		}
	})
}

// TestEndedWhileRekeyed has a Child SA end while its rekeying is under way, and
// a packet ask for another: one of the two goes.
//
//	send req1: N(REKEY_SA,SPIa1) -->
//	                              --> recv req1
//	                              <-- send resp1: SA, Nr, ..
//	send req2: D(SPIa1) -->
//	                              <-- send resp2: D(SPIb1)
//	send req3: SA, Ni, TSi, TSr -->
//	                              <-- send resp3: SA, Nr, TSi, TSr
//	recv resp1 <--
//	send req4: D(..) -->
func TestEndedWhileRekeyed(t *testing.T) {
	ends(t, "", nil, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		s.recv(s.says(a, rekeyReq))
		resp1 := s.says(b, childResp)
		s.do(a, ike.DeleteChild{InSPI: a.Alive()[0]})
		s.exchange(a, delReq, delResp)
		s.do(a, ike.Acquire{Child: tunnel(), Local: one(a.Addr), Remote: one(b.Addr)})
		s.exchange(a, childReq, childResp)
		acquired := a.Alive()[0]
		s.recv(resp1)
		if i := a.Installed[len(a.Installed)-1]; !i.Standby {
			t.Error("packets go by what is to be deleted")
		}
		s.exchange(a, delReq, delResp)
		s.settled(1)
		s.failures(0, 0)
		if a.Alive()[0] != acquired {
			t.Error("not the one that the packet asked for has stayed")
		}
	})
}

// TestSole has a Child SA take the place of another of its rule.
func TestSole(t *testing.T) {
	ends(t, "", nil, func(s *steps, a, b *iketest.Host) {
		old := a.Alive()[0]
		s.do(a, ike.Acquire{Child: tunnel(), Local: one(a.Addr), Remote: one(b.Addr), Sole: true})
		s.recv(s.says(a, childReq))
		s.recv(s.says(b, childResp))
		if len(a.Alive()) != 2 || len(b.Alive()) != 2 {
			t.Error("the old one is gone before the peer knows")
		}
		s.exchange(a, delReq, delResp)
		s.settled(1)
		s.failures(0, 0)
		if a.Alive()[0] == old {
			t.Error("the old one has stayed")
		}
	})
}

// TestDeleteMoves has the IKE SA replaced on which the peer was told that a
// Child SA is gone, before that has arrived: the peer is told on the new one.
func TestDeleteMoves(t *testing.T) {
	ends(t, "lost", twoMethods, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.RekeyIKE{})
		s.exchange(a, ikeReq, linkResp)
		s.do(b, ike.DeleteChild{InSPI: b.Alive()[0]})
		s.says(b, delReq) // lost
		s.exchange(a, followReq, followResp)
		s.exchange(a, delIKE, emptyResp)
		s.exchange(b, delReq, delResp)
		s.settled(0)
	})
}
