package main

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// policy is a list of filters from one host to one host, UDP, to one port, all
// of the same shape, and a filter that blocks what is left. Two filters match
// what the bench sends: the one in the middle, and the last.
type policy struct {
	host         netip.Addr // whose policy it is
	middle, last netip.Addr // who may send to middlePort, and to lastPort
	filters      int
	changed      bool // one of the other filters has another port
}

const (
	middlePort = 5001
	lastPort   = 5002
)

// line returns the addresses and the port that a filter permits. No two are
// the same.
func (p *policy) line(i int) (from netip.Addr, port uint16) {
	switch i {
	case p.filters / 2:
		return p.middle, middlePort
	case p.filters - 1:
		return p.last, lastPort
	}
	port = 1024 + uint16(i%1000)
	if p.changed && i == p.filters/3 {
		port = 7
	}
	return netip.AddrFrom4([4]byte{172, 16 + byte(i>>16), byte(i >> 8), byte(i)}), port
}

// ruleFile writes the policy for ipsecfw.
func (p *policy) ruleFile() []byte {
	var b bytes.Buffer
	b.WriteString("version: 1\nname: bench\nfilter-lists:\n  hosts:\n")
	for i := range p.filters {
		from, port := p.line(i)
		fmt.Fprintf(&b, "    - {from: %s, to: %s, protocol: udp, to-port: %d}\n", from, p.host, port)
	}
	b.WriteString("  rest:\n    - {from: any, to: me}\n")
	b.WriteString("rules:\n  - {name: hosts, filter-list: hosts, action: permit}\n  - {name: rest, filter-list: rest, action: block}\n")
	return b.Bytes()
}

// plainRules writes the inbound half of the policy for nft, one rule for each
// filter. They take the place of those that are there.
func (p *policy) plainRules() []byte {
	var b bytes.Buffer
	b.WriteString("add table ip plain\ndelete table ip plain\ntable ip plain {\n\tchain input {\n\t\ttype filter hook input priority -10; policy drop;\n")
	for i := range p.filters {
		from, port := p.line(i)
		fmt.Fprintf(&b, "\t\tip saddr %s ip daddr %s udp dport %d accept\n", from, p.host, port)
	}
	b.WriteString("\t}\n}\n")
	return b.Bytes()
}

// packet returns an inbound packet that a filter permits.
func (p *policy) packet(i int) packet.Packet {
	from, port := p.line(i)
	return packet.Packet{Src: from, Dst: p.host, Protocol: packet.UDP, HasPorts: true, SrcPort: middlePort, DstPort: port}
}
