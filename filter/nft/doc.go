// Package nft makes nftables enforce an SPD: Compile turns the SPD into the
// rules of one table, and Apply puts that table in force in one transaction.
// Nothing but the table "inet ipsecfw" is read or written.
//
// # The table
//
// Two chains judge packets, each by the SPD's groups of its direction, in
// order: a set for each group holds the exact keys of its tuples, and the
// first set that holds the packet's key decides.
//
//   - ingress, at the input hook, drops what the policy blocks, and what the
//     policy would have protected but came in clear.
//   - egress, at the very end of the postrouting hook, drops what the policy
//     blocks and sends what it protects to the chain secure. It stands after
//     source NAT, so that what it judges is what would be on the wire.
//
// The chain secure hands a packet to the engine's queue, and never lets it by
// when no engine listens. The chain prerouting marks what the engine delivers,
// so that a reverse path check by mark expects it from the engine's interface.
//
// # What is exempt
//
// Loopback; IKE and ESP to the host, and from the engine's own sockets;
// multicast and broadcast, by IP destination and never by how the link
// delivered the frame; IPv6 neighbour discovery that no router passed on
// (RFC 4861 section 7.1); and what the host forwards for others.
package nft
