package nfq

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Verdict is what becomes of a queued packet.
type Verdict uint8

// The verdicts. The zero value is no verdict yet: the packet is held.
const (
	Held    Verdict = iota
	Drop            // gone; what was to be sent of it has been sent
	Replace         // sent with other contents: the sealed packet in its place
)

// Queued is a packet from the kernel's queue.
type Queued struct {
	ID              uint32
	Packet          []byte // from the IP header
	Segments        bool   // several TCP segments in one: the stack left cutting to us
	ChecksumPending bool   // the TCP or UDP checksum is to be completed
	Queue           Verdicts
}

// Verdicts takes verdicts on queued packets. It is safe for concurrent use.
type Verdicts interface {
	// Verdict decides on a packet; contents replace it when v is Replace.
	Verdict(id uint32, v Verdict, contents []byte) error
}

// DefaultHold is how many packets wait for SAs at most.
const DefaultHold = 256

// Config is what an Engine needs.
type Config struct {
	Wire     Wire
	Acquirer Acquirer
	Injector Injector
	Hold     int              // packets; 0 for DefaultHold
	Now      func() time.Time // nil for time.Now
	Log      *slog.Logger
}

// Engine is the state that the workers of the data path share.
type Engine struct {
	cfg  Config
	spd  atomic.Pointer[filter.SPD]
	sad  *SAD
	hold hold

	// Counters is what became of packets.
	Counters Counters

	releasing sync.Mutex
	releaser  *Outbound
}

// NewEngine returns an Engine without a policy: until SetSPD it drops all that
// the queue brings and all that arrives.
func NewEngine(cfg Config) *Engine {
	if cfg.Hold == 0 {
		cfg.Hold = DefaultHold
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &Engine{cfg: cfg, sad: NewSAD()}
	e.hold.limit = cfg.Hold
	e.releaser = e.NewOutbound()
	return e
}

// SetSPD swaps the policy. The caller has nftables committed first, and
// removes the SAs that the new policy has no rule for.
func (e *Engine) SetSPD(s *filter.SPD) { e.spd.Store(s) }

// SAD returns the SAs at work. Adding to it is Install's part.
func (e *Engine) SAD() *SAD { return e.sad }

// Install puts a pair of SAs to work, on standby as SAD.Add says. Release
// sends what waited for it.
func (e *Engine) Install(sa *SA, standby bool) { e.sad.Add(sa, standby) }

// Release tries again what waits for an SA of a rule with a peer, or of a rule
// with anyone when remote is the zero address. What still finds no SA goes back
// into the hold.
func (e *Engine) Release(rule string, remote netip.Addr) {
	e.releasing.Lock()
	defer e.releasing.Unlock()
	for _, p := range e.hold.take(waitsFor(rule, remote)) {
		if e.sad.Outbound(rule, &p.Clear) == nil {
			e.again(p)
			continue
		}
		e.Counters.Released.Add(1)
		v, contents := e.releaser.Handle(p.Queued)
		e.verdict(p.Queued, v, contents)
	}
}

// maxTries bounds how many SAs may be negotiated for one packet in vain, as
// with a peer that narrows each to something else.
const maxTries = 3

// again asks once more for an SA for a packet that none has covered so far.
func (e *Engine) again(p held) {
	if p.Tries++; p.Tries >= maxTries {
		e.Counters.Abandoned.Add(1)
		e.verdict(p.Queued, Drop, nil)
		return
	}
	e.keep(p)
	e.cfg.Acquirer.Acquire(p.Rule, p.Clear.Src, p.Clear.Dst, &p.Clear)
}

// Abandon drops what Release would try again: there will be no SA.
func (e *Engine) Abandon(rule string, remote netip.Addr) {
	for _, p := range e.hold.take(waitsFor(rule, remote)) {
		e.Counters.Abandoned.Add(1)
		e.verdict(p.Queued, Drop, nil)
	}
}

// keep holds a packet, and drops the oldest one when there is no room.
func (e *Engine) keep(p held) {
	if oldest, full := e.hold.add(p); full {
		e.Counters.HoldOverflow.Add(1)
		e.verdict(oldest.Queued, Drop, nil)
	}
}

func (e *Engine) verdict(p Queued, v Verdict, contents []byte) {
	if v == Held {
		return
	}
	if err := p.Queue.Verdict(p.ID, v, contents); err != nil {
		e.cfg.Log.Warn("verdict on a queued packet not taken by the kernel", "error", err)
	}
}
