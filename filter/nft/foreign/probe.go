package foreign

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Probe is a packet to be judged. Both addresses are of one family, plain and
// without a zone.
type Probe struct {
	Src, Dst           netip.Addr
	Protocol           uint8
	SrcPort, DstPort   uint16 // of protocols that have ports
	ICMPType, ICMPCode uint8  // of ICMP and ICMPv6
	In, Out            Interface
	State              filter.State // StateNew is the first packet of a connection
	Mark               uint32       // of the socket that sends it
}

// Interface is an interface by which a probe comes or goes. What is zero is
// unknown.
type Interface struct {
	Name  string
	Index uint32
	Type  uint16 // ARPHRD_* of linux/if_arp.h
}

// String writes the probe as in "tcp 192.0.2.1 to 10.0.0.1 port 22".
func (p Probe) String() string {
	s := fmt.Sprintf("%s %s to %s", filter.ProtocolName(p.Protocol), p.Src, p.Dst)
	switch {
	case packet.HasPorts(p.Protocol):
		s += fmt.Sprintf(" port %d", p.DstPort)
	case p.icmp():
		s += fmt.Sprintf(" type %s", filter.ICMPTypeName(p.Protocol, p.ICMPType))
	}
	return s
}

func (p *Probe) icmp() bool {
	return p.Protocol == packet.ICMP && p.Src.Is4() || p.Protocol == packet.ICMPv6 && !p.Src.Is4()
}

// TCP flags (RFC 9293 section 3.1).
const tcpSYN = 0x02

// headers returns the packet's network and transport headers. What rules may
// ask and no probe says, such as the TTL, is unknown. The rest of the packet
// is unknown altogether.
func (p *Probe) headers() (network, transport header) {
	if p.Src.Is4() {
		network = header{data: packet.AppendIPv4Header(nil, p.Src, p.Dst, p.Protocol, 0, 64, 0, true), srcAt: 12, dstAt: 16, addrLen: 4}
		network.know(0, 2) // up to the length
		network.know(6, 2) // no fragment
		network.know(9, 1) // the protocol
	} else {
		network = header{data: packet.AppendIPv6Header(nil, p.Src, p.Dst, p.Protocol, 0, 64, 0), srcAt: 8, dstAt: 24, addrLen: 16}
		network.know(0, 1)
		network.knowBits(1, 0xf0) // not the flow label
		network.know(6, 1)        // the protocol
	}
	network.know(network.srcAt, network.addrLen)
	network.know(network.dstAt, network.addrLen)

	switch {
	case packet.HasPorts(p.Protocol):
		transport.data = make([]byte, 4, 20)
		binary.BigEndian.PutUint16(transport.data, p.SrcPort)
		binary.BigEndian.PutUint16(transport.data[2:], p.DstPort)
		transport.know(0, 4)
		if p.Protocol == packet.TCP && p.State == filter.StateNew {
			transport.data = transport.data[:20]
			transport.data[13] = tcpSYN
			transport.know(8, 4) // no acknowledgement
			transport.know(13, 1)
		}
	case p.icmp():
		transport.data = []byte{p.ICMPType, p.ICMPCode}
		transport.know(0, 2)
	}
	return network, transport
}

// header is a header of which some bits are known.
type header struct {
	data, known           []byte
	srcAt, dstAt, addrLen int // of the addresses in a network header
}

func (h *header) knowBits(at int, bits byte) {
	for len(h.known) < len(h.data) {
		h.known = append(h.known, 0)
	}
	h.known[at] = bits
}

func (h *header) know(at, n int) {
	for i := range n {
		h.knowBits(at+i, 0xff)
	}
}

// forget makes n bytes unknown.
func (h *header) forget(at, n int) {
	for i := at; i < min(at+n, len(h.known)); i++ {
		h.known[i] = 0
	}
}
