package space

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Sample is one packet of a set, with its context.
type Sample struct {
	Context filter.Context
	Packet  packet.Packet
}

// String describes the packet, as in "inbound on eth0, new: tcp from
// 192.0.2.1:40000 to 10.0.0.1:443".
func (s Sample) String() string {
	p := &s.Packet
	from, to := p.Src.String(), p.Dst.String()
	if p.HasPorts {
		from, to = netip.AddrPortFrom(p.Src, p.SrcPort).String(), netip.AddrPortFrom(p.Dst, p.DstPort).String()
	}
	what := filter.ProtocolName(p.Protocol)
	if p.HasICMP {
		what += " " + filter.ICMPTypeName(p.Protocol, p.ICMPType)
		if p.ICMPCode != 0 {
			what += " code " + strconv.Itoa(int(p.ICMPCode))
		}
	}
	if p.FragmentOffset != 0 {
		what = "a fragment of " + what
	}
	return fmt.Sprintf("%s on %s, %s: %s from %s to %s", s.Context.Direction, s.Context.Interface.Name, s.Context.State, what, from, to)
}

// point returns a packet of the universe as the box of only it; ok is false
// for any other.
func point(c filter.Context, p *packet.Packet) (b box, ok bool) {
	if _, exempt := (filter.Exemptions{}).Exempt(c, p); exempt || c.Interface.Name == "" || c.Interface.Name == loopback {
		return b, false
	}
	b = whole(c.Direction, !p.Is4())
	b.src, b.dst = addresses{numberOf(p.Src), numberOf(p.Src)}, addresses{numberOf(p.Dst), numberOf(p.Dst)}
	b.protocols = one(p.Protocol)
	switch {
	case p.HasPorts:
		b.shows, b.srcPorts, b.dstPorts = showPorts, ports{p.SrcPort, p.SrcPort}, ports{p.DstPort, p.DstPort}
	case p.HasICMP:
		m := uint16(p.ICMPType)<<8 | uint16(p.ICMPCode)
		b.shows, b.srcPorts = showMessage, ports{m, m}
	default:
		b.shows = showNothing
	}
	b.links, b.names, b.stages = linkLAN, oneName(c.Interface.Name), stageOf(c.State)
	if c.Interface.Remote {
		b.links = linkRemote
	}
	return b, b.settle()
}

// choice says which of the packets of a box to take.
type choice uint8

const (
	likely choice = iota // as people write examples
	first                // the lowest of everything
	last                 // the highest of everything
	choices
)

// The examples' addresses are those of RFC 5737 and RFC 3849; the port is an
// ephemeral one, and the hop limit is one at which nothing is exempt.
var (
	exampleSrc4, exampleDst4 = numberOf(netip.AddrFrom4([4]byte{192, 0, 2, 1})), numberOf(netip.AddrFrom4([4]byte{198, 51, 100, 1}))
	exampleSrc6, exampleDst6 = numberOf(netip.MustParseAddr("2001:db8::1")), numberOf(netip.MustParseAddr("2001:db8::2"))
)

const (
	examplePort     = 40000
	exampleProtocol = 47 // GRE, which shows neither ports nor messages
	exampleHopLimit = 64
)

// services are the ports of the examples' destinations.
var services = [...]uint16{443, 80, 22}

// pick returns a packet of a box that has one, as settle says.
func (b *box) pick(ch choice) Sample {
	src, dst := exampleSrc4, exampleDst4
	if b.v6 {
		src, dst = exampleSrc6, exampleDst6
	}
	s := Sample{Context: filter.Context{Direction: b.direction}}
	p := &s.Packet
	to := b.address(b.dst, dst, ch)
	if b.direction != filter.Outbound {
		n, ok := b.unicast(to)
		if !ok {
			n, _ = b.unicast(b.dst.lo)
		}
		to = n
	}
	p.Src, p.Dst = b.address(b.src, src, ch).addr(b.v6), to.addr(b.v6)
	p.HopLimit = exampleHopLimit
	switch {
	case b.shows&showPorts != 0:
		p.HasPorts, p.Protocol = true, b.protocol(b.protocols.and(portProtocols), ch)
		p.SrcPort, p.DstPort = b.srcPorts.pick(b.client(), ch), b.dstPorts.pick(b.service(), ch)
		if b.direction == filter.Inbound && p.Protocol == packet.UDP && (p.DstPort == filter.IKEPort || p.DstPort == filter.NATPort) {
			// Some other packet of the box is not exempt, with the next port,
			// the one before it, or another protocol.
			switch {
			case p.DstPort < b.dstPorts.hi:
				p.DstPort++
			case p.DstPort > b.dstPorts.lo:
				p.DstPort--
			default:
				p.Protocol = b.protocols.and(portProtocols).minus(one(packet.UDP)).list()[0]
			}
		}
	case b.shows&showMessage != 0:
		p.HasICMP, p.Protocol = true, b.protocols.and(messages(b.v6)).list()[0]
		echo := uint16(8) << 8
		if b.v6 {
			echo = 128 << 8
		}
		m := b.srcPorts.pick(echo, ch)
		p.ICMPType, p.ICMPCode = uint8(m>>8), uint8(m)
	default:
		p.Protocol = b.protocol(b.protocols, ch)
		if packet.HasPorts(p.Protocol) || messages(b.v6).has(p.Protocol) {
			p.Fragment, p.FragmentOffset = true, 1480
		}
	}
	s.Context.Interface = b.names.pick(b.links&linkLAN == 0)
	switch {
	case b.stages&stageBeginning != 0:
		s.Context.State = filter.StateNew
	case b.stages&stageAnswer != 0:
		s.Context.State = filter.StateReply
	default:
		s.Context.State = filter.StateInvalid
	}
	return s
}

func (b *box) address(a addresses, example number, ch choice) number {
	switch {
	case ch == last:
		return a.hi
	case ch == first:
		return a.lo
	case a.has(example):
		return example
	case a.hi.minus(a.lo).len() > 1: // a subnet's first address names the subnet
		return a.lo.next()
	}
	return a.lo
}

// service returns the port that a packet of the box would likely go to: the
// one of a service, or of a client if the packet comes from a service.
func (b *box) service() uint16 {
	if !b.srcPorts.has(examplePort) && b.dstPorts.has(examplePort) {
		return examplePort
	}
	for _, p := range services {
		if b.dstPorts.has(p) {
			return p
		}
	}
	return max(b.dstPorts.lo, 1) // port 0 is nobody's
}

// client returns the port that a packet of the box would likely come from: a
// high one.
func (b *box) client() uint16 {
	if b.srcPorts.has(examplePort) {
		return examplePort
	}
	return b.srcPorts.hi
}

// pick returns an example if it can, the lowest one otherwise.
func (a ports) pick(example uint16, ch choice) uint16 {
	switch {
	case ch == last:
		return a.hi
	case ch == likely && a.has(example):
		return example
	}
	return a.lo
}

// protocol returns one of a set: of those with ports TCP, otherwise one that
// has none, since fragments are rare.
func (b *box) protocol(p protocols, ch choice) uint8 {
	if ch == likely {
		if p.has(packet.TCP) && b.shows&showPorts != 0 {
			return packet.TCP
		}
		if p.has(exampleProtocol) {
			return exampleProtocol
		}
		if whole := p.minus(portProtocols).minus(messages(b.v6)); !whole.empty() {
			p = whole
		}
	}
	list := p.list()
	if ch == last {
		return list[len(list)-1]
	}
	return list[0]
}

// pick returns an interface of the set.
func (n names) pick(remote bool) filter.Interface {
	kind := "eth"
	if remote {
		kind = "ppp"
	}
	list := n.split()
	for i := 0; ; i++ {
		name := kind + strconv.Itoa(i)
		if !n.others {
			name = list[i]
		}
		if name != loopback && n.contains(oneName(name)) {
			return filter.Interface{Name: name, Remote: remote}
		}
	}
}
