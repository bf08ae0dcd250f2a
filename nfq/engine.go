package nfq

import (
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Verdict is what becomes of a queued packet.
type Verdict uint8

// The verdicts. The zero value is none: the packet is held, or had its verdict
// at once.
const (
	Held    Verdict = iota
	Drop            // gone; what was to be sent of it has been sent
	Replace         // sent with other contents: the sealed packet in its place
	Pass            // sent in clear, as it is
)

// Queued is a packet from the kernel's queue.
type Queued struct {
	ID              uint32
	Packet          []byte // from the IP header
	Segments        bool   // several TCP segments in one: the stack left cutting to us
	ChecksumPending bool   // the TCP or UDP checksum is to be completed
	Forwarded       bool   // the host passes it on for others
	Link            int    // index of the interface by which it leaves, or came
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
	Host     Host
	// DefaultResponse is the rule of SAs that peers asked for where the policy
	// has no filter; empty for none.
	DefaultResponse string
	Hold            int              // packets; 0 for DefaultHold
	Now             func() time.Time // nil for time.Now
	Log             *slog.Logger
}

// Engine is the state that the workers of the data path share.
type Engine struct {
	cfg   Config
	spd   atomic.Pointer[filter.SPD]
	sad   *SAD
	hold  hold
	early early
	soft  softPeers
	paths pathTable
	ids   atomic.Uint32 // the last identification that was given to a packet
	seed  maphash.Seed  // of those that nobody is to guess

	// Counters is what became of packets.
	Counters  Counters
	strangers audits // of packets that no SA is for

	releasing sync.Mutex
	releaser  *Outbound

	admitting sync.Mutex
	admitter  *Inbound
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
	e := &Engine{cfg: cfg, sad: newSAD(cfg.Now), seed: maphash.MakeSeed()}
	e.hold.limit = cfg.Hold
	e.ids.Store(uint32(maphash.String(maphash.MakeSeed(), ""))) // nobody is to guess it
	e.early.counters = &e.Counters
	e.releaser, e.admitter = e.NewOutbound(), e.NewInbound(false)
	return e
}

// SetSPD swaps the policy. The caller has nftables committed first, and
// removes the SAs that the new policy has no rule for.
func (e *Engine) SetSPD(s *filter.SPD) { e.spd.Store(s) }

// SAD returns the SAs at work. Adding to it is Install's part.
func (e *Engine) SAD() *SAD { return e.sad }

// Expect says that an SA with an inbound SPI may be installed soon: packets
// that come before it wait for it a little. It returns false if the SPI is
// taken. It is not reserved: one that is not needed is forgotten after a while.
func (e *Engine) Expect(spi ipsec.SPI) bool {
	return e.sad.Inbound(spi) == nil && e.early.expect(spi, e.cfg.Now())
}

// Install puts a pair of SAs to work, on standby as SAD.Add says, and receives
// what came before it. Release sends what waited for it.
func (e *Engine) Install(sa *SA, standby bool) {
	sa.Path = e.paths.add(between{sa.LocalAddr.Addr(), sa.RemoteAddr.Addr()}, sa.Path) // which may just have been forgotten
	e.sad.Add(sa, standby)
	// From here on nothing more is kept for it: whoever finds it not expected
	// any more looks into the SAD again.
	e.admitting.Lock()
	defer e.admitting.Unlock()
	for _, p := range e.early.take(sa.InSPI, e.cfg.Now()) {
		e.admitter.receive(&p.arrival)
	}
	e.admitter.Flush()
}

// Release tries again what waits for an SA of a rule with a peer, or of a rule
// with anyone when remote is the zero address. What still finds no SA goes back
// into the hold.
func (e *Engine) Release(rule string, remote netip.Addr) {
	e.releasing.Lock()
	defer e.releasing.Unlock()
	for _, p := range e.hold.take(waitsFor(rule, remote)) {
		if sa, _ := e.sad.pair(rule, &p.Clear, p.Packet); sa == nil {
			e.again(p)
			continue
		}
		e.Counters.Released.Add(1)
		e.releaser.Work(p.Queued)
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
	e.cfg.Acquirer.Acquire(p.Decision, &p.Clear)
}

// Abandon drops what Release would try again: there will be no SA.
func (e *Engine) Abandon(rule string, remote netip.Addr) {
	for _, p := range e.hold.take(waitsFor(rule, remote)) {
		e.Counters.Abandoned.Add(1)
		e.verdict(p.Queued, Drop, nil)
	}
}

// Soften lets what waits for SAs of a rule with a peer go in clear, and with
// it all that follows until a time: the peer does not speak IKE, and the rule's
// filters allow that. What they do not allow is dropped.
func (e *Engine) Soften(rule string, remote netip.Addr, until time.Time) {
	e.soft.add(remote, until, e.cfg.Now())
	for _, p := range e.hold.take(waitsFor(rule, remote)) {
		v := Drop
		if s := e.spd.Load(); s != nil && e.passes(e.lookup(s, p.Queued, &p.Clear), &p.Clear) {
			v = Pass
			e.Counters.Softened.Add(1)
		}
		e.verdict(p.Queued, v, nil)
	}
}

// Harden ends what Soften began.
func (e *Engine) Harden(remote netip.Addr) { e.soft.remove(remote) }

// passes reports whether a packet may go in clear though its filter negotiates.
func (e *Engine) passes(d filter.Decision, p *packet.Packet) bool {
	return d.Action == filter.Negotiate && d.Entry.Options.AllowUnsecured && e.soft.contains(p.Dst, e.cfg.Now)
}

// lookup finds the decision on a queued packet. The kernel has looked at the
// state of its connection, and would not have queued it had a stateful filter
// matched.
func (e *Engine) lookup(s *filter.SPD, q Queued, p *packet.Packet) filter.Decision {
	c := filter.Context{Direction: filter.Outbound, Interface: e.cfg.Host.Interface(q.Link)}
	if q.Forwarded {
		c.Direction = filter.Forward
	}
	return s.Lookup(c, p)
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
