package ike

import (
	"net/netip"
	"slices"
)

// Bounds of the post-mortems that are kept.
const (
	perPeerKept  = 4   // of one peer
	ownKept      = 512 // of peers that we wrote to first, or that have authenticated
	strangerKept = 128 // of those that anybody may be
	perBlockKept = 16  // of the latter in one block of addresses
)

// postmortems keeps the last post-mortems of each peer. Those of strangers
// have a place of their own, so that they push out nobody else's. Its zero
// value is empty.
type postmortems struct {
	own, strangers []*PostMortem // the latest last
}

// add keeps a post-mortem, in place of an earlier one that is the same but for
// the time, and returns what is kept.
func (s *postmortems) add(p *PostMortem, stranger bool) {
	list, most := &s.own, ownKept
	if stranger {
		list, most = &s.strangers, strangerKept
	}
	p.Since, p.Times = p.At, 1
	peer, block := 0, 0
	oldest, oldestNear, last := -1, -1, -1 // of the peer, and of its block
	for i, o := range *list {
		if near(o.Remote.Addr()) == near(p.Remote.Addr()) {
			block++
			if oldestNear < 0 {
				oldestNear = i
			}
		}
		if o.Remote.Addr() == p.Remote.Addr() {
			peer++
			last = i
			if oldest < 0 {
				oldest = i
			}
		}
	}
	gone := -1
	switch {
	case last >= 0 && (*list)[last].sameAs(p):
		p.Since, p.Times, gone = (*list)[last].Since, (*list)[last].Times+1, last
	case peer >= perPeerKept:
		gone = oldest
	case stranger && block >= perBlockKept:
		gone = oldestNear
	case len(*list) >= most:
		gone = 0
	}
	if gone >= 0 {
		*list = slices.Delete(*list, gone, gone+1)
	}
	*list = append(*list, p)
}

// sameAs reports whether two failures are one that came again.
func (p *PostMortem) sameAs(q *PostMortem) bool {
	return p.Initiator == q.Initiator && p.Rule == q.Rule && p.Step == q.Step && p.Cause == q.Cause && p.Identity == q.Identity
}

// of returns those that match, the latest first.
func (s *postmortems) of(match func(*PostMortem) bool) []PostMortem {
	var out []PostMortem
	for _, list := range [][]*PostMortem{s.own, s.strangers} {
		for _, p := range list {
			if match(p) {
				out = append(out, *p)
			}
		}
	}
	slices.SortStableFunc(out, func(p, q PostMortem) int { return q.At.Compare(p.At) })
	return out
}

// has reports whether a peer has one that is not a stranger's.
func (s *postmortems) has(a netip.Addr) bool {
	return slices.ContainsFunc(s.own, func(p *PostMortem) bool { return p.Remote.Addr() == a })
}
