package nfq

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// SA is a pair of SAs at work.
type SA struct {
	*ipsec.ChildSA
	Out   Sealer
	In    Opener
	Path  *Path // between the outer addresses
	Since time.Time

	order *sync.Mutex // held from the taking of a sequence number until its packet has left

	peer *natPeer // in transport mode: which of those that may be at its address

	movedAt atomic.Int64 // when it was last told that the peer seems to have moved, in Unix seconds
	audits  *audits
}

// covers reports whether the SA's selectors allow a packet that goes out.
func (sa *SA) covers(p *packet.Packet) bool {
	return matchAny(sa.Local, p.Src, p, p.SrcPort) && matchAny(sa.Remote, p.Dst, p, p.DstPort)
}

// admits reports whether the SA's selectors allow a packet that came in
// (RFC 4301 section 5.2).
func (sa *SA) admits(p *packet.Packet) bool {
	return matchAny(sa.Remote, p.Src, p, p.SrcPort) && matchAny(sa.Local, p.Dst, p, p.DstPort)
}

func matchAny(ts []ipsec.TrafficSelector, a netip.Addr, p *packet.Packet, port uint16) bool {
	for i := range ts {
		if ts[i].Match(a, p.Protocol, port, p.HasPorts) {
			return true
		}
	}
	return false
}

// SAD is the security association database (RFC 4301 section 4.4.2). It is
// read without a lock, and copied when it changes.
type SAD struct {
	mu    sync.Mutex // held by writers
	cur   atomic.Pointer[sadState]
	flows natFlows
	now   func() time.Time
}

type sadState struct {
	inbound  map[ipsec.SPI]*SA
	outbound map[outKey][]*SA // the first that covers a packet is used: the newest, but for those on standby
	retired  map[ipsec.SPI]*SA
	shared   map[netip.Addr]int // SAs in transport mode with peers behind a NAT at an address
}

// outKey narrows the search for an outbound SA: all have the rule in common,
// those of transport mode the peer's address too.
type outKey struct {
	rule   string
	remote netip.Addr
}

func keyOf(sa *SA) outKey {
	if sa.Mode == ipsec.Transport {
		return outKey{sa.Policy, sa.RemoteAddr.Addr()}
	}
	return outKey{rule: sa.Policy}
}

// newSAD returns an empty SAD.
func newSAD(now func() time.Time) *SAD {
	d := &SAD{now: now}
	d.cur.Store(&sadState{})
	return d
}

func (d *SAD) change(f func(s *sadState)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.cur.Load()
	s := &sadState{maps.Clone(old.inbound), maps.Clone(old.outbound), maps.Clone(old.retired), maps.Clone(old.shared)}
	if s.inbound == nil {
		s.inbound, s.outbound, s.retired, s.shared = map[ipsec.SPI]*SA{}, map[outKey][]*SA{}, map[ipsec.SPI]*SA{}, map[netip.Addr]int{}
	}
	f(s)
	d.cur.Store(s)
}

// Add puts a pair of SAs to work. On standby it receives, and sends only once
// the others that could have been removed: so does who answers a rekey, until
// the peer is known to have the new SA (RFC 7296 section 2.8).
func (d *SAD) Add(sa *SA, standby bool) {
	sa.order, sa.audits = new(sync.Mutex), new(audits)
	if sa.Mode == ipsec.Transport {
		sa.peer = d.flows.join(peerOf(sa))
	}
	d.change(func(s *sadState) {
		k := keyOf(sa)
		s.inbound[sa.InSPI] = sa
		if shares(sa) {
			s.shared[sa.RemoteAddr.Addr()]++
		}
		if standby {
			s.outbound[k] = append(slices.Clone(s.outbound[k]), sa)
		} else {
			s.outbound[k] = append([]*SA{sa}, s.outbound[k]...)
		}
	})
}

// Move gives a pair that is UDP-encapsulated other outer addresses, between
// which there is another path (RFC 7296 section 2.23). It returns the pair as
// it is now, or nil when it stays as it was: one of transport mode is for
// packets between two addresses, of which only the ports can change.
func (d *SAD) Move(spi ipsec.SPI, local, remote netip.AddrPort, path *Path) *SA {
	var moved *SA
	d.change(func(s *sadState) {
		sa := s.inbound[spi]
		if sa == nil || !sa.UDPEncap || sa.Mode == ipsec.Transport && (local.Addr() != sa.LocalAddr.Addr() || remote.Addr() != sa.RemoteAddr.Addr()) {
			return
		}
		child := *sa.ChildSA
		child.LocalAddr, child.RemoteAddr = local, remote
		moved = &SA{ChildSA: &child, Out: sa.Out, In: sa.In, Path: path, Since: sa.Since, order: sa.order, peer: sa.peer, audits: sa.audits}
		s.inbound[spi] = moved
		k := keyOf(sa)
		s.outbound[k] = slices.Clone(s.outbound[k])
		s.outbound[k][slices.Index(s.outbound[k], sa)] = moved
	})
	return moved
}

// Remove takes a pair out by its inbound SPI and wipes its keys; it returns
// nil when there is none.
func (d *SAD) Remove(spi ipsec.SPI) *SA {
	var sa *SA
	d.change(func(s *sadState) { sa = d.take(s, spi) })
	if sa != nil {
		sa.Out.Wipe()
		sa.In.Wipe()
	}
	return sa
}

// lateFor is how long a retired SA receives.
const lateFor = 2 * time.Second

// Retire is Remove for a pair that nobody sends under any more: what was sent
// before may arrive after the word that it has ended, which has another way to
// go, and is received for a moment.
func (d *SAD) Retire(spi ipsec.SPI) *SA {
	var sa *SA
	d.change(func(s *sadState) {
		if sa = d.take(s, spi); sa != nil {
			s.retired[spi] = sa
		}
	})
	if sa != nil {
		time.AfterFunc(lateFor, func() {
			d.change(func(s *sadState) { delete(s.retired, spi) })
			sa.Out.Wipe() // of which somebody may have been about to make use
			sa.In.Wipe()
		})
	}
	return sa
}

// take removes a pair of SAs and returns it, or nil when there is none.
func (d *SAD) take(s *sadState, spi ipsec.SPI) *SA {
	sa := s.inbound[spi]
	if sa == nil {
		return nil
	}
	delete(s.inbound, spi)
	if a := sa.RemoteAddr.Addr(); shares(sa) {
		if s.shared[a]--; s.shared[a] == 0 {
			delete(s.shared, a)
		}
	}
	if sa.peer != nil {
		d.flows.leave(sa.peer)
	}
	k := keyOf(sa)
	rest := slices.DeleteFunc(slices.Clone(s.outbound[k]), func(x *SA) bool { return x == sa })
	if len(rest) == 0 {
		delete(s.outbound, k)
	} else {
		s.outbound[k] = rest
	}
	return sa
}

// Inbound finds the SA of a packet that came for an SPI, or nil.
func (d *SAD) Inbound(spi ipsec.SPI) *SA {
	s := d.cur.Load()
	if sa := s.inbound[spi]; sa != nil {
		return sa
	}
	return s.retired[spi]
}

// shared reports whether there may be several peers at an address, behind a NAT.
func (d *SAD) shared(a netip.Addr) bool { return d.cur.Load().shared[a] > 0 }

// Outbound finds the SA that a rule has for the packet in b, or nil. To know
// without sending anything, b may be nil.
func (d *SAD) Outbound(rule string, p *packet.Packet, b []byte) *SA {
	s := d.cur.Load()
	if s.shared[p.Dst] > 0 {
		if sas := s.outbound[outKey{rule, p.Dst}]; len(sas) > 0 {
			return d.choose(sas, p, b)
		}
	}
	for _, sa := range s.outbound[outKey{rule, p.Dst}] {
		if sa.covers(p) {
			return sa
		}
	}
	for _, sa := range s.outbound[outKey{rule: rule}] {
		if sa.covers(p) {
			return sa
		}
	}
	return nil
}

// All returns the pairs of SAs, the oldest first.
func (d *SAD) All() []*SA {
	out := slices.Collect(maps.Values(d.cur.Load().inbound))
	slices.SortFunc(out, func(a, b *SA) int { return a.Since.Compare(b.Since) })
	return out
}
