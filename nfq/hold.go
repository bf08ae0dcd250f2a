package nfq

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// held is a packet that waits in the kernel for its verdict, until there is
// an SA for it.
type held struct {
	Queued
	Decision filter.Decision // by a filter that negotiates
	Clear    packet.Packet
	Tries    int // SAs that came, and did not cover it
}

// hold is the packets that wait, the oldest first. The kernel keeps them; the
// hold has their copies to seal.
type hold struct {
	mu    sync.Mutex
	limit int
	items []held
}

// add keeps a packet, whose bytes it copies. When the hold is full the oldest
// packet has to go: it is returned for its verdict.
func (h *hold) add(p held) (oldest held, full bool) {
	p.Packet = slices.Clone(p.Packet)
	h.mu.Lock()
	defer h.mu.Unlock()
	if full = len(h.items) >= h.limit; full {
		oldest = h.items[0]
		h.items = slices.Delete(h.items, 0, 1)
	}
	h.items = append(h.items, p)
	return oldest, full
}

// waitsFor returns what tells the packets that wait for an SA of a rule with a
// peer, or of a rule with anyone when remote is the zero address.
func waitsFor(rule string, remote netip.Addr) func(*held) bool {
	return func(p *held) bool {
		return p.Decision.Entry.Name == rule && (!remote.IsValid() || p.Clear.Dst == remote)
	}
}

// take removes and returns the packets that match, in the order in which they
// came.
func (h *hold) take(match func(*held) bool) []held {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []held
	h.items = slices.DeleteFunc(h.items, func(p held) bool {
		if match(&p) {
			out = append(out, p)
			return true
		}
		return false
	})
	return out
}
