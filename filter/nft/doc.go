// Package nft makes nftables enforce an SPD: Compile turns the SPD into the
// rules of a table, Apply puts that table in force in one transaction, and
// Update changes what is in force into another ruleset. Nothing but the table
// "inet ipsecfw" is read or written, or, on kernels without tables of family
// inet, the tables "ip ipsecfw" and "ip6 ipsecfw".
//
// # The table
//
// Chains at hooks judge packets, each by the SPD's groups of its direction, in
// order: a set for each group holds the exact keys of its tuples, and the
// first set that holds the packet's key decides. What a packet costs depends
// on the number of sets, and not of filters. The elements count packets, if
// that is wanted.
//
//   - ingress, at the input hook, drops what the policy blocks, and what the
//     policy would have protected but came in clear.
//   - egress, at the very end of the postrouting hook, drops what the policy
//     blocks and sends what it protects to the chain secure. It stands after
//     source NAT, so that what it judges is what would be on the wire. What
//     the host forwards passes it.
//   - forward, at the forward hook, does both for what the host forwards. It
//     is there when a filter is about that.
//   - output, at the output hook, refuses what egress would drop without a
//     word. It is there when a filter says so: at postrouting it is too late.
//   - prerouting marks what the engine delivers, so that a reverse path check
//     by mark expects it from the engine's interface.
//
// Others are led to:
//
//   - secure hands a packet to the engine's queue, and never lets it by when
//     no engine listens.
//   - refuse drops a packet and tells its sender, by a TCP reset or an ICMP
//     error. Egress lets these out.
//   - soft_in and soft_out let a packet pass whose peer is in the sets soft4
//     and soft6, and else do what is to be done: these are the peers which do
//     not speak IKE, of filters that allow it.
//   - a chain with the name of a set logs or limits the packets of a group,
//     before it does with them as the group says.
//
// The sets response4 and response6 hold the peers with which the default
// response rule has SAs. They decide last, on what no filter does.
//
// # What is exempt
//
// What filter.Exemptions says, first of all in each chain: loopback; IKE and
// ESP to the host, and from the engine's own sockets; multicast and broadcast,
// by IP destination and never by how the link delivered the frame; IPv6
// neighbour and listener discovery that no router passed on; and what else the
// policy exempts.
//
// # Before the daemon
//
// CompileBoot makes the rules for the time until there is a daemon. Apply
// replaces them by those of Compile in one transaction.
package nft
