package nfq

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// deviceMTU lets the device carry what was larger than the path's MTU before
// it was encrypted.
const deviceMTU = 65535

// RulePriority is the place of the first of our routing rules, and RuleCount how
// many there are, one after the other: after the local
// table, which is always first, and before what hosts usually have.
const (
	RulePriority = 100
	RuleCount    = 3
)

// Route brings the device up, and makes the kernel's check of a packet's
// source (rp_filter, RFC 3704) succeed for what comes by it, strict or not:
// the check looks for the route back to the source; nftables has marked the
// packet, and for the mark there is a table in which all routes lead to the
// device. Nothing is ever sent by that table, since no packet that leaves has
// the mark but what the host passes on, whose way is looked for in other tables.
func Route(device string, mark uint32, table int) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find the device %s: %w", device, err)
	}
	for key, value := range map[string]string{
		"ipv4/conf/" + device + "/src_valid_mark": "1",
		"ipv6/conf/" + device + "/accept_ra":      "0",
		"ipv6/conf/" + device + "/addr_gen_mode":  "1", // no address of its own
	} {
		err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a host without IPv6
			return fmt.Errorf("configure the device %s: %w", device, err)
		}
	}
	if err := netlink.LinkSetMTU(link, deviceMTU); err != nil {
		return fmt.Errorf("set the MTU of %s: %w", device, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", device, err)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		err := routeFamily(link, family, mark, table)
		if err != nil && !(family == unix.AF_INET6 && noFamily(err)) {
			return fmt.Errorf("route marked packets to %s: %w", device, err)
		}
	}
	return nil
}

// Reflected returns the kernel's parameters that give answers the mark of what
// they answer. They are off by default; on, they would send the answers to what
// came by the device back to it, where they are lost.
func Reflected() []string {
	var out []string
	for _, key := range []string{"net/ipv4/fwmark_reflect", "net/ipv4/tcp_fwmark_accept", "net/ipv6/fwmark_reflect"} {
		b, err := os.ReadFile(filepath.Join("/proc/sys", key))
		if err == nil && strings.TrimSpace(string(b)) != "0" {
			out = append(out, strings.ReplaceAll(key, "/", "."))
		}
	}
	return out
}

func routeFamily(link netlink.Link, family int, mark uint32, table int) error {
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Table: table, Family: family, Dst: everything(family), Scope: netlink.SCOPE_LINK}); err != nil {
		return err
	}
	for _, r := range rules(link.Attrs().Name, family, mark, table) {
		// One that is there was left by a daemon that was killed.
		if err := netlink.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

// everything is the destination of a default route.
func everything(family int) *net.IPNet {
	bits := 32
	if family == unix.AF_INET6 {
		bits = 128
	}
	return &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)}
}

// actionNothing is the action of a routing rule that does nothing
// (FR_ACT_NOP in linux/fib_rules.h).
const actionNothing = 3

// rules returns our routing rules, in the order in which they are made. The
// check of a source looks for a route as for a packet from this host, or, if
// the host passes the packet on, from the interface by which that leaves. Only
// the search for the way of the packet itself comes from the device, and it
// leaves out the table.
func rules(device string, family int, mark uint32, table int) []*netlink.Rule {
	rule := func(place int) *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Mark = family, RulePriority+place, mark
		return r
	}
	over, back, landing := rule(0), rule(1), rule(2)
	over.IifName, over.Goto = device, landing.Priority
	back.Table = table
	landing.Type = actionNothing
	return []*netlink.Rule{landing, over, back}
}

func noFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENODEV)
}

// Unroute removes what Route made beside the device.
func Unroute(mark uint32, table int) error {
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all := rules("", family, mark, table)
		slices.Reverse(all)
		for _, r := range all {
			if err := netlink.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) && !noFamily(err) {
				errs = append(errs, fmt.Errorf("remove the routing rule %d for mark %#x: %w", r.Priority, mark, err))
			}
		}
	}
	return errors.Join(errs...)
}
