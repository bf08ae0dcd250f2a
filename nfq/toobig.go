package nfq

import (
	"hash/maphash"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// How often a sender is told, for each destination, of the size that gets
// through. One of IPv4 has no other way; one of IPv6 is served meanwhile.
const (
	tellEvery4 = time.Second
	tellEvery6 = 5 * time.Minute
)

// refuses tells the sender of a packet that does not fit, and reports whether it
// is not sent and has had its verdict. IPv4 packets with DF are not, and IPv6
// packets of others are not when their senders are told for the first time. If
// they go on as before they may be sending fragments, which connection tracking
// has put together: these are divided again. The stack of this host sends all IPv6
// packets whole, and would fragment them after us, with nothing to tell those from
// others.
func (o *Outbound) refuses(q Queued, pkt []byte, w *way, longest int) bool {
	e, k := o.engine, flowKey{src: o.p.Src, dst: o.p.Dst, srcPort: uint16(longest)} // another length is news
	if o.p.Is4() {
		if !w.forbidsFragments(pkt) {
			return false
		}
		e.Counters.OutTooBig.Add(1)
		if o.told.due(k, e.cfg.Now(), tellEvery4) {
			o.refuse(q, pkt, w, longest)
		} else {
			e.verdict(q, Drop, nil)
		}
		return true
	}
	if o.p.Len <= minMTU6 || o.p.Len > w.sa.Path.Link() || !o.told.due(k, e.cfg.Now(), tellEvery6) {
		return false
	}
	if !q.Forwarded {
		o.tell(q, pkt, max(longest, minMTU6))
		return false
	}
	e.Counters.OutTooBig.Add(1)
	o.refuse(q, pkt, w, max(longest, minMTU6))
	return true
}

// forbidsFragments reports whether an IPv4 packet has DF set and its SA heeds it
// (RFC 4301 section 8.1).
func (w *way) forbidsFragments(pkt []byte) bool {
	return dontFragment(pkt) && !(w.tunnel && w.sa.DF == ipsec.DFClear)
}

// refuse drops a packet and tells its sender why. Connection tracking has to know
// the flow before: else the host's other rules drop what we tell as invalid.
func (o *Outbound) refuse(q Queued, pkt []byte, w *way, mtu int) {
	v, contents := o.confirm(w)
	o.engine.verdict(q, v, contents)
	o.tell(q, pkt, mtu)
}

// divide sends a packet that does not fit in several: through a tunnel, by its
// own fragments if they may travel one by one, or else by those of the sealed
// packet.
func (o *Outbound) divide(q Queued, pkt []byte, w *way, longest int) (Verdict, []byte) {
	if w.tunnel && o.fragmentsTravel(q, pkt, w.sa) && o.frag.Reset(pkt, &o.p, longest, o.engine.fragmentID()) == nil {
		return o.cut(w, o.frag.Next, longest)
	}
	return o.fragment(pkt, w)
}

// fragmentsTravel reports whether the fragments of a packet may travel by a
// tunnel one by one. Where selectors or filters have ports, those after the first,
// which have none, are not covered (RFC 4301 section 7). Nobody may make fragments
// of a packet with DF, or of one of IPv6 that every link carries.
func (o *Outbound) fragmentsTravel(q Queued, pkt []byte, sa *SA) bool {
	if o.p.Is4() && dontFragment(pkt) || !o.p.Is4() && o.p.Len <= minMTU6 {
		return false
	}
	part := o.p
	part.HasPorts, part.HasICMP, part.SrcPort, part.DstPort = false, false, 0, 0
	spd := o.engine.spd.Load()
	if spd == nil || !sa.covers(&part) {
		return false
	}
	d := o.engine.lookup(spd, q, &part)
	return d.Action == filter.Negotiate && d.Entry.Name == sa.Policy
}

// fragment seals a packet whole, and sends fragments of that.
func (o *Outbound) fragment(pkt []byte, w *way) (Verdict, []byte) {
	e := o.engine
	if w.sealedLen(len(pkt)) > w.limit() {
		e.Counters.OutTooBig.Add(1)
		return Drop, nil
	}
	w.df = false
	out, err := w.seal(o.buf[:0], pkt, e)
	if err != nil {
		e.Counters.OutFailed.Add(1)
		return Drop, nil
	}
	var outer packet.Packet
	if err = packet.Parse(out, &outer); err == nil {
		err = o.frag.Reset(out, &outer, w.sa.Path.MTU(), e.fragmentID())
	}
	if err != nil {
		e.Counters.OutTooBig.Add(1)
		return Drop, nil
	}
	e.Counters.OutFragmented.Add(1)
	local, remote := w.sa.LocalAddr.Addr(), w.sa.RemoteAddr.Addr()
	for {
		n, ok := o.frag.Next(o.piece)
		if !ok {
			break
		}
		if err := e.cfg.Wire.SendIP(local, remote, o.piece[:n], n); err != nil {
			e.Counters.OutFailed.Add(1)
			e.cfg.Log.Debug("fragments not sent", "sa", w.sa.OutSPI, "error", err)
			return o.confirm(w)
		}
	}
	e.Counters.Sealed.Add(1)
	return o.confirm(w)
}

// tell tells the sender of a packet that mtu bytes get through. To this host it
// says so in the name of the packet's destination, since what comes by the device
// from an address of its own the stack takes for a forgery.
func (o *Outbound) tell(q Queued, pkt []byte, mtu int) {
	e := o.engine
	from, ok := o.p.Dst, true
	if q.Forwarded {
		from, ok = e.cfg.Host.Source(o.p.Src)
	}
	if !ok || from.Is4() != o.p.Is4() {
		return
	}
	b := packet.AppendTooBig(o.piece[:0], from, pkt, &o.p, mtu)
	var err error
	if q.Forwarded {
		err = e.cfg.Wire.SendIP(from, o.p.Src, b, len(b))
	} else {
		err = e.cfg.Injector.Inject(b, 0, 0, 0, 0)
	}
	if err != nil {
		e.cfg.Log.Debug("a sender is not told of the size that gets through", "sender", o.p.Src, "mtu", mtu, "error", err)
		return
	}
	e.Counters.OutTold.Add(1)
}

// fragmentID returns an identification for fragments (RFC 8200 section 4.5) that
// nobody can guess from those seen before: fragments of his would be put together
// with ours (RFC 7739 section 3).
func (e *Engine) fragmentID() uint32 { return uint32(maphash.Comparable(e.seed, e.ids.Add(1))) }
