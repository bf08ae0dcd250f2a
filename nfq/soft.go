package nfq

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// softPeers are the peers to whom packets go in clear although their filters
// negotiate, because they do not speak IKE. nftables has the same list and
// lets their packets by; this one is for those that were queued before. It is
// read without a lock.
type softPeers struct {
	mu    sync.Mutex // held by writers
	until atomic.Pointer[map[netip.Addr]time.Time]
}

func (s *softPeers) change(f func(m map[netip.Addr]time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := map[netip.Addr]time.Time{}
	if old := s.until.Load(); old != nil {
		maps.Copy(m, *old)
	}
	f(m)
	s.until.Store(&m)
}

// add adds a peer, and forgets those whose time is over.
func (s *softPeers) add(a netip.Addr, until, now time.Time) {
	s.change(func(m map[netip.Addr]time.Time) {
		maps.DeleteFunc(m, func(_ netip.Addr, until time.Time) bool { return !now.Before(until) })
		m[a] = until
	})
}

func (s *softPeers) remove(a netip.Addr) {
	s.change(func(m map[netip.Addr]time.Time) { delete(m, a) })
}

func (s *softPeers) contains(a netip.Addr, now func() time.Time) bool {
	m := s.until.Load()
	if m == nil {
		return false
	}
	until, ok := (*m)[a]
	return ok && now().Before(until)
}
