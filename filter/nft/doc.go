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
//     is there when a filter is about that. What comes by the engine's device
//     is no exception there; see below.
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
//     error. Egress lets these out. A sender at the other end of a tunnel is
//     told nothing: it would be told in clear.
//   - tunnelled lets a forwarded packet by that came out of a tunnel, and
//     drops one that should have.
//   - soft_in and soft_out let a packet pass whose peer is in the sets soft4
//     and soft6, and else do what is to be done: these are the peers which do
//     not speak IKE, of filters that allow it.
//   - a chain with the name of a set logs or limits the packets of a group,
//     before it does with them as the group says.
//
// The sets response4 and response6 hold the peers with which the default
// response rule has SAs. They decide last, on what no filter does.
//
// # Out of a tunnel
//
// The engine checks what it has opened before it delivers it: that the policy
// wants it protected under the rule of its SA (RFC 4301 section 5.2). For the
// host's own packets that is all, and ingress accepts them. But by which
// interface a forwarded packet will go is not known before it is routed, and
// the engine asks only the filters of all interfaces. So the chain forward
// asks again, the same sets in the same order, and what has come by the
// engine's device
//
//   - passes, when a filter decides that wants it out of a tunnel;
//   - is dropped, when that filter is one of certain interfaces: the engine did
//     not ask it, and so it was another's SA. With AcceptUnsecured it passes,
//     as it would in clear;
//   - goes to the engine, when a filter decides that wants it in a tunnel;
//   - is dropped, when a filter blocks it, with Reject too;
//   - passes, when a filter permits it: it would in clear. Where that filter
//     is of all interfaces and connections, the engine has dropped it before;
//   - is dropped, when no filter decides: the engine knew one, and since then
//     the policy or, by DNAT, the destination has changed.
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
