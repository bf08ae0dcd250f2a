package nfq

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Bounds of what comes before its SA.
const (
	expectFor     = time.Minute // from when the SPI was given out: no exchange takes longer
	maxExpected   = 512         // SPIs
	earlyFor      = 2 * time.Second
	maxEarly      = 256 // packets
	maxEarlyBytes = 256 << 10
)

// unwrapRoom is how many bytes before an ESP packet unwrap needs at most.
const unwrapRoom = packet.IPv6HeaderLen

// early is the packets that came before their inbound SA. Whoever asks for an
// SA tells the peer an SPI, and the peer sends under it as soon as it has
// answered: its packets may overtake the answer, or arrive while its signature
// is being checked. Only a peer that was told the SPI can fill it, since IKE
// encrypts it.
type early struct {
	counters *Counters

	mu       sync.Mutex
	expected map[ipsec.SPI]time.Time // when they were given out
	packets  []earlyPacket           // the oldest first
	bytes    int
}

// earlyPacket is a packet that waits.
type earlyPacket struct {
	arrival // a copy, with unwrapRoom bytes before the packet
	spi     ipsec.SPI
	at      time.Time
}

// expect notes that an SA with an SPI may come. It returns false if that was
// said of it lately. When there are too many the oldest is forgotten.
func (x *early) expect(spi ipsec.SPI, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.expects(spi, now) {
		return false
	}
	if x.expected == nil {
		x.expected = make(map[ipsec.SPI]time.Time, maxExpected)
	}
	if len(x.expected) >= maxExpected {
		given := func(a, b ipsec.SPI) int { return x.expected[a].Compare(x.expected[b]) }
		delete(x.expected, slices.MinFunc(slices.Collect(maps.Keys(x.expected)), given))
	}
	x.expected[spi] = now
	return true
}

func (x *early) expects(spi ipsec.SPI, now time.Time) bool {
	at, ok := x.expected[spi]
	return ok && now.Sub(at) < expectFor
}

// keep takes a packet that came for an SPI, which it copies, unless no SA with
// that SPI is expected. When there is no room the packet is lost.
func (x *early) keep(spi ipsec.SPI, now time.Time, a *arrival) (expected bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.expects(spi, now) {
		return false
	}
	x.forget(now)
	pkt := a.buf[a.offset:]
	if len(x.packets) >= maxEarly || x.bytes+len(pkt) > maxEarlyBytes {
		x.counters.InEarlyDropped.Add(1)
		return true
	}
	p := earlyPacket{*a, spi, now}
	p.header = slices.Clone(a.header)
	p.offset = unwrapRoom + len(a.header)
	p.buf = append(make([]byte, p.offset, p.offset+len(pkt)), pkt...)
	x.packets = append(x.packets, p)
	x.bytes += len(pkt)
	x.counters.InEarly.Add(1)
	return true
}

// take ends the waiting for an SA, which is there, and returns the packets that
// came for it, in their order.
func (x *early) take(spi ipsec.SPI, now time.Time) []earlyPacket {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.expected, spi)
	x.forget(now)
	var out []earlyPacket
	x.remove(func(p *earlyPacket) bool {
		if p.spi == spi {
			out = append(out, *p)
		}
		return p.spi == spi
	})
	return out
}

// forget drops the packets that have waited for too long.
func (x *early) forget(now time.Time) {
	x.remove(func(p *earlyPacket) bool {
		old := now.Sub(p.at) >= earlyFor
		if old {
			x.counters.InEarlyDropped.Add(1)
		}
		return old
	})
}

func (x *early) remove(match func(*earlyPacket) bool) {
	x.packets = slices.DeleteFunc(x.packets, func(p earlyPacket) bool {
		gone := match(&p)
		if gone {
			x.bytes -= len(p.buf) - p.offset
		}
		return gone
	})
}
