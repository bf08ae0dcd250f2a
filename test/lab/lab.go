// Package lab makes hosts out of Linux network namespaces, joins them with
// virtual cables and watches what crosses these. It needs root and no outside
// program.
//
// The namespaces lie below /run/netns, so that "ip netns exec" and "ip -n"
// work on a network that a debugger has halted.
package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// names is where iproute2 keeps named network namespaces.
const names = "/run/netns"

// Net is a set of hosts and of links between them. It is for one goroutine;
// the hosts that it makes may be used from several.
type Net struct {
	prefix  string
	hosts   []*Host
	links   int
	tunnels []*os.File // the ends
}

// New starts an empty network. The namespaces of its hosts are called
// PREFIX-PID-NAME with the process ID of the caller; those that a dead process
// left behind under the same prefix are removed.
func New(prefix string) (*Net, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("lab: network namespaces need root: run it with sudo")
	}
	if err := os.MkdirAll(names, 0o755); err != nil {
		return nil, fmt.Errorf("lab: making the folder of network namespaces: %w", err)
	}
	if err := sweep(prefix); err != nil {
		return nil, err
	}
	return &Net{prefix: fmt.Sprintf("%s-%d-", prefix, os.Getpid())}, nil
}

// sweep removes the namespaces of dead processes.
func sweep(prefix string) error {
	left, err := filepath.Glob(filepath.Join(names, prefix+"-*-*"))
	if err != nil {
		return fmt.Errorf("lab: prefix %q: %w", prefix, err)
	}
	for _, path := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), prefix+"-"), "-")
		n, err := strconv.Atoi(pid)
		if err != nil || !errors.Is(unix.Kill(n, 0), unix.ESRCH) {
			continue
		}
		if err := remove(path); err != nil {
			return err
		}
	}
	return nil
}

// Host makes a host: a network namespace whose loopback interface is up.
func (n *Net) Host(name string) (*Host, error) {
	h := &Host{Name: name, Namespace: n.prefix + name}
	path := filepath.Join(names, h.Namespace)
	if err := apart(func() error { return create(path) }); err != nil {
		return nil, fmt.Errorf("lab: making host %s: %w", name, err)
	}
	n.hosts = append(n.hosts, h)
	var err error
	if h.ns, err = netns.GetFromPath(path); err != nil {
		return nil, fmt.Errorf("lab: opening %s: %w", path, err)
	}
	if h.nl, err = netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("lab: netlink in host %s: %w", name, err)
	}
	// Duplicate address detection would hold back the first seconds of IPv6.
	if err := h.Sysctl("net.ipv6.conf.default.accept_dad", "0"); err != nil {
		return nil, err
	}
	return h, h.up("lo")
}

// create makes a network namespace for the calling thread and gives it a name.
func create(path string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("mounting on %s: %w", path, err), os.Remove(path))
	}
	return nil
}

func remove(path string) error {
	// EINVAL: it is no mount, the maker died before it became one.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
		return fmt.Errorf("lab: unmounting %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// Link joins two hosts by a virtual cable with an interface and addresses in
// prefix notation at each end, all offloads on, as Linux makes it.
func (n *Net) Link(a, b *Host, aIf, bIf string, aCIDRs, bCIDRs []string) error {
	// The kernel puts off for a second what it does when a link comes up,
	// unless the two ends have different numbers.
	n.links++
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: aIf, Index: 100 + n.links},
		PeerName:      bIf,
		PeerNamespace: netlink.NsFd(b.ns),
	}
	if err := a.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("lab: linking %s of %s with %s of %s: %w", aIf, a.Name, bIf, b.Name, err)
	}
	if err := a.Address(aIf, aCIDRs...); err != nil {
		return err
	}
	if err := b.Address(bIf, bCIDRs...); err != nil {
		return err
	}
	if err := a.up(aIf); err != nil {
		return err
	}
	if err := b.up(bIf); err != nil {
		return err
	}
	if err := a.awaitCarrier(aIf); err != nil {
		return err
	}
	return b.awaitCarrier(bIf)
}

// Tap makes a TAP interface in the host, for the cable of a virtual machine,
// with addresses in prefix notation.
func (n *Net) Tap(h *Host, ifname string, cidrs ...string) error {
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: ifname}, Mode: netlink.TUNTAP_MODE_TAP}
	// The interface is born where the thread is that opens /dev/net/tun.
	if err := h.Do(func() error { return netlink.LinkAdd(tap) }); err != nil {
		return fmt.Errorf("lab: making %s in %s: %w", ifname, h.Name, err)
	}
	if err := h.Address(ifname, cidrs...); err != nil {
		return err
	}
	return h.up(ifname)
}

// Close removes every host. A process that still runs in one keeps its
// namespace, nameless, until it ends.
func (n *Net) Close() error {
	var errs []error
	for _, end := range n.tunnels {
		errs = append(errs, end.Close())
	}
	n.tunnels = nil
	for _, h := range n.hosts {
		if h.nl != nil {
			h.nl.Close()
		}
		if h.ns.IsOpen() {
			errs = append(errs, h.ns.Close())
		}
		errs = append(errs, remove(filepath.Join(names, h.Namespace)))
	}
	n.hosts = nil
	return errors.Join(errs...)
}

// parse reads an address in prefix notation.
func parse(cidr string) (*netlink.Addr, error) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return nil, fmt.Errorf("lab: address %q: %w", cidr, err)
	}
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr, nil
}
