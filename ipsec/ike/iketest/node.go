package iketest

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// Machines make the machines of an implementation.
type Machines struct {
	Initiator, Responder func(ike.MachineConfig) ike.Machine
	// Spent, unless it is nil, looks for secrets in a machine that has closed.
	Spent func(ike.Machine) error
}

// node is a host of a Sim that deals with its machines as a Manager does, and
// sends packets by the SAs that they agree on: but in one goroutine, so that
// what happens follows from a seed. It has a clock of its own.
type node struct {
	Addr     netip.Addr
	Peers    []peer
	Machines Machines
	Clock    time.Duration // how far its clock is ahead of the simulator's
	Slow     time.Duration // up to which a Work takes; 0 for none
	Cookies  bool          // who begins has to return a cookie

	world   *world
	rng     io.Reader  // the machines'
	dice    *rand.Rand // the host's
	entries []*entry
	bySPI   map[uint64]*entry
	byInit  map[initKey]*entry
	tries   []*attempt
	sad     []*pair
	jobs    []job
	cookies *ike.Cookies
	born    int
	said    map[saying]time.Time
}

// peer is another host and the rules for it.
type peer struct {
	Addr   netip.Addr // by which this host knows it
	Policy ike.Policy
	Flows  []flow
}

// flow is a rule and the packets that are sent for it.
type flow struct {
	Rule          ike.ChildPolicy
	Local, Remote ipsec.TrafficSelector // of its packets
}

// entry is a machine and what its host knows of it.
type entry struct {
	machine       ike.Machine
	local, remote netip.Addr
	init          initKey // zero if we began
	born          int     // the order in which entries came about
	since         int     // when it was established, in the same order
	established   bool
	closing       bool
	full          bool // it takes no more Child SAs
	introduced    bool // the peer was told on it who we are
	closed        bool
	info          ike.PeerInfo
	renewed       bool   // another is to take its place
	replaces      *entry // that is to be closed,
	owed          int    // when as many Child SAs stand, or have failed
}

type initKey struct {
	remote netip.AddrPort
	spi    uint64
}

// attempt is the negotiation for a flow, or the memory of one that failed.
type attempt struct {
	peer    netip.Addr
	rule    string
	what    ike.Acquire
	entry   *entry // nil when it failed
	again   time.Time
	backoff time.Duration
}

// job is a Work that takes its time.
type job struct {
	at    time.Time
	entry *entry
	done  ike.Done
}

// saying is what is said to an address no more than once a second.
type saying struct {
	to   netip.Addr
	what string
}

func (n *node) address() netip.Addr { return n.Addr }

// now is what the host's clock shows.
func (n *node) now() time.Time { return n.world.Now.Add(n.Clock) }

// restart loses everything.
func (n *node) restart() {
	for _, e := range n.entries {
		e.closed = true
	}
	n.entries, n.tries, n.jobs = nil, nil, nil
	for _, p := range n.sad {
		p.wipe()
	}
	n.sad = nil
	n.bySPI, n.byInit = make(map[uint64]*entry), make(map[initKey]*entry)
	n.said = make(map[saying]time.Time)
	n.cookies = ike.NewCookies(n.rng)
}

// next implements station.
func (n *node) next() (at time.Time, step func()) {
	for _, e := range n.entries {
		if t, ok := e.machine.Deadline(); ok {
			if t = t.Add(-n.Clock); step == nil || t.Before(at) {
				at, step = t, func() { n.feed(e, ike.Tick{}) }
			}
		}
	}
	for i, j := range n.jobs {
		if step == nil || j.at.Before(at) {
			at, step = j.at, func() {
				n.jobs = slices.Delete(n.jobs, i, i+1)
				if !j.entry.closed {
					n.feed(j.entry, j.done)
				}
			}
		}
	}
	return at, step
}

func (n *node) peer(a netip.Addr) *peer {
	i := slices.IndexFunc(n.Peers, func(p peer) bool { return p.Addr == a })
	if i < 0 {
		return nil
	}
	return &n.Peers[i]
}

// rulesOf implements ike.Policies.
type rulesOf struct{ n *node }

// Peer returns the policy for a peer.
func (r rulesOf) Peer(_, remote netip.Addr) (ike.Policy, bool) {
	if p := r.n.peer(remote); p != nil {
		return p.Policy, true
	}
	return ike.Policy{}, false
}

// Child returns the rules for a peer.
func (r rulesOf) Child(_, remote netip.Addr, _, _ []ipsec.TrafficSelector, _ bool) (out []ike.ChildPolicy) {
	if p := r.n.peer(remote); p != nil {
		for _, f := range p.Flows {
			out = append(out, f.Rule)
		}
	}
	return out
}

func (n *node) newEntry(local, remote netip.AddrPort, policy ike.Policy, build func(ike.MachineConfig) ike.Machine) *entry {
	n.born++
	e := &entry{local: local.Addr(), remote: remote.Addr(), born: n.born}
	n.entries = append(n.entries, e)
	e.machine = build(ike.MachineConfig{
		Local: local, Remote: remote, Policy: policy, Policies: rulesOf{n}, Rand: n.rng,
		NewSPI: func() ipsec.SPI { return ipsec.SPI(n.number()>>32 | 0x100) },
		NewIKESPI: func() uint64 {
			spi := n.number() | 1
			n.bySPI[spi] = e
			return spi
		},
		FirstContact: func() bool { return n.firstContact(e) },
		Traffic: func(in ipsec.SPI) (received, sent uint64) {
			if p := n.inbound(in); p != nil {
				return p.received, p.sent
			}
			return 0, 0
		},
		Trace: n.world.trace(n),
	})
	return e
}

func (n *node) number() uint64 {
	var b [8]byte
	if _, err := io.ReadFull(n.rng, b[:]); err != nil {
		panic(err)
	}
	return binary.BigEndian.Uint64(b[:])
}

func (n *node) firstContact(e *entry) bool {
	e.introduced = true
	return !slices.ContainsFunc(n.entries, func(o *entry) bool {
		return o != e && o.remote == e.remote && (o.established || o.introduced)
	})
}

// feed gives an event to a machine and carries out what it wants.
func (n *node) feed(e *entry, ev ike.Event) (ok bool) {
	effects, err := e.machine.Handle(n.now(), ev)
	for _, x := range effects {
		if e.closed {
			n.world.fail("%s: %T after Closed", n.Addr, x)
		}
		n.carryOut(e, x)
	}
	return err == nil
}

func (n *node) carryOut(e *entry, x ike.Effect) {
	switch x := x.(type) {
	case ike.Send:
		n.world.send(x.Local, x.Remote, x.Data)
	case ike.Work:
		at := n.world.Now
		if n.Slow > 0 {
			at = at.Add(time.Duration(n.dice.Int64N(int64(n.Slow))))
		}
		n.jobs = append(n.jobs, job{at, e, ike.Done{ID: x.ID, Result: x.Do(context.Background())}})
	case ike.InstallChild:
		n.install(e, x)
	case ike.RemoveChild:
		n.remove(e, x)
	case ike.Established:
		n.establish(e, x)
	case ike.Changed:
		e.info = x.Peer
		n.readdress(e)
	case ike.Renew:
		n.renew(e, x)
	case ike.Failed:
		n.failed(e, x)
	case ike.Closed:
		n.forget(e)
	}
}

// establish notes that a peer is authenticated, and closes what it no longer
// knows.
func (n *node) establish(e *entry, x ike.Established) {
	n.born++
	e.established, e.info, e.since = true, x.Peer, n.born
	if !x.InitialContact {
		return
	}
	for _, o := range slices.Clone(n.entries) {
		if o != e && o.remote == e.remote && o.established && o.since < e.born && o.info.RemoteID == x.Peer.RemoteID {
			n.close(o, ike.Close{Reason: "the peer has restarted", Silent: true})
		}
	}
}

func (n *node) close(e *entry, c ike.Close) {
	e.closing = true
	n.feed(e, c)
}

// renew begins the IKE SA that is to take the place of another.
func (n *node) renew(e *entry, x ike.Renew) {
	p := n.peer(e.remote)
	if e.closing || e.renewed || p == nil {
		return
	}
	e.renewed = true
	if len(x.Children) == 0 {
		n.close(e, ike.Close{Reason: "there is nothing to authenticate anew for"})
		return
	}
	n.world.note("%s: to authenticate anew: %s", n.Addr, x.Reason)
	fresh := n.newEntry(e.info.Local, e.info.Remote, p.Policy, n.Machines.Initiator)
	fresh.replaces, fresh.owed = e, len(x.Children)
	for _, a := range x.Children {
		if !fresh.closed {
			n.feed(fresh, a)
		}
	}
}

// settled notes that one of the Child SAs stands, or never will, that an entry
// which takes the place of another was asked for.
func (n *node) settled(e *entry) {
	e.owed--
	if old := e.replaces; old != nil && e.owed <= 0 && e.established {
		e.replaces = nil
		if !old.closed && !old.closing {
			n.close(old, ike.Close{Reason: "the peers have authenticated anew"})
		}
	}
}

// forget drops a machine that has closed, with which nothing may stay.
func (n *node) forget(e *entry) {
	e.closed = true
	n.entries = slices.DeleteFunc(n.entries, func(o *entry) bool { return o == e })
	deleteValues(n.bySPI, e)
	deleteValues(n.byInit, e)
	for _, p := range n.sad {
		if p.owner == e {
			n.world.fail("%s: the Child SA %s outlives its IKE SA", n.Addr, p.sa.InSPI)
		}
	}
	for _, a := range n.tries {
		if a.entry == e {
			n.failAttempt(a)
		}
	}
	if at, ok := e.machine.Deadline(); ok {
		n.world.fail("%s: a machine that has closed has a deadline: %s", n.Addr, at)
	}
	if n.Machines.Spent != nil && e.established {
		if err := n.Machines.Spent(e.machine); err != nil {
			n.world.fail("%s: a machine that has closed: %w", n.Addr, err)
		}
	}
}

func deleteValues[K comparable](m map[K]*entry, e *entry) {
	for k, v := range m {
		if v == e {
			delete(m, k)
		}
	}
}
