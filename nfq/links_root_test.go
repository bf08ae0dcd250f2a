package nfq

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// A host's interfaces and addresses are known, and followed as they change.
func TestLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n, err := lab.New("ipsecfw-links")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	h, err := n.Host("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Link(h, h, "eth0", "eth1", []string{"10.1.0.1/24", "fd00::1/64"}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	started, ended := make(chan *Links, 1), make(chan error, 1)
	go func() {
		ended <- h.Do(func() error {
			l, err := NewLinks()
			if err != nil {
				return err
			}
			started <- l
			return l.Follow(ctx)
		})
	}()
	var l *Links
	select {
	case l = <-started:
	case err := <-ended:
		t.Fatal(err)
	}
	has := func(want filter.Interface) bool {
		for _, i := range l.cur.Load().interfaces {
			if i == want {
				return true
			}
		}
		return false
	}
	if !has(filter.Interface{Name: "eth0"}) || !l.Local(netip.MustParseAddr("10.1.0.1")) || !l.Local(netip.MustParseAddr("fd00::1")) || l.Local(netip.MustParseAddr("10.1.0.2")) {
		t.Errorf("the host is %+v", l.cur.Load())
	}
	if all := l.All(); len(all) != 3 {
		t.Errorf("the interfaces are %v, want lo, eth0 and eth1", all)
	}
	if err := h.Do(func() error {
		if got := l.Toward(netip.MustParseAddr("10.1.0.9")); got.Name != "eth0" {
			t.Errorf("the way to 10.1.0.9 is %v, want eth0", got)
		}
		if got := l.Toward(netip.MustParseAddr("192.0.2.1")); got != (filter.Interface{}) {
			t.Errorf("the way to where no route leads is %v", got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if l.Interface(9999) != (filter.Interface{}) {
		t.Error("an interface that does not exist is known")
	}
	if err := h.Address("eth1", "10.2.0.1/24"); err != nil {
		t.Fatal(err)
	}
	if err := n.Tap(h, "tap0"); err != nil {
		t.Fatal(err)
	}
	if err := h.Do(func() error {
		tun, err := OpenTUN("tun0")
		if err == nil {
			t.Cleanup(func() { tun.Close() })
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	await := func(holds func() bool) {
		t.Helper()
		tick, late := time.NewTicker(10*time.Millisecond), time.After(10*time.Second)
		defer tick.Stop()
		for !holds() {
			select {
			case <-tick.C:
			case err := <-ended:
				t.Fatal(err)
			case <-late:
				t.Fatalf("the host is still %+v", l.cur.Load())
			}
		}
	}
	await(func() bool {
		return l.Local(netip.MustParseAddr("10.2.0.1")) && has(filter.Interface{Name: "tap0"}) && has(filter.Interface{Name: "tun0", Remote: true})
	})
	// News that are not the kernel's end nothing.
	if err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		noop := binary.NativeEndian.AppendUint32(nil, unix.NLMSG_HDRLEN)
		noop = append(binary.NativeEndian.AppendUint16(noop, unix.NLMSG_NOOP), make([]byte, 10)...)
		return unix.Sendto(fd, noop, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR})
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.Address("eth1", "10.3.0.1/24"); err != nil {
		t.Fatal(err)
	}
	await(func() bool { return l.Local(netip.MustParseAddr("10.3.0.1")) })
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("Follow ended with %v", err)
	}
}
