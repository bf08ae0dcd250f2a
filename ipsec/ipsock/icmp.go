package ipsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// ICMP and ICMPv6, as protocols of IP and in the types that tell of a packet
// that did not arrive (RFC 792, RFC 4443).
const (
	protoICMP          = 1
	protoICMPv6        = 58
	unreachable        = 3
	unreachable6       = 1
	packetTooBig6      = 2
	fragmentationError = 4 // a code of unreachable
)

// Error is an ICMP error that came back for a UDP packet of this host. Nobody
// vouches for it.
type Error struct {
	Local, Remote netip.AddrPort // of the packet
	From          netip.Addr     // who says it
	Text          string         // what it says, in a few words
}

// String writes what it says, and who.
func (e Error) String() string { return "ICMP " + e.Text + ", from " + e.From.String() }

// ListenErrors opens a raw socket that gets the ICMP errors about packets that
// did not arrive, and nothing else, for one address family. ParseError reads
// its packets.
func ListenErrors(v6 bool) (*Conn, error) {
	protocol := protoICMP
	if v6 {
		protocol = protoICMPv6
	}
	c, err := ListenRaw(v6, protocol, 0)
	if err != nil {
		return nil, err
	}
	err = c.control(func(fd int) error { return filterErrors(fd, v6) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("filter ICMP: %w", err), c.Close())
	}
	return c, nil
}

// filterErrors has the kernel drop all ICMP messages but errors: raw(7) and
// RFC 3542 section 3.2. A bit that is set drops its type.
func filterErrors(fd int, v6 bool) error {
	if !v6 {
		const icmpFilter = 1 // ICMP_FILTER
		return unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, ^(1 << unreachable))
	}
	f := unix.ICMPv6Filter{}
	for i := range f.Data {
		f.Data[i] = ^uint32(0)
	}
	f.Data[0] &^= 1<<unreachable6 | 1<<packetTooBig6
	return unix.SetsockoptICMPv6Filter(fd, unix.SOL_ICMPV6, unix.ICMPV6_FILTER, &f)
}

// ParseError reads an ICMP error of which a packet of ListenErrors consists.
// ok is false for one about anything but a UDP packet.
func ParseError(p *Packet) (e Error, ok bool) {
	b := p.Buf[p.Offset:]
	if len(b) < 8 {
		return e, false
	}
	e.From = p.Remote.Addr().WithZone("")
	kind, code, word, inner := b[0], b[1], binary.BigEndian.Uint32(b[4:]), b[8:]
	v6 := p.Remote.Addr().Is6()
	var src, dst netip.Addr
	if v6 {
		const header, next = 40, 6
		if len(inner) < header+4 || inner[next] != unix.IPPROTO_UDP {
			return e, false
		}
		src, dst = netip.AddrFrom16([16]byte(inner[8:24])), netip.AddrFrom16([16]byte(inner[24:40]))
		inner = inner[header:]
	} else {
		n := ipv4HeaderLen(inner)
		if n < 20 || len(inner) < n+4 || inner[9] != unix.IPPROTO_UDP {
			return e, false
		}
		src, dst = netip.AddrFrom4([4]byte(inner[12:16])), netip.AddrFrom4([4]byte(inner[16:20]))
		inner = inner[n:]
	}
	e.Local = netip.AddrPortFrom(src, binary.BigEndian.Uint16(inner))
	e.Remote = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(inner[2:]))
	switch {
	case v6 && kind == packetTooBig6:
		e.Text = fmt.Sprintf("packet too big, MTU %d", word)
	case !v6 && code == fragmentationError:
		e.Text = fmt.Sprintf("fragmentation needed, MTU %d", word&0xffff)
	case v6:
		e.Text = named(unreachable6Names[:], code)
	default:
		e.Text = named(unreachableNames[:], code)
	}
	return e, true
}

func named(names []string, code uint8) string {
	if int(code) < len(names) {
		return names[code]
	}
	return "unreachable, code " + strconv.Itoa(int(code))
}

// The codes of "destination unreachable" (RFC 792, RFC 1122 section 3.2.2.1,
// RFC 1812 section 5.2.7.1), and those of ICMPv6 (RFC 4443 section 3.1).
var (
	unreachableNames = [...]string{
		"network unreachable", "host unreachable", "protocol unreachable", "port unreachable", "fragmentation needed",
		"source route failed", "network unknown", "host unknown", "source host isolated", "network prohibited", "host prohibited",
		"network unreachable for the type of service", "host unreachable for the type of service", "administratively prohibited",
	}
	unreachable6Names = [...]string{
		"no route", "administratively prohibited", "beyond the scope of the source", "address unreachable", "port unreachable",
		"source address refused by policy", "route refused",
	}
)
