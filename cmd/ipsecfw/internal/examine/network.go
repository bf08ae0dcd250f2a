package examine

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/doctor"
)

// network reads interfaces, default routes and routing rules.
func (f *facts) network() {
	names := map[int]string{}
	links, err := netlink.LinkList()
	if err != nil {
		f.unseen("interfaces", err, "")
	}
	for _, l := range links {
		a := l.Attrs()
		names[a.Index] = a.Name
		i := doctor.Interface{Name: a.Name, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Kind: l.Type()}
		if t, ok := l.(*netlink.Tuntap); ok && t.Mode == netlink.TUNTAP_MODE_TAP {
			i.Kind = "tap"
		} else if ok {
			i.Kind = "tun"
		}
		f.Interfaces = append(f.Interfaces, i)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		v6 := family == netlink.FAMILY_V6
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil && !none(err) {
			f.unseen("routes", err, "")
		}
		for _, r := range routes {
			if !whole(r.Dst) {
				continue
			}
			hops := r.MultiPath
			if len(hops) == 0 {
				hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}
			}
			for _, h := range hops {
				via, _ := netip.AddrFromSlice(h.Gw)
				f.Defaults = append(f.Defaults, doctor.Default{IPv6: v6, Interface: names[h.LinkIndex], Via: via.Unmap(), Metric: r.Priority})
			}
		}
		rules, err := netlink.RuleList(family)
		if err != nil && !none(err) {
			f.unseen("routing rules", err, "")
		}
		for _, r := range rules {
			f.Rules = append(f.Rules, doctor.Rule{
				IPv6: v6, Priority: max(r.Priority, 0), Mark: r.Mark, Mask: mask(r), Inverted: r.Invert,
				In: r.IifName, Out: r.OifName, From: prefix(r.Src), To: prefix(r.Dst), Table: r.Table,
			})
		}
	}
}

// mask returns the bits of the mark that a rule asks for.
func mask(r netlink.Rule) uint32 {
	switch {
	case r.Mask != nil:
		return *r.Mask
	case r.Mark != 0:
		return ^uint32(0)
	}
	return 0
}

func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}

// whole reports whether a route is for every destination.
func whole(n *net.IPNet) bool {
	if n == nil {
		return true
	}
	bits, _ := n.Mask.Size()
	return bits == 0
}

// none reports whether the kernel does not have what was asked for.
func none(err error) bool {
	for _, e := range []error{unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.ENOENT, unix.EINVAL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// xfrm counts what the kernel's own IPsec has.
func (f *facts) xfrm() {
	if !f.admin() {
		f.unseen("kernel's IPsec", errPrivilege, asRoot)
		return
	}
	policies, err := netlink.XfrmPolicyList(netlink.FAMILY_ALL)
	if err == nil {
		var states []netlink.XfrmState
		if states, err = netlink.XfrmStateList(netlink.FAMILY_ALL); err == nil {
			f.XFRM = &doctor.XFRM{Policies: len(policies), States: len(states)}
			return
		}
	}
	if !none(err) {
		f.unseen("kernel's IPsec", err, "")
	}
}
