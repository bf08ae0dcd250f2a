// Package foreign foresees what the other owners of nftables do to packets
// that our policy permits: Docker, firewalld, ufw, a table written by hand.
// A packet passes a host only if every table lets it pass, so that a permit of
// ours is worth nothing under the drop of another.
//
// Read takes the tables from the kernel, and never writes. Judge sends a Probe
// through the chains of those tables, as the kernel would send the first
// packet of a connection, and Warnings does so for each filter that permits.
//
// # What it knows, and what it does not
//
// A value that a probe does not determine, such as the owner of a socket, is
// unknown, bit by bit. A comparison with it may hold or not, and both ways
// are followed: the verdict is Drops only if all ways end in a drop, Passes
// only if none does, and otherwise Unknown. What an expression does that the
// package does not know is unknown likewise.
//
// Rates and quotas are taken as not exceeded, and the route back to a packet's
// source as leading out of the interface that it came in by. A packet that is
// given another destination (DNAT, redirect) is Unknown from there on.
//
// Tables of the families netdev, bridge and arp, the ingress hook, the legacy
// ip_tables of kernels before nftables, and eBPF are not looked at.
package foreign
