package iketest

import (
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// pair is a pair of SAs that a node has at work.
type pair struct {
	sa             *ipsec.ChildSA
	owner          *entry
	in, out        string // the keys, which the SA loses
	received, sent uint64
}

// packet is one of ESP. It opens with the key that it was sealed with.
type packet struct {
	spi    ipsec.SPI
	key    string
	rule   string
	number uint64
}

func keyOf(k ipsec.Keys) string { return string(k.Encr) + "|" + string(k.Integ) }

func (p *pair) wipe() {
	p.sa.InKeys.Wipe()
	p.sa.OutKeys.Wipe()
}

func (n *node) inbound(in ipsec.SPI) *pair {
	i := slices.IndexFunc(n.sad, func(p *pair) bool { return p.sa.InSPI == in })
	if i < 0 {
		return nil
	}
	return n.sad[i]
}

// install puts a pair to work. The first that fits a packet sends it; one on
// standby is the last.
func (n *node) install(e *entry, x ike.InstallChild) {
	w := n.world
	if w.strange {
		w.fail("%s: a Child SA with a peer that does not have the key", n.Addr)
	}
	if n.inbound(x.SA.InSPI) != nil {
		w.fail("%s: the SPI %s is installed twice", n.Addr, x.SA.InSPI)
	}
	p := &pair{sa: x.SA, owner: e, in: keyOf(x.SA.InKeys), out: keyOf(x.SA.OutKeys)}
	w.keys.use(w, p.in, x.SA.InSPI, true)
	w.keys.use(w, p.out, x.SA.OutSPI, false)
	if x.Standby {
		n.sad = append(n.sad, p)
	} else {
		n.sad = append([]*pair{p}, n.sad...)
	}
	w.note("%s: installed %s in %s out %s, replaces %s", n.Addr, x.SA.Policy, x.SA.InSPI, x.SA.OutSPI, x.Rekeyed)
	if a := n.waiting(e, x.SA.Policy); a != nil && x.Rekeyed == 0 {
		n.tries = slices.DeleteFunc(n.tries, func(o *attempt) bool { return o == a })
	}
	if x.Rekeyed == 0 {
		n.settled(e)
	}
}

func (n *node) remove(e *entry, x ike.RemoveChild) {
	p := n.inbound(x.InSPI)
	switch {
	case p == nil:
		n.world.fail("%s: the SPI %s is removed, and not there", n.Addr, x.InSPI)
		return
	case p.owner != e:
		n.world.fail("%s: the SPI %s is removed by another IKE SA", n.Addr, x.InSPI)
	}
	n.world.note("%s: removed %s in %s: %s", n.Addr, p.sa.Policy, x.InSPI, x.Reason)
	p.wipe()
	n.sad = slices.DeleteFunc(n.sad, func(o *pair) bool { return o == p })
}

// readdress follows a peer whose NAT gave it another address.
func (n *node) readdress(e *entry) {
	for _, p := range n.sad {
		if p.owner == e && p.sa.UDPEncap {
			p.sa.LocalAddr, p.sa.RemoteAddr = e.info.Local, e.info.Remote
		}
	}
}

// transmit sends a packet of a flow, or asks for an SA for it.
func (n *node) transmit(to *peer, f flow) {
	for _, p := range n.sad {
		if p.sa.Policy != f.Rule.Name || p.owner.remote != to.Addr || !covers(p.sa.Local, f.Local) || !covers(p.sa.Remote, f.Remote) {
			continue
		}
		p.sent++
		n.world.launch(flight{
			from: p.sa.LocalAddr, to: p.sa.RemoteAddr, data: []byte{0},
			esp: &packet{spi: p.sa.OutSPI, key: p.out, rule: f.Rule.Name, number: p.sent},
		})
		return
	}
	n.acquire(to, f)
}

func covers(ts []ipsec.TrafficSelector, packet ipsec.TrafficSelector) bool {
	return slices.ContainsFunc(ts, func(t ipsec.TrafficSelector) bool { return t.Contains(packet) })
}

// receive takes a packet of ESP.
func (n *node) receive(f flight) {
	if f.spoilt {
		return
	}
	p := n.inbound(f.esp.spi)
	if p == nil {
		n.world.lost(n, f)
		n.unknownSPI(f.to, f.from, f.esp.spi)
		return
	}
	if p.in != f.esp.key {
		n.world.fail("%s: the packet %d of %s for the SPI %s does not open", n.Addr, f.esp.number, f.from, f.esp.spi)
		return
	}
	p.received++
	n.world.heard[hearing{n.Addr, p.owner.remote, f.esp.rule}] = n.world.Now
}

// hearing is a flow in one direction.
type hearing struct {
	at, from netip.Addr
	rule     string
}
