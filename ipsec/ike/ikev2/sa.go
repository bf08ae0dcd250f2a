// Package ikev2 is the exchanges of IKEv2 (RFC 7296): one file for each, over
// a window of one request in each direction.
//
// The package is pure. An SA is told what happened and says what to do; it
// starts nothing, waits for nothing, and reads no clock.
package ikev2

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// SA is one IKE SA with its Child SAs. It implements ike.Machine.
type SA struct {
	cfg     ike.MachineConfig
	state   State
	now     time.Time    // of the event in hand
	effects []ike.Effect // of the event in hand

	local, remote netip.AddrPort
	cur, old      *session
	start         *start // until established
	queue         []queued
	children      []*child
	peer          ike.PeerInfo
	proof         ike.Proof // by which the peer authenticated
	udp           bool      // ESP travels in UDP
	made          int       // Child SAs that came about, replacements not counted

	until  time.Time // the end of InitSent without any answer, of InitAnswered or of Refused
	heard  time.Time // when the peer last proved to be there
	probed time.Time // when a hint last made us ask
	renew  time.Time // when the IKE SA is to be rekeyed, or zero
}

var _ ike.Machine = (*SA)(nil)

// NewInitiator returns a machine whose first Acquire starts an IKE SA.
func NewInitiator(cfg ike.MachineConfig) *SA {
	s := newSA(cfg)
	s.start.untried = slices.Clone(cfg.Policy.Auth)
	return s
}

// NewResponder returns a machine whose first Datagram is a peer's IKE_SA_INIT
// request. A request that cannot be granted is answered and closes it.
func NewResponder(cfg ike.MachineConfig) *SA { return newSA(cfg) }

func newSA(cfg ike.MachineConfig) *SA {
	if len(cfg.Policy.Proposals) == 0 {
		cfg.Policy.Proposals = ike.DefaultProposals()
	}
	if cfg.Policy.Liveness <= 0 {
		cfg.Policy.Liveness = 30 * time.Second
	}
	return &SA{cfg: cfg, local: cfg.Local, remote: cfg.Remote, start: new(start)}
}

// State returns how far the SA has come.
func (s *SA) State() State { return s.state }

// errIgnored is wrapped by the error of an event that does not fit the state.
var errIgnored = errors.New("ignored")

// Handle implements ike.Machine.
func (s *SA) Handle(now time.Time, ev ike.Event) ([]ike.Effect, error) {
	s.now, s.effects = now, nil
	err := s.handle(ev)
	s.pump()
	s.retire()
	effects := s.effects
	s.effects = nil
	return effects, err
}

func (s *SA) handle(ev ike.Event) error {
	if s.state == Closed {
		return fmt.Errorf("%w: %w", errIgnored, ike.ErrClosed)
	}
	switch ev := ev.(type) {
	case ike.Datagram:
		return s.datagram(ev)
	case ike.Acquire:
		s.acquire(ev)
	case ike.Tick:
		s.tick()
	case ike.Probe:
		s.hint()
	case ike.RekeyChild:
		if c := s.find(byIn(ev.InSPI)); c != nil {
			s.rekeyChild(c)
		}
	case ike.DeleteChild:
		s.deleteChild(ev.InSPI, "deleted on request")
	case ike.Close:
		s.close(ev)
	default:
		return fmt.Errorf("%w: event %T", errIgnored, ev)
	}
	return nil
}

func (s *SA) acquire(a ike.Acquire) {
	if !s.room(len(s.waiting())) {
		s.emit(ike.Failed{Policy: a.Child.Name, Why: s.full()})
		return
	}
	switch s.state {
	case Idle:
		s.start.acquire = a
		s.begin()
	case InitSent, AuthSent, InitAnswered, Established:
		s.enqueue(&createChild{acquire: a})
	default:
		s.emit(ike.Failed{Policy: a.Child.Name, Why: fmt.Errorf("%w: %s", ike.ErrClosed, s.state)})
	}
}

// Deadline implements ike.Machine.
func (s *SA) Deadline() (at time.Time, ok bool) {
	if s.state == Closed {
		return at, false
	}
	want := func(t time.Time) {
		if !t.IsZero() && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	for _, ses := range []*session{s.cur, s.old} {
		if ses != nil {
			want(ses.expire)
			if ses.pending != nil {
				want(ses.pending.at)
			}
		}
	}
	want(s.until)
	if s.state == Established {
		want(s.renew)
		for _, c := range s.children {
			want(c.rekey)
			want(c.end)
		}
		if s.cur.pending == nil {
			want(s.heard.Add(s.cfg.Policy.Liveness))
			for _, q := range s.queue {
				want(q.at)
			}
		}
	}
	return at, ok
}

// due reports whether a time that was wanted has come.
func (s *SA) due(t time.Time) bool { return !t.IsZero() && !t.After(s.now) }

func (s *SA) tick() {
	if s.due(s.until) {
		switch s.state {
		case Refused:
			s.finish("authentication failed")
		case InitSent:
			s.unanswered(s.cur.pending)
		default:
			s.die(fmt.Errorf("%w with IKE_AUTH", ike.ErrNoAnswer))
		}
		return
	}
	for _, ses := range []*session{s.old, s.cur} {
		if ses != nil && ses.pending != nil && s.due(ses.pending.at) {
			s.again(ses)
		}
	}
	if s.old != nil && s.due(s.old.expire) {
		s.dropOld()
	}
	if s.state != Established {
		return
	}
	for _, c := range slices.Clone(s.children) {
		s.age(c)
	}
	if s.due(s.renew) {
		s.renew = time.Time{}
		s.enqueue(&rekeyIKE{of: s.cur})
	}
	if s.cur.pending == nil && s.due(s.heard.Add(s.cfg.Policy.Liveness)) {
		s.enqueue(&liveness{})
	}
}

// again sends a pending request once more, or gives up.
func (s *SA) again(ses *session) {
	p := ses.pending
	wait, ok := p.schedule.Wait(p.sends + 1)
	if ok {
		p.sends++
		p.at = s.now.Add(wait)
		s.send(p.data)
		return
	}
	if ses == s.old {
		s.dropOld()
		return
	}
	s.unanswered(p)
}

// unanswered ends the SA because of a request that came to nothing.
func (s *SA) unanswered(p *request) {
	why := &ike.NegotiationError{
		Step: p.exchange.String(), Peer: s.remote.String(),
		Err: fmt.Errorf("%w: %d requests in vain", ike.ErrNoAnswer, p.sends),
	}
	if s.state == InitSent {
		why.Hint = "see whether the peer runs IKE and lets UDP 500 and 4500 in"
		switch {
		case !s.start.spoke:
			why.Err = fmt.Errorf("%w: %d requests in vain", ike.ErrNoIKE, p.sends)
		case s.start.trouble != nil:
			why.Err = fmt.Errorf("%w, or none of use: %w", ike.ErrNoAnswer, s.start.trouble)
		}
	}
	s.die(why)
}

// die ends the SA without a word to the peer.
func (s *SA) die(why error) {
	if s.state == Closed {
		return
	}
	established := s.state == Established || s.state == Closing
	waiting := s.waiting()
	s.transition(Closed)
	s.release(why.Error())
	if !established || len(waiting) > 0 {
		f := ike.Failed{Whole: true, Why: why}
		if len(waiting) > 0 {
			f.Policy = waiting[0]
		}
		s.emit(f)
	}
	s.emit(ike.Closed{Reason: why.Error()})
}

// finish ends the SA when nobody waits for it any more.
func (s *SA) finish(reason string) {
	s.transition(Closed)
	s.release(reason)
	s.emit(ike.Closed{Reason: reason})
}

// waiting returns the rules whose packets wait for a Child SA.
func (s *SA) waiting() (rules []string) {
	if s.start != nil && s.start.acquire.Child.Name != "" {
		rules = append(rules, s.start.acquire.Child.Name)
	}
	if s.cur != nil && s.cur.pending != nil {
		if c, ok := s.cur.pending.task.(*createChild); ok && c.old == nil {
			rules = append(rules, c.acquire.Child.Name)
		}
	}
	for _, q := range s.queue {
		if c, ok := q.task.(*createChild); ok && c.old == nil {
			rules = append(rules, c.acquire.Child.Name)
		}
	}
	return rules
}

// release takes all Child SAs out of the data path and wipes the keys.
func (s *SA) release(reason string) {
	for _, c := range s.children {
		s.emit(ike.RemoveChild{InSPI: c.in, Reason: reason})
	}
	s.children, s.queue = nil, nil
	s.until = time.Time{}
	s.cur.wipe()
	s.old.wipe()
	s.old = nil
}

func (s *SA) dropOld() {
	s.old.wipe()
	s.old = nil
}

func (s *SA) emit(e ike.Effect) { s.effects = append(s.effects, e) }

func (s *SA) send(data []byte) {
	s.emit(ike.Send{Local: s.local, Remote: s.remote, Data: data})
}

// random returns n fresh bytes.
func (s *SA) random(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.cfg.Rand, b); err != nil {
		return nil, fmt.Errorf("read %d random bytes: %w", n, err)
	}
	return b, nil
}

// jitter returns a duration between 85 % and 95 % of d, so that not both ends
// rekey at the same instant (RFC 7296 section 2.8).
func (s *SA) jitter(d time.Duration) time.Duration {
	b, err := s.random(1)
	if err != nil {
		return d * 9 / 10
	}
	return d*85/100 + d*time.Duration(b[0])/2560
}

// info describes the SA as it is now.
func (s *SA) info() ike.PeerInfo {
	p := s.peer
	p.Version = 2
	p.SPIi, p.SPIr, p.Initiator = s.cur.spiI, s.cur.spiR, s.cur.initiator
	p.Local, p.Remote = s.local, s.remote
	p.Proposal = s.cur.proposal
	p.Proposal.Transforms = slices.Clone(s.cur.proposal.Transforms)
	return p
}

// find returns the Child SA whose SPI in one direction this is.
func (s *SA) find(match func(*child) bool) *child {
	if i := slices.IndexFunc(s.children, match); i >= 0 {
		return s.children[i]
	}
	return nil
}

func byIn(spi ipsec.SPI) func(*child) bool  { return func(c *child) bool { return c.in == spi } }
func byOut(spi ipsec.SPI) func(*child) bool { return func(c *child) bool { return c.out == spi } }
