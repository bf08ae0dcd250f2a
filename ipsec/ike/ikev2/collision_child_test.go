package ikev2

import (
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// ends runs a collision from both sides: x is the one that began the IKE SA, or
// the one that answered.
func ends(t *testing.T, name string, change func(*iketest.Host), f func(s *steps, x, y *iketest.Host)) {
	for _, who := range []string{"initiator", "responder"} {
		t.Run(name+", "+who, func(t *testing.T) {
			var s *steps
			if change != nil {
				s = newSteps(t, change)
			} else {
				s = newSteps(t)
			}
			x, y := s.a, s.b
			if who == "responder" {
				x, y = y, x
			}
			f(s, x, y)
		})
	}
}

// TestChildRekeyCollision is the simultaneous rekeying of a Child SA (RFC 7296
// section 2.8.1).
func TestChildRekeyCollision(t *testing.T) {
	// Host A                            Host B
	// send req1: N(REKEY_SA,SPIa1),
	//     SA(..,SPIa2,..),Ni1,..  -->
	//                               <-- send req2: N(REKEY_SA,SPIb1),
	//                                      SA(..,SPIb2,..),Ni2
	// recv req2 <--
	// send resp2: SA(..,SPIa3,..),
	//      Nr1,.. -->
	//                               --> recv req1
	//                               <-- send resp1: SA(..,SPIb3,..), Nr2,..
	// recv resp1 <--
	//                               --> recv resp2
	//
	// The lowest nonce is one of A's, so that it stands in both exchanges as
	// one of the requester's and one of the responder's; the higher octet of
	// the other nonces decides nothing.
	//
	// send req3: D(SPI..) -->
	//                               <-- send req4: D(SPI..)
	ends(t, "both notice", nil, func(s *steps, a, b *iketest.Host) {
		s.nonce[a], s.nonce[b] = 1, 1
		s.rekey(a)
		s.rekey(b)
		req1, req2 := s.says(a, rekeyReq), s.says(b, rekeyReq)
		s.nonce[a] = 0 // Nr1 of resp2 is the lowest: the SA of req2 is B's to delete
		s.recv(req2)
		resp2 := s.says(a, childResp)
		s.recv(req1)
		resp1 := s.says(b, childResp)
		if n := len(a.Alive()); n != 2 {
			t.Fatalf("A has %d Child SAs after its answer, want 2", n)
		}
		s.recv(resp1)
		s.recv(resp2)
		if len(a.Alive()) != 3 || len(b.Alive()) != 3 {
			t.Fatalf("%d and %d Child SAs, want 3", len(a.Alive()), len(b.Alive()))
		}
		old, redundant := a.Alive()[0], a.Alive()[1]
		req3, req4 := s.says(a, delReq), s.says(b, delReq)
		s.recv(req3)
		s.recv(s.says(b, delResp))
		s.recv(req4)
		s.recv(s.says(a, delResp))
		s.settled(1)
		s.failures(0, 0)
		if left := a.Alive()[0]; left == old || left == redundant {
			t.Error("not the SA of A's exchange survived")
		}
	})

	// The same, but the lowest nonce is in A's own request.
	ends(t, "both notice, the other loses", nil, func(s *steps, a, b *iketest.Host) {
		s.nonce[a], s.nonce[b] = 0, 1
		s.rekey(a)
		s.rekey(b)
		req1, req2 := s.says(a, rekeyReq), s.says(b, rekeyReq)
		s.nonce[a] = 1
		s.recv(req1)
		s.recv(req2)
		s.recv(s.says(a, childResp))
		s.recv(s.says(b, childResp))
		winner := a.Alive()[1] // the responder's SA of req2
		req3, req4 := s.says(a, delReq), s.says(b, delReq)
		s.recv(req4)
		s.recv(s.says(a, delResp))
		s.recv(req3)
		s.recv(s.says(b, delResp))
		s.settled(1)
		if left := a.Alive()[0]; left != winner {
			t.Error("not the SA of B's exchange survived")
		}
	})

	// send req1 -->  (lost)
	//                               <-- send req2: N(REKEY_SA,SPIb1), ..
	// recv req2 <--
	// send resp2: SA(..,SPIa3,..),
	//      Nr1,.. -->
	//                               --> recv resp2
	//                               <-- send req3: D(SPIb1)
	// recv req3 <--
	// send resp3: D(SPIa1) -->
	//                               --> recv resp3
	// resend req1 -->
	//                               --> recv req1
	//                               <-- send resp1: N(CHILD_SA_NOT_FOUND)
	// recv resp1 <--
	ends(t, "one does not notice", nil, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		s.rekey(b)
		s.says(a, rekeyReq) // lost
		s.exchange(b, rekeyReq, childResp)
		s.exchange(b, delReq, delResp)
		s.wait(500 * time.Millisecond)
		s.exchange(a, rekeyReq, noneResp)
		s.settled(1)
		s.failures(0, 0)
	})

	// As before, but B is about to delete the old SA when req1 arrives.
	//
	//                               --> recv resp2
	//                               <-- send req3: D(SPIb1)
	// resend req1 -->
	//                               --> recv req1
	//                               <-- send resp1: N(TEMPORARY_FAILURE)
	ends(t, "one is deleting what it has rekeyed", nil, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		s.rekey(b)
		req1 := s.says(a, rekeyReq)
		s.exchange(b, rekeyReq, childResp)
		req3 := s.says(b, delReq)
		s.recv(req1)
		s.recv(s.says(b, busyResp))
		s.recv(req3)
		s.recv(s.says(a, delResp))
		s.wait(2 * time.Second) // A does not try again
		s.settled(1)
		s.failures(0, 0)
	})

	// resp1 is lost, and sent again when B's exchange is over.
	ends(t, "the answer comes late", nil, func(s *steps, a, b *iketest.Host) {
		s.nonce[a], s.nonce[b] = 0, 1 // A's exchange is the one to lose
		s.rekey(a)
		s.rekey(b)
		req1, req2 := s.says(a, rekeyReq), s.says(b, rekeyReq)
		s.recv(req1)
		s.says(b, childResp) // lost
		s.nonce[a] = 1
		s.recv(req2)
		s.recv(s.says(a, childResp))
		s.exchange(b, delReq, delResp) // B has won
		s.wait(500 * time.Millisecond)
		s.exchange(a, rekeyReq, childResp)
		s.exchange(a, delReq, delResp)
		s.settled(1)
		s.failures(0, 0)
	})
}

// TestChildDeleteCollision is about Child SAs that one or both ends delete
// (RFC 7296 section 2.25.1).
func TestChildDeleteCollision(t *testing.T) {
	del := func(s *steps, h *iketest.Host) { s.do(h, ike.DeleteChild{InSPI: h.Alive()[0]}) }

	// A rekeys what B deletes. The request finds nothing any more:
	//
	// send req1: N(REKEY_SA,SPIa1) -->
	//                               <-- send req2: D(SPIb1)
	//                               --> recv req1
	//                               <-- send resp1: N(TEMPORARY_FAILURE)
	// recv req2 <--
	// send resp2: D(SPIa1) -->
	ends(t, "rekey and delete", nil, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		del(s, b)
		req1, req2 := s.says(a, rekeyReq), s.says(b, delReq)
		s.recv(req1)
		s.recv(s.says(b, busyResp))
		s.recv(req2)
		s.recv(s.says(a, delResp))
		s.wait(2 * time.Second)
		s.settled(0)
		s.failures(0, 0)
	})

	// The deletion is over when the request arrives.
	//
	// recv req2 <--
	// send resp2: D(SPIa1) -->
	//                               --> recv resp2
	//                               --> recv req1
	//                               <-- send resp1: N(CHILD_SA_NOT_FOUND)
	ends(t, "rekey after delete", nil, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		del(s, b)
		req1 := s.says(a, rekeyReq)
		s.exchange(b, delReq, delResp)
		s.recv(req1)
		s.recv(s.says(b, noneResp))
		s.settled(0)
		s.failures(0, 0)
	})

	// B deletes what A has rekeyed with its consent, before A knows.
	//
	// send req1: N(REKEY_SA,SPIa1) -->
	//                               --> recv req1
	//                               <-- send resp1: SA, Nr, ..
	//                               <-- send req2: D(SPIb1)
	// recv req2 <--
	// send resp2: D(SPIa1) -->
	// recv resp1 <--
	ends(t, "delete overtakes the answer", nil, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		s.recv(s.says(a, rekeyReq))
		resp1 := s.says(b, childResp)
		del(s, b)
		s.exchange(b, delReq, delResp)
		s.recv(resp1)
		s.settled(1)
		if i := a.Installed[len(a.Installed)-1]; i.Rekeyed != 0 {
			t.Errorf("it replaces %s, which is gone", i.Rekeyed)
		}
	})

	// send req1: D(SPIa1) -->
	//                               <-- send req2: D(SPIb1)
	// recv req2 <--
	// send resp2: () -->
	//                               --> recv req1
	//                               <-- send resp1: ()
	ends(t, "delete and delete", nil, func(s *steps, a, b *iketest.Host) {
		del(s, a)
		del(s, b)
		req1, req2 := s.says(a, delReq), s.says(b, delReq)
		s.recv(req2)
		s.recv(s.says(a, emptyResp))
		s.recv(req1)
		s.recv(s.says(b, emptyResp))
		s.settled(0)
	})

	// A deletes the SA that it has replaced, and B deletes the same.
	ends(t, "delete of a replaced one", nil, func(s *steps, a, b *iketest.Host) {
		s.rekey(a)
		s.exchange(a, rekeyReq, childResp)
		req1 := s.says(a, delReq)
		del(s, b)
		s.recv(s.says(b, delReq))
		s.recv(s.says(a, emptyResp))
		s.recv(req1)
		s.recv(s.says(b, emptyResp))
		s.settled(1)
	})

	// What does not exist is deleted without a word of it, whatever its protocol.
	ends(t, "delete of several, known and unknown", nil, func(s *steps, a, b *iketest.Host) {
		s.ask(a, wire.Informational,
			&wire.Delete{Protocol: ipsec.ProtoAH, SPIs: []ipsec.SPI{s.machine(a).children[0].in, 0x1234}},
			&wire.Delete{Protocol: ipsec.ProtoESP, SPIs: []ipsec.SPI{0x4711, s.machine(a).children[0].in, 0x4712}})
		s.machine(a).remove(s.machine(a).children[0], "")
		a.Removed = append(a.Removed, ike.RemoveChild{InSPI: a.Alive()[0]})
		s.exchange(a, "INFORMATIONAL {D(AH), D(ESP)}", delResp)
		s.settled(0)
	})
}

// TestChildNotFound has the peer lose a Child SA without a word: what we wanted
// to rekey is made anew (RFC 7296 section 2.25).
//
//	send req1: N(REKEY_SA,SPIa1) -->
//	                              <-- send resp1: N(CHILD_SA_NOT_FOUND)
//	send req2: SA, Ni, TSi, TSr -->
//	                              <-- send resp2: SA, Nr, TSi, TSr
func TestChildNotFound(t *testing.T) {
	ends(t, "", nil, func(s *steps, a, b *iketest.Host) {
		m := s.machine(b)
		m.now = s.sim.Now
		m.remove(m.children[0], "lost")
		b.Removed = append(b.Removed, ike.RemoveChild{InSPI: b.Alive()[0]})
		m.effects = nil
		s.rekey(a)
		s.exchange(a, rekeyReq, noneResp)
		s.exchange(a, childReq, childResp)
		s.settled(1)
		s.failures(0, 0)
	})
}

// TestTemporaryFailure has a peer that never has time. We ask again, less and
// less often, and close the IKE SA after minutes (RFC 7296 section 2.25).
func TestTemporaryFailure(t *testing.T) {
	ends(t, "", nil, func(s *steps, a, b *iketest.Host) {
		for range maxUnfinished {
			s.machine(b).unfinished = append(s.machine(b).unfinished, &unfinished{until: s.sim.Now.Add(time.Hour)})
		}
		s.rekey(a)
		s.exchange(a, rekeyReq, busyResp)
		s.quiet() // at once it must not
		begun, asked := s.sim.Now, 1
		for s.sim.Now.Sub(begun) < 4*time.Minute && s.machine(a).state == Established {
			s.wait(100 * time.Millisecond)
			for _, h := range []*iketest.Host{a, b} {
				for len(s.said[h]) > 0 {
					l := s.said[h][0]
					if s.said[h] = s.said[h][1:]; l.says == rekeyReq {
						asked++
					}
					s.recv(l)
				}
			}
		}
		if asked < 5 || asked > 30 {
			t.Errorf("asked %d times in three minutes", asked)
		}
		if s.machine(a).state != Closing {
			t.Errorf("A is %s after %s, want closing", s.machine(a).state, s.sim.Now.Sub(begun))
		}
	})
}

// TestDrain closes an IKE SA whose Child SAs have successors: they go on
// receiving until the peer has answered.
func TestDrain(t *testing.T) {
	ends(t, "", nil, func(s *steps, a, b *iketest.Host) {
		s.do(a, ike.Close{Reason: "test", Drain: true})
		req := s.says(a, delIKE)
		if len(a.Alive()) != 1 {
			t.Error("the Child SA is gone before the peer knows")
		}
		s.recv(req)
		s.recv(s.says(b, emptyResp))
		if len(a.Alive())+len(b.Alive()) != 0 || len(a.Machines)+len(b.Machines) != 0 {
			t.Errorf("%d and %d Child SAs are left", len(a.Alive()), len(b.Alive()))
		}
	})
}
