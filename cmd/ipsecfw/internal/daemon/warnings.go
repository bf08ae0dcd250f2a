package daemon

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/doctor"
	"github.com/ipsecfw/ipsecfw/filter/nft/foreign"
	"github.com/ipsecfw/ipsecfw/nfq"
)

// Table is the nftables table of filter/nft, in whatever family.
const Table = "ipsecfw"

// Names returns what a daemon takes of the host's names and numbers.
func Names() doctor.Names {
	return doctor.Names{
		Device: device, InMark: inMark, RoutingTable: routeTable,
		FirstRule: nfq.RulePriority, Rules: nfq.RuleCount,
		Queues: []uint16{queue, tcpQueue, arrivals},
	}
}

// Warnings implements api.Engine: what other nftables tables on the host drop
// though the policy permits it.
func (c *control) Warnings() []string {
	pl := c.current()
	if pl == nil {
		return nil
	}
	tables, err := foreign.Read(Table)
	if err != nil {
		return []string{"other nftables tables were not looked at: " + err.Error()}
	}
	h, err := ThisHost()
	if err != nil {
		return []string{"other nftables tables were not compared with the policy: " + err.Error()}
	}
	var out []string
	for _, w := range foreign.Warnings(pl.policy.Load().spd, tables, h) {
		out = append(out, w.String())
	}
	return out
}

// ThisHost returns the host's addresses and interfaces, the one of the default
// route first.
func ThisHost() (foreign.Host, error) {
	h := foreign.Host{Mark: outMark}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return h, err
	}
	for _, x := range addrs {
		if a, ok := netip.AddrFromSlice(x.IP); ok && a.Unmap().IsGlobalUnicast() {
			h.Addresses = append(h.Addresses, a.Unmap())
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return h, err
	}
	first := 0
	if routes, err := netlink.RouteGet(netip.AddrFrom4([4]byte{192, 0, 2, 1}).AsSlice()); err == nil && len(routes) > 0 {
		first = routes[0].LinkIndex
	}
	for _, l := range links {
		a := l.Attrs()
		if a.Name == loopback || a.Name == device {
			continue
		}
		i := foreign.Interface{Name: a.Name, Index: uint32(a.Index)}
		if a.EncapType == "ether" {
			i.Type = 1
		}
		at := len(h.Interfaces)
		if a.Index == first {
			at = 0
		}
		h.Interfaces = slices.Insert(h.Interfaces, at, i)
	}
	return h, nil
}
