// Package explain says what becomes of a flow's packets under a policy: which
// filter decides and why, what would decide without it, and what would be
// negotiated. It is pure.
package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Flow is packets that a policy is asked about: all that filters look at.
type Flow struct {
	Direction string     `json:"direction"` // outbound, inbound or forward
	From      netip.Addr `json:"from"`      // source and destination of the packets
	To        netip.Addr `json:"to"`
	Protocol  uint8      `json:"protocol"`
	FromPort  uint16     `json:"from-port,omitempty"` // with a protocol that has ports
	ToPort    uint16     `json:"to-port,omitempty"`
	ICMPType  uint8      `json:"icmp-type,omitempty"` // with icmp and icmpv6
	ICMPCode  uint8      `json:"icmp-code,omitempty"`
	Fragment  bool       `json:"fragment,omitempty"`  // one that shows no ports
	Interface string     `json:"interface,omitempty"` // by which they come or go; empty for an unknown one
	Remote    bool       `json:"remote,omitempty"`    // that interface is a point-to-point link
	State     string     `json:"state,omitempty"`     // new, original or reply; new if it is empty

	Broadcast bool `json:"broadcast,omitempty"` // To is a broadcast address of the host's networks
	Own       bool `json:"own,omitempty"`       // the key exchange or the engine sends it
	// HopLimit is of the ICMPv6 messages that only neighbours may send; 0 for
	// what those have.
	HopLimit uint8 `json:"hop-limit,omitempty"`
}

// Check returns an error that says what is wrong with a flow and what to
// write.
func (f Flow) Check() error {
	if _, ok := direction(f.Direction); !ok {
		return fmt.Errorf("the direction is %q: choose inbound, outbound or forward", f.Direction)
	}
	if _, ok := state(f.State); !ok {
		return fmt.Errorf("the state is %q: choose new, original or reply", f.State)
	}
	for _, end := range []struct {
		name string
		addr netip.Addr
	}{{"from", f.From}, {"to", f.To}} {
		if a := end.addr; !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("%q is no plain address: write one as in 10.1.2.3 or 2001:db8::1", end.name)
		}
	}
	switch {
	case f.From.Is4() != f.To.Is4():
		return fmt.Errorf("%s and %s are of different families: no packet has both", f.From, f.To)
	case (f.FromPort != 0 || f.ToPort != 0) && !packet.HasPorts(f.Protocol):
		return fmt.Errorf("protocol %s has no ports", filter.ProtocolName(f.Protocol))
	case (f.ICMPType != 0 || f.ICMPCode != 0) && !f.icmp():
		return errors.New("an ICMP type needs the protocol icmp with IPv4 addresses, or icmpv6 with IPv6 ones")
	}
	return nil
}

func direction(s string) (filter.Direction, bool) {
	for _, d := range filter.Directions {
		if s == d.String() {
			return d, true
		}
	}
	return 0, false
}

func state(s string) (filter.State, bool) {
	if s == "" {
		return filter.StateNew, true
	}
	for _, x := range []filter.State{filter.StateNew, filter.StateOriginal, filter.StateReply} {
		if s == x.String() {
			return x, true
		}
	}
	return 0, false
}

func (f Flow) icmp() bool {
	return f.Protocol == packet.ICMP && f.From.Is4() || f.Protocol == packet.ICMPv6 && f.From.Is6()
}

// Packet returns a packet of the flow, with all of it that filters see. The
// flow must be free of errors.
func (f Flow) Packet() (filter.Context, packet.Packet) {
	c := filter.Context{Interface: filter.Interface{Name: f.Interface, Remote: f.Remote}, Broadcast: f.Broadcast, Own: f.Own}
	c.Direction, _ = direction(f.Direction)
	c.State, _ = state(f.State)
	p := packet.Packet{Src: f.From, Dst: f.To, Protocol: f.Protocol, Fragment: f.Fragment, HopLimit: f.HopLimit}
	if f.HopLimit == 0 {
		p.HopLimit = f.usualHopLimit()
	}
	switch {
	case f.Fragment:
	case packet.HasPorts(f.Protocol):
		p.HasPorts, p.SrcPort, p.DstPort = true, f.FromPort, f.ToPort
	case f.icmp():
		p.HasICMP, p.ICMPType, p.ICMPCode = true, f.ICMPType, f.ICMPCode
	}
	return c, p
}

// commonHopLimit is of packets that may come from far away; no filter looks at
// it.
const commonHopLimit = 64

// usualHopLimit returns that of messages to neighbours, which are not
// forwarded.
func (f Flow) usualHopLimit() uint8 {
	if f.Protocol != packet.ICMPv6 || f.Fragment {
		return commonHopLimit
	}
	switch t := f.ICMPType; {
	case t >= filter.NDFirst && t <= filter.NDLast:
		return filter.NDHopLimit
	case t >= filter.MLDFirst && t <= filter.MLDLast, t == filter.MLDv2Report:
		return filter.MLDHopLimit
	}
	return commonHopLimit
}

// Of returns the flow of a packet.
func Of(c filter.Context, p *packet.Packet) Flow {
	f := Flow{
		Direction: c.Direction.String(), From: p.Src, To: p.Dst, Protocol: p.Protocol, FromPort: p.SrcPort, ToPort: p.DstPort,
		ICMPType: p.ICMPType, ICMPCode: p.ICMPCode, Fragment: p.FragmentOffset != 0,
		Interface: c.Interface.Name, Remote: c.Interface.Remote, Broadcast: c.Broadcast, Own: c.Own,
	}
	if c.State != 0 {
		f.State = c.State.String()
	}
	if usual := f.usualHopLimit(); usual != commonHopLimit && usual != p.HopLimit {
		f.HopLimit = p.HopLimit
	}
	return f
}

// Answer returns the flow of the packets that answer those of f.
func (f Flow) Answer() Flow {
	a := f
	a.Broadcast, a.HopLimit = false, 0
	a.From, a.To, a.FromPort, a.ToPort = f.To, f.From, f.ToPort, f.FromPort
	if f.icmp() {
		a.ICMPType = filter.AnswerType(f.Protocol, f.ICMPType)
	}
	switch d, _ := direction(f.Direction); d {
	case filter.Outbound:
		a.Direction = filter.Inbound.String()
	case filter.Inbound:
		a.Direction = filter.Outbound.String()
	}
	a.Own = a.OfEngine()
	a.State = filter.StateReply.String()
	if f.State == a.State {
		a.State = filter.StateOriginal.String()
	}
	return a
}

// OfEngine reports whether the packets are ESP, AH or IKE that the host sends:
// where the daemon runs nobody else sends them.
func (f Flow) OfEngine() bool {
	ike := f.Protocol == packet.UDP && !f.Fragment && (f.FromPort == filter.IKEPort || f.FromPort == filter.NATPort)
	return f.Direction == filter.Outbound.String() && (f.Protocol == filter.ESP || f.Protocol == filter.AH || ike)
}

// String writes the flow in a line.
func (f Flow) String() string {
	out := fmt.Sprintf("%s %s from %s to %s", f.Direction, filter.ProtocolName(f.Protocol), end(f.From, f.FromPort, f), end(f.To, f.ToPort, f))
	if f.icmp() && !f.Fragment {
		out += " " + filter.ICMPTypeName(f.Protocol, f.ICMPType)
		if f.ICMPCode != 0 {
			out += " code " + strconv.Itoa(int(f.ICMPCode))
		}
	}
	if f.Fragment {
		out += ", a fragment without ports"
	}
	if f.Interface != "" {
		out += " by " + f.Interface
	}
	return out
}

func end(a netip.Addr, port uint16, f Flow) string {
	if !packet.HasPorts(f.Protocol) || f.Fragment {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}
