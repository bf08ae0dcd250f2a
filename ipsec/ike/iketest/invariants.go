package iketest

import (
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// Healing is within what time packets flow again once the network does what it
// should, if both ends have packets to send: the time that it takes to notice
// that the peer has forgotten an SA, and the longest pause between two attempts.
const Healing = 60 * time.Second

// heal ends what goes wrong, and has both ends send a packet a second for each
// rule. After a while they arrive.
func (w *world) heal() {
	w.note("the network heals")
	if !w.perfect { // or else, with less delay, packets would overtake each other
		w.Faults = Faults{Delay: 5 * time.Millisecond}
	}
	for range Healing / time.Second {
		w.everyFlow(func(n *node, p *peer, f flow) { n.transmit(p, f) })
		w.Run(time.Second)
	}
	if w.strange {
		return
	}
	w.everyFlow(func(n *node, p *peer, f flow) {
		h := hearing{w.node(p.Addr).Addr, w.shown(n.Addr), f.Rule.Name}
		if last := w.heard[h]; w.Now.Sub(last) > 5*time.Second {
			w.fail("nothing arrives from %s at %s by the rule %s, %s after the network healed", n.Addr, h.at, h.rule, Healing)
		}
	})
}

// agree lets what is under way come to its end, and compares what the hosts
// have.
func (w *world) agree() {
	w.Run(w.between(0, 2*time.Minute))
	w.quiet()
	for _, a := range w.nodes {
		for _, e := range a.entries {
			w.sameIKE(a, e)
		}
		for _, p := range a.sad {
			w.sameChild(a, p)
		}
	}
}

// sameIKE fails unless the peer has an IKE SA too.
func (w *world) sameIKE(a *node, e *entry) {
	if w.strange && !e.established {
		return
	}
	if !e.established || e.closing {
		w.fail("%s: an IKE SA with %s is left that is not established", a.Addr, e.remote)
		return
	}
	b := w.node(e.remote)
	if !slices.ContainsFunc(b.entries, func(o *entry) bool {
		return o.established && o.info.SPIi == e.info.SPIi && o.info.SPIr == e.info.SPIr && o.info.Initiator != e.info.Initiator
	}) {
		w.fail("%s has the IKE SA %016x %016x, and %s has not", a.Addr, e.info.SPIi, e.info.SPIr, b.Addr)
	}
}

// sameChild fails unless the peer has a Child SA too, with the same keys, and
// under the same IKE SA.
func (w *world) sameChild(a *node, p *pair) {
	b := w.node(p.owner.remote)
	q := b.inbound(p.sa.OutSPI)
	switch {
	case !slices.Contains(a.entries, p.owner):
		w.fail("%s: nobody has the Child SA %s", a.Addr, p.sa.InSPI)
	case q == nil || q.sa.OutSPI != p.sa.InSPI:
		w.fail("%s has the Child SA %s %s, and %s has not", a.Addr, p.sa.InSPI, p.sa.OutSPI, b.Addr)
	case p.in != q.out || p.out != q.in:
		w.fail("%s and %s have other keys for the Child SA %s", a.Addr, b.Addr, p.sa.InSPI)
	case p.owner.info.SPIi != q.owner.info.SPIi:
		w.fail("%s and %s have the Child SA %s under two IKE SAs", a.Addr, b.Addr, p.sa.InSPI)
	case !sameParameters(p.sa, q.sa):
		w.fail("%s and %s do not agree on a Child SA:\n%+v\n%+v", a.Addr, b.Addr, p.sa, q.sa)
	}
}

func sameParameters(x, y *ipsec.ChildSA) bool {
	return x.Mode == y.Mode && x.Encr == y.Encr && x.Integ == y.Integ && x.ESN == y.ESN && x.UDPEncap == y.UDPEncap &&
		sameSet(x.Local, y.Remote) && sameSet(x.Remote, y.Local)
}

func sameSet(a, b []ipsec.TrafficSelector) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(t ipsec.TrafficSelector) bool { return !slices.Contains(b, t) })
}

// Ending is how long an IKE SA may last whose peer is gone: the longest silence
// after which it is asked whether it lives, and how long it is asked.
const Ending = 100 * time.Second

// end has all SAs deleted in one of several ways, after which none are left.
func (w *world) end() {
	how := w.dice.IntN(4)
	w.note("the end: %d", how)
	switch how {
	case 0: // one host ends its SAs
		w.nodes[0].closeAll(false)
	case 1: // all do, at once
		for _, n := range w.nodes {
			n.closeAll(false)
		}
	case 2: // Child SAs first, each of which has somebody that knows it
		for _, n := range w.nodes {
			for _, p := range slices.Clone(n.sad) {
				if n.inbound(p.sa.InSPI) == p {
					n.feed(p.owner, ike.DeleteChild{InSPI: p.sa.InSPI})
				}
				if n.inbound(p.sa.InSPI) == p && slices.Contains(n.sad, p) {
					w.fail("%s: the Child SA %s cannot be deleted", n.Addr, p.sa.InSPI)
				}
			}
		}
		w.Run(10 * time.Second)
		for _, n := range w.nodes {
			if len(n.sad) > 0 {
				w.fail("%s: %d Child SAs are left after all were deleted", n.Addr, len(n.sad))
			}
			n.closeAll(false)
		}
	case 3: // the network is gone
		w.Faults = Faults{Loss: 1}
	}
	if how == 0 && len(w.nodes) > 2 {
		w.nodes[1].closeAll(false)
	}
	w.Run(Ending)
	for _, n := range w.nodes {
		if len(n.entries)+len(n.sad)+len(n.jobs) > 0 {
			w.fail("%s: %d IKE SAs and %d Child SAs are left at the end", n.Addr, len(n.entries), len(n.sad))
		}
	}
}
