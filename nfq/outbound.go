package nfq

import (
	"hash/maphash"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// maxPacket is the longest IPv4 packet, and IPv6 payload, in bytes.
const maxPacket = 65535

// Outbound is one worker of the way from the queue to the wire. It is used by
// one goroutine at a time.
//
// A packet that fits its path in one piece, in transport mode, goes back to the
// kernel sealed, as the verdict's contents: so connection tracking, which stands
// behind the queue, still confirms the flow. What is cut or fragmented, or has
// another header than it had, is sent by the Wire, and the queued packet dropped.
type Outbound struct {
	engine *Engine
	p      packet.Packet
	seg    packet.Segmenter
	frag   packet.Fragmenter
	flows  lately // that were confirmed
	told   lately // senders, of the size that gets through
	within *SA    // whose packets nobody else seals now
	buf    []byte // what is sealed
	piece  []byte // what is cut off, in clear, or of what was sealed
}

// NewOutbound returns a worker.
func (e *Engine) NewOutbound() *Outbound {
	return &Outbound{
		engine: e, flows: lately{seed: maphash.MakeSeed()}, told: lately{seed: maphash.MakeSeed()},
		buf: make([]byte, 0, 2*maxPacket), piece: make([]byte, packet.IPv6HeaderLen+maxPacket),
	}
}

// Work implements Worker.
func (o *Outbound) Work(q Queued) {
	v, contents := o.handle(q)
	o.engine.verdict(q, v, contents)
	o.leave()
}

// enter has the packets of an SA leave in the order of their sequence numbers,
// whichever worker seals them: peers with a small window take for replays what
// comes late (RFC 4303 section 3.4.3).
func (o *Outbound) enter(sa *SA) {
	o.leave()
	sa.order.Lock()
	o.within = sa
}

// leave lets others go on with the SA: what was sealed has left.
func (o *Outbound) leave() {
	if o.within != nil {
		o.within.order.Unlock()
		o.within = nil
	}
}

// handle decides on a queued packet and sends what is to be sent. The
// contents are for the verdict Replace, and valid until the next call; until
// they have left, o is within the SA.
func (o *Outbound) handle(q Queued) (v Verdict, contents []byte) {
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
		if sa, over := e.sad.pair(d.Entry.Name, &o.p, q.Packet); sa != nil {
			return o.protect(q, sa, over)
		}
		if e.passes(d, &o.p) {
			e.Counters.Softened.Add(1)
			return Pass, nil
		}
		return o.wait(q, d)
	case d.Entry == nil && e.cfg.DefaultResponse != "":
		if sa, over := e.sad.pair(e.cfg.DefaultResponse, &o.p, q.Packet); sa != nil {
			return o.protect(q, sa, over)
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
	if sa, _ := e.sad.pair(rule, &o.p, q.Packet); sa != nil { // installed since we looked
		go e.Release(rule, o.p.Dst)
	}
	return Held, nil
}

// protect seals a packet with an SA.
func (o *Outbound) protect(q Queued, sa, over *SA) (Verdict, []byte) {
	pkt := q.Packet[:o.p.Len]
	w := wayOf(sa, over, pkt, &o.p)
	if !w.tunnel && o.p.Fragment {
		// Only whole packets are protected in transport mode (RFC 4303 section
		// 3.3.4), and whole they come by connection tracking.
		o.engine.Counters.OutFragment.Add(1)
		return Drop, nil
	}
	o.enter(sa)
	longest := w.longest()
	tcp := o.p.Protocol == protocolTCP
	if !tcp && o.p.Len > longest && o.refuses(q, pkt, &w, longest) {
		return Held, nil
	}
	o.engine.sad.translate(pkt, &o.p, sa, q.ChecksumPending)
	if tcp {
		room := longest - o.p.HeaderLen
		if packet.ClampMSS(pkt, &o.p, maxSegment(room)) {
			q.ChecksumPending = true
		}
		// The kernel would cut again what is sealed in place of several
		// segments, even if it fits.
		if (q.Segments || o.p.Len > longest) && o.seg.Reset(pkt, &o.p, room) == nil {
			return o.cut(&w, o.seg.NextPacket, longest)
		}
	}
	if q.ChecksumPending {
		packet.FinishChecksum(pkt, &o.p)
	}
	switch {
	case o.p.Len > longest:
		return o.divide(q, pkt, &w, longest)
	case w.tunnel, w.sealedLen(o.p.Len) > longest:
		// The stack takes no longer packets to the peer than it was told, and
		// none in place of others.
		return o.send(pkt, &w)
	}
	out, err := w.seal(o.buf[:0], pkt, o.engine)
	if err != nil {
		o.notSealed(w.sa, err)
		return Drop, nil
	}
	o.engine.Counters.Sealed.Add(1)
	return Replace, out
}

// maxSegment is the MSS that leaves IP payloads of at most room bytes.
func maxSegment(room int) uint16 {
	const tcpHeader = 20
	return uint16(max(0, min(room-tcpHeader, maxPacket)))
}

// send seals a packet that fits, and sends it by the Wire.
func (o *Outbound) send(pkt []byte, w *way) (Verdict, []byte) {
	w.socket = bySocket(w)
	out, err := w.seal(o.buf[:0], pkt, o.engine)
	if err != nil {
		o.notSealed(w.sa, err)
		return Drop, nil
	}
	o.transmit(w, out, len(out), 1)
	return o.confirm(w)
}

// bySocket reports whether UDP sockets can make the headers of what goes by a
// way: the kernel is faster in cutting what they get. They make plain ones.
func bySocket(w *way) bool {
	return w.sa.UDPEncap && w.over == nil && w.head == headerLen(w.sa.RemoteAddr.Addr())
}

// cut seals the packets that next makes side by side, and sends them at once.
// None is longer than longest.
func (o *Outbound) cut(w *way, next func(dst []byte) (n int, ok bool), longest int) (Verdict, []byte) {
	w.socket = bySocket(w)
	gap, room := w.gap(), w.sealedLen(longest)+w.head
	out, size, count := o.buf[:0], 0, 0
	for {
		if cap(out)-len(out) < room { // a very narrow path makes very many pieces
			o.transmit(w, out, size, count)
			out, size, count = out[:0], 0, 0
		}
		dst := out[len(out)+gap : cap(out)]
		n, ok := next(dst)
		if !ok {
			break
		}
		var err error
		if out, err = w.seal(out, dst[:n], o.engine); err != nil {
			o.notSealed(w.sa, err)
			break
		}
		if size == 0 {
			size = len(out)
		}
		count++
	}
	if count > 0 {
		o.transmit(w, out, size, count)
	}
	if w.tunnel {
		return o.confirm(w)
	}
	return Drop, nil // a handshake went before, in packets that fit
}

// transmit sends what was sealed.
func (o *Outbound) transmit(w *way, out []byte, size, count int) {
	wire, sa := o.engine.cfg.Wire, w.sa
	var err error
	if w.socket {
		err = wire.SendUDP(Outer{sa.LocalAddr, sa.RemoteAddr, w.class, w.df}, out, size)
	} else {
		err = wire.SendIP(sa.LocalAddr.Addr(), sa.RemoteAddr.Addr(), out, size)
	}
	if err != nil {
		o.engine.Counters.OutFailed.Add(uint64(count))
		o.engine.cfg.Log.Debug("sealed packets not sent", "sa", sa.OutSPI, "error", err)
		return
	}
	o.engine.Counters.Sealed.Add(uint64(count))
}

// confirm lets a packet without contents go in place of a packet that was
// sent by other means, once for each flow and while. Were all dropped,
// connection tracking would not know the flow, and the host's other rules
// would refuse its answers.
func (o *Outbound) confirm(w *way) (Verdict, []byte) {
	if w.sa.LocalAddr.Addr().Is4() != o.p.Is4() || !o.flows.due(flowKeyOf(&o.p), o.engine.cfg.Now(), confirmEvery) {
		return Drop, nil
	}
	out, err := w.dummy(o.buf[:0], o.engine)
	if err != nil {
		return Drop, nil
	}
	return Replace, out
}
