package iketest

import (
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// live is the part of a run in which everything goes wrong.
func (w *world) live() {
	w.perfect = w.chance(0.25)
	if w.perfect {
		for _, n := range w.nodes {
			n.Slow = 0 // the end that has an SA first sends by it first
		}
	}
	w.weather()
	end := w.Now.Add(w.between(20*time.Second, 150*time.Second))
	pace := w.between(200*time.Millisecond, 5*time.Second)
	if w.chance(0.3) { // both ends begin at once
		w.everyFlow(func(n *node, p *peer, f flow) { n.transmit(p, f) })
	}
	traffic, event := w.Now, w.Now.Add(w.between(0, 5*time.Second))
	for w.Now.Before(end) {
		if !w.Now.Before(traffic) {
			w.everyFlow(func(n *node, p *peer, f flow) {
				if w.chance(0.5) {
					n.transmit(p, f)
				}
			})
			traffic = w.Now.Add(w.between(pace/2, pace))
		}
		if !w.Now.Before(event) {
			w.happen()
			event = w.Now.Add(w.between(10*time.Millisecond, 20*time.Second))
		}
		until := traffic
		if event.Before(until) {
			until = event
		}
		w.Sim.Run(until.Sub(w.Now))
	}
}

// weather changes what the network does to datagrams.
func (w *world) weather() {
	f := Faults{Delay: w.between(0, 50*time.Millisecond)}
	if !w.perfect {
		if w.chance(0.4) {
			f.Loss = w.dice.Float64() * 0.5
		}
		if w.chance(0.4) {
			f.Duplicate = w.dice.Float64() * 0.5
		}
		if w.chance(0.2) {
			f.Corrupt = w.dice.Float64() * 0.3
		}
		if w.chance(0.4) {
			f.Jitter = w.between(time.Millisecond, 3*time.Second)
		}
		if w.chance(0.05) {
			f.Loss = 1
		}
	}
	w.Faults = f
	w.note("network: %+v", f)
}

// happen has one thing happen to one host, or to all at the same instant: that
// is when they collide.
func (w *world) happen() {
	what := w.dice.IntN(12)
	if w.perfect {
		what = w.dice.IntN(3)
	}
	hosts := w.nodes
	if w.chance(0.6) {
		hosts = []*node{pick(w, w.nodes...)}
	}
	for _, n := range hosts {
		switch what {
		case 0, 3:
			n.forSome("rekey Child SA", func(e *entry) {
				for _, p := range slices.Clone(n.sad) {
					if p.owner == e && w.chance(0.7) {
						n.feed(e, ike.RekeyChild{InSPI: p.sa.InSPI})
					}
				}
			})
		case 1, 4:
			n.forSome("rekey IKE SA", func(e *entry) { n.feed(e, ike.RekeyIKE{}) })
		case 2:
			n.forSome("probe", func(e *entry) { n.feed(e, ike.Probe{}) })
		case 5:
			n.forSome("delete Child SA", func(e *entry) {
				for _, p := range slices.Clone(n.sad) {
					if p.owner == e && w.chance(0.7) {
						n.feed(e, ike.DeleteChild{InSPI: p.sa.InSPI})
					}
				}
			})
		case 6:
			n.forSome("close", func(e *entry) { n.close(e, ike.Close{Reason: "on request", Silent: w.chance(0.2)}) })
		case 7:
			w.note("%s: restarts", n.Addr)
			n.restart()
		case 8:
			w.step(n)
		case 9:
			if w.NAT != nil {
				w.note("NAT: new ports")
				w.NAT.Rebind()
			}
		case 10:
			n.forSome("tick", func(e *entry) { n.feed(e, ike.Tick{}) })
		}
	}
	if what == 11 {
		w.weather()
	}
}

// step sets a host's clock. A Manager measures time by a clock that is not set
// back, so the steps back are small: what waits, waits for longer.
func (w *world) step(n *node) {
	d := pick(w, w.between(0, 10*time.Second), w.between(0, 2*time.Hour), -w.between(0, 5*time.Second))
	w.note("%s: clock set by %s", n.Addr, d)
	n.Clock += d
}

// forSome does something to a random part of a host's IKE SAs.
func (n *node) forSome(what string, f func(*entry)) {
	for _, e := range slices.Clone(n.entries) {
		if !e.closed && n.world.chance(0.8) {
			n.world.note("%s: %s", n.Addr, what)
			f(e)
		}
	}
}
