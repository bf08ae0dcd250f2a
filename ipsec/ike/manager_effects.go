package ike

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

func (m *Manager) newEntry(local, remote netip.Addr, p Policy) *entry {
	m.born++
	e := &entry{
		local: local, remote: remote, policy: p, began: m.cfg.Now(), born: m.born, drops: m.inbox.drops(),
	}
	m.entries[e] = struct{}{}
	ends := pair{local, remote}
	m.byPeer[ends] = append(m.byPeer[ends], e)
	return e
}

// count counts an IKE SA whose peer has not authenticated, or discounts it.
func (m *Manager) count(e *entry, by int) {
	if e.init == (initKey{}) {
		m.begun += by
		return
	}
	m.halfOpen += by
	m.near.add(e.init.remote.Addr(), by)
}

func (m *Manager) machineConfig(e *entry, local, remote netip.AddrPort, p Policy) MachineConfig {
	return MachineConfig{
		Local: local, Remote: remote, Ends: Ends{e.local, e.remote}, Policy: p, Policies: current{m}, Rand: m.cfg.Rand,
		NewSPI:       m.cfg.DataPath.NewSPI,
		NewIKESPI:    func() uint64 { return m.newIKESPI(e) },
		FreeIKESPI:   func(spi uint64) { m.freeIKESPI(e, spi) },
		FirstContact: func() bool { return m.firstContact(e) },
		Traffic:      m.cfg.DataPath.Traffic,
		Trace:        func(x Message) { m.trace(e, x) },
		KeyLog:       m.cfg.KeyLog,
	}
}

// current is whichever policies are in force.
type current struct{ m *Manager }

func (c current) Peer(local, remote netip.Addr) (Policy, bool) {
	return c.m.cfg.Policies.Peer(local, remote)
}

func (c current) Child(localAddr, remoteAddr netip.Addr, local, remote []ipsec.TrafficSelector, transport bool) []ChildPolicy {
	return c.m.cfg.Policies.Child(localAddr, remoteAddr, local, remote, transport)
}

// newIKESPI returns an SPI that is not in use and leads to the entry. A source
// of randomness that has failed yields 0, which no peer accepts.
func (m *Manager) newIKESPI(e *entry) uint64 {
	for {
		var b [8]byte
		if _, err := io.ReadFull(m.cfg.Rand, b[:]); err != nil {
			m.cfg.Log.Error("no randomness for an IKE SPI", "error", err)
			return 0
		}
		spi := binary.BigEndian.Uint64(b[:])
		if _, taken := m.bySPI[spi]; spi != 0 && !taken {
			m.bySPI[spi] = e
			e.spis = append(e.spis, spi)
			return spi
		}
	}
}

// freeIKESPI forgets an SPI that an entry does not use any more.
func (m *Manager) freeIKESPI(e *entry, spi uint64) {
	if m.bySPI[spi] == e {
		delete(m.bySPI, spi)
		e.spis = slices.DeleteFunc(e.spis, func(x uint64) bool { return x == spi })
	}
}

// firstContact reports whether an entry is the first one by which we tell its
// peer who we are. Of several that we begin at once it is only that one which
// says so: what the peer has of the others is younger, and stays. Nor is it the
// first contact while the peer itself is about to begin: it would throw away
// what it has just made.
func (m *Manager) firstContact(e *entry) bool {
	e.introduced = true
	for _, o := range m.byPeer[pair{e.local, e.remote}] {
		if o != e && (o.established || o.introduced || o.init != (initKey{})) {
			return false
		}
	}
	return true
}

// feed gives an event to a machine and carries out what it wants. It returns
// whether the machine took the event.
func (m *Manager) feed(e *entry, ev Event) bool {
	effects, err := e.machine.Handle(m.cfg.Now(), ev)
	m.turn++
	if d, ok := ev.(Datagram); ok {
		m.heard(e, d, err == nil)
	}
	if err != nil {
		m.cfg.Log.Debug("IKE event refused", "peer", e.remote, "event", fmt.Sprintf("%T", ev), "error", err)
	}
	for _, x := range effects {
		m.carryOut(e, x)
	}
	if _, alive := m.entries[e]; alive {
		m.clock.set(e)
	}
	for len(e.refused) > 0 {
		in := e.refused[0]
		e.refused = e.refused[1:]
		m.feed(e, DeleteChild{InSPI: in})
	}
	return err == nil
}

func (m *Manager) carryOut(e *entry, x Effect) {
	switch x := x.(type) {
	case Send:
		m.sendFor(e, x)
	case Work:
		m.work(e, x)
	case InstallChild:
		m.install(e, x)
	case RemoveChild:
		e.children = slices.DeleteFunc(e.children, func(c ChildInfo) bool { return c.In == x.InSPI })
		if m.byIn[x.InSPI] == e {
			delete(m.byIn, x.InSPI)
		}
		m.cfg.DataPath.Remove(x.InSPI, x.Reason, x.Late)
		m.cfg.Log.Info("Child SA removed", "peer", e.remote, "in", x.InSPI, "reason", x.Reason)
	case Established:
		m.establish(e, x)
	case Changed:
		m.changed(e, x)
	case Renew:
		m.renew(e, x)
	case Failed:
		m.failed(e, x)
	case Closed:
		m.closed(e, x)
	}
}

// changed notes what an IKE SA is now. Its Child SAs follow a peer that has
// moved.
func (m *Manager) changed(e *entry, x Changed) {
	moved := x.Peer.Local != e.info.Local || x.Peer.Remote != e.info.Remote
	e.info = x.Peer
	m.cfg.Log.Info("IKE SA changed", "peer", x.Peer.Remote, "identity", x.Peer.RemoteID)
	m.inbox.putCall(func() { m.checkAlgorithms(e) }) // not before the effects that follow
	if !moved {
		return
	}
	for _, c := range e.children {
		m.cfg.DataPath.Move(c.In, x.Peer.Local, x.Peer.Remote)
	}
}

// checkAlgorithms closes an IKE SA that has been rekeyed to algorithms which
// the policy has ceased to allow meanwhile.
func (m *Manager) checkAlgorithms(e *entry) {
	if _, alive := m.entries[e]; !alive || e.closing {
		return
	}
	if now, ok := m.cfg.Policies.Peer(e.local, e.remote); ok && !e.sameAlgorithms(now) {
		m.close(e, Close{Reason: otherAlgorithms})
	}
}

const otherAlgorithms = "the IKE SA has algorithms that the policy does not allow any more"

func (m *Manager) closed(e *entry, x Closed) {
	level, what := slog.LevelInfo, "audit: IKE SA closed"
	if !e.established {
		level, what = slog.LevelDebug, "IKE SA closed" // strangers must not fill the log, and failures are told
	}
	m.cfg.Log.Log(context.Background(), level, what, "peer", e.remote, "identity", e.info.RemoteID, "reason", x.Reason)
	why := fmt.Errorf("%w: %s", ErrClosed, x.Reason)
	for a := range e.flows {
		if !m.ending {
			m.bury(e, a.flow.policy, false, why)
		}
		m.failFlow(a, why)
	}
	m.forget(e)
	m.abandonReplacement(e, why)
}

// amplification is how many times as many bytes as came from an address go
// there, before somebody has proved to be there.
const amplification = 3

// heard notes a datagram for an entry, which its machine took or refused.
func (m *Manager) heard(e *entry, d Datagram, took bool) {
	e.got += len(d.Data)
	if !took {
		e.seen.rejected++
		return
	}
	e.seen.hears(d)
	if h, err := wire.ParseHeader(d.Data); err == nil && h.Exchange != wire.IKESAInit {
		e.proven = true // it has what this host sent
	}
}

// sendFor sends a machine's message.
func (m *Manager) sendFor(e *entry, x Send) {
	if e.init != (initKey{}) && !e.proven {
		if e.gave += len(x.Data); e.gave > amplification*e.got {
			e.throttled = true
			return
		}
	}
	err := m.send(x.Local, x.Remote, x.Data)
	e.seen.sees(x, m.turn, err)
	e.asked = e.asked || err == nil
}

// send sends a message, and returns why it has not left this host.
func (m *Manager) send(local, remote netip.AddrPort, data []byte) error {
	err := m.cfg.Transport.Send(local, remote, data)
	if err != nil && m.limits.warnings.allow(remote.Addr(), m.cfg.Now()) {
		m.cfg.Log.Warn("IKE message not sent", "peer", remote, "error", err)
	}
	return err
}

func (m *Manager) install(e *entry, x InstallChild) {
	sa := x.SA
	var a *attempt // which it ends
	if x.Rekeyed == 0 && !x.More {
		a = m.waiting(e, sa.Policy)
	}
	if a != nil {
		m.inbox.settle(a.flow)
	}
	x.Standby = x.Standby || m.onStandby(e)
	if err := m.cfg.DataPath.Install(x); err != nil {
		err = fmt.Errorf("install the Child SA %s for the rule %q: %w", sa.InSPI, sa.Policy, err)
		e.refused = append(e.refused, sa.InSPI)
		m.bury(e, sa.Policy, false, err)
		if a != nil {
			m.failFlow(a, err)
		}
		return
	}
	info := ChildInfo{Policy: sa.Policy, In: sa.InSPI, Out: sa.OutSPI, Since: m.cfg.Now()}
	e.children = append(e.children, info)
	m.byIn[sa.InSPI] = e
	m.cfg.Log.Info("Child SA installed", "peer", e.remote, "rule", sa.Policy, "mode", sa.Mode,
		"protocol", sa.Protocol, "in", sa.InSPI, "out", sa.OutSPI, "algorithms", sa.Algorithms(), "local", sa.Local, "remote", sa.Remote, "udp", sa.UDPEncap)
	if a != nil {
		a.leave()
		delete(m.flows, a.flow)
	}
	if e.replaces != nil && x.Rekeyed == 0 {
		m.stands(e)
	}
	m.tellWatchers(pair{e.local, e.remote}, func(w Watcher) { w.installed(e.info, info) })
}

// establish notes that a peer is authenticated. If it says that it knows of no
// other IKE SA, those of it that were established before this one began are
// dead. Those that came up meanwhile are not: both ends may begin at once. It
// speaks for nobody but the peer at its address that proved itself in the same
// way: with a preshared key, a name is no more than a claim.
func (m *Manager) establish(e *entry, x Established) {
	e.established, e.info = true, x.Peer
	m.count(e, -1)
	if e.init != (initKey{}) {
		m.load.proved.add(m.cfg.Now())
	}
	e.seen.settle()
	m.cfg.Log.Info("audit: IKE SA established", "peer", x.Peer.Remote, "identity", x.Peer.RemoteID, "auth", x.Peer.Auth, "proposal", x.Peer.Proposal)
	m.warnPPK(e)
	m.warnRevocation(e)
	m.tellWatchers(pair{e.local, e.remote}, func(w Watcher) { w.established(x.Peer) })
	m.takeOver(e)
	m.bound(e)
	m.lookForTwin(e)
	if !x.InitialContact {
		return
	}
	for _, o := range slices.Clone(m.byPeer[pair{e.local, e.remote}]) {
		same := o.info.RemoteID == x.Peer.RemoteID && o.info.Auth == x.Peer.Auth
		if o != e && same && o.established && o.info.Since.Before(e.began) {
			m.close(o, Close{Reason: "the peer has restarted", Silent: true})
		}
	}
}

// How many IKE SAs one peer may have, and how many if it has proved nothing,
// and all such peers together. Who makes more than are closed has the oldest
// closed.
const (
	maxPerPeer   = 128
	maxPerNobody = 4
	maxNobodies  = 1024
)

func (m *Manager) bound(e *entry) {
	var old []*entry
	for _, o := range m.byPeer[pair{e.local, e.remote}] {
		if o.established && !o.closing && o.info.Anonymous == e.info.Anonymous {
			old = append(old, o)
		}
	}
	most := maxPerPeer
	if e.info.Anonymous {
		most = maxPerNobody
		m.nobodies = append(m.nobodies, e)
	}
	for ; len(old) > most; old = old[1:] {
		m.close(old[0], Close{Reason: "the peer has too many IKE SAs"})
	}
	if len(m.nobodies) > maxNobodies {
		oldest := m.nobodies[0]
		m.nobodies = m.nobodies[1:]
		m.close(oldest, Close{Reason: "too many peers have proved nothing"})
	}
}

func (m *Manager) failed(e *entry, x Failed) {
	silent := errors.Is(x.Why, ErrNoIKE)
	switch {
	case silent && !e.asked: // who was not asked may speak it
		x.Why = fmt.Errorf("%w: no message to %s could be sent", ErrNoAnswer, e.remote)
	case silent && m.inbox.missed(e.drops): // so may who was not heard
		x.Why = fmt.Errorf("%w: this host could not hear all that came, and so perhaps not %s", ErrNoAnswer, e.remote)
	}
	a := m.waiting(e, x.Policy)
	if !x.Whole && a != nil && !m.ending && errors.Is(x.Why, ErrFull) {
		m.cfg.Log.Debug("IKE SA has no room for a Child SA", "peer", e.remote, "rule", x.Policy, "reason", x.Why)
		e.full = true
		m.begin(a)
		return
	}
	e.closing = e.closing || x.Whole
	if o := m.entryFor(e.local, e.remote); x.Whole && o != nil && o.established && silent {
		m.moveFlows(e) // the peer does speak IKE: it has begun itself
		m.abandonReplacement(e, x.Why)
		return
	}
	if !m.ending {
		m.bury(e, x.Policy, x.Whole, x.Why)
	}
	switch {
	case x.Whole:
		m.failFlows(e, x.Why)
		m.abandonReplacement(e, x.Why)
	case a != nil:
		m.failFlow(a, x.Why)
	case e.replaces != nil && x.Policy != "":
		m.stands(e)
	}
}

// tells reports whether the log has room for the failure of an IKE SA. What
// strangers do has less of it than what this host wanted itself.
func (m *Manager) tells(e *entry) bool {
	if e.init == (initKey{}) {
		return m.limits.failures.take(m.cfg.Now())
	}
	return m.limits.warnings.allow(e.remote, m.cfg.Now())
}

func (m *Manager) close(e *entry, c Close) {
	e.closing = true
	m.feed(e, c)
}

// forget drops an entry whose machine has ended.
func (m *Manager) forget(e *entry) {
	if _, ok := m.entries[e]; !ok {
		return
	}
	delete(m.entries, e)
	ends := pair{e.local, e.remote}
	left := slices.DeleteFunc(slices.Clone(m.byPeer[ends]), func(o *entry) bool { return o == e })
	if m.byPeer[ends] = left; len(left) == 0 {
		delete(m.byPeer, ends)
	}
	m.clock.drop(e)
	e.rest()
	for _, c := range e.children {
		delete(m.byIn, c.In)
	}
	for _, spi := range e.spis {
		delete(m.bySPI, spi)
	}
	if e.init != (initKey{}) {
		delete(m.byInit, e.init)
	}
	if !e.established {
		m.count(e, -1)
	}
	if e.info.Anonymous {
		m.nobodies = slices.DeleteFunc(m.nobodies, func(o *entry) bool { return o == e })
	}
	for _, f := range e.onClosed {
		f()
	}
}
