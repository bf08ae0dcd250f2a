package iketest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// world is what one seed makes: a network, its hosts, and those who watch them.
type world struct {
	*Sim
	dice     *rand.Rand
	nodes    []*node
	watch    *watch
	keys     keyBook
	heard    map[hearing]time.Time // when a packet of a flow last arrived
	perfect  bool                  // nothing happens that could lose a packet
	strange  bool                  // the hosts do not have the same key, and must get no SA
	failures []error
	log      io.Writer // of what happens, or nil
}

// Run lets two or three hosts live through what a seed says: their rules and
// policies, what the network does, what befalls the hosts and what they are
// asked for. Then the network heals, and Run returns an error that says what of
// the following does not hold.
//
//   - Packets flow again, both ways and for each rule, within Healing; between
//     hosts without a common key none ever do.
//   - Both ends then have the same IKE SAs, and the same Child SAs with the
//     same keys, crossed.
//   - No Child SA outlives its IKE SA. Once all are closed, or the peer is gone
//     for good, nothing is left.
//   - No two messages bear one number, no two have one key and one IV, and no
//     two Child SAs one key. Windows are kept to.
//   - No packet is sent under an SA that the receiver opens with another key.
//     None is lost where nothing can lose it: through all rekeying.
//   - Nothing panics, and time passes.
//
// What happens is written to log, in the notation of RFC 7296 section 1.2, unless
// it is nil. The same seed does the same thing.
func Run(seed uint64, m Machines, log io.Writer) (err error) {
	w := newWorld(seed, m, log)
	defer func() {
		if p := recover(); p != nil {
			w.fail("panic: %v\n%s", p, debug.Stack())
		}
		err = errors.Join(w.failures...)
	}()
	w.live()
	w.heal()
	w.agree()
	w.end()
	return nil
}

// maxFailures is how many failures are told: those after the first seldom have
// another cause.
const maxFailures = 5

// fail notes that something does not hold.
func (w *world) fail(format string, args ...any) {
	w.note("FAILURE: "+format, args...)
	if len(w.failures) < maxFailures {
		w.failures = append(w.failures, fmt.Errorf(format, args...))
	}
}

// note writes a line to the log.
func (w *world) note(format string, args ...any) {
	if w.log != nil {
		w.line(fmt.Sprintf(format, args...))
	}
}

// lost is told of a packet for which the receiver has no SA.
func (w *world) lost(n *node, f flight) {
	w.note("%s: no SA for %s of %s", n.Addr, f.esp.spi, f.from)
	if w.perfect {
		w.fail("%s: the packet %d of %s for %s is lost, as there is no SA for it", n.Addr, f.esp.number, f.esp.rule, f.esp.spi)
	}
}

// node returns the host that has an address, or shows it.
func (w *world) node(a netip.Addr) *node {
	if w.NAT != nil && a == w.NAT.Outside {
		a = w.NAT.Inside
	}
	i := slices.IndexFunc(w.nodes, func(n *node) bool { return n.Addr == a })
	if i < 0 {
		return nil
	}
	return w.nodes[i]
}

// shown returns the address of a host as others see it.
func (w *world) shown(a netip.Addr) netip.Addr {
	if w.NAT != nil && a == w.NAT.Inside {
		return w.NAT.Outside
	}
	return a
}

// defaultWindow is that of ike.Policy.
const defaultWindow = 8

// window returns how many requests of one host another takes at a time.
func (w *world) window(from, to netip.Addr) int {
	if n := w.node(to); n != nil {
		if p := n.peer(w.shown(from)); p != nil && p.Policy.Window > 0 {
			return p.Policy.Window
		}
	}
	return defaultWindow
}

// chance is true with a probability.
func (w *world) chance(p float64) bool { return w.dice.Float64() < p }

// between returns a random duration.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.dice.Int64N(int64(most-least)+1))
}

// pick returns one of several.
func pick[T any](w *world, of ...T) T { return of[w.dice.IntN(len(of))] }

// everyFlow calls f for every rule of every host.
func (w *world) everyFlow(f func(*node, *peer, flow)) {
	for _, n := range w.nodes {
		for i := range n.Peers {
			for _, x := range n.Peers[i].Flows {
				f(n, &n.Peers[i], x)
			}
		}
	}
}

// quiet lets time pass until no datagram is under way.
func (w *world) quiet() {
	for range 1000 {
		if len(w.flying) == 0 && !slices.ContainsFunc(w.nodes, func(n *node) bool { return len(n.jobs) > 0 }) {
			return
		}
		w.Run(10 * time.Millisecond)
	}
	w.fail("there is no end of datagrams")
}

// closeAll ends all IKE SAs of a host.
func (n *node) closeAll(silent bool) {
	for _, e := range slices.Clone(n.entries) {
		if !e.closed {
			n.close(e, ike.Close{Reason: "the end", Silent: silent})
		}
	}
}
