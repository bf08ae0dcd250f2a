package lab

import (
	"encoding/binary"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Kind says whether a packet on the wire is protected.
type Kind int

// What Classify tells apart. The zero value is the one that needs an excuse.
const (
	Clear Kind = iota // anything else
	IKE               // key exchange, and the NAT keepalive of RFC 3948 section 2.3
	ESP               // protocol 50, or UDP-encapsulated
)

func (k Kind) String() string {
	switch k {
	case IKE:
		return "IKE"
	case ESP:
		return "ESP"
	}
	return "clear"
}

// Classify parses a captured packet and says what it is, as RFC 3948
// section 2 tells ESP from IKE on port 4500. A packet that cannot be parsed is
// clear.
func Classify(b []byte) (Kind, packet.Packet) {
	const udp, esp, isakmp, natt = 17, 50, 500, 4500
	var p packet.Packet
	if packet.Parse(b, &p) != nil {
		return Clear, packet.Packet{}
	}
	switch {
	case p.Protocol == esp:
		return ESP, p
	case p.Protocol != udp || !p.HasPorts || p.Len < p.HeaderLen+8:
		return Clear, p
	case p.SrcPort == isakmp || p.DstPort == isakmp:
		return IKE, p
	case p.SrcPort != natt && p.DstPort != natt:
		return Clear, p
	}
	payload := b[p.HeaderLen+8 : p.Len]
	switch {
	case len(payload) == 1 && payload[0] == 0xff:
		return IKE, p
	case len(payload) >= 4 && binary.BigEndian.Uint32(payload) == 0:
		return IKE, p
	case len(payload) >= 8:
		return ESP, p
	}
	return Clear, p
}
