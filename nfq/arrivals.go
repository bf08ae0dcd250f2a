package nfq

import (
	"encoding/binary"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Arrivals is the worker of the queue of what comes for the engine with its IP
// header: AH, whose ICV covers that, and ICMP errors that tell of an MTU for
// packets that the engine has sent. None of it goes on into the stack. It is used
// by one goroutine at a time.
type Arrivals struct {
	engine *Engine
	in     *Inbound
	p      packet.Packet
	e      packet.TooBig
	second time.Time // in which so many errors came
	errors int
}

// NewArrivals returns a worker.
func (e *Engine) NewArrivals() *Arrivals { return &Arrivals{engine: e, in: e.NewInbound(false)} }

// Work implements Worker.
func (a *Arrivals) Work(q Queued) {
	a.take(q)
	a.engine.verdict(q, Drop, nil)
}

// take does with a packet what is to be done.
func (a *Arrivals) take(q Queued) {
	e := a.engine
	switch {
	case packet.Parse(q.Packet, &a.p) != nil:
		e.Counters.InRefused.Add(1)
	case a.p.Protocol == protocolAH && !a.p.Fragment:
		a.in.ReceiveAH(q.Packet, &a.p, q.Link)
		a.in.Flush()
	case packet.ParseTooBig(q.Packet, &a.p, &a.e) && a.learn():
		e.Counters.PathNarrower.Add(1)
	default:
		e.Counters.PathDoubted.Add(1)
	}
}

// maxErrors is how many ICMP errors are looked at in a second: each means a
// search for the SA that it is about.
const maxErrors = 100

// learn has the path of an SA take no more than an ICMP error says. Who makes it
// up has to know the SPI under which we send, which he does who sees the packets
// (RFC 4301 section 8.2.1). It reports whether the error was good for something.
func (a *Arrivals) learn() bool {
	e, now := a.engine, a.engine.cfg.Now()
	path := e.paths.find(between{a.e.Src, a.e.Dst})
	spi, ok := quotedSPI(&a.e)
	if path == nil || !ok {
		return false
	}
	if now.Sub(a.second) >= time.Second {
		a.second, a.errors = now, 0
	}
	if a.errors++; a.errors > maxErrors || !e.sad.sends(spi, &a.e) {
		return false
	}
	mtu := a.e.MTU
	if mtu == 0 {
		mtu = plateau(a.e.Length)
	}
	return path.Learn(mtu, now)
}

// quotedSPI returns the SPI of a packet that an ICMP error quotes.
func quotedSPI(e *packet.TooBig) (spi ipsec.SPI, ok bool) {
	at := 0
	switch e.Protocol {
	case protocolAH:
		at = 4
	case protocolUDP:
		at = udpHeaderLen
	}
	if len(e.Quoted) < at+4 {
		return 0, false
	}
	return ipsec.SPI(binary.BigEndian.Uint32(e.Quoted[at:])), true
}

// sends reports whether a packet with an SPI, which an ICMP error quotes, is one
// of ours.
func (d *SAD) sends(spi ipsec.SPI, e *packet.TooBig) bool {
	for _, sa := range d.cur.Load().inbound {
		if sa.OutSPI != spi || sa.LocalAddr.Addr() != e.Src || sa.RemoteAddr.Addr().WithZone("") != e.Dst {
			continue
		}
		if !sa.UDPEncap {
			return sa.Out.Protocol() == e.Protocol
		}
		return e.Protocol == protocolUDP &&
			binary.BigEndian.Uint16(e.Quoted) == sa.LocalAddr.Port() && binary.BigEndian.Uint16(e.Quoted[2:]) == sa.RemoteAddr.Port()
	}
	return false
}

// plateaus are the MTUs of usual links (RFC 1191 section 7).
var plateaus = [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68}

// plateau returns the MTU to try when a packet of so many bytes was too big for
// a router that does not tell (RFC 1191 section 5).
func plateau(length int) int {
	for _, mtu := range plateaus {
		if mtu < length {
			return mtu
		}
	}
	return minMTU4
}
