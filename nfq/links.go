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
type Links struct {
	cur     atomic.Pointer[linkState]
	changed chan struct{} // has room for one
}

// linkState is never changed once it is stored.
type linkState struct {
	interfaces map[int]filter.Interface
	local      map[netip.Addr]bool
}

// NewLinks returns the interfaces and addresses of now, in the network
// namespace of the calling thread.
func NewLinks() (*Links, error) {
	l := &Links{changed: make(chan struct{}, 1)}
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
	select {
	case l.changed <- struct{}{}:
	default:
	}
	return nil
}

// Changed gets a value after interfaces or addresses have been read again. It is
// for one reader.
func (l *Links) Changed() <-chan struct{} { return l.changed }

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
// ctx ends. It returns when the kernel gives no news at all, and why.
func (l *Links) Follow(ctx context.Context) error {
	for {
		err := l.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, errLost):
			return fmt.Errorf("follow the network interfaces: %w", err)
		}
	}
}

// errLost says that some news may be lost: there were too many at once, or not
// all were the kernel's. Whoever asks anew misses nothing.
var errLost = errors.New("the kernel's news of interfaces are incomplete")

// linkBuffer is the size in bytes of the buffer that news wait in.
const linkBuffer = 1 << 20

func (l *Links) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lost := make(chan struct{}, 1)
	fail := func(error) {
		select {
		case lost <- struct{}{}:
		default:
		}
	}
	links, addrs := make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64)
	if err := netlink.LinkSubscribeWithOptions(links, ctx.Done(), netlink.LinkSubscribeOptions{ErrorCallback: fail, ReceiveBufferSize: linkBuffer}); err != nil {
		return err
	}
	defer drain(links)
	if err := netlink.AddrSubscribeWithOptions(addrs, ctx.Done(), netlink.AddrSubscribeOptions{ErrorCallback: fail, ReceiveBufferSize: linkBuffer}); err != nil {
		return err
	}
	defer drain(addrs)
	for {
		if err := l.read(); err != nil { // at first too, for what has changed meanwhile
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-lost:
			return errLost
		case _, ok := <-links:
			if !ok {
				return errLost
			}
		case _, ok := <-addrs:
			if !ok {
				return errLost
			}
		}
		for len(links) > 0 { // one reading does for all
			<-links
		}
		for len(addrs) > 0 {
			<-addrs
		}
	}
}

// drain takes what still comes of a subscription that was ended, so that its
// goroutine ends too.
func drain[T any](news <-chan T) {
	go func() {
		for range news {
		}
	}()
}
