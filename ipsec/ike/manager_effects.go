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
)

func (m *Manager) newEntry(local, remote netip.Addr, p Policy) *entry {
	e := &entry{
		local: local, remote: remote, policy: p, began: m.cfg.Now(), drops: m.inbox.drops(),
		flows: make(map[*attempt]struct{}),
	}
	m.entries[e] = struct{}{}
	ends := pair{local, remote}
	if m.byPeer[ends] == nil {
		m.byPeer[ends] = make(map[*entry]struct{})
	}
	m.byPeer[ends][e] = struct{}{}
	return e
}

// count counts an IKE SA whose peer has not authenticated, or discounts it.
func (m *Manager) count(e *entry, by int) {
	if e.init == (initKey{}) {
		m.begun += by
		return
	}
	m.halfOpen += by
	n := near(e.init.remote.Addr())
	if m.near[n] += by; m.near[n] == 0 {
		delete(m.near, n)
	}
}

func (m *Manager) machineConfig(e *entry, local, remote netip.AddrPort, p Policy) MachineConfig {
	return MachineConfig{
		Local: local, Remote: remote, Policy: p, Policies: current{m}, Rand: m.cfg.Rand,
		NewSPI:       m.cfg.DataPath.NewSPI,
		NewIKESPI:    func() uint64 { return m.newIKESPI(e) },
		FirstContact: func() bool { return m.firstContact(e) },
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

// firstContact reports whether an entry is the first one by which we tell its
// peer who we are. Of several that we begin at once it is only that one which
// says so: what the peer has of the others is younger, and stays.
func (m *Manager) firstContact(e *entry) bool {
	e.introduced = true
	for o := range m.byPeer[pair{e.local, e.remote}] {
		if o != e && (o.established || o.introduced) {
			return false
		}
	}
	return true
}

// feed gives an event to a machine and carries out what it wants. It returns
// whether the machine took the event.
func (m *Manager) feed(e *entry, ev Event) bool {
	effects, err := e.machine.Handle(m.cfg.Now(), ev)
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
		if m.send(x.Local, x.Remote, x.Data) {
			e.asked = true
		}
	case Work:
		m.work(e, x)
	case InstallChild:
		m.install(e, x)
	case RemoveChild:
		e.children = slices.DeleteFunc(e.children, func(c ChildInfo) bool { return c.In == x.InSPI })
		m.cfg.DataPath.Remove(x.InSPI, x.Reason)
		m.cfg.Log.Info("Child SA removed", "peer", e.remote, "in", x.InSPI, "reason", x.Reason)
	case Established:
		m.establish(e, x)
	case Changed:
		e.info = x.Peer
		m.cfg.Log.Info("IKE SA changed", "peer", x.Peer.Remote, "identity", x.Peer.RemoteID)
	case Failed:
		m.failed(e, x)
	case Closed:
		level := slog.LevelInfo
		if !e.established {
			level = slog.LevelDebug // strangers must not fill the log, and failures are told
		}
		m.cfg.Log.Log(context.Background(), level, "IKE SA closed", "peer", e.remote, "reason", x.Reason)
		m.failFlows(e, fmt.Errorf("%w: %s", ErrClosed, x.Reason))
		m.forget(e)
	}
}

// send reports whether a message has left this host.
func (m *Manager) send(local, remote netip.AddrPort, data []byte) bool {
	err := m.cfg.Transport.Send(local, remote, data)
	if err != nil && m.limits.warnings.allow(remote.Addr(), m.cfg.Now()) {
		m.cfg.Log.Warn("IKE message not sent", "peer", remote, "error", err)
	}
	return err == nil
}

func (m *Manager) install(e *entry, x InstallChild) {
	sa := x.SA
	var a *attempt // which it ends
	if x.Rekeyed == 0 {
		a = m.waiting(e, sa.Policy)
	}
	if a != nil {
		m.inbox.settle(a.flow)
	}
	if err := m.cfg.DataPath.Install(x); err != nil {
		err = fmt.Errorf("install the Child SA %s for the rule %q: %w", sa.InSPI, sa.Policy, err)
		m.cfg.Log.Error("Child SA not installed", "peer", e.remote, "error", err)
		e.refused = append(e.refused, sa.InSPI)
		if a != nil {
			m.failFlow(a, err)
		}
		return
	}
	e.children = append(e.children, ChildInfo{Policy: sa.Policy, In: sa.InSPI, Out: sa.OutSPI})
	m.cfg.Log.Info("Child SA installed", "peer", e.remote, "rule", sa.Policy, "mode", sa.Mode,
		"in", sa.InSPI, "out", sa.OutSPI, "cipher", sa.Encr, "local", sa.Local, "remote", sa.Remote, "udp", sa.UDPEncap)
	if a != nil {
		a.leave()
		delete(m.flows, a.flow)
	}
}

// establish notes that a peer is authenticated. If it says that it knows of no
// other IKE SA, those of it that were established before this one began are
// dead. Those that came up meanwhile are not: both ends may begin at once. It
// speaks for nobody but the peer at its address that proved itself in the same
// way: with a preshared key, a name is no more than a claim.
func (m *Manager) establish(e *entry, x Established) {
	e.established, e.info = true, x.Peer
	m.count(e, -1)
	m.cfg.Log.Info("IKE SA established", "peer", x.Peer.Remote, "identity", x.Peer.RemoteID, "auth", x.Peer.Auth, "proposal", x.Peer.Proposal)
	if !x.InitialContact {
		return
	}
	for o := range m.byPeer[pair{e.local, e.remote}] {
		same := o.info.RemoteID == x.Peer.RemoteID && o.info.Auth == x.Peer.Auth
		if o != e && same && o.established && o.info.Since.Before(e.began) {
			m.close(o, Close{Reason: "the peer has restarted", Silent: true})
		}
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
	if m.tells(e) {
		m.cfg.Log.Warn("IKE negotiation failed", "peer", e.remote, "rule", x.Policy, "error", x.Why)
	}
	switch {
	case x.Whole:
		e.closing = true
		if o := m.entryFor(e.local, e.remote); o != nil && o.established && silent {
			m.moveFlows(e) // the peer does speak IKE: it has begun itself
		} else {
			m.failFlows(e, x.Why)
		}
	case a != nil:
		m.failFlow(a, x.Why)
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
	if delete(m.byPeer[ends], e); len(m.byPeer[ends]) == 0 {
		delete(m.byPeer, ends)
	}
	m.clock.drop(e)
	for _, spi := range e.spis {
		delete(m.bySPI, spi)
	}
	if e.init != (initKey{}) {
		delete(m.byInit, e.init)
	}
	if !e.established {
		m.count(e, -1)
	}
	for _, f := range e.onClosed {
		f()
	}
}
