package nfq

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
)

// Source implements Host.
func (l *Links) Source(to netip.Addr) (from netip.Addr, ok bool) {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil || len(routes) == 0 {
		return from, false
	}
	from, ok = netip.AddrFromSlice(routes[0].Src)
	return from.Unmap(), ok
}

// LinkMTU returns how large packets from one address to another may leave, in
// bytes: as the route says, or its interface. What the kernel has learned of the
// path itself does not count: that is what the engine has told it, or others have,
// of whom nobody knows who they are.
func LinkMTU(local, remote netip.Addr) (int, error) {
	options := &netlink.RouteGetOptions{SrcAddr: local.AsSlice(), FIBMatch: true}
	if zone := remote.Zone(); zone != "" {
		if n, err := strconv.Atoi(zone); err == nil {
			options.OifIndex = n
		} else {
			options.Oif = zone
		}
	}
	routes, err := netlink.RouteGetWithOptions(remote.AsSlice(), options)
	if err != nil {
		return 0, fmt.Errorf("find the path from %s to %s: %w", local, remote, err)
	}
	mtu := 0
	consider := func(link, route int) error {
		if route == 0 {
			l, err := netlink.LinkByIndex(link)
			if err != nil {
				return fmt.Errorf("find the MTU of the path to %s: %w", remote, err)
			}
			route = l.Attrs().MTU
		}
		if mtu == 0 || route < mtu {
			mtu = route
		}
		return nil
	}
	for _, r := range routes {
		hops := r.MultiPath
		if len(hops) == 0 {
			hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex}}
		}
		for _, h := range hops {
			if err := consider(h.LinkIndex, r.MTU); err != nil {
				return 0, err
			}
		}
	}
	if mtu == 0 {
		return 0, fmt.Errorf("find the path from %s to %s: there is no route", local, remote)
	}
	return min(mtu, maxPacket), nil // a loopback device claims more
}
