package ikev2

import (
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
)

// lateChild has b ask for a second Child SA, which a makes. It returns the answer,
// which b has not got yet, and the SPI of the SA at a.
func (s *steps) lateChild(a, b *iketest.Host) (resp1 *letter, in ipsec.SPI) {
	s.t.Helper()
	s.do(b, ike.Acquire{Child: b.Children[0], Local: one(b.Addr), Remote: one(a.Addr)})
	s.recv(s.says(b, childReq))
	resp1 = s.says(a, childResp)
	return resp1, a.Installed[len(a.Installed)-1].SA.InSPI
}

// TestRekeyBeforeAnswer rekeys a Child SA that the peer has asked for and has
// not heard of: it has no such SA, yet it soon will, so that the refusal is one
// for the moment (RFC 7296 section 2.25).
func TestRekeyBeforeAnswer(t *testing.T) {
	ends(t, "create", nil, func(s *steps, a, b *iketest.Host) {
		resp1, in := s.lateChild(a, b)
		s.do(a, ike.RekeyChild{InSPI: in})
		s.exchange(a, rekeyReq, busyResp)
		s.recv(resp1)
		s.until(a)
		s.exchange(a, rekeyReq, childResp)
		s.exchange(a, delReq, delResp)
		s.settled(2)
		s.failures(0, 0)
	})
}

// TestDeleteBeforeAnswer deletes such a Child SA. The answer comes too late, and
// makes no SA of which the peer has only the half.
func TestDeleteBeforeAnswer(t *testing.T) {
	ends(t, "create", nil, func(s *steps, a, b *iketest.Host) {
		resp1, in := s.lateChild(a, b)
		s.do(a, ike.DeleteChild{InSPI: in})
		s.exchange(a, delReq, "INFORMATIONAL = {}")
		s.recv(resp1)
		s.settled(1)
		if len(b.Failed) != 1 || b.Failed[0].Policy != "tunnel" {
			t.Errorf("failures %v, want one for the rule that waits", b.Failed)
		}
		s.do(b, ike.Acquire{Child: b.Children[0], Local: one(b.Addr), Remote: one(a.Addr)})
		s.exchange(b, childReq, childResp)
		s.settled(2)
	})
	ends(t, "rekey", nil, func(s *steps, a, b *iketest.Host) {
		s.rekey(b)
		s.recv(s.says(b, rekeyReq))
		resp1 := s.says(a, childResp)
		s.do(a, ike.DeleteChild{InSPI: a.Installed[len(a.Installed)-1].SA.InSPI})
		s.exchange(a, delReq, "INFORMATIONAL = {}")
		s.recv(resp1)
		s.settled(1) // that which was to be replaced
		s.until(b)
		s.exchange(b, rekeyReq, childResp)
		s.exchange(b, delReq, delResp)
		s.settled(1)
	})
}

// TestRedundantStandby has the end whose SA loses a collision not send by it:
// the peer may have heard of its end before the packets come.
func TestRedundantStandby(t *testing.T) {
	ends(t, "both notice", nil, func(s *steps, a, b *iketest.Host) {
		s.nonce[a], s.nonce[b] = 1, 1
		s.rekey(a)
		s.rekey(b)
		req1, req2 := s.says(a, rekeyReq), s.says(b, rekeyReq)
		s.nonce[a] = 0 // of resp2: the SA of req2 is redundant
		s.recv(req2)
		resp2 := s.says(a, childResp)
		s.recv(req1)
		s.recv(s.says(b, childResp))
		s.recv(resp2)
		for _, tt := range []struct {
			who     string
			host    *iketest.Host
			standby bool
		}{{"winner", a, false}, {"loser", b, true}} {
			if got := tt.host.Installed[len(tt.host.Installed)-1].Standby; got != tt.standby {
				t.Errorf("the SA of the %s is on standby: %v, want %v", tt.who, got, tt.standby)
			}
		}
		req3, req4 := s.says(a, delReq), s.says(b, delReq)
		s.recv(req3)
		s.recv(s.says(b, delResp))
		s.recv(req4)
		s.recv(s.says(a, delResp))
		s.settled(1)
		s.failures(0, 0)
	})
}
