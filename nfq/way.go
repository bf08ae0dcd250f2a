package nfq

import (
	"encoding/binary"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// outerHops is the hop limit of headers of our own: that of what they carry was
// decremented by the stack where the host passes it on, and is nobody's on the
// way (RFC 4301 section 5.1.2).
const outerHops = 64

// way is how a packet leaves: under which SAs, and behind which IP header.
type way struct {
	sa     *SA
	over   *SA // AH around the ESP of sa, or nil
	tunnel bool
	head   int // bytes of IP header before what is sealed
	nextAt int // where in them the protocol stands
	class  uint8
	df     bool // in IPv4
	// socket says that UDP sockets make the headers. Where it is set, no header
	// is.
	socket bool
}

// wayOf returns the way of a packet under an SA, and under one of AH or nil.
func wayOf(sa, over *SA, pkt []byte, p *packet.Packet) way {
	w := way{sa: sa, over: over, class: p.TrafficClass, tunnel: sa.Mode == ipsec.Tunnel}
	inner := !p.Is4() || dontFragment(pkt)
	if !w.tunnel {
		w.head, w.nextAt = packet.EnRoute(pkt, p)
		w.df = inner
	} else {
		w.outer()
		w.df = sa.DF == ipsec.DFSet || sa.DF == ipsec.DFCopy && inner
	}
	w.df = w.df && !sa.Path.Fragments()
	return w
}

// outer makes the header one of our own.
func (w *way) outer() {
	w.head, w.nextAt = packet.IPv6HeaderLen, 6
	if w.sa.RemoteAddr.Addr().Is4() {
		w.head, w.nextAt = packet.IPv4HeaderLen, 9
	}
}

// dontFragment reports whether an IPv4 packet has DF set.
func dontFragment(pkt []byte) bool { return pkt[6]&0x40 != 0 }

// longest is the longest clear IP packet that goes in one piece, in bytes.
func (w *way) longest() int {
	size := w.sa.Path.MTU() - w.head
	if w.sa.UDPEncap {
		size -= udpHeaderLen
	}
	if w.over != nil {
		size = w.over.Out.MaxPlaintext(size)
	}
	size = w.sa.Out.MaxPlaintext(size)
	if !w.tunnel {
		size += w.head
	}
	return size
}

// gap is how many bytes are to lie between the end of what was sealed before
// and a clear packet, that its contents need not be moved.
func (w *way) gap() int {
	n := w.sa.Out.HeaderLen()
	if w.over != nil {
		n += w.over.Out.HeaderLen()
	}
	if w.socket {
		return n
	}
	if w.sa.UDPEncap {
		n += udpHeaderLen
	}
	if w.tunnel {
		n += w.head
	}
	return n
}

// sealedLen is how many bytes a clear packet of n bytes has as it leaves.
func (w *way) sealedLen(n int) int {
	if !w.tunnel {
		n -= w.head
	}
	n += w.sa.Out.Overhead(n)
	if w.sa.UDPEncap {
		n += udpHeaderLen
	}
	if w.over != nil {
		n += w.over.Out.Overhead(n)
	}
	return w.head + n
}

// limit is how many bytes a packet that leaves can have.
func (w *way) limit() int {
	if w.sa.RemoteAddr.Addr().Is4() {
		return maxPacket
	}
	return packet.IPv6HeaderLen + maxPacket
}

// seal appends a clear packet as it leaves to b. The packet may lie gap bytes
// behind the end of b, and is overwritten then. In transport mode it has the
// headers of the packet for which the way was made.
func (w *way) seal(b, pkt []byte, e *Engine) ([]byte, error) {
	pkt = w.pad(b, pkt)
	plaintext, next := pkt, uint8(ipv6InESP)
	switch {
	case !w.tunnel:
		plaintext, next = pkt[w.head:], pkt[w.nextAt]
	case pkt[0]>>4 == 4:
		next = ipv4InESP
	}
	if w.socket {
		return w.sa.Out.Seal(b, plaintext, next)
	}
	start := len(b)
	if w.tunnel {
		b = w.appendOuter(b, e)
	} else {
		b = append(b, pkt[:w.head]...)
		if h := b[start:]; h[0]>>4 == 4 {
			w.complete4(h, e)
		}
	}
	return w.protect(b, start, plaintext, next)
}

// pad appends to a packet for a tunnel what hides its length (RFC 4303 section
// 2.7), in the place behind b where it need not be moved.
func (w *way) pad(b, pkt []byte) []byte {
	if !w.tunnel || w.sa.TFC <= len(pkt) || w.sa.Unpadded {
		return pkt
	}
	n := min(w.sa.TFC, w.longest())
	if n <= len(pkt) {
		return pkt
	}
	at := len(b) + w.gap()
	padded := b[at : at+n : cap(b)]
	for i := copy(padded, pkt); i < n; i++ {
		padded[i] = 0
	}
	return padded
}

// complete4 gives a header that had no identification one (RFC 6864 section 4.1):
// raw sockets would, and AH covers it. It clears DF where that is not to stay.
func (w *way) complete4(h []byte, e *Engine) {
	if h[4] == 0 && h[5] == 0 {
		binary.BigEndian.PutUint16(h[4:], e.identification())
	}
	if !w.df {
		h[6] &^= 0x40
	}
}

// dummy appends a packet without contents (RFC 4303 section 2.6) to b, with a
// header of our own.
func (w *way) dummy(b []byte, e *Engine) ([]byte, error) {
	d := *w
	d.outer()
	d.df, d.class = true, 0
	return d.protect(d.appendOuter(b, e), len(b), nil, dummyInESP)
}

func (w *way) appendOuter(b []byte, e *Engine) []byte {
	local, remote := w.sa.LocalAddr.Addr(), w.sa.RemoteAddr.Addr()
	if !remote.Is4() {
		return packet.AppendIPv6Header(b, local, remote, 0, w.class, outerHops, 0)
	}
	at := len(b)
	b = packet.AppendIPv4Header(b, local, remote, 0, w.class, outerHops, 0, w.df)
	binary.BigEndian.PutUint16(b[at+4:], e.identification())
	return b
}

// protect appends what is sealed to the header that stands in b from start on,
// and completes all headers.
func (w *way) protect(b []byte, start int, plaintext []byte, next uint8) (_ []byte, err error) {
	protocol := w.sa.Out.Protocol()
	if w.sa.UDPEncap {
		protocol = protocolUDP
		b = binary.BigEndian.AppendUint16(b, w.sa.LocalAddr.Port())
		b = binary.BigEndian.AppendUint16(b, w.sa.RemoteAddr.Port())
		b = append(b, 0, 0, 0, 0) // a length that is not known yet, and no checksum (RFC 3948 section 2.1)
	}
	if w.over == nil {
		b, err = w.sa.Out.Seal(b, plaintext, next)
	} else {
		at := len(b)
		inner := at + w.over.Out.HeaderLen()
		if b, err = w.sa.Out.Seal(b[:inner], plaintext, next); err == nil {
			b, err = w.over.Out.Seal(b[:at], b[inner:], protocol)
			protocol = w.over.Out.Protocol()
		}
	}
	if err != nil {
		return b[:start], err
	}
	w.finish(b[start:], protocol)
	return b, nil
}

// finish sets the protocol and the lengths in the headers of a sealed packet,
// and completes what covers them.
func (w *way) finish(b []byte, protocol uint8) {
	b[w.nextAt] = protocol
	if protocol == protocolUDP {
		binary.BigEndian.PutUint16(b[w.head+4:], uint16(len(b)-w.head))
	}
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		packet.FinishHeaderChecksum(b)
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-packet.IPv6HeaderLen))
		if protocol == protocolUDP { // IPv6 has no UDP without a checksum (RFC 8200 section 8.1)
			packet.FinishChecksum(b, &packet.Packet{Protocol: protocolUDP, HeaderLen: w.head, Len: len(b)})
		}
	}
	if w.over != nil {
		w.over.Out.Finish(b, w.head)
	} else {
		w.sa.Out.Finish(b, w.head)
	}
}

// identification returns the next one of IPv4 (RFC 791 section 3.2), which is
// not 0.
func (e *Engine) identification() uint16 {
	for {
		if id := uint16(e.ids.Add(1)); id != 0 {
			return id
		}
	}
}

func headerLen(a netip.Addr) int {
	if a.Is4() {
		return packet.IPv4HeaderLen
	}
	return packet.IPv6HeaderLen
}
