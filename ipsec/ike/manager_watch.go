package ike

import (
	"context"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Watcher is told what becomes of the negotiations with a peer. Its functions
// are called from the goroutine of Run, and must return at once without
// calling the Manager; any of them may be nil.
type Watcher struct {
	Message     func(Message) // whose payloads must not be kept
	Established func(PeerInfo)
	Installed   func(PeerInfo, ChildInfo)
	Failed      func(PostMortem)
}

func (w Watcher) message(x Message) {
	if w.Message != nil {
		w.Message(x)
	}
}

func (w Watcher) established(p PeerInfo) {
	if w.Established != nil {
		w.Established(p)
	}
}

func (w Watcher) installed(p PeerInfo, c ChildInfo) {
	if w.Installed != nil {
		w.Installed(p, c)
	}
}

func (w Watcher) failed(p PostMortem) {
	if w.Failed != nil {
		w.Failed(p)
	}
}

// Watch has a watcher told of a peer until stop is called, after which none of
// its functions is called any more.
func (m *Manager) Watch(local, remote netip.Addr, w Watcher) (stop func()) {
	ends, key := pair{local.Unmap(), remote.Unmap()}, new(Watcher)
	*key = w
	m.call(context.Background(), func() {
		if m.watchers[ends] == nil {
			m.watchers[ends] = make(map[*Watcher]struct{})
		}
		m.watchers[ends][key] = struct{}{}
	})
	return func() {
		m.call(context.Background(), func() {
			if delete(m.watchers[ends], key); len(m.watchers[ends]) == 0 {
				delete(m.watchers, ends)
			}
		})
	}
}

func (m *Manager) tellWatchers(ends pair, what func(Watcher)) {
	for w := range m.watchers[ends] {
		what(*w)
	}
}

// Initiate is Acquire for a person: the pause after a failed negotiation does
// not hold it back. It returns when the negotiation has begun.
func (m *Manager) Initiate(local, remote netip.Addr, child ChildPolicy, packetLocal, packetRemote ipsec.TrafficSelector) {
	w := wanted{
		flow: flow{child.Name, local.Unmap(), remote.Unmap()},
		what: Acquire{Child: child, Local: packetLocal, Remote: packetRemote},
	}
	m.call(context.Background(), func() {
		if a := m.flows[w.flow]; a != nil {
			a.again = m.cfg.Now()
		}
		m.acquire(w)
	})
}

// trace takes a message of a machine, in clear.
func (m *Manager) trace(e *entry, x Message) {
	e.seen.learns(x)
	m.tellWatchers(pair{e.local, e.remote}, func(w Watcher) { w.message(x) })
}
