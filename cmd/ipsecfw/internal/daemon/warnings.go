package daemon

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/ipsecfw/ipsecfw/filter/nft/foreign"
)

// ownTable is the nftables table of filter/nft, in whatever family.
const ownTable = "ipsecfw"

// Warnings implements api.Engine: what other nftables tables on the host drop
// though the policy permits it.
func (c *control) Warnings() []string {
	pl := c.current()
	if pl == nil {
		return nil
	}
	tables, err := foreign.Read(ownTable)
	if err != nil {
		return []string{"other nftables tables were not looked at: " + err.Error()}
	}
	h, err := thisHost()
	if err != nil {
		return []string{"other nftables tables were not compared with the policy: " + err.Error()}
	}
	var out []string
	for _, w := range foreign.Warnings(pl.policy.Load().spd, tables, h) {
		out = append(out, w.String())
	}
	return out
}

// thisHost returns the host's addresses and interfaces, the one of the default
// route first.
func thisHost() (foreign.Host, error) {
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
