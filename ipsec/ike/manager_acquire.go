package ike

import (
	"container/list"
	"fmt"
	"net/netip"
	"time"
)

// flow is what one negotiation is for: a rule and a pair of hosts.
type flow struct {
	policy        string
	local, remote netip.Addr
}

// wanted is an Acquire with its flow.
type wanted struct {
	flow flow
	what Acquire
}

// attempt is a flow's negotiation, or the memory of one that failed.
type attempt struct {
	flow    flow
	entry   *entry        // nil when it failed
	failed  *list.Element // of Manager.failures; nil while there is an entry
	what    Acquire       // that an entry was asked for
	again   time.Time     // the next may not begin before
	backoff time.Duration
	why     error
}

// The pause after a failed negotiation, which doubles with each one.
const (
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
)

// maxFlows bounds the flows with a negotiation or the memory of one.
const maxFlows = 8192

// acquire begins a negotiation, or adds to one, or to an IKE SA that stands.
func (m *Manager) acquire(w wanted) {
	now := m.cfg.Now()
	a := m.flows[w.flow]
	switch {
	case linkLocal(w.flow.local) || linkLocal(w.flow.remote):
		m.buryFlow(w.flow, errLinkLocal)
		m.tell(w.flow, errLinkLocal)
		return
	case m.ending:
		m.tell(w.flow, fmt.Errorf("%w: this host ends its SAs", ErrClosed))
		return
	case a != nil && a.entry != nil:
		return // under way
	case a != nil && now.Before(a.again):
		m.tell(w.flow, a.why)
		return
	case a == nil:
		if len(m.flows) >= maxFlows && !m.forgetFailure() {
			m.busy(w.flow)
			return
		}
		a = &attempt{flow: w.flow}
		m.flows[w.flow] = a
	}
	a.what = w.what
	m.begin(a)
}

// begin gives a flow to an IKE SA that has room for it, or to a new one.
func (m *Manager) begin(a *attempt) {
	f := a.flow
	e := m.entryFor(f.local, f.remote)
	if e == nil {
		policy, ok := m.cfg.Policies.Peer(f.local, f.remote)
		if !ok {
			why := fmt.Errorf("%w %s", ErrNoRule, f.remote)
			m.buryFlow(f, why)
			m.failFlow(a, why)
			return
		}
		if m.begun >= m.cfg.Begun || !m.limits.begin.take(m.cfg.Now()) {
			m.refuse(a)
			return
		}
		e = m.newEntry(f.local, f.remote, policy)
		m.count(e, 1)
		e.machine = m.cfg.Initiator(m.machineConfig(e, netip.AddrPortFrom(f.local, PortIKE), netip.AddrPortFrom(f.remote, PortIKE), policy))
	}
	a.leave()
	if a.failed != nil {
		m.failures.Remove(a.failed)
		a.failed = nil
	}
	a.entry = e
	if e.flows == nil {
		e.flows = make(map[*attempt]struct{})
	}
	e.flows[a] = struct{}{}
	m.feed(e, a.what)
}

// The ports of IKE, and of IKE and ESP where there may be a NAT (RFC 7296
// section 2.23, RFC 3948).
const (
	PortIKE  = 500
	PortNATT = 4500
)

// entryFor returns the IKE SA that another Child SA for a peer should belong
// to: the youngest that is established, or one that we are negotiating, and
// that is not known to be full.
func (m *Manager) entryFor(local, remote netip.Addr) *entry {
	var best *entry
	for _, e := range m.byPeer[pair{local, remote}] {
		if e.closing || e.full || m.yielding(e) || !e.established && e.init != (initKey{}) {
			continue
		}
		if best == nil || e.established && !best.established || e.established == best.established && e.began.After(best.began) {
			best = e
		}
	}
	return best
}

// waiting returns the attempt for a rule that waits for an entry, or nil.
func (m *Manager) waiting(e *entry, policy string) *attempt {
	if a := m.flows[flow{policy, e.local, e.remote}]; a != nil && a.entry == e {
		return a
	}
	return nil
}

// leave ends an attempt's waiting for its entry.
func (a *attempt) leave() {
	if a.entry != nil {
		delete(a.entry.flows, a)
		a.entry = nil
	}
}

// failFlow notes that a flow has got no SA, and tells the data path.
func (m *Manager) failFlow(a *attempt, why error) {
	a.leave()
	a.why = why
	a.backoff = min(max(2*a.backoff, minBackoff), maxBackoff)
	a.again = m.cfg.Now().Add(a.backoff)
	if a.failed != nil {
		m.failures.Remove(a.failed)
	}
	a.failed = m.failures.PushBack(a)
	m.tell(a.flow, why)
}

// refuse ends an attempt for which there is no room now. That says nothing of
// the peer: what was known of it before stays.
func (m *Manager) refuse(a *attempt) {
	a.leave()
	switch {
	case a.backoff == 0:
		delete(m.flows, a.flow)
	case a.failed == nil:
		a.failed = m.failures.PushBack(a)
	}
	m.busy(a.flow)
}

// busy tells the data path that there is no room for a flow's negotiation.
func (m *Manager) busy(f flow) {
	why := fmt.Errorf("%w: %s has to wait", ErrBusy, f.remote)
	if m.limits.full.take(m.cfg.Now()) || len(m.watchers[pair{f.local, f.remote}]) > 0 {
		m.buryFlow(f, why)
	}
	m.tell(f, why)
}

// tell tells the data path that there will be no SA for what waits now.
func (m *Manager) tell(f flow, why error) {
	m.inbox.settle(f)
	m.cfg.DataPath.Failed(f.policy, f.remote, why)
}

// moveFlows gives all flows that wait for an entry to another one.
func (m *Manager) moveFlows(e *entry) {
	for a := range e.flows {
		m.begin(a)
	}
}

// failFlows fails all flows that wait for an entry.
func (m *Manager) failFlows(e *entry, why error) {
	for a := range e.flows {
		m.failFlow(a, why)
	}
}

// forgetFailure forgets the oldest failure, if there is any.
func (m *Manager) forgetFailure() bool {
	oldest := m.failures.Front()
	if oldest == nil {
		return false
	}
	delete(m.flows, m.failures.Remove(oldest).(*attempt).flow)
	return true
}
