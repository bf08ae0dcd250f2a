// Package filter decides what happens to a packet: permit, block or
// negotiate (RFC 4301 section 4.4.1 calls them BYPASS, DISCARD and PROTECT).
//
// An Entry is one filter with its action; the SPD is an immutable set of
// entries. Lookup finds the entry that decides on a packet, and Groups gives
// the same policy as exact-match tuples, from which filter/nft builds its
// sets. The package is pure: it does no I/O and knows no address of the host.
//
// # The most specific filter wins
//
// Of the filters that match a packet the one with the greatest weight
// decides, whatever its place in the rule file. Weights are compared by
//
//  1. the fixed address bits of both sides, summed. A side counts 128 for one
//     IPv6 or IPv4 address and for "me", n for an IPv6 subnet /n, n+96 for an
//     IPv4 subnet /n, 128 less the bits that it takes to number its addresses
//     for a range, and 0 for "any";
//  2. whether the filter names a protocol;
//  3. the fixed port bits of both sides, summed. A side counts 16 for one
//     port, 16 less the bits that it takes to number its ports for a range,
//     and 0 for any port. An ICMP type counts 8, with a code 16;
//  4. the connection: 2 for an interface by name, 1 for lan or remote, 0 for
//     all;
//  5. whether the filter is stateful.
//
// Between filters of the same weight block comes before negotiate, negotiate
// before permit, and otherwise the one that stands first in the file. A
// packet that no filter matches is permitted.
//
// # What matches
//
// An outbound packet has a local source, an inbound one a local destination.
// So "me" on the local side matches every packet, and on the remote side none:
// a host has no policy for what it sends to itself. A filter matches packets
// that go from its From side to its To side, in whichever direction that is
// for the host; a mirrored one matches the answers too, with sides and ports
// exchanged, and ICMP requests with their answers. What the host forwards for
// others is matched by filters of its own, which have no "me".
//
// A filter for ICMP matches IPv4 alone, and one for ICMPv6 IPv6 alone. A filter
// that names ports matches only packets that show them. A fragment
// other than the first does not, and neither does a protocol that has none.
//
// A stateful filter asks for a packet's place in its connection as well: it
// matches connections that begin at its From side, and the answers to them.
//
// Some packets are exempt and meet no filter: see Exemptions.
package filter
