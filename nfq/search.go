package nfq

import (
	"context"
	"time"
)

// How the search goes on (RFC 8899 section 5).
const (
	probeTries   = 3 // probes of one size that get lost before it counts as too large
	searchEnough = 8 // bytes between what gets through and what does not
)

// Search finds how large a packet a path takes by trying, where nobody tells:
// whoever drops what is too large may say nothing, or what he says may get lost
// (RFC 4821, RFC 8899). It does no I/O and knows no time.
//
// The largest size is tried first: most paths take what their first link does.
// Then the search halves what is between a size that got through and one that did
// not.
type Search struct {
	low, high int // the largest that gets through, and the least that does not
	size      int // that is being tried; 0 when the search has ended
	lost      int // probes of that size
}

// NewSearch returns a search between a size that every path of the family takes,
// and one that the first link does, in bytes of IP packet.
func NewSearch(least, most int) *Search {
	s := &Search{low: min(least, most), high: most + 1}
	if most > least {
		s.size = most
	}
	return s
}

// Next returns the size of the next probe; ok is false when the search has ended.
func (s *Search) Next() (size int, ok bool) { return s.size, s.size != 0 }

// Result says what became of a probe of the size that Next returned.
func (s *Search) Result(arrived bool) {
	switch {
	case s.size == 0:
		return
	case arrived:
		s.low = s.size
	default:
		if s.lost++; s.lost < probeTries {
			return
		}
		s.high = s.size
	}
	s.lost, s.size = 0, 0
	if s.high-s.low > searchEnough {
		s.size = s.low + (s.high-s.low)/2
	}
}

// Limit says that the path takes no more than mtu bytes: somebody on it says so.
func (s *Search) Limit(mtu int) {
	if mtu >= s.high || mtu < s.low {
		return
	}
	s.high, s.lost, s.size = mtu+1, 0, 0
	if mtu > s.low {
		s.size = mtu
	}
}

// MTU returns the largest size that got through so far.
func (s *Search) MTU() int { return s.low }

// Prober sends a packet to the peer of an SA, which is to be answered.
type Prober interface {
	// Probe sends an IP packet of size bytes, which nobody on the way may fragment,
	// and reports whether an answer came in a while. It returns when ctx ends.
	Probe(ctx context.Context, sa *SA, size int) bool
}

// Probe finds how large a packet the path of an SA takes, and has the path take no
// more for ten minutes. It takes as long as its probes do, and what the path is told
// by others meanwhile counts. It returns the error of ctx when that ends before.
func Probe(ctx context.Context, p Prober, sa *SA, now func() time.Time) error {
	path := sa.Path
	least := minMTU4
	if path.v6 {
		least = minMTU6
	}
	s := NewSearch(least, path.Link())
	for {
		size, ok := s.Next()
		if !ok {
			path.Found(s.MTU(), now())
			return nil
		}
		arrived := p.Probe(ctx, sa, size)
		if err := ctx.Err(); err != nil {
			return err
		}
		s.Result(arrived)
		if !arrived && path.MTU() < size {
			s.Limit(path.MTU()) // an ICMP error was the answer
		}
	}
}
