package iketest

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// Sim steps the machines of some hosts through virtual time. It is not safe
// for concurrent use.
type Sim struct {
	Now    time.Time
	Faults Faults
	NAT    *NAT // or nil
	// Mangle, if set, sees each datagram before it is sent and returns what
	// is sent in its place, nil for nothing.
	Mangle func(from, to netip.AddrPort, data []byte) []byte

	rng    *rand.Rand
	hosts  []*Host
	flying []flight
	count  int
}

// flight is a datagram on its way.
type flight struct {
	at       time.Time
	order    int // sent earlier, arrives earlier, if at is the same
	from, to netip.AddrPort
	data     []byte
}

// NewSim returns a network whose faults follow from the seed.
func NewSim(seed uint64, now time.Time) *Sim {
	return &Sim{Now: now, rng: rand.New(rand.NewPCG(seed, 0))}
}

// Host is an address with its machines, and what they wanted done.
type Host struct {
	Addr        netip.Addr
	Policy      ike.Policy
	Children    []ike.ChildPolicy // that a peer may ask for
	Contacted   bool              // it had to do with its peers before: no INITIAL_CONTACT
	Responder   func(ike.MachineConfig) ike.Machine
	Machines    []ike.Machine
	Established []ike.Established
	Changed     []ike.Changed
	Installed   []ike.InstallChild
	Removed     []ike.RemoveChild
	Failed      []ike.Failed
	Closed      []ike.Closed
	Sent        []ike.Send
	Errors      []error // of datagrams that no machine wanted

	sim *Sim
	rng io.Reader
}

// Add puts a host into the network. Its randomness comes from its address.
func (s *Sim) Add(h *Host) *Host {
	a := h.Addr.As16()
	h.sim, h.rng = s, Rand(binary.BigEndian.Uint64(a[8:])^s.rng.Uint64())
	s.hosts = append(s.hosts, h)
	return h
}

// Config returns the configuration of a new machine for a peer.
func (h *Host) Config(remote netip.Addr) ike.MachineConfig {
	return ike.MachineConfig{
		Local: netip.AddrPortFrom(h.Addr, 500), Remote: netip.AddrPortFrom(remote, 500),
		Policy: h.Policy, Policies: policies{h}, Rand: h.rng,
		NewSPI:       func() ipsec.SPI { return ipsec.SPI(h.number()>>32 | 0x100) },
		NewIKESPI:    h.number,
		FirstContact: func() bool { return !h.Contacted },
	}
}

func (h *Host) number() uint64 {
	var b [8]byte
	if _, err := io.ReadFull(h.rng, b[:]); err != nil {
		panic(err)
	}
	return binary.BigEndian.Uint64(b[:]) | 1
}

type policies struct{ h *Host }

func (p policies) Peer(_, _ netip.Addr) (ike.Policy, bool) { return p.h.Policy, true }

func (p policies) Child(_, _ netip.Addr, _, _ []ipsec.TrafficSelector, _ bool) []ike.ChildPolicy {
	out := slices.Clone(p.h.Children)
	for i := range out {
		out[i] = p.h.withAuth(out[i])
	}
	return out
}

// withAuth has a rule that says nothing about authentication ask for what the
// host's policy does.
func (h *Host) withAuth(c ike.ChildPolicy) ike.ChildPolicy {
	if c.Auth == nil {
		c.Auth, c.PeerID, c.Peers = h.Policy.Auth, h.Policy.PeerID, h.Policy.Peers
	}
	return c
}

// Do gives an event to one of the host's machines and carries out what it
// wants. A host asks for SAs by its own rules: that of an Acquire is put among
// Children if it is not there.
func (h *Host) Do(m ike.Machine, ev ike.Event) error {
	if !slices.Contains(h.Machines, m) {
		h.Machines = append(h.Machines, m)
	}
	if a, ok := ev.(ike.Acquire); ok {
		if !slices.ContainsFunc(h.Children, func(c ike.ChildPolicy) bool { return reflect.DeepEqual(c, a.Child) }) {
			h.Children = append(slices.Clip(h.Children), a.Child)
		}
		a.Child = h.withAuth(a.Child)
		ev = a
	}
	effects, err := m.Handle(h.sim.Now, ev)
	for _, e := range effects {
		switch e := e.(type) {
		case ike.Work:
			if err := h.Do(m, ike.Done{ID: e.ID, Result: e.Do(context.Background())}); err != nil {
				h.Errors = append(h.Errors, err)
			}
		case ike.Send:
			h.Sent = append(h.Sent, e)
			h.sim.send(e.Local, e.Remote, e.Data)
		case ike.Established:
			h.Established = append(h.Established, e)
		case ike.Changed:
			h.Changed = append(h.Changed, e)
		case ike.InstallChild:
			h.Installed = append(h.Installed, e)
		case ike.RemoveChild:
			h.Removed = append(h.Removed, e)
		case ike.Failed:
			h.Failed = append(h.Failed, e)
		case ike.Closed:
			h.Closed = append(h.Closed, e)
			h.Machines = slices.DeleteFunc(h.Machines, func(x ike.Machine) bool { return x == m })
		}
	}
	return err
}

// Alive returns the inbound SPIs of the Child SAs that are installed.
func (h *Host) Alive() []ipsec.SPI {
	var in []ipsec.SPI
	for _, i := range h.Installed {
		in = append(in, i.SA.InSPI)
	}
	return slices.DeleteFunc(in, func(spi ipsec.SPI) bool {
		return slices.ContainsFunc(h.Removed, func(r ike.RemoveChild) bool { return r.InSPI == spi })
	})
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
	if s.NAT != nil {
		var ok bool
		from = s.NAT.out(from)
		if to, ok = s.NAT.in(to); !ok {
			return
		}
	}
	for _, d := range s.Faults.fate(s.rng) {
		s.count++
		s.flying = append(s.flying, flight{s.Now.Add(d), s.count, from, to, slices.Clone(data)})
	}
}

// deliver hands a datagram to the machine that wants it. One that nobody
// wants and that begins an IKE SA gets a machine of its own.
func (h *Host) deliver(f flight) {
	d := ike.Datagram{Local: f.to, Remote: f.from, Data: f.data}
	var errs []error
	for _, m := range slices.Clone(h.Machines) {
		err := h.Do(m, d)
		if err == nil {
			return
		}
		errs = append(errs, err)
	}
	hd, err := wire.ParseHeader(f.data)
	if err == nil && h.Responder != nil && hd.Exchange == wire.IKESAInit && !hd.Response && hd.SPIr == 0 {
		cfg := h.Config(f.from.Addr())
		cfg.Local, cfg.Remote = f.to, f.from
		m := h.Responder(cfg)
		if err = h.Do(m, d); err == nil {
			return
		}
		h.Machines = slices.DeleteFunc(h.Machines, func(x ike.Machine) bool { return x == m })
	}
	h.Errors = append(h.Errors, errors.Join(append(errs, err)...))
}

// Run lets time pass until nothing more is to happen before its end.
func (s *Sim) Run(d time.Duration) {
	end := s.Now.Add(d)
	for {
		at, step := s.next()
		if step == nil || at.After(end) {
			s.Now = end
			return
		}
		if at.After(s.Now) {
			s.Now = at
		}
		step()
	}
}

// next returns what happens first.
func (s *Sim) next() (at time.Time, step func()) {
	if len(s.flying) > 0 {
		f := slices.MinFunc(s.flying, func(a, b flight) int {
			return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.order, b.order))
		})
		at, step = f.at, func() {
			s.flying = slices.DeleteFunc(s.flying, func(x flight) bool { return x.order == f.order })
			for _, h := range s.hosts {
				if h.Addr == f.to.Addr() {
					h.deliver(f)
				}
			}
		}
	}
	for _, h := range s.hosts {
		for _, m := range h.Machines {
			if t, ok := m.Deadline(); ok && (step == nil || t.Before(at)) {
				at, step = t, func() {
					if err := h.Do(m, ike.Tick{}); err != nil {
						h.Errors = append(h.Errors, err)
					}
				}
			}
		}
	}
	return at, step
}
