// Package space computes with sets of packets: which packets a policy decides
// how, where two policies differ, which filters contradict each other, which
// never decide. Every answer is exact, over every packet there can be, or an
// error that wraps ErrUndecided.
//
// # The universe
//
// A packet stands here with its context, as a point of
//
//   - direction: outbound, inbound, forward
//   - family, source and destination address. The host's own end may be any
//     address, since no policy knows which ones the host has
//   - protocol
//   - what the packet shows: ports, an ICMP type and code, or neither
//   - source port, or type and code, and destination port
//   - interface: its name, and whether it is a LAN or remote
//   - stage: whether it begins a connection or goes on with it from the end
//     that began it, answers, or does neither
//
// Points that no packet is do not count: only TCP, UDP, SCTP and UDP-Lite show
// ports, only ICMP over IPv4 and ICMPv6 over IPv6 show a type, and fragments
// other than the first show neither. ICMP over IPv6 and ICMPv6 over IPv4 have
// no meaning (RFC 792 and RFC 4443 each define one for its own IP), and no host
// makes anything of them. They do not count either: a filter with protocol icmp
// concerns IPv4 only.
//
// Packets that no filter of any policy judges (filter.Exemptions) are not in
// the universe either, as far as its dimensions tell them:
//
//   - the loopback interface, by its name
//   - inbound ESP, and inbound UDP to the ports of IKE
//   - inbound and forwarded multicast, and the limited broadcast address
//
// The rest of what is always exempt is told by what is no dimension. Of such
// packets those are in the universe that filters judge: neighbour discovery
// and multicast listener discovery with a hop limit at which they are not
// exempt, ESP and IKE that the host sends without being the engine's own, and
// addresses that are no broadcast addresses of the host's networks. So an
// assertion over all packets is not refuted by neighbour discovery, yet it is
// by a forged solicitation from far away, if a filter lets that pass.
//
// Packets on an interface of no known name are out as well: the kernel always
// knows it. The exemptions that a policy chooses (RSVP, Kerberos, outbound
// multicast) are in: they count as permits that come before every filter.
package space
