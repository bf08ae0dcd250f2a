package iketest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

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
	s.stations = append(s.stations, h)
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
	if c.Around != nil {
		around := h.withAuth(*c.Around)
		c.Around = &around
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

func (h *Host) address() netip.Addr { return h.Addr }

// next implements station.
func (h *Host) next() (at time.Time, step func()) {
	for _, m := range h.Machines {
		if t, ok := m.Deadline(); ok && (step == nil || t.Before(at)) {
			at, step = t, func() {
				if err := h.Do(m, ike.Tick{}); err != nil {
					h.Errors = append(h.Errors, err)
				}
			}
		}
	}
	return at, step
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
