package nfq

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// maxPacket is the longest IPv4 packet, and IPv6 payload, in bytes.
const maxPacket = 65535

// Outbound is one worker of the way from the queue to the wire. It is used by
// one goroutine at a time.
//
// A packet that fits its path in one piece goes back to the kernel sealed, as
// the verdict's contents: so connection tracking, which stands behind the
// queue, still confirms the flow. What must be cut or fragmented is sent by
// the Wire, and the queued packet dropped.
type Outbound struct {
	engine *Engine
	p      packet.Packet
	seg    packet.Segmenter
	flows  confirmed
	buf    []byte
}

// NewOutbound returns a worker.
func (e *Engine) NewOutbound() *Outbound {
	return &Outbound{engine: e, flows: confirmed{seed: maphash.MakeSeed()}, buf: make([]byte, 0, 2*maxPacket)}
}

// Handle decides on a queued packet and sends what is to be sent. The
// contents are for the verdict Replace, and valid until the next call.
func (o *Outbound) Handle(q Queued) (v Verdict, contents []byte) {
	e := o.engine
	if err := packet.Parse(q.Packet, &o.p); err != nil {
		e.Counters.OutMalformed.Add(1)
		return Drop, nil
	}
	spd := e.spd.Load()
	if spd == nil {
		return Drop, nil
	}
	d := e.lookup(spd, q, &o.p)
	switch {
	case d.Action == filter.Negotiate && d.Mirror && q.Forwarded:
	case d.Action == filter.Negotiate:
		if sa := e.sad.Outbound(d.Entry.Name, &o.p); sa != nil {
			return o.protect(q, sa)
		}
		if e.passes(d, &o.p) {
			e.Counters.Softened.Add(1)
			return Pass, nil
		}
		return o.wait(q, d)
	case d.Entry == nil && e.cfg.DefaultResponse != "":
		if sa := e.sad.Outbound(e.cfg.DefaultResponse, &o.p); sa != nil {
			return o.protect(q, sa)
		}
	}
	// nftables queued it under another policy than the one we have: either may
	// be the newer one, so it must not go in clear.
	e.Counters.OutMismatch.Add(1)
	return Drop, nil
}

// wait holds a packet and asks for an SA.
func (o *Outbound) wait(q Queued, d filter.Decision) (Verdict, []byte) {
	e, rule := o.engine, d.Entry.Name
	e.Counters.Held.Add(1)
	e.keep(held{Queued: q, Decision: d, Clear: o.p})
	e.cfg.Acquirer.Acquire(d, &o.p)
	if e.sad.Outbound(rule, &o.p) != nil { // installed since we looked
		go e.Release(rule, o.p.Dst)
	}
	return Held, nil
}

// protect seals a packet with an SA.
func (o *Outbound) protect(q Queued, sa *SA) (Verdict, []byte) {
	pkt := q.Packet[:o.p.Len]
	room := sa.maxPayload(o.p.HeaderLen)
	if o.p.Protocol == protocolTCP {
		if packet.ClampMSS(pkt, &o.p, maxSegment(room)) {
			q.ChecksumPending = true
		}
		// The kernel would cut again what is sealed in place of several
		// segments, even if it fits.
		if q.Segments || o.p.Len-o.p.HeaderLen > room {
			return o.cut(pkt, sa, room)
		}
	}
	if q.ChecksumPending {
		packet.FinishChecksum(pkt, &o.p)
	}
	if sa.Mode == ipsec.Transport && o.p.Len-o.p.HeaderLen <= room {
		return o.replace(pkt, sa)
	}
	return o.send(pkt, sa)
}

// maxSegment is the MSS that leaves IP payloads of at most room bytes.
func maxSegment(room int) uint16 {
	const tcpHeader = 20
	return uint16(max(0, min(room-tcpHeader, maxPacket)))
}

// replace makes the sealed packet that goes in place of the clear one: with
// its IP header, options and all, of which only protocol and lengths change.
func (o *Outbound) replace(pkt []byte, sa *SA) (Verdict, []byte) {
	out := append(o.buf[:0], pkt[:o.p.HeaderLen]...)
	protocol := uint8(protocolESP)
	if sa.UDPEncap {
		protocol = protocolUDP
		out = appendUDPHeader(out, sa)
	}
	out, err := sa.Out.Seal(out, pkt[o.p.HeaderLen:], o.p.Protocol)
	if err != nil {
		o.engine.Counters.OutFailed.Add(1)
		return Drop, nil
	}
	finish(out, &o.p, protocol)
	o.engine.Counters.Sealed.Add(1)
	return Replace, out
}

// appendUDPHeader appends a header without its length, and with no checksum
// (RFC 3948 section 2.1).
func appendUDPHeader(b []byte, sa *SA) []byte {
	b = binary.BigEndian.AppendUint16(b, sa.LocalAddr.Port())
	b = binary.BigEndian.AppendUint16(b, sa.RemoteAddr.Port())
	return append(b, 0, 0, 0, 0)
}

// finish sets the protocol and lengths in the headers of a sealed packet whose
// clear header was p.
func finish(b []byte, p *packet.Packet, protocol uint8) {
	b[p.NextHeaderAt] = protocol
	if protocol == protocolUDP {
		binary.BigEndian.PutUint16(b[p.HeaderLen+4:], uint16(len(b)-p.HeaderLen))
	}
	if p.Is4() {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		packet.FinishHeaderChecksum(b)
		return
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-packet.IPv6HeaderLen))
	if protocol == protocolUDP { // IPv6 has no UDP without a checksum (RFC 8200 section 8.1)
		outer := *p
		outer.Protocol, outer.Len = protocolUDP, len(b)
		packet.FinishChecksum(b, &outer)
	}
}

// send seals a packet and sends it by the Wire, which fragments it where the
// path is narrower.
func (o *Outbound) send(pkt []byte, sa *SA) (Verdict, []byte) {
	clear, next := o.plaintext(pkt, sa)
	out, err := sa.Out.Seal(o.buf[:0], clear, next)
	switch {
	case err != nil:
		o.engine.Counters.OutFailed.Add(1)
		return Drop, nil
	case len(out)+packet.IPv6HeaderLen+udpHeaderLen > maxPacket:
		o.engine.Counters.OutTooBig.Add(1)
		return Drop, nil
	}
	o.transmit(sa, out, len(out), 1)
	return o.confirm(sa)
}

// plaintext is what of a packet is sealed, and its next header.
func (o *Outbound) plaintext(pkt []byte, sa *SA) (clear []byte, next uint8) {
	if sa.Mode == ipsec.Transport {
		return pkt[o.p.HeaderLen:], o.p.Protocol
	}
	return pkt, inESP(o.p.Src)
}

func inESP(a netip.Addr) uint8 {
	if a.Is4() {
		return ipv4InESP
	}
	return ipv6InESP
}

// confirm lets an ESP packet without contents go in place of a packet that was
// sent by other means, once for each flow and while. Were all dropped,
// connection tracking would not know the flow, and the host's other rules
// would refuse its answers.
func (o *Outbound) confirm(sa *SA) (Verdict, []byte) {
	local, remote := sa.LocalAddr.Addr(), sa.RemoteAddr.Addr()
	if local.Is4() != o.p.Is4() || !o.flows.due(&o.p, o.engine.cfg.Now()) {
		return Drop, nil
	}
	outer := packet.Packet{Src: local, Dst: remote, HeaderLen: headerLen(local), NextHeaderAt: 9}
	out := o.buf[:0]
	if local.Is4() {
		out = packet.AppendIPv4Header(out, local, remote, protocolESP, 0, 64, 0, true)
	} else {
		out = packet.AppendIPv6Header(out, local, remote, protocolESP, 0, 64, 0)
		outer.NextHeaderAt = 6
	}
	protocol := uint8(protocolESP)
	if sa.UDPEncap {
		protocol = protocolUDP
		out = appendUDPHeader(out, sa)
	}
	out, err := sa.Out.Seal(out, nil, dummyInESP)
	if err != nil {
		return Drop, nil
	}
	finish(out, &outer, protocol)
	return Replace, out
}

// cut seals the segments of a TCP packet side by side and sends them at once.
func (o *Outbound) cut(pkt []byte, sa *SA, room int) (Verdict, []byte) {
	if err := o.seg.Reset(pkt, &o.p, room); err != nil {
		o.engine.Counters.OutTooBig.Add(1)
		return Drop, nil
	}
	next := o.seg.Next
	nextHeader := uint8(protocolTCP)
	if sa.Mode == ipsec.Tunnel {
		next, nextHeader = o.seg.NextPacket, inESP(o.p.Src)
	}
	longest := o.p.HeaderLen + room
	longest += sa.Out.Overhead(longest)
	out, size, count := o.buf[:0], 0, 0
	for {
		if cap(out)-len(out) < longest { // a very narrow path makes very many segments
			o.transmit(sa, out, size, count)
			out, size, count = out[:0], 0, 0
		}
		at := len(out) + sa.Out.HeaderLen()
		n, ok := next(out[at:cap(out)])
		if !ok {
			break
		}
		var err error
		if out, err = sa.Out.Seal(out, out[at:at+n], nextHeader); err != nil {
			o.engine.Counters.OutFailed.Add(1)
			break
		}
		if size == 0 {
			size = len(out)
		}
		count++
	}
	if count > 0 {
		o.transmit(sa, out, size, count)
	}
	o.buf = out[:0]
	if sa.Mode == ipsec.Tunnel {
		return o.confirm(sa)
	}
	return Drop, nil // a handshake went before, in packets that fit
}

func (o *Outbound) transmit(sa *SA, out []byte, size, count int) {
	if err := o.engine.cfg.Wire.SendESP(sa.UDPEncap, sa.LocalAddr, sa.RemoteAddr, o.p.TrafficClass, out, size); err != nil {
		o.engine.Counters.OutFailed.Add(uint64(count))
		o.engine.cfg.Log.Debug("sealed packets not sent", "sa", sa.OutSPI, "error", err)
		return
	}
	o.engine.Counters.Sealed.Add(uint64(count))
}
