package daemon

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/ipsecfw/ipsecfw/rules"
)

// memory is what the daemon has learned of the network: it outlives policies,
// and is kept on disk for the next start.
type memory struct {
	state state
	log   *slog.Logger

	mu        sync.Mutex
	addresses rules.Addresses
	secured   map[netip.Addr]bool
	unknown   bool // what was kept cannot be read: any peer may have been secured
}

// recall reads what the last daemon learned.
func recall(s state, log *slog.Logger) *memory {
	m := &memory{state: s, log: log, secured: map[netip.Addr]bool{}}
	x, err := s.loadSeen()
	if err != nil {
		log.Warn("which peers were secured once cannot be read: none will be spoken to in clear", "error", err)
		m.unknown = true
	}
	m.addresses = x.Addresses
	for _, a := range x.Secured {
		m.secured[a] = true
	}
	return m
}

// keep writes it to disk. The caller holds m.mu.
func (m *memory) keep() {
	x := seen{Addresses: m.addresses, Secured: slices.SortedFunc(maps.Keys(m.secured), netip.Addr.Compare)}
	if err := m.state.keepSeen(x); err != nil {
		m.log.Warn("what was learned of the network is not kept for the next start", "error", err)
	}
}

// learn remembers what names stand for.
func (m *memory) learn(a rules.Addresses) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addresses = a
	m.keep()
}

// known returns what names stood for last.
func (m *memory) known() rules.Addresses {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addresses
}

// secure remembers that a peer was secured once.
func (m *memory) secure(a netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.secured[a] {
		m.secured[a] = true
		m.keep()
	}
}

// wasSecured reports whether a peer was secured once, as far as one knows.
func (m *memory) wasSecured(a netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unknown || m.secured[a]
}

// forget begins anew: there is no policy any more that anybody was secured by.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addresses, m.secured, m.unknown = rules.Addresses{}, map[netip.Addr]bool{}, false
}
