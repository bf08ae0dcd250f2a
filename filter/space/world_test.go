package space

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// A small world, in which random filters meet often. The borders of its
// filters are few, and its packets are one of every kind that the filters can
// tell apart: what holds for them holds for all packets.
type world struct {
	*rand.Rand
	// What the filters of this world differ in, beside their ends.
	v6, ports, connections, states, groups, forward bool
}

func newWorld(seed uint64) world {
	r := rand.New(rand.NewPCG(seed, 1))
	bit := func(n int) bool { return r.IntN(n) == 0 }
	return world{Rand: r, v6: bit(2), ports: bit(3), connections: bit(6), states: bit(5), groups: bit(6), forward: bit(4)}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// Filters have these addresses and what lies between; the first and last of a
// world's addresses are outside of what any filter names.
var (
	named4   = []netip.Addr{addr("10.0.0.1"), addr("10.0.0.2")}
	named6   = []netip.Addr{addr("fd00::1"), addr("fd00::2")}
	address4 = append([]netip.Addr{addr("10.0.0.0")}, named4...)
	address6 = append([]netip.Addr{addr("2001:db8::")}, named6...)
	group4   = []netip.Addr{addr("224.0.0.1"), addr("224.0.0.2")}
	group6   = []netip.Addr{addr("ff02::1"), addr("ff02::2")}
	border   = []uint16{1, 88, 500}
	port     = []uint16{1, 50, 88, 100, 500, 600}
)

func (w world) side(v6 bool) filter.Side {
	named, group := named4, group4
	if v6 {
		named, group = named6, group6
	}
	n := w.IntN(8)
	switch {
	case n < 2:
		return filter.Any()
	case n < 4:
		return filter.Me()
	case n < 6:
		return filter.Address(named[n-4])
	case n == 6 && w.groups:
		return filter.Address(group[0])
	}
	return filter.Range(named[0], named[1])
}

func (w world) portRange() filter.PortRange {
	if !w.ports || w.IntN(2) == 0 {
		return filter.PortRange{}
	}
	a, b := border[w.IntN(3)], border[w.IntN(3)]
	return filter.PortRange{Lo: min(a, b), Hi: max(a, b)}
}

func (w world) selector() filter.Selector {
	v6 := w.v6 && w.IntN(2) == 0
	s := filter.Selector{From: w.side(v6), To: w.side(v6)}
	if w.IntN(3) > 0 {
		s.HasProtocol = true
		s.Protocol = []uint8{1, 6, 17, 46, 50, 58}[w.IntN(6)]
		switch s.Protocol {
		case 6, 17:
			s.FromPort, s.ToPort = w.portRange(), w.portRange()
		case 1:
			s.ICMP = []filter.ICMP{{}, {Type: 8, HasType: true}, {Type: 3, HasType: true, Code: 1, HasCode: true}}[w.IntN(3)]
		case 58:
			s.ICMP = []filter.ICMP{{}, {Type: 135, HasType: true}, {Type: 129, HasType: true}}[w.IntN(3)]
		}
	}
	if w.connections {
		lo := filter.Connection{Kind: filter.ConnectionInterface, Name: "lo"}
		eth1 := filter.Connection{Kind: filter.ConnectionInterface, Name: "eth1"}
		s.Connection = []filter.Connection{{}, {}, {Kind: filter.ConnectionLAN}, {Kind: filter.ConnectionRemote}, eth1, lo}[w.IntN(6)]
	}
	return s
}

func (w world) entry(n int) filter.Entry {
	e := filter.Entry{
		Name: fmt.Sprint(n), Position: fmt.Sprintf("f.yaml:%d:7", n), Index: w.IntN(2),
		Selector: w.selector(), Mirrored: w.IntN(2) == 0, Action: filter.Action(1 + w.IntN(3)),
	}
	if w.IntN(4) == 0 {
		e.Name = "shared"
	}
	e.Forward = w.forward && w.IntN(3) == 0 && e.Selector.From.Kind() != filter.SideMe && e.Selector.To.Kind() != filter.SideMe
	e.Stateful = w.states && e.Action == filter.Permit && w.IntN(2) == 0
	return e
}

func (w world) entries(n int) []filter.Entry {
	out := make([]filter.Entry, n)
	for i := range out {
		out[i] = w.entry(i)
		if e := &out[i]; i > 0 && !e.Forward && w.IntN(4) == 0 {
			e.Selector = out[i-1].Selector // as heavy
		}
	}
	return out
}

func (w world) settings() filter.Settings {
	bit := func() bool { return w.IntN(3) == 0 }
	return filter.Settings{Exemptions: filter.Exemptions{Multicast: bit(), RSVP: bit(), Kerberos: bit()}}
}

func mustNew(t testing.TB, entries []filter.Entry, settings filter.Settings) *filter.SPD {
	t.Helper()
	s, err := filter.New(entries, settings)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// packets calls yield with a packet of every kind in the universe, and with it
// as a point.
func (w world) packets(yield func(s Sample, b *box)) {
	interfaces := []filter.Interface{{Name: "eth0"}}
	if w.connections {
		interfaces = []filter.Interface{{Name: "eth0"}, {Name: "eth1"}, {Name: "ppp0", Remote: true}, {Name: "eth1", Remote: true}}
	}
	states := []filter.State{filter.StateNew, filter.StateReply}
	if w.states {
		states = []filter.State{filter.StateOriginal, filter.StateReply, filter.StateInvalid}
	}
	for _, v6 := range []bool{false, true} {
		addrs, groups := address4, group4
		if v6 {
			addrs, groups = address6, group6
		}
		dsts := append(addrs[:len(addrs):len(addrs)], groups...)
		if w.groups {
			addrs = dsts
		}
		var upper []packet.Packet
		for _, protocol := range []uint8{1, 6, 17, 46, 47, 50, 58} {
			upper = append(upper, packet.Packet{Protocol: protocol, HopLimit: 64, Fragment: true, FragmentOffset: 8})
		}
		ports := port
		if !w.ports {
			ports = []uint16{88, 500, 600}
		}
		for _, protocol := range []uint8{6, 17} {
			for _, src := range ports {
				for _, dst := range ports {
					upper = append(upper, packet.Packet{Protocol: protocol, HopLimit: 64, HasPorts: true, SrcPort: src, DstPort: dst})
				}
			}
		}
		messages := []packet.Packet{{ICMPType: 0}, {ICMPType: 3}, {ICMPType: 3, ICMPCode: 1}, {ICMPType: 8}, {ICMPType: 40}}
		icmp, foreign := uint8(packet.ICMP), uint8(packet.ICMPv6)
		if v6 {
			messages, icmp, foreign = []packet.Packet{{ICMPType: 135}, {ICMPType: 136}, {ICMPType: 128}, {ICMPType: 129}, {ICMPType: 40}}, packet.ICMPv6, packet.ICMP
		}
		for _, p := range messages {
			p.HasICMP, p.Protocol, p.HopLimit = true, icmp, 64
			upper = append(upper, p)
		}
		for _, d := range filter.Directions {
			for _, i := range interfaces {
				for _, state := range states {
					for _, src := range addrs {
						for _, dst := range dsts {
							for _, p := range upper {
								s := Sample{Context: filter.Context{Direction: d, Interface: i, State: state}, Packet: p}
								s.Packet.Src, s.Packet.Dst = src, dst
								_, exempt := (filter.Exemptions{}).Exempt(s.Context, &s.Packet)
								b, ok := point(s.Context, &s.Packet)
								if out := exempt || s.Packet.Protocol == foreign; ok == out {
									panic(fmt.Sprintf("%v is exempt or no packet: %v, in the universe: %v", s, out, ok))
								}
								if ok {
									yield(s, &b)
								}
							}
						}
					}
				}
			}
		}
	}
}

// real says why a sample could not be a packet that filters judge.
func real(s Sample) error {
	p := &s.Packet
	icmp := p.Protocol == packet.ICMP && p.Is4() || p.Protocol == packet.ICMPv6 && !p.Is4()
	switch {
	case p.HasPorts != (packet.HasPorts(p.Protocol) && p.FragmentOffset == 0), p.HasICMP != (icmp && p.FragmentOffset == 0):
		return fmt.Errorf("%v: shows what it cannot, or not what it must: %+v", s, *p)
	case p.Protocol == packet.ICMP && !p.Is4(), p.Protocol == packet.ICMPv6 && p.Is4():
		return fmt.Errorf("%v: the other family's ICMP", s)
	case p.Src.Is4() != p.Dst.Is4():
		return fmt.Errorf("%v: two families", s)
	case s.Context.Interface.Name == "" || s.Context.Interface.Name == "lo" || s.Context.State == 0:
		return fmt.Errorf("%v: context %+v", s, s.Context)
	}
	if why, exempt := (filter.Exemptions{}).Exempt(s.Context, p); exempt {
		return fmt.Errorf("%v: %s is exempt", s, why)
	}
	return nil
}
