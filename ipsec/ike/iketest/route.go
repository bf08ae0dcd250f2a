package iketest

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// deliver brings a datagram to the machine that it is for.
func (n *node) deliver(f flight) {
	if f.esp != nil {
		n.receive(f)
		return
	}
	h, err := wire.ParseHeader(f.data)
	if err != nil || h.Major() != wire.Version2>>4 {
		return
	}
	d := ike.Datagram{Local: f.to, Remote: f.from, Data: f.data}
	if h.Exchange == wire.IKESAInit && !h.Response && h.Initiator && h.SPIr == 0 && h.SPIi != 0 {
		n.deliverInit(d, h)
		return
	}
	if !f.spoilt {
		n.world.watch.arrived(h)
	}
	ours := h.SPIi
	if h.Initiator {
		ours = h.SPIr
	}
	if e := n.bySPI[ours]; e != nil {
		n.feed(e, d)
		return
	}
	switch {
	case h.Response:
	case h.FirstPayload == wire.TypeEncrypted:
		if n.peer(d.Remote.Addr()) != nil && n.may("INVALID_IKE_SPI", d.Remote.Addr()) {
			h.Response, h.Initiator = true, !h.Initiator
			n.notify(d.Local, d.Remote, h, &wire.Notify{Kind: wire.InvalidIKESPI})
		}
	default:
		n.heardInvalidSPI(d)
	}
}

// deliverInit gives a peer's first message to a new machine, or to the one
// that an earlier copy has made.
func (n *node) deliverInit(d ike.Datagram, h wire.Header) {
	key := initKey{d.Remote, h.SPIi}
	if e := n.byInit[key]; e != nil {
		n.feed(e, d)
		return
	}
	p := n.peer(d.Remote.Addr())
	if p == nil || n.bySPI[h.SPIi] != nil {
		return
	}
	if n.Cookies {
		switch ok, answer, err := n.cookies.Check(n.now(), d.Remote, d.Data); {
		case err != nil:
			return
		case !ok:
			n.say(d.Local, d.Remote, answer)
			return
		}
	}
	e := n.newEntry(d.Local, d.Remote, p.Policy, n.Machines.Responder)
	e.init = key
	n.byInit[key] = e
	if !n.feed(e, d) && !e.closed {
		n.forget(e)
	}
}

// may allows one thing to be said to an address once a second.
func (n *node) may(what string, to netip.Addr) bool {
	s := saying{to, what}
	if last, ok := n.said[s]; ok && n.world.Now.Sub(last) < time.Second {
		return false
	}
	n.said[s] = n.world.Now
	return true
}

func (n *node) notify(local, remote netip.AddrPort, h wire.Header, x *wire.Notify) {
	if data, err := wire.Encode(h, []wire.Payload{x}); err == nil {
		n.say(local, remote, data)
	}
}

// say sends a message outside of any IKE SA.
func (n *node) say(local, remote netip.AddrPort, data []byte) {
	n.world.unprotected(n, remote, data)
	n.world.send(local, remote, data)
}

// unknownSPI tells a peer that we do not have an SA of ESP (RFC 7296
// section 1.5).
func (n *node) unknownSPI(local, remote netip.AddrPort, spi ipsec.SPI) {
	if n.peer(remote.Addr()) == nil || !n.may("INVALID_SPI", remote.Addr()) {
		return
	}
	if remote.Port() == 0 {
		local, remote = netip.AddrPortFrom(local.Addr(), 500), netip.AddrPortFrom(remote.Addr(), 500)
	}
	h := wire.Header{Version: wire.Version2, Exchange: wire.Informational, Initiator: true}
	n.notify(local, remote, h, &wire.Notify{Kind: wire.InvalidSPI, Data: binary.BigEndian.AppendUint32(nil, uint32(spi))})
}

func (n *node) heardInvalidSPI(d ike.Datagram) {
	_, ps, err := wire.Decode(d.Data)
	if err != nil {
		return
	}
	x, ok := wire.FindNotify(ps, wire.InvalidSPI)
	if !ok || len(x.Data) != 4 {
		return
	}
	spi := ipsec.SPI(binary.BigEndian.Uint32(x.Data))
	for _, p := range n.sad {
		if p.sa.OutSPI == spi && p.owner.remote == d.Remote.Addr() {
			n.feed(p.owner, ike.Probe{})
			return
		}
	}
}

// acquire asks for a Child SA for a flow, unless that is under way or has just
// failed.
func (n *node) acquire(p *peer, f flow) {
	i := slices.IndexFunc(n.tries, func(a *attempt) bool { return a.peer == p.Addr && a.rule == f.Rule.Name })
	if i < 0 {
		i = len(n.tries)
		n.tries = append(n.tries, &attempt{peer: p.Addr, rule: f.Rule.Name})
	}
	a := n.tries[i]
	if a.entry != nil || n.world.Now.Before(a.again) {
		return
	}
	a.what = ike.Acquire{Child: f.Rule, Local: f.Local, Remote: f.Remote}
	n.begin(a, p)
}

// begin gives an attempt to an IKE SA that has room for it, or to a new one.
func (n *node) begin(a *attempt, p *peer) {
	e := n.entryFor(p.Addr)
	if e == nil {
		e = n.newEntry(netip.AddrPortFrom(n.Addr, 500), netip.AddrPortFrom(p.Addr, 500), p.Policy, n.Machines.Initiator)
	}
	a.entry = e
	n.feed(e, a.what)
}

// entryFor returns the IKE SA that another Child SA for a peer should belong
// to: the youngest that is established, or one that we negotiate.
func (n *node) entryFor(remote netip.Addr) (best *entry) {
	for _, e := range n.entries {
		if e.remote != remote || e.closing || e.full || !e.established && e.init != (initKey{}) {
			continue
		}
		if best == nil || e.established && !best.established || e.established == best.established && e.born > best.born {
			best = e
		}
	}
	return best
}

func (n *node) waiting(e *entry, rule string) *attempt {
	for _, a := range n.tries {
		if a.entry == e && a.rule == rule {
			return a
		}
	}
	return nil
}

func (n *node) failAttempt(a *attempt) {
	a.entry = nil
	a.backoff = min(max(2*a.backoff, time.Second), 30*time.Second)
	a.again = n.world.Now.Add(a.backoff)
}

func (n *node) failed(e *entry, x ike.Failed) {
	n.world.note("%s: failed: %v", n.Addr, x.Why)
	a := n.waiting(e, x.Policy)
	switch {
	case !x.Whole && a != nil && errors.Is(x.Why, ike.ErrFull):
		e.full = true
		n.begin(a, n.peer(e.remote))
	case x.Whole:
		e.closing = true
		for _, a := range n.tries {
			if a.entry == e {
				n.failAttempt(a)
			}
		}
	case a != nil:
		n.failAttempt(a)
	case x.Policy != "":
		n.settled(e)
	}
}
