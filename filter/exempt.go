package filter

import (
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Exemptions are the packets, beyond those of IKE and of the link, that no
// filter judges. The zero value exempts the least.
type Exemptions struct {
	Multicast bool // what the host sends to multicast and broadcast addresses; what comes so is always exempt
	RSVP      bool // protocol 46
	Kerberos  bool // TCP and UDP to port 88, and the answers of connections begun so
}

// Protocols, ports and message types of the exemptions: IKE (RFC 7296 section
// 2), Kerberos (RFC 4120 section 7.2), neighbour discovery (RFC 4861 section
// 4, router solicitation to redirect), multicast listener discovery (RFC 2710
// and 3810).
const (
	IKEPort      = 500
	NATPort      = 4500
	KerberosPort = 88

	ESP  = 50
	AH   = 51
	RSVP = 46

	Unreachable4, Unreachable6 = 3, 1 // ICMP error types (RFC 792, RFC 4443)
	FragmentationNeeded        = 4    // a code of Unreachable4
	PacketTooBig6              = 2    // of ICMPv6

	NDFirst, NDLast     = 133, 137
	NDHopLimit          = 255
	MLDFirst, MLDLast   = 130, 132
	MLDv2Report         = 143
	MLDHopLimit         = 1
	loopback            = "lo"
	exemptLoopback      = "the loopback interface"
	exemptIKE           = "IKE, with which hosts agree on keys"
	exemptIKEError      = "an ICMP error about IKE of this host"
	exemptESP           = "ESP, which the engine judges when it is open"
	exemptAH            = "AH, which the engine judges when it is open"
	exemptMulticast     = "multicast and broadcast"
	exemptND            = "IPv6 neighbour discovery"
	exemptMLD           = "IPv6 multicast listener discovery"
	exemptRSVP          = "RSVP"
	exemptKerberos      = "Kerberos"
	exemptKerberosReply = "the answer to a Kerberos request"
)

// Exempt says why no filter judges a packet; ok is false when filters do. Of
// the packets that the host forwards only multicast and broadcast are exempt.
func (x Exemptions) Exempt(c Context, p *packet.Packet) (why string, ok bool) {
	multicast := c.Broadcast || IsMulticast(p.Dst)
	if c.Direction == Forward {
		return exemptMulticast, multicast
	}
	udp := p.Protocol == packet.UDP && p.HasPorts
	local := p.SrcPort
	if c.Direction == Inbound {
		local = p.DstPort
	}
	switch {
	case c.Interface.Name == loopback:
		return exemptLoopback, true
	case p.Protocol == ESP && (c.Direction == Inbound || c.Own):
		return exemptESP, true
	case p.Protocol == AH && (c.Direction == Inbound || c.Own):
		return exemptAH, true
	case udp && (local == IKEPort || local == NATPort) && (c.Direction == Inbound || c.Own):
		return exemptIKE, true
	case c.Direction == Inbound && c.Own && refusesIKE(p):
		return exemptIKEError, true
	case multicast && (c.Direction == Inbound || x.Multicast):
		return exemptMulticast, true
	case p.HasICMP && p.Protocol == packet.ICMPv6 && p.HopLimit == NDHopLimit && p.ICMPType >= NDFirst && p.ICMPType <= NDLast:
		return exemptND, true
	case p.HasICMP && p.Protocol == packet.ICMPv6 && p.HopLimit == MLDHopLimit && (p.ICMPType >= MLDFirst && p.ICMPType <= MLDLast || p.ICMPType == MLDv2Report):
		return exemptMLD, true
	case x.RSVP && p.Protocol == RSVP:
		return exemptRSVP, true
	}
	if x.Kerberos && p.HasPorts && (udp || p.Protocol == packet.TCP) {
		// The destination port says that it is a request. A source port says
		// nothing: anybody can send from port 88.
		switch {
		case p.DstPort == KerberosPort:
			return exemptKerberos, true
		case p.SrcPort == KerberosPort && c.State == StateReply:
			return exemptKerberosReply, true
		}
	}
	return "", false
}

// refusesIKE reports whether a packet is an ICMP error that says that a message
// did not arrive. It tells people why a peer does not answer, and changes
// nothing here; one that tells of an MTU would, and anybody can make it.
func refusesIKE(p *packet.Packet) bool {
	switch {
	case !p.HasICMP:
		return false
	case p.Protocol == packet.ICMP:
		return p.Is4() && p.ICMPType == Unreachable4 && p.ICMPCode != FragmentationNeeded
	}
	return p.ICMPType == Unreachable6
}

// IsMulticast reports whether an address stands for a group of hosts, or for
// all hosts of a link.
func IsMulticast(a netip.Addr) bool {
	return a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
