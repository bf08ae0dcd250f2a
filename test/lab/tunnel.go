package lab

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Tunnel joins two hosts point to point, by a device without a link layer at
// each end as a VPN has, with addresses in prefix notation. It is cut when the
// hosts are removed.
func (n *Net) Tunnel(a, b *Host, aIf, bIf string, aCIDRs, bCIDRs []string) error {
	var ends [2]*os.File
	for i, e := range []struct {
		host  *Host
		name  string
		cidrs []string
	}{{a, aIf, aCIDRs}, {b, bIf, bCIDRs}} {
		err := e.host.Do(func() (err error) {
			ends[i], err = openTUN(e.name)
			return err
		})
		if err != nil {
			return fmt.Errorf("lab: making %s in %s: %w", e.name, e.host.Name, err)
		}
		n.tunnels = append(n.tunnels, ends[i])
		if err := e.host.Address(e.name, e.cidrs...); err != nil {
			return err
		}
		if err := e.host.up(e.name); err != nil {
			return err
		}
	}
	go carry(ends[0], ends[1])
	go carry(ends[1], ends[0])
	return nil
}

// carry hands on packets until the tunnel is cut.
func carry(from, to *os.File) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err == nil {
			to.Write(buf[:n]) // a cable loses what its other end does not take
		}
	}
}

// openTUN makes a TUN device in the network namespace of the calling thread.
// It lives as long as the file.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}
