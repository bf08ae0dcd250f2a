package daemon

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

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
	unknown   bool // others may have been secured too: what was kept cannot be read
	writing   bool // the disk has not got all of it yet
}

// recall reads what the last daemon learned.
func recall(s state, log *slog.Logger) *memory {
	m := &memory{state: s, log: log, secured: map[netip.Addr]bool{}}
	x, err := s.loadSeen()
	if err != nil {
		log.Warn("which peers were secured once cannot be read: none will be spoken to in clear", "error", err)
		x = seen{Unknown: true}
	}
	m.addresses, m.unknown = x.Addresses, x.Unknown
	for _, a := range x.Secured {
		m.secured[a] = true
	}
	return m
}

// keep writes it to disk, and if that fails again and again until it succeeds.
// The caller holds m.mu.
func (m *memory) keep() {
	x := seen{Addresses: m.addresses, Secured: slices.SortedFunc(maps.Keys(m.secured), netip.Addr.Compare), Unknown: m.unknown}
	if err := m.state.keepSeen(x); err != nil {
		m.log.Warn("what was learned of the network is not kept for the next start yet", "error", err)
		m.keepIn(retryRollback)
	}
}

// keepSoon is how long peers that are secured one after another wait to be
// written to disk together.
const keepSoon = 100 * time.Millisecond

// keepIn writes it to disk later. The caller holds m.mu.
func (m *memory) keepIn(d time.Duration) {
	if m.writing {
		return
	}
	m.writing = true
	time.AfterFunc(d, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.writing {
			m.writing = false
			m.keep()
		}
	})
}

// learn remembers what names stand for, and what others stood for: a policy
// that comes back needs it.
func (m *memory) learn(a rules.Addresses) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := maps.Clone(a.Names)
	for name, last := range m.addresses.Names {
		if len(names[name]) == 0 {
			names = with(names, name, last)
		}
	}
	a.Names = names
	for _, x := range []struct{ now, last *[]netip.Addr }{
		{&a.DNSServers, &m.addresses.DNSServers}, {&a.DHCPServers, &m.addresses.DHCPServers}, {&a.DefaultGateways, &m.addresses.DefaultGateways},
	} {
		if len(*x.now) == 0 {
			*x.now = *x.last
		}
	}
	if len(a.Names)+len(a.DNSServers)+len(a.DHCPServers)+len(a.DefaultGateways) == 0 {
		return
	}
	m.addresses = a
	m.keep()
}

// known returns what names stood for last.
func (m *memory) known() rules.Addresses {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addresses
}

// secure remembers that a peer was secured. It is on disk when secure returns
// if that matters now, and soon if not.
func (m *memory) secure(a netip.Addr, now bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.secured[a]:
	case now:
		m.secured[a] = true
		m.keep()
	default:
		m.secured[a] = true
		m.keepIn(keepSoon)
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
	m.addresses, m.secured, m.unknown, m.writing = rules.Addresses{}, map[netip.Addr]bool{}, false, false
}
