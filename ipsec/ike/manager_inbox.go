package ike

import (
	"net/netip"
	"sync"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// inbox collects what other goroutines bring, so that none of them ever waits
// for a machine. Everything in it is bounded.
type inbox struct {
	wake chan struct{} // has room for one: something is in the box

	mu      *sync.Mutex
	mail    *mail
	dropped uint64 // datagrams for which there was no room
	// asked is the flows that need not be asked for once more: an acquire of
	// theirs was put in, and settle was not called since.
	asked map[flow]struct{}
}

// mail is what was in the inbox.
type mail struct {
	calls     []func()
	rekeys    map[ipsec.SPI]struct{}
	acquires  []wanted
	datagrams []Datagram
	unknown   []unknown
	moved     map[ipsec.SPI]Moved
	reports   []report
}

// unknown is an SPI that ESP came for and that we do not have.
type unknown struct {
	local, remote netip.AddrPort
	spi           ipsec.SPI
}

const (
	maxDatagrams = 1024
	maxAcquires  = 4096
	maxRekeys    = 4096
	maxUnknown   = 64
	maxMoved     = 1024
	maxReports   = 64
)

func newInbox() inbox {
	return inbox{wake: make(chan struct{}, 1), mu: new(sync.Mutex), mail: new(mail), asked: make(map[flow]struct{})}
}

func (b *inbox) put(f func(*mail)) {
	b.mu.Lock()
	f(b.mail)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) putCall(f func()) {
	b.put(func(m *mail) { m.calls = append(m.calls, f) })
}

func (b *inbox) putDatagram(d Datagram) {
	b.put(func(m *mail) {
		if len(m.datagrams) >= maxDatagrams {
			b.dropped++
			return
		}
		m.datagrams = append(m.datagrams, d)
	})
}

func (b *inbox) putAcquire(w wanted) {
	b.put(func(m *mail) {
		if _, asked := b.asked[w.flow]; !asked && len(m.acquires) < maxAcquires {
			b.asked[w.flow] = struct{}{}
			m.acquires = append(m.acquires, w)
		}
	})
}

// settle says that a flow's negotiation is over, or will not begin. It comes
// before those who wait are told: who asks after that has not been told.
func (b *inbox) settle(f flow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.asked, f)
}

func (b *inbox) putRekey(in ipsec.SPI) {
	b.put(func(m *mail) {
		if m.rekeys == nil {
			m.rekeys = make(map[ipsec.SPI]struct{})
		}
		if len(m.rekeys) < maxRekeys {
			m.rekeys[in] = struct{}{}
		}
	})
}

func (b *inbox) putUnknown(u unknown) {
	b.put(func(m *mail) {
		if len(m.unknown) < maxUnknown {
			m.unknown = append(m.unknown, u)
		}
	})
}

func (b *inbox) putMoved(in ipsec.SPI, to Moved) {
	b.put(func(m *mail) {
		if m.moved == nil {
			m.moved = make(map[ipsec.SPI]Moved)
		}
		if _, known := m.moved[in]; known || len(m.moved) < maxMoved {
			m.moved[in] = to
		}
	})
}

func (b *inbox) putReport(r report) {
	b.put(func(m *mail) {
		if len(m.reports) < maxReports {
			m.reports = append(m.reports, r)
		}
	})
}

// take empties the box.
func (b *inbox) take() *mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mail
	b.mail = new(mail)
	return m
}

// takeDatagrams empties the box of datagrams alone.
func (b *inbox) takeDatagrams() []Datagram {
	b.mu.Lock()
	defer b.mu.Unlock()
	ds := b.mail.datagrams
	b.mail.datagrams = nil
	return ds
}

// drops returns how many datagrams have been dropped so far.
func (b *inbox) drops() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped
}

// missed reports whether a datagram was dropped since there had been so many
// drops, or waits to be heard.
func (b *inbox) missed(drops uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped != drops || len(b.mail.datagrams) > 0
}
