package ike

import (
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
	entry   *entry    // nil when it failed
	what    Acquire   // that an entry was asked for
	again   time.Time // the next may not begin before
	backoff time.Duration
	why     error
}

// The pause after a failed negotiation, which doubles with each one.
const (
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
	maxFlows   = 8192 // bounds the memory of failures
)

// acquire begins a negotiation, or adds to one, or to an IKE SA that stands.
func (m *Manager) acquire(w wanted) {
	now := m.cfg.Now()
	a := m.flows[w.flow]
	switch {
	case m.ending:
		m.cfg.DataPath.Failed(w.flow.policy, w.flow.remote, fmt.Errorf("%w: this host ends its SAs", ErrClosed))
		return
	case a != nil && a.entry != nil:
		return // under way
	case a != nil && now.Before(a.again):
		m.cfg.DataPath.Failed(w.flow.policy, w.flow.remote, a.why)
		return
	case a == nil:
		m.forgetFlows(now)
		a = new(attempt)
		m.flows[w.flow] = a
	}
	a.what = w.what
	m.begin(w.flow, a)
}

// begin gives a flow to an IKE SA that has room for it, or to a new one.
func (m *Manager) begin(f flow, a *attempt) {
	e := m.entryFor(f.local, f.remote)
	if e == nil {
		policy, ok := m.cfg.Policies.Peer(f.local, f.remote)
		if !ok {
			m.failFlow(f, fmt.Errorf("no rule concerns the peer %s", f.remote))
			return
		}
		e = m.newEntry(f.local, f.remote, policy)
		e.machine = m.cfg.Initiator(m.machineConfig(e, netip.AddrPortFrom(f.local, portIKE), netip.AddrPortFrom(f.remote, portIKE), policy))
	}
	a.entry = e
	m.feed(e, a.what)
}

const portIKE = 500

// entryFor returns the IKE SA that another Child SA for a peer should belong
// to: the youngest that is established, or one that we are negotiating, and
// that is not known to be full.
func (m *Manager) entryFor(local, remote netip.Addr) *entry {
	var best *entry
	for e := range m.entries {
		if e.local != local || e.remote != remote || e.closing || e.full || !e.established && e.init != (initKey{}) {
			continue
		}
		if best == nil || e.established && !best.established || e.established == best.established && e.began.After(best.began) {
			best = e
		}
	}
	return best
}

// endFlow notes that a flow has got its SA.
func (m *Manager) endFlow(e *entry, policy string) {
	f := flow{policy, e.local, e.remote}
	if a := m.flows[f]; a != nil && a.entry == e {
		delete(m.flows, f)
	}
}

// failFlow notes that a flow has got none, and tells the data path.
func (m *Manager) failFlow(f flow, why error) {
	a := m.flows[f]
	if a == nil {
		return
	}
	a.entry, a.why = nil, why
	a.backoff = min(max(2*a.backoff, minBackoff), maxBackoff)
	a.again = m.cfg.Now().Add(a.backoff)
	m.cfg.DataPath.Failed(f.policy, f.remote, why)
}

// moveFlows gives all flows that wait for an entry to another one.
func (m *Manager) moveFlows(e *entry) {
	for f, a := range m.flows {
		if a.entry == e {
			m.begin(f, a)
		}
	}
}

// failFlows fails all flows that wait for an entry.
func (m *Manager) failFlows(e *entry, why error) {
	for f, a := range m.flows {
		if a.entry == e {
			m.failFlow(f, why)
		}
	}
}

// forgetFlows drops failures that are long past when there are many.
func (m *Manager) forgetFlows(now time.Time) {
	if len(m.flows) < maxFlows {
		return
	}
	for f, a := range m.flows {
		if a.entry == nil && now.After(a.again) {
			delete(m.flows, f)
		}
	}
}
