package nfq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Links knows the interfaces and addresses of the host, and follows them as
// they change. It implements Host.
type Links struct{ cur atomic.Pointer[linkState] }

// linkState is never changed once it is stored.
type linkState struct {
	interfaces map[int]filter.Interface
	local      map[netip.Addr]bool
}

// NewLinks returns the interfaces and addresses of now, in the network
// namespace of the calling thread.
func NewLinks() (*Links, error) {
	l := &Links{}
	return l, l.read()
}

// Interface implements Host.
func (l *Links) Interface(index int) filter.Interface { return l.cur.Load().interfaces[index] }

// All returns the interfaces, in no order.
func (l *Links) All() []filter.Interface {
	return slices.Collect(maps.Values(l.cur.Load().interfaces))
}

// Toward returns the interface by which packets to an address leave, as far as
// there is a route.
func (l *Links) Toward(a netip.Addr) filter.Interface {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil || len(routes) == 0 {
		return filter.Interface{}
	}
	return l.Interface(routes[0].LinkIndex)
}

// Local implements Host.
func (l *Links) Local(a netip.Addr) bool { return l.cur.Load().local[a] }

func (l *Links) read() error {
	s := &linkState{map[int]filter.Interface{}, map[netip.Addr]bool{}}
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list the network interfaces: %w", err)
	}
	for _, x := range links {
		a := x.Attrs()
		s.interfaces[a.Index] = filter.Interface{Name: a.Name, Remote: slices.Contains(remoteKinds, a.EncapType)}
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list the addresses: %w", err)
	}
	for _, x := range addrs {
		if a, ok := netip.AddrFromSlice(x.IP); ok {
			s.local[a.Unmap()] = true
		}
	}
	l.cur.Store(s)
	return nil
}

// remoteKinds are filter.RemoteLinks by the names that netlink gives them.
var remoteKinds = func() []string {
	out := make([]string, len(filter.RemoteLinks))
	for i, kind := range filter.RemoteLinks {
		m := nl.NewIfInfomsg(0)
		m.Type = kind
		out[i] = m.EncapType()
	}
	return out
}()

// Follow reads again whenever an interface or an address has changed, until
// ctx ends. It returns when the kernel gives no more news, and why.
func (l *Links) Follow(ctx context.Context) error {
	failed := make(chan error, 2)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	links, addrs := make(chan netlink.LinkUpdate), make(chan netlink.AddrUpdate)
	if err := netlink.LinkSubscribeWithOptions(links, ctx.Done(), netlink.LinkSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("follow the network interfaces: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, ctx.Done(), netlink.AddrSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("follow the addresses: %w", err)
	}
	for err := l.read(); ; err = l.read() { // once more at first, for what has changed meanwhile
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("follow the network interfaces: %w", err)
		case _, ok := <-links:
			if !ok {
				links = nil
			}
		case _, ok := <-addrs:
			if !ok {
				addrs = nil
			}
		}
	}
}
