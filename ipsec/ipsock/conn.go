// Package ipsock is datagram sockets, UDP and raw IP, that tell for each
// packet which of the host's addresses it came to and with which traffic
// class, and that send from a chosen address. The kernel's batches are kept:
// several packets for each system call, UDP GSO on sending and GRO on
// receiving.
package ipsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Headroom is how many bytes of a Packet's Buf lie before Offset, at least:
// enough for a reader to put an IP header there.
const Headroom = 64

// batchSize is how many messages one system call reads or writes at most.
const batchSize = 32

// socketBuffer is the size of the kernel's receive and send buffers, in bytes.
const socketBuffer = 8 << 20

// batcher is what ipv4.PacketConn and ipv6.PacketConn share.
type batcher interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
}

// Conn is one socket for one address family.
type Conn struct {
	v6    bool
	raw   bool
	port  uint16
	conn  net.PacketConn
	batch batcher

	reading []ipv4.Message // used by Read alone
	writers sync.Pool      // of *writer
}

// ListenUDP opens a UDP socket on a port of every address of one family. Its
// packets carry a mark (SO_MARK) unless it is 0; with gro set, the kernel may give several
// datagrams of one sender at once.
func ListenUDP(v6 bool, port uint16, mark uint32, gro bool) (*Conn, error) {
	network, address := "udp4", "0.0.0.0"
	if v6 {
		network, address = "udp6", "::"
	}
	address = netip.AddrPortFrom(netip.MustParseAddr(address), port).String()
	return listen(network, address, &Conn{v6: v6, port: port}, mark, gro)
}

// ListenRaw opens a raw socket for an IP protocol on every address of one
// family. The kernel makes and takes the IP headers.
func ListenRaw(v6 bool, protocol int, mark uint32) (*Conn, error) {
	network, address := fmt.Sprintf("ip4:%d", protocol), "0.0.0.0"
	if v6 {
		network, address = fmt.Sprintf("ip6:%d", protocol), "::"
	}
	return listen(network, address, &Conn{v6: v6, raw: true}, mark, false)
}

func listen(network, address string, c *Conn, mark uint32, gro bool) (*Conn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		return errors.Join(rc.Control(func(fd uintptr) { err = c.configure(int(fd), mark, gro) }), err)
	}}
	conn, err := lc.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, fmt.Errorf("open socket %s on %s: %w", network, address, err)
	}
	c.conn = conn
	if c.v6 {
		c.batch = ipv6.NewPacketConn(conn)
	} else {
		c.batch = ipv4.NewPacketConn(conn)
	}
	c.reading = make([]ipv4.Message, batchSize)
	for i := range c.reading {
		c.reading[i].Buffers = [][]byte{nil}
		c.reading[i].OOB = make([]byte, 128)
	}
	c.writers.New = func() any { return newWriter() }
	return c, nil
}

// configure sets the options of a new socket. Fragmenting is left to the
// kernel, whatever the path: what is sent here has been cut already where
// that is better.
func (c *Conn) configure(fd int, mark uint32, gro bool) error {
	type option struct{ level, name, value int }
	var opts []option
	if mark != 0 { // which needs CAP_NET_ADMIN
		opts = append(opts, option{unix.SOL_SOCKET, unix.SO_MARK, int(mark)})
	}
	if c.v6 {
		opts = append(opts,
			option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			option{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1},
			option{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT})
	} else {
		opts = append(opts,
			option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
			option{unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
			option{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT})
	}
	if c.v6 && !c.raw {
		opts = append(opts, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
	}
	if gro {
		opts = append(opts, option{unix.IPPROTO_UDP, unix.UDP_GRO, 1})
	}
	for _, o := range opts {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set socket option %d/%d: %w", o.level, o.name, err)
		}
	}
	// Bursts of a whole TCP window arrive faster than they are opened. A
	// container without the right to exceed the system's limit does with less.
	for _, name := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, name, socketBuffer); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set socket buffer: %w", err)
		}
	}
	return nil
}

// Close closes the socket; a Read that waits returns net.ErrClosed.
func (c *Conn) Close() error { return c.conn.Close() }

// NoFamily reports whether err says that the host lacks an address family.
func NoFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}
