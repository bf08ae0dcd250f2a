package iketest

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// Sim steps some hosts through virtual time. It is not safe for concurrent
// use.
type Sim struct {
	Now    time.Time
	Faults Faults
	NAT    *NAT // or nil
	// Mangle, if set, sees each datagram before it is sent and returns what
	// is sent in its place, nil for nothing.
	Mangle func(from, to netip.AddrPort, data []byte) []byte

	rng      *rand.Rand
	stations []station
	flying   []flight
	count    int
	idle     int                        // steps since time last passed
	gone     func(f flight, how string) // is told what does not arrive; or nil
}

// station is a host as the network knows it.
type station interface {
	address() netip.Addr
	deliver(f flight)
	// next returns what the host is to do by itself, and when; nil for nothing.
	next() (at time.Time, step func())
}

// flight is a datagram on its way: an IKE message, or a packet of ESP.
type flight struct {
	at       time.Time
	order    int // sent earlier, arrives earlier, if at is the same
	from, to netip.AddrPort
	data     []byte
	esp      *packet
	spoilt   bool
}

// NewSim returns a network whose faults follow from the seed.
func NewSim(seed uint64, now time.Time) *Sim {
	return &Sim{Now: now, rng: rand.New(rand.NewPCG(seed, 0))}
}

// Send puts a datagram on the wire as if an attacker had sent it.
func (s *Sim) Send(from, to netip.AddrPort, data []byte) { s.send(from, to, data) }

func (s *Sim) send(from, to netip.AddrPort, data []byte) {
	data = slices.Clone(data)
	if s.Mangle != nil {
		if data = s.Mangle(from, to, data); data == nil {
			return
		}
	}
	s.launch(flight{from: from, to: to, data: data})
}

// launch sends a datagram through the translator and into the faults. ESP
// without UDP has no ports, and does not get through the translator.
func (s *Sim) launch(f flight) {
	tell := s.gone
	if tell == nil {
		tell = func(flight, string) {}
	}
	if s.NAT != nil {
		bare := f.from.Port() == 0 && (f.from.Addr() == s.NAT.Inside || f.to.Addr() == s.NAT.Outside)
		var ok bool
		f.from = s.NAT.out(f.from)
		if f.to, ok = s.NAT.in(f.to); !ok || bare {
			tell(f, "does not get through the NAT")
			return
		}
	}
	copies := s.Faults.fate(s.rng)
	if len(copies) == 0 {
		tell(f, "is lost")
	}
	for _, d := range copies {
		s.count++
		c := f
		c.at, c.order = s.Now.Add(d), s.count
		c.data = s.Faults.spoil(s.rng, slices.Clone(f.data))
		if c.spoilt = !bytes.Equal(c.data, f.data); c.spoilt {
			tell(f, "is corrupted")
		}
		s.flying = append(s.flying, c)
	}
}

// Run lets time pass until nothing more is to happen before its end.
func (s *Sim) Run(d time.Duration) {
	end := s.Now.Add(d)
	for {
		at, step := s.next()
		if step == nil || at.After(end) {
			s.Now, s.idle = end, 0
			return
		}
		s.take(at, step)
	}
}

// maxIdle is how much may happen in one instant, and far from what does.
const maxIdle = 10_000

func (s *Sim) take(at time.Time, step func()) {
	if at.After(s.Now) {
		s.Now, s.idle = at, 0
	}
	if s.idle++; s.idle > maxIdle {
		panic(fmt.Sprintf("iketest: %d steps without end at %s: a machine's Tick does not move its deadline", s.idle, s.Now))
	}
	step()
}

// next returns what happens first.
func (s *Sim) next() (at time.Time, step func()) {
	if len(s.flying) > 0 {
		f := slices.MinFunc(s.flying, func(a, b flight) int {
			return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.order, b.order))
		})
		at, step = f.at, func() {
			s.flying = slices.DeleteFunc(s.flying, func(x flight) bool { return x.order == f.order })
			for _, x := range s.stations {
				if x.address() == f.to.Addr() {
					x.deliver(f)
				}
			}
		}
	}
	for _, x := range s.stations {
		if t, f := x.next(); f != nil && (step == nil || t.Before(at)) {
			at, step = t, f
		}
	}
	return at, step
}
