// Package iketest is an in-memory network for IKE: with loss, delay,
// duplication, reordering, corruption and address translation, all of it from a
// seed. Sim steps the bare machines of a Host, or those of a node, which gives
// them their datagrams as a Manager does, under a clock of its own; Network
// carries the datagrams of Managers under that of testing/synctest. Run lets two
// or three nodes live through what a seed says, and holds them to what must be
// true afterwards.
package iketest

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// Faults is what a link does to datagrams. The zero value delivers each of
// them once and at once.
type Faults struct {
	Loss      float64       // the share of datagrams that get lost
	Duplicate float64       // the share that arrives twice
	Corrupt   float64       // the share of copies that arrive with flipped bits or without their end
	Delay     time.Duration // the least delay
	Jitter    time.Duration // up to which more is added, so that datagrams overtake each other
}

// fate returns the delays of the copies that arrive.
func (f Faults) fate(r *rand.Rand) []time.Duration {
	copies := 1
	if r.Float64() < f.Duplicate {
		copies = 2
	}
	var out []time.Duration
	for range copies {
		if r.Float64() < f.Loss {
			continue
		}
		d := f.Delay
		if f.Jitter > 0 {
			d += time.Duration(r.Int64N(int64(f.Jitter)))
		}
		out = append(out, d)
	}
	return out
}

// spoil returns what arrives of a copy of a datagram, which it may change.
func (f Faults) spoil(r *rand.Rand, data []byte) []byte {
	if f.Corrupt == 0 || r.Float64() >= f.Corrupt || len(data) == 0 {
		return data
	}
	if r.IntN(4) == 0 {
		return data[:r.IntN(len(data))]
	}
	for range 1 + r.IntN(3) {
		data[r.IntN(len(data))] ^= 1 << r.IntN(8)
	}
	return data
}

// NAT translates the addresses of one host behind it: it shows the Outside
// address and ports that it makes up. What comes to a port that it did not
// make up is lost.
type NAT struct {
	Inside, Outside netip.Addr
	ports           map[uint16]uint16 // inside to outside
	made            uint16            // how many ports there have been
}

// Rebind forgets all ports: what comes to them is lost, and what leaves gets
// new ones.
func (n *NAT) Rebind() { n.ports = nil }

// Open has something leave from a port inside that is no datagram of IKE, and
// returns where it comes from.
func (n *NAT) Open(port uint16) netip.AddrPort { return n.out(netip.AddrPortFrom(n.Inside, port)) }

// out translates the source of a datagram from inside.
func (n *NAT) out(src netip.AddrPort) netip.AddrPort {
	if src.Addr() != n.Inside {
		return src
	}
	if n.ports == nil {
		n.ports = make(map[uint16]uint16)
	}
	p, ok := n.ports[src.Port()]
	if !ok {
		p = 20000 + n.made
		n.made++
		n.ports[src.Port()] = p
	}
	return netip.AddrPortFrom(n.Outside, p)
}

// in translates the destination of a datagram from outside.
func (n *NAT) in(dst netip.AddrPort) (netip.AddrPort, bool) {
	if dst.Addr() != n.Outside {
		return dst, true
	}
	for inside, outside := range n.ports {
		if outside == dst.Port() {
			return netip.AddrPortFrom(n.Inside, inside), true
		}
	}
	return dst, false
}

// Rand returns a reproducible source of bytes for machines. It is no
// cryptographic randomness of a kind that could be trusted.
func Rand(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}
