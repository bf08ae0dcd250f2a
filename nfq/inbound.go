package nfq

import (
	"encoding/binary"
	"net/netip"
	"time"

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
	e, pkt := in.engine, buf[offset:]
	if len(pkt) < 8 {
		e.Counters.InRefused.Add(1)
		return
	}
	spi := ipsec.SPI(binary.BigEndian.Uint32(pkt))
	sa := e.sad.Inbound(spi)
	if sa == nil {
		if e.early.keep(earlyPacket{spi, e.cfg.Now(), in.encap, nil, local, remote, trafficClass, link}, pkt) {
			return
		}
		if sa = e.sad.Inbound(spi); sa == nil { // not installed since, either
			e.Counters.InUnknownSPI.Add(1)
			e.cfg.Acquirer.UnknownSPI(local, remote, spi)
			return
		}
	}
	if sa.UDPEncap != in.encap {
		e.Counters.InRefused.Add(1)
		return
	}
	payload, next, err := sa.In.Open(pkt)
	if err != nil {
		e.Counters.InRefused.Add(1)
		return
	}
	e.Counters.Opened.Add(1)
	if next == dummyInESP {
		e.Counters.InDummy.Add(1)
		return
	}
	clear, ok := in.unwrap(buf, offset+cap(pkt)-cap(payload), payload, next, sa, local, remote, trafficClass)
	if !ok || packet.Parse(clear, &in.p) != nil {
		e.Counters.InMismatch.Add(1)
		return
	}
	if !in.allowed(sa, link) {
		e.Counters.InMismatch.Add(1)
		in.disagree(sa, remote.Addr())
		return
	}
	clear = clear[:in.p.Len]
	if in.p.Protocol == protocolTCP {
		packet.ClampMSS(clear, &in.p, maxSegment(sa.maxPayload(in.p.HeaderLen)))
	}
	in.merge.Add(clear, in.inject)
}

// disagreeEvery is how often the log is told of packets that do not belong to
// an SA, in seconds.
const disagreeEvery = 60

// disagree tells the log of a packet that its sender put under an SA, and that
// is dropped here: the two hosts have different filters.
func (in *Inbound) disagree(sa *SA, peer netip.Addr) {
	now, last := time.Now().Unix(), sa.disagreed.Load()
	if now-last < disagreeEvery || !sa.disagreed.CompareAndSwap(last, now) {
		return
	}
	in.engine.cfg.Log.Info("a packet under an SA is dropped: by the filters of this host it is none of the SA's rule",
		"peer", peer, "rule", sa.Policy, "from", in.p.Src, "from-port", in.p.SrcPort, "to", in.p.Dst, "to-port", in.p.DstPort, "protocol", in.p.Protocol,
		"hint", "make the filters of both ends cover the same packets: see ipsecfw explain at each")
}

// unwrap makes a clear IP packet of what an ESP packet held: in tunnel mode it
// is one, in transport mode the outer header goes before it again, in the
// bytes of buf before at, where the payload begins.
func (in *Inbound) unwrap(buf []byte, at int, payload []byte, next uint8, sa *SA, local, remote netip.AddrPort, trafficClass uint8) (clear []byte, ok bool) {
	if sa.Mode == ipsec.Tunnel {
		return payload, next == ipv4InESP || next == ipv6InESP
	}
	from, to := remote.Addr().WithZone(""), local.Addr()
	const hops = 64
	h := at - headerLen(to)
	switch {
	case from.Is4() != to.Is4():
		return nil, false
	case to.Is4():
		packet.AppendIPv4Header(buf[h:h], from, to, next, trafficClass, hops, len(payload), true)
	default:
		packet.AppendIPv6Header(buf[h:h], from, to, next, trafficClass, hops, len(payload))
	}
	return buf[h : at+len(payload)], true
}

// allowed judges a packet that was opened: by the selectors of its SA, and by
// the SPD, which must want it protected under the SA's rule (RFC 4301 section
// 5.2), or ask for nothing if the SA is one of the default response.
func (in *Inbound) allowed(sa *SA, link int) bool {
	e := in.engine
	if !sa.admits(&in.p) {
		return false
	}
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
