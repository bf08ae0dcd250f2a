package ike

import (
	"container/list"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Transport sends IKE messages. The socket's edge adds the non-ESP marker on
// port 4500. It must not keep data.
type Transport interface {
	Send(local, remote netip.AddrPort, data []byte) error
}

// DataPath is where agreed SAs go. The Manager calls it from the goroutine of
// Run, one call at a time; it may call the Manager back, except for the
// methods that wait for an answer.
type DataPath interface {
	// NewSPI returns an inbound SPI that no SA has. Nothing says later that
	// it was not needed, so it must not be kept reserved.
	NewSPI() ipsec.SPI
	// Install puts a pair of SAs to work. On an error the SA is deleted again.
	Install(c InstallChild) error
	// Move says that the peer of the pair with an inbound SPI, which may be
	// unknown, is at another place now: what is UDP-encapsulated goes there
	// (RFC 7296 section 2.23).
	Move(in ipsec.SPI, local, remote netip.AddrPort)
	// Remove ends the pair with an inbound SPI, which may be unknown. With late
	// it goes on receiving for a moment.
	Remove(in ipsec.SPI, reason string, late bool)
	// Failed says that there will be no SA for the packets that wait for the
	// rule policy and the peer remote. The error is ErrNoIKE if the peer seems
	// to speak no IKE, and only then; it is ErrBusy if there was no room to ask.
	Failed(policy string, remote netip.Addr, err error)
	// Traffic returns how many packets were received and sent on the pair with
	// an inbound SPI; 0 for one that it does not have.
	Traffic(in ipsec.SPI) (received, sent uint64)
}

// ManagerConfig is what a Manager needs.
type ManagerConfig struct {
	Policies  Policies
	Transport Transport
	DataPath  DataPath
	// Initiator and Responder make the machines.
	Initiator, Responder func(MachineConfig) Machine

	Rand io.Reader        // nil for crypto/rand
	Now  func() time.Time // nil for time.Now
	Log  *slog.Logger     // nil for none

	// KeyLog, if set, gets the secrets of every IKE SA: see MachineConfig.
	KeyLog func(Secrets)

	// HalfOpen is how many IKE SAs that peers began may be without
	// authentication; 0 for 256. One more drops the oldest of the block of
	// addresses that has most. From about CookiesFrom of them on, peers have
	// to return a cookie; 0 for 32. It is half of that when most beginnings
	// lead to nothing, and up to half of HalfOpen when most lead to an IKE SA.
	HalfOpen, CookiesFrom int
	// Begun is how many IKE SAs that we began may be without authentication;
	// 0 for 1024. What packets need beyond them, or beyond 200 new ones a
	// second, fails with ErrBusy: anybody who can send packets with made up
	// addresses can make this host want to talk to them.
	Begun int
}

// Manager runs the machines of all IKE SAs of a host: it brings them their
// datagrams, their clock and what the packets need, and carries out what they
// want. Its methods are safe for concurrent use; those that return something,
// SetPolicies and DeleteChild wait for Run.
type Manager struct {
	cfg   ManagerConfig
	inbox inbox
	done  chan struct{} // closed when Run has returned

	// The rest belongs to the goroutine of Run.
	base     context.Context // of Run
	entries  map[*entry]struct{}
	byPeer   map[pair][]*entry    // in the order in which they were made
	bySPI    map[uint64]*entry    // by each of our IKE SPIs
	byIn     map[ipsec.SPI]*entry // by the inbound SPIs of their Child SAs
	byInit   map[initKey]*entry   // by what a peer began
	begun    int                  // IKE SAs without authentication that we began,
	halfOpen int                  // and those that peers began,
	near     counted              // by address
	load     load
	turn     uint64 // counts events
	works    workshop
	buried   postmortems
	watchers map[pair]map[*Watcher]struct{}
	ending   bool // CloseAll has begun
	clock    clock
	flows    map[flow]*attempt
	failures *list.List // of those *attempt that failed, the oldest first
	cookies  *Cookies
	limits   limits
	born     uint64   // entries that were ever made
	nobodies []*entry // those that stand with peers that have proved nothing, the oldest first
}

// entry is a machine and what the Manager knows of it.
type entry struct {
	machine       Machine
	local, remote netip.Addr
	drops         uint64  // how many datagrams had been dropped when it was made
	init          initKey // zero if we began
	policy        Policy  // by which it was made
	began         time.Time
	born          uint64 // in which order they were made
	established   bool
	closing       bool
	full          bool // it takes no more Child SAs
	introduced    bool // we have told the peer on it who we are
	asked         bool // a message to the peer has left this host
	info          PeerInfo
	children      []ChildInfo
	flows         map[*attempt]struct{} // that wait for it
	spis          []uint64
	refused       []ipsec.SPI // Child SAs that the data path did not take
	onClosed      []func()
	alarm         alarm
	seen          evidence

	// Until a peer that began has proved to be at its address, it gets no more
	// than a small multiple of the bytes that came from there.
	proven    bool
	got, gave int
	throttled bool // what it was to get was more

	works    int // under way or waiting
	workable context.Context
	cancel   context.CancelFunc

	renewal  *renewal // of this one; nil for none
	replaces *entry   // that is closed when the Child SAs of this one stand
	awaited  int      // of these, that have to stand yet
	yields   *entry   // to which this one gives way, as both hosts began at once
}

// pair is the hosts at both ends of IKE SAs.
type pair struct{ local, remote netip.Addr }

// initKey names an IKE SA that a peer began before it has an SPI of ours.
type initKey struct {
	remote netip.AddrPort
	spi    uint64
}

// ChildInfo names a Child SA for lists.
type ChildInfo struct {
	Policy  string
	In, Out ipsec.SPI
	Since   time.Time // when it was installed
}

// PeerStatus is an IKE SA with its Child SAs.
type PeerStatus struct {
	PeerInfo
	Children []ChildInfo
}

// NewManager returns a Manager, which does nothing until Run.
func NewManager(cfg ManagerConfig) *Manager {
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.HalfOpen == 0 {
		cfg.HalfOpen = 256
	}
	if cfg.CookiesFrom == 0 {
		cfg.CookiesFrom = 32
	}
	if cfg.Begun == 0 {
		cfg.Begun = 1024
	}
	return &Manager{
		cfg:      cfg,
		inbox:    newInbox(),
		done:     make(chan struct{}),
		entries:  make(map[*entry]struct{}),
		base:     context.Background(),
		byPeer:   make(map[pair][]*entry),
		bySPI:    make(map[uint64]*entry),
		byIn:     make(map[ipsec.SPI]*entry),
		byInit:   make(map[initKey]*entry),
		near:     make(counted),
		watchers: make(map[pair]map[*Watcher]struct{}),
		flows:    make(map[flow]*attempt),
		failures: list.New(),
		cookies:  NewCookies(cfg.Rand),
		limits:   newLimits(),
	}
}

// Run does the Manager's work until ctx ends. It returns ctx's error. The
// SAs stay as they are; CloseAll ends them.
func (m *Manager) Run(ctx context.Context) error {
	defer close(m.done)
	m.base = ctx
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(m.clock.wait(m.cfg.Now()))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.inbox.wake:
			m.empty()
		case <-timer.C:
			m.ring()
		}
	}
}

// empty empties the inbox. What peers say goes before what packets need, of
// which there may be much: an answer must not come too late, or find no room
// in the box, because of those who ask.
func (m *Manager) empty() {
	mail := m.inbox.take()
	for _, call := range mail.calls {
		call()
	}
	for _, d := range mail.datagrams {
		m.route(d)
	}
	for in, to := range mail.moved {
		m.feedChild(in, to)
	}
	for in := range mail.rekeys {
		m.feedChild(in, RekeyChild{InSPI: in})
	}
	for _, a := range mail.acquires {
		m.ring()
		m.acquire(a)
	}
	for _, u := range mail.unknown {
		m.unknownSPI(u)
	}
	for _, r := range mail.reports {
		m.unreachable(r)
	}
}

// hear takes the datagrams out of the inbox.
func (m *Manager) hear() {
	for _, d := range m.inbox.takeDatagrams() {
		m.route(d)
	}
}

// ring ticks the machines whose time has come, unless what they wait for has
// come too.
func (m *Manager) ring() {
	now := m.cfg.Now()
	for {
		m.hear()
		e := m.clock.due(now)
		if e == nil {
			return
		}
		m.feed(e, Tick{})
		if _, alive := m.entries[e]; alive {
			m.goOn(e, now)
		}
	}
}

// call runs f on the goroutine of Run and waits for it; it returns false if
// the Manager or ctx has ended.
func (m *Manager) call(ctx context.Context, f func()) bool {
	ready := make(chan struct{})
	m.inbox.putCall(func() { f(); close(ready) })
	select {
	case <-ready:
		return true
	case <-m.done:
		return false
	case <-ctx.Done():
		return false
	}
}

// HandleDatagram brings an IKE message, without the non-ESP marker. It copies
// data and returns at once; under overload the message is dropped, as the
// network might have done.
func (m *Manager) HandleDatagram(local, remote netip.AddrPort, data []byte) {
	m.inbox.putDatagram(Datagram{Local: unmap(local), Remote: unmap(remote), Data: slices.Clone(data)})
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// Acquire asks for a Child SA for a packet. It returns at once. However often
// it is called for one rule and one peer, one negotiation is under way, and
// after it failed none begins for a while: DataPath.Failed then tells of the
// last failure again. What there is no room for fails with ErrBusy at once.
func (m *Manager) Acquire(local, remote netip.Addr, child ChildPolicy, packetLocal, packetRemote ipsec.TrafficSelector) {
	m.inbox.putAcquire(wanted{
		flow: flow{child.Name, local.Unmap(), remote.Unmap()},
		what: Acquire{Child: child, Local: packetLocal, Remote: packetRemote},
	})
}

// UnknownSPI says that ESP came for an SPI that we do not have. The peer, if
// some rule knows it, is told with INVALID_SPI, at most once a second, so that
// it finds out that we have restarted (RFC 7296 section 1.5). The ports are
// those of UDP encapsulation, or 0.
func (m *Manager) UnknownSPI(local, remote netip.AddrPort, spi ipsec.SPI) {
	m.inbox.putUnknown(unknown{unmap(local), unmap(remote), spi})
}

// Moved says that an authentic packet of the Child SA with an inbound SPI, which
// may be unknown, came inside UDP from another place than the SA is with. It
// returns at once, and may be called for every such packet: the SA follows once
// the peer has answered from there (DataPath.Move).
func (m *Manager) Moved(in ipsec.SPI, local, remote netip.AddrPort) {
	m.inbox.putMoved(in, Moved{unmap(local), unmap(remote)})
}

// SetPolicies puts other policies in force, for what is negotiated from now
// on. IKE SAs with peers that no rule concerns any more, that would have to
// authenticate in another way, or that have algorithms which are not allowed
// any more, are closed. Once it has returned, no Child SA is
// installed by a rule as it was before, even if its negotiation had begun by
// then: it fails with ErrPolicyChanged. Deleting those that stood already is
// the caller's affair.
func (m *Manager) SetPolicies(p Policies) {
	m.call(context.Background(), func() {
		m.cfg.Policies = p
		for e := range m.entries {
			switch now, ok := p.Peer(e.local, e.remote); {
			case !ok:
				m.close(e, Close{Reason: "no rule concerns the peer any more"})
			case !sameAuthentication(e.policy, now):
				m.close(e, Close{Reason: "the peer has to authenticate in another way now"})
			case !e.sameAlgorithms(now):
				m.close(e, Close{Reason: otherAlgorithms})
			}
		}
		for m.forgetFailure() {
		}
	})
}

// sameAuthentication reports whether both ends would prove the same under two
// policies.
func sameAuthentication(p, q Policy) bool {
	return p.LocalID == q.LocalID && p.PeerID == q.PeerID && p.Peers.equal(q.Peers) && SameMethods(p.Auth, q.Auth) &&
		p.PPKRequired == q.PPKRequired && slices.EqualFunc(p.PPKs, q.PPKs, PPK.equal)
}

// sameAlgorithms reports whether what was chosen for an IKE SA could be chosen
// under another policy, or what is offered for one on its way is the same.
func (e *entry) sameAlgorithms(now Policy) bool {
	if !e.established {
		return slices.EqualFunc(e.policy.Proposals, now.Proposals, sameTransforms)
	}
	allowed := now.Proposals
	if len(allowed) == 0 {
		allowed = DefaultProposals()
	}
	_, ok := SelectProposal(allowed, []ipsec.Proposal{e.info.Proposal}, ipsec.GroupNone)
	return ok
}

// Peers lists the IKE SAs whose peers are authenticated, the oldest first.
func (m *Manager) Peers() []PeerStatus {
	var out []PeerStatus
	m.call(context.Background(), func() {
		for e := range m.entries {
			if e.established && !e.closing {
				out = append(out, PeerStatus{PeerInfo: e.info, Children: slices.Clone(e.children)})
			}
		}
	})
	slices.SortFunc(out, func(a, b PeerStatus) int { return a.Since.Compare(b.Since) })
	return out
}

// DeleteChild deletes the Child SA with an inbound SPI and tells the peer.
func (m *Manager) DeleteChild(in ipsec.SPI) {
	m.call(context.Background(), func() { m.feedChild(in, DeleteChild{InSPI: in}) })
}

// RekeyChild begins to replace the Child SA with an inbound SPI, as when it has
// carried nearly as much as it may. It returns at once, and does nothing about
// an SA that is unknown, being replaced or being deleted: it may be called
// again and again.
func (m *Manager) RekeyChild(in ipsec.SPI) { m.inbox.putRekey(in) }

// RekeyIKE begins to replace the keys of the IKE SA that has an SPI of ours, as
// PeerInfo has it, and reports whether there is one.
func (m *Manager) RekeyIKE(spi uint64) (found bool) {
	m.call(context.Background(), func() {
		if e := m.bySPI[spi]; e != nil && e.established && !e.closing {
			found = m.feed(e, RekeyIKE{})
		}
	})
	return found
}

// feedChild gives an event to the machine that has a Child SA, if any has it.
func (m *Manager) feedChild(in ipsec.SPI, ev Event) {
	if e := m.byIn[in]; e != nil {
		m.feed(e, ev)
	}
}

// CloseAll deletes all SAs, tells the peers, and waits for their answers or
// for the end of ctx, whose error it returns. From its beginning on, the
// Manager takes up nothing new: peers that begin get no answer, and what
// packets need fails with ErrClosed.
func (m *Manager) CloseAll(ctx context.Context) error {
	left := 0
	closed := make(chan struct{})
	m.call(ctx, func() {
		m.ending = true
		left = len(m.entries)
		if left == 0 {
			close(closed)
		}
		for e := range m.entries {
			e.onClosed = append(e.onClosed, func() {
				if left--; left == 0 {
					close(closed)
				}
			})
			m.close(e, Close{Reason: "this host ends its SAs"})
		}
	})
	select {
	case <-closed:
		return nil
	case <-m.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
