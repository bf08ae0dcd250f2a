package filter

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// PortRange is a range of ports, both ends inclusive. The zero value is any
// port, as is 0-65535.
type PortRange struct{ Lo, Hi uint16 }

// Any reports whether the range is every port.
func (r PortRange) Any() bool { return r.Lo == 0 && (r.Hi == 0 || r.Hi == 65535) }

// Contains reports whether port is in the range.
func (r PortRange) Contains(port uint16) bool { return r.Any() || r.Lo <= port && port <= r.Hi }

// String writes the range as "443", "1024-65535" or "any".
func (r PortRange) String() string {
	switch {
	case r.Any():
		return "any"
	case r.Lo == r.Hi:
		return strconv.Itoa(int(r.Lo))
	}
	return fmt.Sprintf("%d-%d", r.Lo, r.Hi)
}

// fixedBits is the range's share of the weight, 0 to 16.
func (r PortRange) fixedBits() uint32 {
	if r.Any() {
		return 0
	}
	return uint32(16 - bits.Len16(r.Hi-r.Lo))
}

// portPrefix is the ports whose leading bits are those of value.
type portPrefix struct {
	value uint16
	bits  uint8
}

// prefixes returns the fewest port prefixes that make up the range.
func (r PortRange) prefixes() []portPrefix {
	if r.Any() {
		return []portPrefix{{}}
	}
	var out []portPrefix
	for lo, hi := uint32(r.Lo), uint32(r.Hi); lo <= hi; {
		n := 0 // the prefix has 2^n ports
		for n < 16 && lo&(1<<n) == 0 && lo+2<<n-1 <= hi {
			n++
		}
		out = append(out, portPrefix{uint16(lo), uint8(16 - n)})
		lo += 1 << n
	}
	return out
}

// pieces returns how many prefixes make up the range.
func (r PortRange) pieces() int {
	if r.Any() || r.Lo == r.Hi {
		return 1
	}
	return len(r.prefixes())
}

// Selector is what a filter matches (RFC 4301 section 4.4.1.1): packets that
// go from one side to the other, of a protocol, between ports.
type Selector struct {
	From, To         Side
	Protocol         uint8 // upper-layer protocol, with HasProtocol
	HasProtocol      bool  // false for any protocol
	FromPort, ToPort PortRange
	ICMP             ICMP       // which messages, with protocol icmp or icmpv6
	Connection       Connection // on which interfaces
}

// ErrSelector says that a selector can match nothing or makes no sense; the
// errors that wrap it say why.
var ErrSelector = errors.New("invalid selector")

// Check returns an error that wraps ErrSelector unless s is a selector that
// an SPD accepts.
func (s Selector) Check() error {
	for _, side := range []Side{s.From, s.To} {
		switch side.kind {
		case SideAny, SideMe:
			continue
		case SideAddresses:
		default:
			return fmt.Errorf("%w: a side is missing; use any, me, an address, a subnet or a range", ErrSelector)
		}
		for _, a := range []netip.Addr{side.first, side.last} {
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
				return fmt.Errorf("%w: %s is not a plain IPv4 or IPv6 address or range", ErrSelector, side)
			}
		}
		if side.first.BitLen() != side.last.BitLen() || side.last.Less(side.first) {
			return fmt.Errorf("%w: the range %s must run from a lower to a higher address of the same family", ErrSelector, side)
		}
	}
	if s.From.kind == SideAddresses && s.To.kind == SideAddresses && s.From.first.BitLen() != s.To.first.BitLen() {
		return fmt.Errorf("%w: %s and %s are of different families, and no packet has both", ErrSelector, s.From, s.To)
	}
	for _, r := range []PortRange{s.FromPort, s.ToPort} {
		if r.Lo > r.Hi {
			return fmt.Errorf("%w: the port range %s must run from a lower to a higher port", ErrSelector, r)
		}
		if !r.Any() && (!s.HasProtocol || !packet.HasPorts(s.Protocol)) {
			return fmt.Errorf("%w: a port needs the protocol tcp, udp, sctp or udplite", ErrSelector)
		}
	}
	if m := s.ICMP; m.HasType || m.HasCode {
		switch {
		case !s.HasProtocol || s.Protocol != packet.ICMP && s.Protocol != packet.ICMPv6:
			return fmt.Errorf("%w: a message type needs the protocol icmp or icmpv6", ErrSelector)
		case !m.HasType:
			return fmt.Errorf("%w: a message code needs a type", ErrSelector)
		}
	}
	if c := s.Connection; c.Kind > ConnectionInterface || (c.Kind == ConnectionInterface) != (c.Name != "") || len(c.Name) > maxInterfaceName {
		return fmt.Errorf("%w: the connection is neither all, lan, remote nor the name of an interface of at most %d bytes", ErrSelector, maxInterfaceName)
	}
	if s.tuples() > maxTuples {
		return fmt.Errorf("%w: the ranges make up more than %d subnets and port prefixes; use subnets, or fewer ranges in one filter", ErrSelector, maxTuples)
	}
	return nil
}

// weight is the selector's share of a filter's weight. Its lowest bit is left
// for what the selector does not say.
func (s Selector) weight() uint32 {
	w := (s.From.fixedBits() + s.To.fixedBits()) << 10
	if s.HasProtocol {
		w |= 1 << 9
	}
	w |= (s.FromPort.fixedBits() + s.ToPort.fixedBits() + s.ICMP.fixedBits()) << 3
	return w | s.Connection.fixedBits()<<1
}

// maxInterfaceName is the longest name of an interface, in bytes (IFNAMSIZ
// with the zero at its end).
const maxInterfaceName = 15

// End is one end of a selector: a side with its ports.
type End struct {
	Side  Side
	Ports PortRange
}

// Ends returns the host's own end of the selector and the far one, for
// packets of a direction. With mirror it is the selector's mirrored half
// that they match. Of forwarded packets, whose ends are both elsewhere, the
// one that the filter begins with counts as our own.
func (s Selector) Ends(d Direction, mirror bool) (local, remote End) {
	from, to := End{s.From, s.FromPort}, End{s.To, s.ToPort}
	if (d != Inbound) != mirror {
		return from, to
	}
	return to, from
}

// String writes the selector in the words of the rule file, as in
// "from 10.1.0.0/16 to me protocol tcp to-port 8443".
func (s Selector) String() string {
	var b strings.Builder
	b.WriteString("from " + s.From.String() + " to " + s.To.String())
	if s.HasProtocol {
		b.WriteString(" protocol " + ProtocolName(s.Protocol))
	}
	if !s.FromPort.Any() {
		b.WriteString(" from-port " + s.FromPort.String())
	}
	if !s.ToPort.Any() {
		b.WriteString(" to-port " + s.ToPort.String())
	}
	if s.ICMP.HasType {
		b.WriteString(" icmp-type " + ICMPTypeName(s.Protocol, s.ICMP.Type))
	}
	if s.ICMP.HasCode {
		b.WriteString(" icmp-code " + strconv.Itoa(int(s.ICMP.Code)))
	}
	if s.Connection != (Connection{}) {
		b.WriteString(" connection " + s.Connection.String())
	}
	return b.String()
}
