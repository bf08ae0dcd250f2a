package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is one host of a Net.
type Host struct {
	Name      string // as the maker called it
	Namespace string // name of its network namespace, for "ip netns exec"

	ns netns.NsHandle
	nl *netlink.Handle
}

// apart runs f on a thread that it may move to another network namespace, and
// brings the thread home.
func apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		err = f()
		// A thread that cannot go home stays locked, and ends with its goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Do runs f on a thread in the host's network namespace. Sockets that f opens
// and processes that f starts stay there; goroutines that f starts do not. f
// runs on a goroutine of its own, so it must not end a test.
func (h *Host) Do(f func() error) error {
	return apart(func() error {
		if err := unix.Setns(int(h.ns), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("lab: entering host %s: %w", h.Name, err)
		}
		return f()
	})
}

// Sysctl sets a kernel parameter of the host's network, "net.ipv4.ip_forward"
// for example.
func (h *Host) Sysctl(key, value string) error {
	path := filepath.Join("/proc/sys", filepath.FromSlash(strings.ReplaceAll(key, ".", "/")))
	err := h.Do(func() error { return os.WriteFile(path, []byte(value), 0) })
	if err != nil {
		return fmt.Errorf("lab: setting %s in %s: %w", key, h.Name, err)
	}
	return nil
}

// Forwarding makes a router of the host, for IPv4 and IPv6.
func (h *Host) Forwarding() error {
	return errors.Join(
		h.Sysctl("net.ipv4.ip_forward", "1"),
		h.Sysctl("net.ipv6.conf.all.forwarding", "1"))
}

// Address adds addresses in prefix notation to an interface.
func (h *Host) Address(ifname string, cidrs ...string) error {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("lab: interface %s of %s: %w", ifname, h.Name, err)
	}
	for _, cidr := range cidrs {
		addr, err := parse(cidr)
		if err != nil {
			return err
		}
		if err := h.nl.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("lab: adding %s to %s of %s: %w", cidr, ifname, h.Name, err)
		}
	}
	return nil
}

// Route sends what goes to a prefix by way of a neighbour. The prefix
// "default" is everything, in the address family of the neighbour.
func (h *Host) Route(to, via string) error {
	gateway, err := netip.ParseAddr(via)
	if err != nil {
		return fmt.Errorf("lab: gateway %q: %w", via, err)
	}
	route := &netlink.Route{Gw: gateway.AsSlice()}
	if to != "default" {
		p, err := netip.ParsePrefix(to)
		if err != nil {
			return fmt.Errorf("lab: route to %q: %w", to, err)
		}
		route.Dst = ipNet(p.Masked())
	}
	if err := h.nl.RouteAdd(route); err != nil {
		return fmt.Errorf("lab: adding the route to %s via %s in %s: %w", to, via, h.Name, err)
	}
	return nil
}

func (h *Host) up(ifname string) error {
	link, err := h.nl.LinkByName(ifname)
	if err == nil {
		err = h.nl.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("lab: bringing up %s of %s: %w", ifname, h.Name, err)
	}
	return nil
}

// awaitCarrier waits until the kernel has noticed that both ends of a cable
// are up: it sends no IPv6 before. That is a matter of milliseconds.
func (h *Host) awaitCarrier(ifname string) error {
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	defer close(done)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{Namespace: &h.ns, ListExisting: true})
	if err != nil {
		return fmt.Errorf("lab: watching the links of %s: %w", h.Name, err)
	}
	for update := range updates {
		if attrs := update.Attrs(); attrs.Name == ifname && attrs.OperState == netlink.OperUp {
			go drain(updates) // until the subscription has seen the end
			return nil
		}
	}
	return fmt.Errorf("lab: watching the links of %s ended before %s was up", h.Name, ifname)
}

func drain(updates <-chan netlink.LinkUpdate) {
	for range updates {
	}
}

// Listen is net.Listen in the host.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	err = h.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket is net.ListenPacket in the host.
func (h *Host) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = h.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Dial connects from the host. The address must be a literal one.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.DialFrom(ctx, network, "", address)
}

// DialFrom connects from one of the host's addresses, or from the one that
// the routes say if it is empty.
func (h *Host) DialFrom(ctx context.Context, network, from, to string) (c net.Conn, err error) {
	var dialer net.Dialer
	if from != "" {
		switch network {
		case "tcp":
			dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
		case "udp":
			dialer.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
		default:
			return nil, fmt.Errorf("lab: dialing %s from an address: only tcp and udp are known", network)
		}
	}
	err = h.Do(func() error {
		c, err = dialer.DialContext(ctx, network, to)
		return err
	})
	return c, err
}

// Cmd is a command whose process lives in a host.
type Cmd struct {
	*exec.Cmd
	host *Host
}

// Command is exec.Command in the host. The process is killed if this one dies.
func (h *Host) Command(name string, args ...string) *Cmd {
	c := exec.Command(name, args...)
	c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return &Cmd{c, h}
}

// Start starts the command and does not wait for it.
func (c *Cmd) Start() error { return c.host.Do(c.Cmd.Start) }

// Run starts the command and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// CombinedOutput runs the command and returns its standard output and error.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	err := c.Run()
	return b.Bytes(), err
}

// Output runs the command and returns its standard output. What it says on
// standard error is in the error.
func (c *Cmd) Output() ([]byte, error) {
	var out, problem bytes.Buffer
	c.Stdout, c.Stderr = &out, &problem
	err := c.Run()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(problem.Bytes()))
	}
	return out.Bytes(), err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
