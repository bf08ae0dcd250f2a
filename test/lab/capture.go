package lab

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// captureBuffer is how many bytes of packets the kernel keeps while the
// reader is not at it: a second of a fast transfer.
const captureBuffer = 256 << 20

// Capture watches one interface of a host.
type Capture struct {
	file  *os.File
	match func(packet []byte, outgoing bool)
	done  chan error
}

// Capture calls match with every IPv4 and IPv6 packet that passes an
// interface, from the IP header on, until it is closed. With offloads on, a
// packet may be larger than the MTU and its checksum unfinished. Match runs on
// one goroutine and must not keep the slice.
func (h *Host) Capture(ifname string, match func(packet []byte, outgoing bool)) (*Capture, error) {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("lab: interface %s of %s: %w", ifname, h.Name, err)
	}
	c := &Capture{match: match, done: make(chan error, 1)}
	err = h.Do(func() error { return c.open(link.Attrs().Index) })
	if err != nil {
		return nil, fmt.Errorf("lab: capturing on %s of %s: %w", ifname, h.Name, err)
	}
	go func() { c.done <- c.read() }()
	return c, nil
}

func (c *Capture) open(ifindex int) error {
	// Protocol 0 keeps the socket deaf until it is bound to the one interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	c.file = os.NewFile(uintptr(fd), "packet socket")
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: ifindex})
	}
	if err != nil {
		return errors.Join(err, c.file.Close())
	}
	return nil
}

// read hands out packets until the deadline that Close sets, and then what the
// kernel still holds.
func (c *Capture) read() error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<17)
	for err == nil {
		err = raw.Read(func(fd uintptr) bool {
			return c.receive(int(fd), buf) != unix.EAGAIN
		})
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	err = nil
	drained := raw.Control(func(fd uintptr) {
		for err == nil {
			err = c.receive(int(fd), buf)
		}
		if err == unix.EAGAIN {
			err = lost(int(fd))
		}
	})
	return errors.Join(err, drained)
}

// receive reads one frame and hands it out if it holds an IP packet.
func (c *Capture) receive(fd int, buf []byte) error {
	n, from, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return err
	}
	ll, ok := from.(*unix.SockaddrLinklayer)
	if !ok || ll.Protocol != networkOrder(unix.ETH_P_IP) && ll.Protocol != networkOrder(unix.ETH_P_IPV6) {
		return nil
	}
	c.match(buf[:n], ll.Pkttype == unix.PACKET_OUTGOING)
	return nil
}

// lost is an error if the kernel had to drop packets: then the capture proves
// nothing.
func lost(fd int) error {
	stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return fmt.Errorf("packet statistics: %w", err)
	}
	if stats.Drops > 0 {
		return fmt.Errorf("the reader was too slow for %d of %d packets", stats.Drops, stats.Packets)
	}
	return nil
}

// Close ends the capture once every packet that passed before has been
// handed out. It is an error if packets were missed.
func (c *Capture) Close() error {
	err := c.file.SetReadDeadline(time.Unix(1, 0))
	if err == nil {
		err = <-c.done
	}
	if err = errors.Join(err, c.file.Close()); err != nil {
		return fmt.Errorf("lab: capture: %w", err)
	}
	return nil
}

// networkOrder is a link layer protocol as the kernel wants it in an address.
func networkOrder(protocol uint16) uint16 { return protocol<<8 | protocol>>8 }
