package packet

import (
	"bytes"
	"encoding/binary"
)

const (
	maxFlows  = 8
	maxMerged = 65535 // bytes of a merged packet
)

// Emit takes a packet from a Coalescer; it must not keep it, and must not
// call the Coalescer. With gsoSize 0 the packet is as it was added.
// Otherwise it is a merged TCP packet, for the stack to treat as gsoSize
// bytes of data (the last may be fewer) behind headers of hdrLen bytes: its
// checksum, at csumStart+csumOffset, holds the sum of the pseudo-header only
// and covers all from csumStart on. Those are the fields of a virtio network
// header (VIRTIO version 1.2, section 5.1.6) with NEEDS_CSUM.
type Emit func(pkt []byte, gsoSize, hdrLen, csumStart, csumOffset int)

// Coalescer merges successive TCP packets of a flow into one large packet, so
// that the stack takes them in one step. The order within a flow is kept, and
// what is merged is what the stack would cut it into again: the headers are
// alike but for sequence number, IPv4 identification and the last packet's
// PSH. Everything else passes unchanged.
//
// It holds at most eight flows, and allocates only until it has once held as
// many. The zero value is ready. It is not safe for concurrent use.
type Coalescer struct {
	flows [maxFlows]merge
	used  int // flows[:used] hold packets, the one begun first in front
}

// merge is a packet that grows.
type merge struct {
	p    Packet // what Parse read from the first packet
	buf  []byte
	tcp  int    // bytes of the TCP header
	size int    // bytes of data in the first packet
	next uint32 // the sequence number that may follow
	n    int    // packets merged
}

// Add gives the Coalescer an IP packet. What it cannot hold any longer, and
// what cannot be merged, goes to emit before Add returns.
func (c *Coalescer) Add(pkt []byte, emit Emit) {
	var p Packet
	if err := Parse(pkt, &p); err != nil || p.Protocol != TCP {
		emit(pkt, 0, 0, 0, 0)
		return
	}
	if !p.HasPorts { // a later fragment, of any of the flows
		c.Flush(emit)
		emit(pkt, 0, 0, 0, 0)
		return
	}
	pkt = pkt[:p.Len]
	h, ok := mergeable(pkt, &p)
	if i := c.find(&p); i >= 0 {
		if f := &c.flows[i]; ok && f.follows(pkt, &p, h) {
			f.add(pkt[p.HeaderLen:], h)
			if f.complete() {
				c.release(i, emit)
			}
			return
		}
		c.release(i, emit)
	}
	if !ok || h[13]&flagPSH != 0 {
		emit(pkt, 0, 0, 0, 0)
		return
	}
	if c.used == maxFlows {
		c.release(0, emit)
	}
	c.flows[c.used].begin(pkt, &p, h)
	c.used++
}

// Flush gives all that the Coalescer holds to emit, as at the end of a batch.
func (c *Coalescer) Flush(emit Emit) {
	for c.used > 0 {
		c.release(0, emit)
	}
}

func (c *Coalescer) find(p *Packet) int {
	for i := range c.flows[:c.used] {
		f := &c.flows[i].p
		if f.SrcPort == p.SrcPort && f.DstPort == p.DstPort && f.Dst == p.Dst && f.Src == p.Src {
			return i
		}
	}
	return -1
}

// release emits flow i and makes its place, and its buffer, free again.
func (c *Coalescer) release(i int, emit Emit) {
	f := c.flows[i]
	copy(c.flows[i:], c.flows[i+1:c.used])
	c.used--
	c.flows[c.used] = f
	if f.n == 1 {
		emit(f.buf, 0, 0, 0, 0)
		return
	}
	f.finish()
	emit(f.buf, f.size, f.p.HeaderLen+f.tcp, f.p.HeaderLen, 16)
}

// mergeable reports whether a packet may be merged with others of its flow:
// plain headers, data, no flag but ACK and PSH, correct checksums. It returns
// the TCP header.
func mergeable(pkt []byte, p *Packet) (h []byte, ok bool) {
	h, ok = tcpHeader(pkt, p)
	switch {
	case !ok || p.Fragment || p.Len == p.HeaderLen+len(h) || p.Len > maxMerged:
		return nil, false
	case h[12]&0xf != 0 || h[13]&^flagPSH != flagACK || h[18]|h[19] != 0:
		return nil, false
	case p.Is4() && (p.HeaderLen != 20 || pkt[6]&0x80 != 0 || Fold(Sum(0, pkt[:20])) != 0xffff):
		return nil, false
	case !p.Is4() && p.HeaderLen != 40:
		return nil, false
	}
	return h, VerifyChecksum(pkt, p)
}

// follows reports whether a mergeable packet of the flow continues f.
func (f *merge) follows(pkt []byte, p *Packet, h []byte) bool {
	data := p.Len - p.HeaderLen - len(h)
	if data > f.size || len(f.buf)+data > maxMerged || len(h) != f.tcp ||
		binary.BigEndian.Uint32(h[4:]) != f.next {
		return false
	}
	if p.Is4() {
		// Type of service; flags and time to live.
		if pkt[1] != f.buf[1] || !bytes.Equal(pkt[6:9], f.buf[6:9]) {
			return false
		}
	} else if !bytes.Equal(pkt[:4], f.buf[:4]) || pkt[7] != f.buf[7] {
		return false // traffic class, flow label; hop limit
	}
	g := f.buf[f.p.HeaderLen:]
	return bytes.Equal(h[8:12], g[8:12]) && // acknowledgement
		bytes.Equal(h[14:16], g[14:16]) && // window
		bytes.Equal(h[20:], g[20:f.tcp]) // options
}

// begin makes f hold one packet.
func (f *merge) begin(pkt []byte, p *Packet, h []byte) {
	if f.buf == nil {
		f.buf = make([]byte, 0, maxMerged)
	}
	size := p.Len - p.HeaderLen - len(h)
	*f = merge{
		p:    *p,
		buf:  append(f.buf[:0], pkt...),
		tcp:  len(h),
		size: size,
		next: binary.BigEndian.Uint32(h[4:]) + uint32(size),
		n:    1,
	}
}

// add appends the data of the TCP packet u, whose header is h.
func (f *merge) add(u, h []byte) {
	f.buf = append(f.buf, u[len(h):]...)
	f.next += uint32(len(u) - len(h))
	f.n++
	f.buf[f.p.HeaderLen+13] |= h[13] & flagPSH
}

// complete reports whether nothing more can be added: the last packet was
// short or pushed.
func (f *merge) complete() bool {
	data := len(f.buf) - f.p.HeaderLen - f.tcp
	return data%f.size != 0 || f.buf[f.p.HeaderLen+13]&flagPSH != 0
}

// finish corrects lengths and checksums for what was added.
func (f *merge) finish() {
	if f.p.Is4() {
		binary.BigEndian.PutUint16(f.buf[2:], uint16(len(f.buf)))
		FinishHeaderChecksum(f.buf)
	} else {
		binary.BigEndian.PutUint16(f.buf[4:], uint16(len(f.buf)-40))
	}
	sum := PseudoSum(f.buf, &f.p, len(f.buf)-f.p.HeaderLen)
	binary.BigEndian.PutUint16(f.buf[f.p.HeaderLen+16:], Fold(sum))
}
