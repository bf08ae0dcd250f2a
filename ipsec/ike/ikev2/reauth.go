package ikev2

import (
	"fmt"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// reauth is when and why the peers have to authenticate anew, which takes an
// IKE SA made from scratch (RFC 7296 section 2.8.3).
type reauth struct {
	reason string
	begin  time.Time // when the one who began this IKE SA makes another; zero for never, or when it has begun
	end    time.Time // when this one ends; zero for never
	begun  bool      // Renew was emitted, which happens once
}

const (
	// maxLead is how long before its end an IKE SA is replaced at most.
	maxLead = 10 * time.Minute
	// minProof is how long what a peer has proved must hold for it to be worth
	// while to authenticate anew before it ends.
	minProof = time.Minute
)

// lead returns how long before the end of a time the replacement begins, which
// is not the same at both ends.
func (s *SA) lead(d time.Duration) time.Duration { return min(d-s.jitter(d), maxLead) }

// scheduleReauth sets when the peers authenticate anew, now that they have: as
// the policy says, and before what the peer has proved ceases to hold.
func (s *SA) scheduleReauth() {
	if d := s.cfg.Policy.Reauth; d > 0 {
		s.limit("the policy wants the peers to authenticate anew", s.now.Add(d), true)
	}
	if until := s.proof.Until; !until.IsZero() {
		s.limit("what the peer has proved ceases to hold", until, until.Sub(s.now) >= minProof)
	}
}

// limit has the IKE SA end at a time, if it would not end sooner, and be
// replaced before by whom it was begun: the other has told it when
// (RFC 4478 section 3).
func (s *SA) limit(reason string, end time.Time, renew bool) {
	if !s.reauth.end.IsZero() && !end.Before(s.reauth.end) {
		return
	}
	s.reauth.reason, s.reauth.end, s.reauth.begin = reason, end, time.Time{}
	if renew && s.began && !s.reauth.begun {
		s.reauth.begin = end.Add(-s.lead(max(0, end.Sub(s.now))))
	}
	s.peer.Renew = end
}

// authLifetime returns what a responder tells the peer with AUTH_LIFETIME: how
// long from now it may do without authenticating anew. It is for when the peer
// has authenticated; ok is false if there is no limit.
func (s *SA) authLifetime() (d time.Duration, ok bool) {
	if s.reauth.end.IsZero() {
		return 0, false
	}
	return max(0, s.reauth.end.Sub(s.now)), true
}

// setAuthLifetime takes the peer's AUTH_LIFETIME, that of IKE_AUTH or one that
// it lets us know of later: the IKE SA ends after that time. Only a responder
// says so (RFC 4478 section 3). No time at all asks us to begin at once; until
// the peer deletes this IKE SA it stays for a moment, as the other one takes its
// time (section 2). Who has just authenticated does not begin again as soon, or
// it would never end.
func (s *SA) setAuthLifetime(d time.Duration) {
	if !s.began {
		return
	}
	const reason = "the peer wants us to authenticate anew"
	if d > 0 {
		s.limit(reason, s.now.Add(d), true)
		return
	}
	begin := s.now
	if least := s.peer.Since.Add(minProof); begin.Before(least) {
		begin = least
	}
	s.limit(reason, begin.Add(minProof), true)
	if r := &s.reauth; !r.begun && (r.begin.IsZero() || begin.Before(r.begin)) {
		r.begin = begin
	}
}

// renewAuth has another IKE SA made from scratch in the place of this one, for
// a reason that has nothing to do with authentication but that nothing else
// mends. A zero end leaves it as it is.
func (s *SA) renewAuth(reason string, end time.Time) {
	if s.reauth.begun || s.state != Established {
		return
	}
	if end.IsZero() {
		end = s.now.Add(maxLead)
	}
	if s.reauth.end.IsZero() || end.Before(s.reauth.end) {
		s.reauth.end = end
		s.peer.Renew = end
	}
	s.reauth.reason = reason
	s.beginReauth()
}

// beginReauth asks for the IKE SA that is to replace this one, once.
func (s *SA) beginReauth() {
	s.reauth.begin = time.Time{}
	if s.reauth.begun {
		return
	}
	s.reauth.begun = true
	s.emit(ike.Renew{Reason: s.reauth.reason, At: s.reauth.end, Children: s.Wanted()})
}

// Wanted returns what to ask another IKE SA for to get the Child SAs of this
// one once more. Those of ESP bring the AH around them.
func (s *SA) Wanted() (out []ike.Acquire) {
	for _, c := range s.children {
		if !c.leaving && !s.succeeded(c) && !c.policy.Outer {
			out = append(out, c.wanted())
		}
	}
	return out
}

// tickReauth does what is due.
func (s *SA) tickReauth() {
	if s.due(s.reauth.begin) {
		s.beginReauth()
	}
	if s.due(s.reauth.end) {
		reason := s.reauth.reason
		s.reauth.end = time.Time{}
		s.close(ike.Close{Reason: fmt.Sprintf("it ends: %s", reason)})
	}
}
