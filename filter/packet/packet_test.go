package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
)

// ip4 makes an IPv4 packet from 10.1.0.5 to 10.2.0.9.
func ip4(protocol uint8, options, payload []byte) []byte {
	b := make([]byte, 20, 20+len(options)+len(payload))
	b[0] = 0x45 + uint8(len(options)/4)
	b[1] = 0x2e
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(options)+len(payload)))
	binary.BigEndian.PutUint16(b[4:], 0xfffe)
	b[6] = 0x40 // don't fragment
	b[8], b[9] = 61, protocol
	copy(b[12:], []byte{10, 1, 0, 5, 10, 2, 0, 9})
	b = append(append(b, options...), payload...)
	FinishHeaderChecksum(b)
	return b
}

// ip6 makes an IPv6 packet from 2001:db8::5 to 2001:db8::9.
func ip6(next uint8, payload ...[]byte) []byte {
	b := make([]byte, 40)
	b[0], b[1], b[2], b[3] = 0x62, 0xe1, 0x23, 0x45
	b[6], b[7] = next, 60
	copy(b[8:], []byte{0x20, 0x01, 0x0d, 0xb8, 15: 5})
	copy(b[24:], []byte{0x20, 0x01, 0x0d, 0xb8, 15: 9})
	for _, p := range payload {
		b = append(b, p...)
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// fragment4 turns an IPv4 packet into a fragment.
func fragment4(b []byte, flagsAndOffset uint16) []byte {
	binary.BigEndian.PutUint16(b[6:], flagsAndOffset)
	FinishHeaderChecksum(b)
	return b
}

// ext makes an IPv6 extension header of 8*(units+1) bytes.
func ext(next, units uint8, head ...byte) []byte {
	b := make([]byte, 8+int(units)*8)
	b[0], b[1] = next, units
	copy(b[2:], head)
	return b
}

var (
	src4, dst4 = netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.2.0.9")
	src6, dst6 = netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("2001:db8::9")
	ports      = []byte{0x9c, 0x40, 0x20, 0xfb, 0, 0, 0, 0} // 40000 to 8443
)

func TestParse(t *testing.T) {
	v4 := Packet{Src: src4, Dst: dst4, HeaderLen: 20, NextHeaderAt: 9, TrafficClass: 0x2e, HopLimit: 61}
	v6 := Packet{Src: src6, Dst: dst6, HeaderLen: 40, NextHeaderAt: 6, TrafficClass: 0x2e, HopLimit: 60}
	with := func(p Packet, f func(*Packet)) Packet { f(&p); return p }
	withPorts := func(p Packet, protocol uint8, total int) Packet {
		p.Protocol, p.Len = protocol, total
		p.HasPorts, p.SrcPort, p.DstPort = true, 40000, 8443
		return p
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want Packet
	}{
		{"tcp", ip4(TCP, nil, ports), withPorts(v4, TCP, 28)},
		{"udp", ip4(UDP, nil, ports), withPorts(v4, UDP, 28)},
		{"sctp", ip4(SCTP, nil, ports), withPorts(v4, SCTP, 28)},
		{"udplite", ip4(UDPLite, nil, ports), withPorts(v4, UDPLite, 28)},
		{"padding behind the packet", append(ip4(TCP, nil, ports), 1, 2, 3), withPorts(v4, TCP, 28)},
		{"icmp has a type and no ports", ip4(ICMP, nil, ports), with(v4, func(p *Packet) {
			p.Protocol, p.Len, p.HasICMP, p.ICMPType, p.ICMPCode = ICMP, 28, true, ports[0], ports[1]
		})},
		{"icmp in IPv6 has no type", ip6(ICMP, ports), with(v6, func(p *Packet) { p.Protocol, p.Len = ICMP, 48 })},
		{"esp has no ports", ip4(ESP, nil, ports), with(v4, func(p *Packet) { p.Protocol, p.Len = ESP, 28 })},
		{"empty payload", ip4(89, nil, nil), with(v4, func(p *Packet) { p.Protocol, p.Len = 89, 20 })},
		{"options", ip4(TCP, []byte{1, 7, 3, 4}, ports), withPorts(with(v4, func(p *Packet) { p.HeaderLen = 24 }), TCP, 32)},
		{"nothing after the end of options", ip4(TCP, []byte{0, 9, 9, 9}, ports), withPorts(with(v4, func(p *Packet) { p.HeaderLen = 24 }), TCP, 32)},
		{"source route at its end", ip4(TCP, []byte{131, 3, 4, 0}, ports), withPorts(with(v4, func(p *Packet) { p.HeaderLen = 24 }), TCP, 32)},
		{"first fragment", fragment4(ip4(UDP, nil, ports), 0x2000),
			withPorts(with(v4, func(p *Packet) { p.Fragment, p.MoreFragments = true, true }), UDP, 28)},
		{"later fragment", fragment4(ip4(UDP, nil, ports), 0x20b9),
			with(v4, func(p *Packet) {
				p.Protocol, p.Len, p.Fragment, p.MoreFragments, p.FragmentOffset = UDP, 28, true, true, 0xb9*8
			})},
		{"last fragment, shorter than ports", fragment4(ip4(UDP, nil, []byte{1}), 0x1fff),
			with(v4, func(p *Packet) { p.Protocol, p.Len, p.Fragment, p.FragmentOffset = UDP, 21, true, 0x1fff*8 })},

		{"IPv6 tcp", ip6(TCP, ports), withPorts(v6, TCP, 48)},
		{"IPv6 unknown next header has no ports", ip6(200, ports), with(v6, func(p *Packet) { p.Protocol, p.Len = 200, 48 })},
		{"no next header", ip6(59), with(v6, func(p *Packet) { p.Protocol, p.Len = 59, 40 })},
		{"hop-by-hop", ip6(hopByHop, ext(TCP, 0), ports), withPorts(with(v6, func(p *Packet) { p.HeaderLen, p.NextHeaderAt = 48, 40 }), TCP, 56)},
		{"long destination options", ip6(destOptions, ext(UDP, 2), ports), withPorts(with(v6, func(p *Packet) { p.HeaderLen, p.NextHeaderAt = 64, 40 }), UDP, 72)},
		{"all in a row", ip6(hopByHop, ext(destOptions, 0), ext(routing, 0), ext(destOptions, 1), ext(UDP, 0), ports),
			withPorts(with(v6, func(p *Packet) { p.HeaderLen, p.NextHeaderAt = 80, 72 }), UDP, 88)},
		{"ah is an upper-layer protocol", ip6(hopByHop, ext(AH, 0), ext(TCP, 1), ports),
			with(v6, func(p *Packet) { p.Protocol, p.HeaderLen, p.NextHeaderAt, p.Len = AH, 48, 40, 72 })},
		{"IPv6 first fragment", ip6(fragment, ext(UDP, 0, 0, 1), ports),
			withPorts(with(v6, func(p *Packet) { p.HeaderLen, p.NextHeaderAt, p.Fragment, p.MoreFragments = 48, 40, true, true }), UDP, 56)},
		{"IPv6 later fragment", ip6(fragment, ext(UDP, 0, 0x05, 0xa8), ports),
			with(v6, func(p *Packet) {
				p.Protocol, p.Len, p.HeaderLen, p.NextHeaderAt = UDP, 56, 48, 40
				p.Fragment, p.FragmentOffset = true, 1448
			})},
		{"later fragment of an extension header", ip6(fragment, ext(destOptions, 0, 0, 9), ports),
			with(v6, func(p *Packet) {
				p.Protocol, p.Len, p.HeaderLen, p.NextHeaderAt = destOptions, 56, 48, 40
				p.Fragment, p.MoreFragments, p.FragmentOffset = true, true, 8
			})},
		{"atomic fragment is a whole packet", ip6(fragment, ext(TCP, 0, 0, 0), ports),
			withPorts(with(v6, func(p *Packet) { p.HeaderLen, p.NextHeaderAt = 48, 40 }), TCP, 56)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Packet{Fragment: true, HasPorts: true, SrcPort: 9, FragmentOffset: 8} // to be overwritten
			if err := Parse(tt.b, &p); err != nil {
				t.Fatal(err)
			}
			if p != tt.want {
				t.Errorf("got  %+v\nwant %+v", p, tt.want)
			}
			if p.Is4() != (tt.b[0]>>4 == 4) {
				t.Errorf("Is4() = %v", p.Is4())
			}
			for n := range p.Len {
				if err := Parse(tt.b[:n], &p); !errors.Is(err, ErrTruncated) {
					t.Errorf("first %d bytes: error %v, want ErrTruncated", n, err)
				}
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	edit := func(b []byte, at int, v ...byte) []byte { copy(b[at:], v); return b }
	var many [][]byte
	for range maxExtensions + 1 {
		many = append(many, ext(destOptions, 0))
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, ErrTruncated},
		{"version 5", edit(ip4(TCP, nil, ports), 0, 0x55), ErrVersion},
		{"IPv4 header too short", edit(ip4(TCP, nil, ports), 0, 0x44), ErrMalformed},
		{"IPv4 header longer than the packet", edit(ip4(TCP, nil, ports), 0, 0x4f), ErrTruncated},
		{"IPv4 length longer than the buffer", edit(ip4(TCP, nil, ports), 2, 0, 29), ErrTruncated},
		{"IPv4 without a length", edit(ip4(TCP, nil, ports), 2, 0, 0), ErrJumbogram},
		{"ports cut off", ip4(TCP, nil, ports[:3]), ErrTruncated},
		{"ports cut off in a first fragment", fragment4(ip4(UDP, nil, ports[:2]), 0x2000), ErrTruncated},
		{"IPv4 option too long", ip4(TCP, []byte{7, 5, 4, 0}, ports), ErrMalformed},
		{"IPv4 option too short", ip4(TCP, []byte{7, 1, 4, 0}, ports), ErrMalformed},
		{"IPv4 option without a length", ip4(TCP, []byte{1, 1, 1, 7}, ports), ErrMalformed},
		{"loose source route", ip4(TCP, []byte{131, 7, 4, 1, 2, 3, 4, 0}, ports), ErrSourceRoute},
		{"strict source route", ip4(TCP, []byte{137, 7, 4, 1, 2, 3, 4, 0}, ports), ErrSourceRoute},
		{"source route without a pointer", ip4(TCP, []byte{1, 1, 131, 2}, ports), ErrMalformed},
		{"jumbogram", edit(ip6(hopByHop, ext(TCP, 0, 0xc2, 4, 0, 1), ports), 4, 0, 0), ErrJumbogram},
		{"IPv6 length longer than the buffer", edit(ip6(TCP, ports), 4, 0, 9), ErrTruncated},
		{"extension header cut off", ip6(destOptions, ext(TCP, 0)[:7]), ErrTruncated},
		{"extension header longer than the packet", ip6(destOptions, ext(TCP, 1)[:8]), ErrTruncated},
		{"ports cut off behind an extension header", ip6(destOptions, ext(TCP, 0), ports[:3]), ErrTruncated},
		{"hop-by-hop not first", ip6(destOptions, ext(hopByHop, 0), ext(TCP, 0), ports), ErrMalformed},
		{"fragment of a fragment", ip6(fragment, ext(fragment, 0, 0, 1), ext(TCP, 0), ports), ErrMalformed},
		{"too many extension headers", ip6(destOptions, many...), ErrMalformed},
		{"routing header with segments left", ip6(routing, ext(TCP, 0, 0, 1), ports), ErrSourceRoute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Packet
			if err := Parse(tt.b, &p); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	b4, b6 := ip4(TCP, nil, ports), ip6(hopByHop, ext(TCP, 0), ports)
	var p Packet
	if n := testing.AllocsPerRun(100, func() {
		if Parse(b4, &p) != nil || Parse(b6, &p) != nil {
			t.Error("packet refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Packets come from anyone on the network: whatever they hold, Parse returns,
// and what it says lies inside the packet.
func FuzzParse(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Packet
		if err := Parse(b, &p); err != nil {
			return
		}
		if p.HeaderLen < 20 || p.HeaderLen > p.Len || p.Len > len(b) || b[p.NextHeaderAt] != p.Protocol || p.NextHeaderAt >= p.HeaderLen {
			t.Fatalf("%+v of %d bytes", p, len(b))
		}
		if p.HasPorts != (HasPorts(p.Protocol) && p.FragmentOffset == 0) {
			t.Fatalf("ports: %+v", p)
		}
		var q Packet
		if err := Parse(b[:p.Len], &q); err != nil || q != p {
			t.Fatalf("without padding: %+v and %v, with it %+v", q, err, p)
		}
	})
}

// seeds are packets to begin fuzzing with.
func seeds() [][]byte {
	return [][]byte{
		ip4(TCP, nil, tcpSegment(flagACK, nil, []byte("hello"))),
		ip4(TCP, []byte{1, 7, 3, 4}, tcpSegment(flagSYN, []byte{2, 4, 5, 0xb4}, nil)),
		fragment4(ip4(UDP, nil, ports), 0x2000),
		ip6(TCP, tcpSegment(flagACK|flagPSH, nil, []byte("hello, world"))),
		ip6(hopByHop, ext(routing, 0), ext(UDP, 0), ports),
		ip6(fragment, ext(UDP, 0, 0, 9), ports),
	}
}

// tcpSegment makes a TCP segment from port 40000 to 8443 without a checksum.
func tcpSegment(flags uint8, options, data []byte) []byte {
	b := make([]byte, 20, 20+len(options)+len(data))
	copy(b, ports[:4])
	binary.BigEndian.PutUint32(b[4:], 0xfffffff0)
	binary.BigEndian.PutUint32(b[8:], 77)
	b[12], b[13] = uint8(5+len(options)/4)<<4, flags
	binary.BigEndian.PutUint16(b[14:], 500)
	return append(append(b, options...), data...)
}
