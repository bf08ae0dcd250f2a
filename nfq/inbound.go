package nfq

import (
	"encoding/binary"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Inbound is one worker of the way from the wire to the stack. It is used by
// one goroutine.
type Inbound struct {
	engine *Engine
	encap  bool // its packets come inside UDP
	p      packet.Packet
	merge  packet.Coalescer
	inject packet.Emit
}

// NewInbound returns a worker for packets that come as protocol 50, or with
// encap inside UDP.
func (e *Engine) NewInbound(encap bool) *Inbound {
	return &Inbound{engine: e, encap: encap, inject: func(pkt []byte, gsoSize, hdrLen, csumStart, csumOffset int) {
		if err := e.cfg.Injector.Inject(pkt, gsoSize, hdrLen, csumStart, csumOffset); err != nil {
			e.Counters.InFailed.Add(1)
		}
	}}
}

// Receive opens the ESP packet that stands in buf from an offset on, with at
// least ipsock.Headroom bytes before it, which are overwritten, and gives what
// was in it to the stack, at the latest with the next Flush. The packet came by
// the interface whose index is link.
func (in *Inbound) Receive(buf []byte, offset int, local, remote netip.AddrPort, trafficClass uint8, link int) {
	in.receive(&arrival{
		protocol: protocolESP, encap: in.encap, buf: buf, offset: offset,
		local: local, remote: remote, trafficClass: trafficClass, link: link,
	})
}

// ReceiveAH is Receive for an AH packet with its IP header, which Parse has read
// into p.
func (in *Inbound) ReceiveAH(pkt []byte, p *packet.Packet, link int) {
	in.receive(&arrival{
		protocol: protocolAH, header: pkt[:p.HeaderLen], nextAt: p.NextHeaderAt, buf: pkt[:p.Len], offset: p.HeaderLen,
		local: netip.AddrPortFrom(p.Dst, 0), remote: netip.AddrPortFrom(p.Src, 0), trafficClass: p.TrafficClass, link: link,
	})
}

// arrival is a packet of ESP or AH as it came.
type arrival struct {
	protocol      uint8
	encap         bool   // inside UDP
	header        []byte // the IP header; nil for ESP, but for that inside AH
	nextAt        int    // where in the header the protocol stands
	buf           []byte
	offset        int // where the packet begins in buf
	local, remote netip.AddrPort
	trafficClass  uint8
	link          int
	around        *SA // of the AH that it was in
}

// spiAt is where the SPI stands in a packet (RFC 4302 section 2, RFC 4303
// section 2).
func (a *arrival) spiAt() int {
	if a.protocol == protocolAH {
		return a.offset + 4
	}
	return a.offset
}

func (in *Inbound) receive(a *arrival) {
	e, pkt := in.engine, a.buf[a.offset:]
	if len(a.buf) < a.spiAt()+8 {
		e.Counters.InRefused.Add(1)
		return
	}
	spi := ipsec.SPI(binary.BigEndian.Uint32(a.buf[a.spiAt():]))
	sa := e.sad.Inbound(spi)
	if sa == nil {
		if a.around == nil && e.early.keep(spi, e.cfg.Now(), a) {
			return
		}
		if sa = e.sad.Inbound(spi); sa == nil { // not installed since, either
			e.unknown(a)
			e.cfg.Acquirer.UnknownSPI(a.local, a.remote, spi)
			return
		}
	}
	switch {
	case sa.UDPEncap != a.encap, sa.Out.Protocol() != a.protocol:
		e.Counters.InRefused.Add(1)
		return
	case !sa.nests(a.around):
		e.Counters.InNotNested.Add(1)
		return
	}
	payload, next, err := sa.In.Open(a.header, pkt)
	if err != nil {
		e.refused(a, sa, err)
		return
	}
	e.Counters.Opened.Add(1)
	in.follow(sa, a.local, a.remote)
	at := a.offset + cap(pkt) - cap(payload)
	switch {
	case next == dummyInESP:
		e.Counters.InDummy.Add(1)
	case a.protocol == protocolAH && next == protocolESP && sa.Mode == ipsec.Transport && a.around == nil:
		inner := *a
		inner.protocol, inner.buf, inner.offset, inner.around = protocolESP, a.buf[:at+len(payload)], at, sa
		in.receive(&inner)
	default:
		in.admit(a, sa, at, payload, next)
	}
}

// nests reports whether a packet that came inside AH of an SA, or of none, is as
// this SA has it.
func (sa *SA) nests(around *SA) bool {
	if !sa.Nested || around == nil {
		return !sa.Nested && around == nil
	}
	p := packet.Packet{Src: around.RemoteAddr.Addr(), Dst: around.LocalAddr.Addr(), Protocol: protocolESP}
	return around.Policy == sa.Policy && sa.RemoteAddr.Addr() == p.Src && around.admits(&p)
}

// admit gives the stack what was opened, if the policy allows. The payload begins
// at an offset in the arrival's buffer.
func (in *Inbound) admit(a *arrival, sa *SA, at int, payload []byte, next uint8) {
	e := in.engine
	clear, ok := in.unwrap(a, at, payload, next, sa)
	if !ok || packet.Parse(clear, &in.p) != nil {
		in.mismatched(a, sa, nil)
		return
	}
	if !in.allowed(sa, a.link) {
		in.mismatched(a, sa, &in.p)
		return
	}
	clear = clear[:in.p.Len]
	if !in.untranslate(clear, sa, a.link) {
		in.mismatched(a, sa, &in.p)
		return
	}
	if sa.Mode == ipsec.Tunnel && !packet.Decapsulate(clear, &in.p, a.trafficClass) {
		e.Counters.InCongestion.Add(1)
		return
	}
	if in.p.Protocol == protocolTCP {
		packet.ClampMSS(clear, &in.p, maxSegment(in.segments(sa, clear)))
	}
	in.merge.Add(clear, in.inject)
}

// segments is the longest IP payload that may go back to the sender of a packet.
func (in *Inbound) segments(sa *SA, clear []byte) int {
	over := (*SA)(nil)
	if sa.Nested {
		over = in.engine.sad.around(sa)
	}
	w := wayOf(sa, over, clear, &in.p)
	return w.longest() - in.p.HeaderLen
}

// unwrap makes a clear IP packet of what an ESP or AH packet held: in tunnel mode
// it is one, in transport mode the outer header goes before it again, in the
// bytes of the arrival's buffer before at, where the payload begins. Of ESP only
// the addresses of it are known.
func (in *Inbound) unwrap(a *arrival, at int, payload []byte, next uint8, sa *SA) (clear []byte, ok bool) {
	if sa.Mode == ipsec.Tunnel {
		return payload, next == ipv4InESP || next == ipv6InESP
	}
	from, to := a.remote.Addr().WithZone(""), a.local.Addr()
	const hops = 64
	switch h := at - headerLen(to); {
	case a.header != nil:
		return putBack(a, at, len(payload), next), true
	case from.Is4() != to.Is4():
		return nil, false
	case to.Is4():
		packet.AppendIPv4Header(a.buf[h:h], from, to, next, a.trafficClass, hops, len(payload), true)
		return a.buf[h : at+len(payload)], true
	default:
		packet.AppendIPv6Header(a.buf[h:h], from, to, next, a.trafficClass, hops, len(payload))
		return a.buf[h : at+len(payload)], true
	}
}

// putBack puts the IP header of an arrival before a payload of n bytes that
// begins at an offset in its buffer.
func putBack(a *arrival, at, n int, next uint8) []byte {
	b := a.buf[at-len(a.header) : at+n]
	copy(b, a.header)
	b[a.nextAt] = next
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		packet.FinishHeaderChecksum(b)
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-packet.IPv6HeaderLen))
	}
	return b
}

// allowed judges a packet that was opened: by the selectors of its SA, and by
// the SPD.
func (in *Inbound) allowed(sa *SA, link int) bool { return sa.admits(&in.p) && in.wanted(sa, link) }

// wanted reports whether the SPD wants a packet protected under the rule of an
// SA (RFC 4301 section 5.2), or asks for nothing if the SA is one of the default
// response.
func (in *Inbound) wanted(sa *SA, link int) bool {
	e := in.engine
	spd := e.spd.Load()
	if spd == nil {
		return false
	}
	c := filter.Context{Direction: filter.Inbound, Interface: e.cfg.Host.Interface(link)}
	if !e.cfg.Host.Local(in.p.Dst) {
		c = filter.Context{Direction: filter.Forward} // by which interface is for the routing to say
	}
	d := spd.Lookup(c, &in.p)
	switch {
	case d.Action == filter.Negotiate && c.Direction == filter.Forward:
		return d.Mirror && d.Entry.Name == sa.Policy
	case d.Action == filter.Negotiate:
		return d.Entry.Name == sa.Policy
	}
	return d.Entry == nil && c.Direction == filter.Inbound && sa.Policy == e.cfg.DefaultResponse && sa.Policy != ""
}

// Flush gives the stack what was kept back to be merged with what follows.
func (in *Inbound) Flush() { in.merge.Flush(in.inject) }
