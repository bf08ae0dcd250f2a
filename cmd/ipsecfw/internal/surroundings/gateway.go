package surroundings

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// listTries is how often a list of routes is asked for that changes while it
// is given.
const listTries = 5

// listGateways returns the next hops of all default routes of the main table.
func listGateways(h *netlink.Handle) ([]netip.Addr, error) {
	var routes []netlink.Route
	var err error = netlink.ErrDumpInterrupted
	for try := 0; try < listTries && errors.Is(err, netlink.ErrDumpInterrupted); try++ {
		routes, err = h.RouteListFiltered(unix.AF_UNSPEC, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	}
	if err != nil {
		return nil, fmt.Errorf("list the routes: %w", err)
	}
	return gateways(routes), nil
}

// gateways returns the next hops of those routes that are default routes,
// each of several paths included (RTA_MULTIPATH), and IPv4 by way of an IPv6
// neighbour (RTA_VIA).
func gateways(routes []netlink.Route) []netip.Addr {
	var found []netip.Addr
	hop := func(gw []byte, via netlink.Destination) {
		if v, ok := via.(*netlink.Via); ok {
			gw = v.Addr
		}
		if a, ok := netip.AddrFromSlice(gw); ok {
			found = append(found, a)
		}
	}
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones != 0 || !r.Dst.IP.IsUnspecified() {
				continue
			}
		}
		hop(r.Gw, r.Via)
		for _, path := range r.MultiPath {
			hop(path.Gw, path.Via)
		}
	}
	return set(found)
}

// routeWatch hears of routes and links that change.
type routeWatch struct{ socket *nl.NetlinkSocket }

// watchRoutes listens in the network namespace of the calling thread. Links
// are heard as well: the kernel does not tell of IPv4 routes that go with
// theirs.
func watchRoutes() (*routeWatch, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("follow the routes by netlink: %w", err)
	}
	return &routeWatch{s}, nil
}

func (r *routeWatch) close() { r.socket.Close() }

// wait returns when default routes may have changed, or with the error that
// ends the watch.
func (r *routeWatch) wait() error {
	for {
		msgs, from, err := r.socket.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			return nil // messages were lost, ours perhaps among them
		}
		if err != nil {
			return fmt.Errorf("follow the routes by netlink: %w", err)
		}
		if from.Pid != nl.PidKernel {
			continue
		}
		for _, m := range msgs {
			if concernsDefault(m.Header.Type, m.Data) {
				return nil
			}
		}
	}
}

// concernsDefault reports whether a message may change the default routes: a
// router of the Internet's core hears thousands a second of others.
func concernsDefault(kind uint16, body []byte) bool {
	switch kind {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return len(body) >= unix.SizeofRtMsg && body[1] == 0 // rtm_dst_len
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return true
	}
	return false
}
