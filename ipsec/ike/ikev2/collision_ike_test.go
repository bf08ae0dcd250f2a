package ikev2

import (
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// works fails unless the IKE SA serves both ends, which is what the rekeying of
// an IKE SA is to be good for.
func (s *steps) works(x, y *iketest.Host) {
	s.t.Helper()
	n := len(x.Alive())
	s.do(x, ike.Acquire{Child: tunnel(), Local: one(x.Addr), Remote: one(y.Addr)})
	s.exchange(x, childReq, childResp)
	s.settled(n + 1)
	s.do(y, ike.DeleteChild{InSPI: y.Alive()[n]})
	s.exchange(y, delReq, delResp)
	s.settled(n)
}

// begun returns who began the IKE SA in use.
func (s *steps) begun() *iketest.Host {
	if s.machine(s.a).cur.initiator {
		return s.a
	}
	return s.b
}

// TestIKERekeyCollision is the simultaneous rekeying of the IKE SA (RFC 7296
// section 2.8.2).
func TestIKERekeyCollision(t *testing.T) {
	// Host A                      Host B
	// send req1:
	//     SA(..,SPIa1,..),Ni1,.. -->
	//                           <-- send req2: SA(..,SPIb1,..),Ni2,..
	// recv req2 <--
	// send resp2: SA(..,SPIa2,..),Nr1 -->
	//                           --> recv req1
	//                           <-- send resp1: SA(..,SPIb2,..),Nr2,..
	// recv resp1 <--
	//                           --> recv resp2
	//
	// Of the two new IKE SAs the one with the lowest nonce is deleted on itself
	// by whom it was begun, and the old one, on itself, by the other.
	for _, loser := range []string{"A", "B"} {
		ends(t, "both notice, "+loser+" loses", nil, func(s *steps, a, b *iketest.Host) {
			old, children := s.machine(a).cur.spiI, a.Alive()
			s.nonce[a], s.nonce[b] = 1, 1
			if loser == "A" {
				s.nonce[a] = 0
			} else {
				s.nonce[b] = 0
			}
			s.do(a, ike.RekeyIKE{})
			s.do(b, ike.RekeyIKE{})
			req1, req2 := s.says(a, ikeReq), s.says(b, ikeReq)
			s.nonce[a], s.nonce[b] = 1, 1
			s.recv(req2)
			s.recv(req1)
			if m := s.machine(a); m.rival == nil || m.cur.spiI != old {
				t.Fatal("A does not wait for what comes of its own exchange")
			}
			resp2, resp1 := s.says(a, ikeResp), s.says(b, ikeResp)
			s.recv(resp1)
			s.recv(resp2)
			req3, req4 := s.says(a, delIKE), s.says(b, delIKE)
			s.recv(req3)
			s.recv(req4)
			s.recv(s.says(b, emptyResp))
			s.recv(s.says(a, emptyResp))
			s.settled(1)
			s.failures(0, 0)
			winner := a
			if loser == "A" {
				winner = b
			}
			if s.begun() != winner {
				t.Error("the IKE SA with the lowest nonce has survived")
			}
			if !slices.Equal(children, a.Alive()) || len(a.Changed) != 1 || len(b.Changed) != 1 {
				t.Errorf("children %v, then %v; changed %d and %d times", children, a.Alive(), len(a.Changed), len(b.Changed))
			}
			s.works(a, b)
			s.works(b, a)
		})
	}

	// send req1:
	//     SA(..,SPIa1,..),Ni1,.. -->
	//                           <-- send req2: SA(..,SPIb1,..),Ni2,..
	//                           --> recv req1
	//                           <-- send resp1: SA(..,SPIb2,..),Nr2,..
	// recv resp1 <--
	// send req3: D() -->
	//                           --> recv req3
	//                           <-- send resp3: ()
	//
	// B stops sending req2 again, which A could not answer any more.
	ends(t, "one does not notice", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.RekeyIKE{})
		s.do(b, ike.RekeyIKE{})
		req1 := s.says(a, ikeReq)
		s.says(b, ikeReq) // lost
		s.recv(req1)
		s.recv(s.says(b, ikeResp))
		s.exchange(a, delIKE, emptyResp)
		s.wait(2 * time.Second)
		s.settled(1)
		s.failures(0, 0)
		s.works(a, b)
		s.works(b, a)
	})

	// As before, but req2 is only late: A does not rekey what it is deleting.
	//
	// recv resp1 <--
	// send req3: D() -->
	// recv req2 <--
	// send resp2: N(TEMPORARY_FAILURE) -->
	//                           --> recv resp2
	//                           --> recv req3
	ends(t, "one hears of it too late", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.RekeyIKE{})
		s.do(b, ike.RekeyIKE{})
		req1, req2 := s.says(a, ikeReq), s.says(b, ikeReq)
		s.recv(req1)
		s.recv(s.says(b, ikeResp))
		req3 := s.says(a, delIKE)
		s.recv(req2)
		s.recv(s.says(a, busyResp))
		s.recv(req3)
		s.recv(s.says(b, emptyResp))
		s.wait(2 * time.Second)
		s.settled(1)
		s.failures(0, 0)
		s.works(b, a)
	})

	// A's deletion of the old IKE SA is lost, and what A says on the new one
	// comes first: that one is in use, then.
	ends(t, "the new one is used before the old one is deleted", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.RekeyIKE{})
		s.do(b, ike.RekeyIKE{})
		req1 := s.says(a, ikeReq)
		s.says(b, ikeReq) // lost
		s.recv(req1)
		s.recv(s.says(b, ikeResp))
		s.says(a, delIKE) // lost
		s.do(a, ike.DeleteChild{InSPI: a.Alive()[0]})
		s.exchange(a, delReq, delResp)
		s.wait(500 * time.Millisecond)
		s.says(b, ikeReq) // again, and lost again
		s.exchange(a, delIKE, emptyResp)
		s.settled(0)
		s.failures(0, 0)
		s.works(b, a)
	})

	// resp1 is lost. A, which has lost, has deleted its own in B's eyes when it
	// hears at last what came of it.
	ends(t, "the answer comes late", nil, func(s *steps, a, b *iketest.Host) {
		s.nonce[a], s.nonce[b] = 0, 1 // A's is the one to be deleted
		s.do(a, ike.RekeyIKE{})
		s.do(b, ike.RekeyIKE{})
		req1, req2 := s.says(a, ikeReq), s.says(b, ikeReq)
		s.recv(req1)
		s.says(b, ikeResp) // lost
		s.nonce[a] = 1
		s.recv(req2)
		s.recv(s.says(a, ikeResp))
		req4 := s.says(b, delIKE) // B has won, and deletes the old one
		s.wait(500 * time.Millisecond)
		s.says(b, delIKE) // again
		s.exchange(a, ikeReq, ikeResp)
		s.exchange(a, delIKE, emptyResp)
		s.recv(req4)
		s.recv(s.says(a, emptyResp))
		s.settled(1)
		s.failures(0, 0)
		s.works(a, b)
	})
}

// TestIKEAndChildCollision is about an IKE SA and its Child SAs (RFC 7296
// sections 2.25.1 and 2.25.2).
func TestIKEAndChildCollision(t *testing.T) {
	create := func(s *steps, x, y *iketest.Host) {
		s.do(x, ike.Acquire{Child: tunnel(), Local: one(x.Addr), Remote: one(y.Addr)})
	}

	// A creates a Child SA and B rekeys the IKE SA: both wait.
	//
	// send req1: SA, Ni, TSi, TSr -->
	//                           <-- send req2: SA, Ni, KEi
	// recv req2 <--
	// send resp2: N(TEMPORARY_FAILURE) -->
	//                           --> recv req1
	//                           <-- send resp1: N(TEMPORARY_FAILURE)
	// recv resp1 <--
	//                           --> recv resp2
	for _, tt := range []struct {
		name, req string
		begin     func(s *steps, a, b *iketest.Host)
		left      int
	}{
		{"create and rekey IKE", childReq, create, 2},
		{"rekey and rekey IKE", rekeyReq, func(s *steps, a, _ *iketest.Host) { s.rekey(a) }, 1},
	} {
		ends(t, tt.name, nil, func(s *steps, a, b *iketest.Host) {
			tt.begin(s, a, b)
			s.do(b, ike.RekeyIKE{})
			req1, req2 := s.says(a, tt.req), s.says(b, ikeReq)
			s.recv(req2)
			resp2 := s.says(a, busyResp)
			s.recv(req1)
			s.recv(s.says(b, busyResp))
			s.recv(resp2)
			s.quiet()
			s.sim.Mangle = nil // both try again
			s.wait(10 * time.Second)
			s.said = map[*iketest.Host][]*letter{}
			s.settled(tt.left)
			s.failures(0, 0)
			if len(a.Changed) != 1 || len(b.Changed) != 1 {
				t.Errorf("the IKE SA was rekeyed %d and %d times", len(a.Changed), len(b.Changed))
			}
		})
	}

	// A deletes a Child SA while B rekeys the IKE SA. A deletion is answered as
	// ever; the rekeying waits for it.
	ends(t, "delete and rekey IKE", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.DeleteChild{InSPI: a.Alive()[0]})
		s.do(b, ike.RekeyIKE{})
		req1, req2 := s.says(a, delReq), s.says(b, ikeReq)
		s.recv(req2)
		s.recv(s.says(a, busyResp))
		s.recv(req1)
		s.recv(s.says(b, delResp))
		s.until(b)
		s.exchange(b, ikeReq, ikeResp)
		s.exchange(b, delIKE, emptyResp)
		s.settled(0)
		s.failures(0, 0)
	})

	// A deletes the IKE SA while B creates or rekeys in it.
	//
	// send req1: D() -->
	//                           <-- send req2: SA, Ni, ..
	// recv req2 <--
	// send resp2: N(TEMPORARY_FAILURE) -->
	//                           --> recv req1
	//                           <-- send resp1: ()
	for _, tt := range []struct {
		name, req string
		begin     func(s *steps, b, a *iketest.Host)
	}{
		{"delete IKE and create", childReq, create},
		{"delete IKE and rekey", rekeyReq, func(s *steps, b, _ *iketest.Host) { s.rekey(b) }},
		{"delete IKE and rekey IKE", ikeReq, func(s *steps, b, _ *iketest.Host) { s.do(b, ike.RekeyIKE{}) }},
	} {
		ends(t, tt.name, nil, func(s *steps, a, b *iketest.Host) {
			s.do(a, ike.Close{Reason: "test"})
			tt.begin(s, b, a)
			req1, req2 := s.says(a, delIKE), s.says(b, tt.req)
			s.recv(req2)
			s.recv(s.says(a, busyResp))
			s.recv(req1)
			s.recv(s.says(b, emptyResp))
			s.quiet()
			if len(a.Machines)+len(b.Machines) != 0 || len(a.Alive())+len(b.Alive()) != 0 {
				t.Errorf("%d and %d IKE SAs are left", len(a.Machines), len(b.Machines))
			}
		})
	}

	// send req1: D() -->
	//                           <-- send req2: D()
	// recv req2 <--
	// send resp2: () -->
	//                           --> recv req1, which nobody knows any more
	ends(t, "delete IKE and delete IKE", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.Close{Reason: "test"})
		s.do(b, ike.Close{Reason: "test"})
		s.says(a, delIKE)
		s.recv(s.says(b, delIKE))
		s.recv(s.says(a, emptyResp))
		if len(a.Machines)+len(b.Machines) != 0 {
			t.Errorf("%d and %d IKE SAs are left", len(a.Machines), len(b.Machines))
		}
	})

	// A wants to end what it is rekeying. The answer has made a new IKE SA,
	// which has to be deleted too.
	ends(t, "close while rekeying IKE", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.RekeyIKE{})
		s.do(a, ike.Close{Reason: "test"})
		s.exchange(a, ikeReq, ikeResp)
		s.exchange(a, delIKE, emptyResp)
		s.exchange(a, delIKE, emptyResp)
		if len(a.Machines)+len(b.Machines) != 0 {
			t.Errorf("%d and %d IKE SAs are left", len(a.Machines), len(b.Machines))
		}
	})

	// What is asked on the old IKE SA after it was replaced: a deletion of a
	// Child SA is granted, and nothing that is new.
	ends(t, "requests on what was replaced", nil, func(s *steps, a, b *iketest.Host) {
		s.do(b, ike.RekeyIKE{})
		s.recv(s.says(b, ikeReq))
		resp := s.says(a, ikeResp)
		m := s.machine(b)
		m.queue = nil
		old := m.children[0]
		for _, tt := range []struct {
			req, resp string
			x         wire.ExchangeType
			ps        []wire.Payload
		}{
			{childReq, busyResp, wire.CreateChildSA, anotherChild(t, m)},
			{empty, emptyResp, wire.Informational, nil},
			{delReq, delResp, wire.Informational, []wire.Payload{&wire.Delete{Protocol: 3, SPIs: spis(old.in)}}},
		} {
			m.effects = nil
			if err := m.request(m.cur, tt.x, tt.ps, &saying{}); err != nil {
				t.Fatal(err)
			}
			s.send(b)
			s.exchange(b, tt.req, tt.resp)
		}
		m.remove(old, "")
		b.Removed = append(b.Removed, ike.RemoveChild{InSPI: b.Alive()[0]})
		s.recv(resp)
		s.exchange(b, delIKE, emptyResp)
		s.settled(0)
	})
}

// TestIKERekeyRetries has answers that are no agreement.
func TestIKERekeyRetries(t *testing.T) {
	// Nothing but another authentication helps against one who does not rekey.
	ends(t, "NO_ADDITIONAL_SAS", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.RekeyIKE{})
		s.recv(s.says(a, ikeReq))
		resp := s.says(b, ikeResp)
		s.answer(resp, &wire.Notify{Kind: wire.NoAdditionalSAs})
		s.recv(resp)
		m := s.machine(a)
		if !m.reauth.begun || m.reauth.end.IsZero() || len(a.Failed) != 1 {
			t.Errorf("renewed %v, to end %s, failures %v", m.reauth.begun, m.reauth.end, a.Failed)
		}
	})

	ends(t, "TEMPORARY_FAILURE", nil, func(s *steps, a, b *iketest.Host) {
		s.machine(b).unfinished = slices.Repeat([]*unfinished{{until: s.sim.Now.Add(time.Hour)}}, maxUnfinished)
		s.do(a, ike.RekeyIKE{})
		s.exchange(a, ikeReq, busyResp)
		s.quiet()
		s.machine(b).unfinished = nil
		s.until(a)
		s.exchange(a, ikeReq, ikeResp)
		s.exchange(a, delIKE, emptyResp)
		s.settled(1)
		s.failures(0, 0)
	})
}
