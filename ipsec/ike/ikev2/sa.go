// Package ikev2 is the exchanges of IKEv2 (RFC 7296), one file for each.
//
// The package is pure. An SA is told what happened and says what to do; it
// starts nothing, waits for nothing, and reads no clock.
package ikev2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// SA is one IKE SA with its Child SAs. It implements ike.Machine.
type SA struct {
	cfg     ike.MachineConfig
	state   State
	now     time.Time    // of the event in hand
	effects []ike.Effect // of the event in hand
	inner   contents     // of the message in hand
	trial   trial        // of a place that the peer may have moved to

	local, remote netip.AddrPort
	ends          ike.Ends // by which rules are chosen, wherever the peer moves
	cur           *session
	rival         *session      // that the peer has made to replace cur, while we were about to do so
	former        []*session    // that were replaced, or made in vain, and not deleted yet
	unfinished    []*unfinished // SAs that the peer has begun to make
	start         *start        // until established
	job           job           // likewise
	queue         []queued
	children      []*child
	peer          ike.PeerInfo
	proof         ike.Proof   // by which the peer authenticated
	udp           bool        // ESP travels in UDP
	keepalive     bool        // there is a NAT before this host, or it pretends so
	made          int         // Child SAs that came about, replacements not counted
	exchanges     bool        // the peer makes none without a key exchange of its own, we found
	stillborn     []ipsec.SPI // of Child SAs that the peer deleted before we heard of them
	effort        effort      // that the peer has caused

	until  time.Time // when what is before the peer is authenticated, or Refused, takes too long
	heard  time.Time // when the peer last proved to be there
	probed time.Time // when a hint last made us ask
	renew  time.Time // when the IKE SA is to be rekeyed, or zero
	expire time.Time // when its lifetime ends, or zero
	reauth reauth

	looked  time.Time // when the Child SAs' packets were last looked at
	sending bool      // packets had left then
	unheard time.Time // since when packets have left and none come, or zero
	began   bool      // this end sent the first IKE_SA_INIT
}

var _ ike.Machine = (*SA)(nil)

// NewInitiator returns a machine whose first Acquire starts an IKE SA.
func NewInitiator(cfg ike.MachineConfig) *SA {
	s := newSA(cfg)
	s.began = true
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
	ends := cfg.Ends
	if ends == (ike.Ends{}) {
		ends = ike.Ends{Local: cfg.Local.Addr(), Remote: cfg.Remote.Addr()}
	}
	return &SA{cfg: cfg, local: cfg.Local, remote: cfg.Remote, ends: ends, start: new(start)}
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
	s.effects, s.inner = nil, contents{}
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
	case ike.Done:
		return s.done(ev)
	case ike.Probe:
		s.hint()
	case ike.Moved:
		s.moved(ev)
	case ike.RekeyChild:
		if c := s.find(byIn(ev.InSPI)); c != nil {
			s.rekeyChild(c)
		}
	case ike.RekeyIKE:
		s.rekeyIKE()
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
	case InitSent, Intermediate, Proving, AuthSent, InitAnswered, Verifying, Established:
		s.ask(a)
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
	for ses := range s.sessions() {
		want(ses.expire)
		for _, p := range ses.ours.pending {
			want(p.at)
		}
		for _, r := range ses.partial {
			want(r.until)
		}
	}
	want(s.until)
	if s.state == Established {
		want(s.renew)
		want(s.reauth.begin)
		want(s.reauth.end)
		want(s.lookAt())
		for _, u := range s.unfinished {
			want(u.until)
		}
		for _, c := range s.children {
			want(c.rekey)
			want(c.end)
		}
		if s.cur.ours.idle() && !s.questioning(false) {
			want(s.heard.Add(s.cfg.Policy.Liveness))
		}
		if i := s.ready(); i >= 0 {
			want(s.queue[i].at)
		}
	}
	return at, ok
}

// due reports whether a time that was wanted has come.
func (s *SA) due(t time.Time) bool { return !t.IsZero() && !t.After(s.now) }

func (s *SA) tick() {
	if s.due(s.until) {
		s.overdue()
		return
	}
	for _, ses := range slices.Collect(s.sessions()) {
		s.forgetPartial(ses)
		for _, p := range slices.Clone(ses.ours.pending) {
			if s.due(p.at) && s.state != Closed {
				s.again(ses, p)
			}
		}
	}
	for _, ses := range slices.Clone(s.former) {
		if s.due(ses.expire) {
			s.drop(ses)
		}
	}
	if s.state != Established {
		return
	}
	for _, c := range slices.Clone(s.children) {
		s.age(c)
	}
	s.giveUpUnfinished()
	if s.due(s.renew) {
		s.rekeyIKE()
	}
	if s.due(s.lookAt()) {
		s.look()
	}
	if s.cur.ours.idle() && s.due(s.heard.Add(s.cfg.Policy.Liveness)) && !s.questioning(false) {
		s.enqueue(&liveness{patience: ike.Patient, idle: true})
	}
	s.tickReauth()
}

// unanswered ends the SA because of a request that came to nothing.
func (s *SA) unanswered(p *request) {
	why := &ike.NegotiationError{
		Step: p.header.Exchange.String(), Peer: s.remote.String(),
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
	if !established || len(waiting) > 0 || errors.Is(why, ike.ErrRefusedByPeer) {
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
	for t := range s.tasks() {
		if c, ok := t.(*createChild); ok && c.old == nil {
			rules = append(rules, c.acquire.Child.Name)
		}
	}
	return rules
}

// release takes all Child SAs out of the data path and wipes the keys.
func (s *SA) release(reason string) {
	for len(s.children) > 0 {
		s.remove(s.children[0], reason)
	}
	s.clearQueue()
	s.abandon(func(*unfinished) bool { return true })
	s.until = time.Time{}
	s.start.forget()
	for ses := range s.sessions() {
		ses.wipe()
	}
	s.rival, s.former = nil, nil
}

// sessions iterates over all sessions on which the peer may speak to us.
func (s *SA) sessions() iter.Seq[*session] {
	return func(yield func(*session) bool) {
		for _, ses := range s.former {
			if !yield(ses) {
				return
			}
		}
		if s.rival != nil && !yield(s.rival) {
			return
		}
		if s.cur != nil {
			yield(s.cur)
		}
	}
}

// session returns the one that a message belongs to, or nil.
func (s *SA) session(h wire.Header) *session {
	for ses := range s.sessions() {
		if ses.has(h) {
			return ses
		}
	}
	return nil
}

func (s *SA) emit(e ike.Effect) { s.effects = append(s.effects, e) }

// random returns n fresh bytes.
func (s *SA) random(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.cfg.Rand, b); err != nil {
		return nil, fmt.Errorf("read %d random bytes: %w", n, err)
	}
	return b, nil
}

// jitter returns a duration between 85 % and 95 % of d, so that not both ends
// rekey at the same instant (RFC 7296 section 2.8), nor all SAs of a host that
// were made at one.
func (s *SA) jitter(d time.Duration) time.Duration {
	b, err := s.random(2)
	if err != nil {
		return d * 9 / 10
	}
	return d*85/100 + d/10*time.Duration(binary.BigEndian.Uint16(b))/(1<<16)
}

// info describes the SA as it is now.
func (s *SA) info() ike.PeerInfo {
	p := s.peer
	p.Version = 2
	p.SPIi, p.SPIr, p.Initiator = s.cur.spiI, s.cur.spiR, s.cur.initiator
	p.Local, p.Remote = s.local, s.remote
	p.Proposal = s.cur.proposal
	p.Fragmentation, p.Window = s.cur.fragmentSize > 0, max(1, s.cur.ours.size)
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

func byIn(spi ipsec.SPI) func(*child) bool { return func(c *child) bool { return c.in == spi } }

// byOut is of the SPIs of one protocol: the peer may have the same for another.
func byOut(p ipsec.ProtocolID, spi ipsec.SPI) func(*child) bool {
	return func(c *child) bool { return c.protocol == p && c.out == spi }
}
