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
	v6     bool
	raw    bool
	whole  bool // what it sends is not fragmented
	shared bool // its port may be another socket's too
	port   uint16
	conn   net.PacketConn
	batch  batcher

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

// DialUDP opens a UDP socket that only sends, from the same port as c. Other than
// by c, its datagrams are never fragmented: in IPv4 they have DF set, and one that
// is larger than the MTU of the interface is an error. Of paths that are narrower
// the kernel is to know nothing.
func (c *Conn) DialUDP(mark uint32) (*Conn, error) {
	// Both sockets must want to share the port when the second is bound, and
	// neither afterwards: nobody else is to have it. In between only sockets of
	// the same user could (SO_REUSEPORT, other than SO_REUSEADDR).
	if err := c.share(true); err != nil {
		return nil, err
	}
	any, nobody := netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{127, 0, 0, 1})
	network := "udp4"
	if c.v6 {
		network, any, nobody = "udp6", netip.IPv6Unspecified(), netip.IPv6Loopback()
	}
	d := &Conn{v6: c.v6, port: c.port, whole: true, shared: true}
	out, err := listen(network, netip.AddrPortFrom(any, c.port).String(), d, mark, false)
	err = errors.Join(err, c.share(false))
	if err == nil {
		err = out.share(false)
	}
	if err == nil {
		// A socket that is connected gets what comes from its peer alone, and this
		// is one that there is not.
		err = out.connect(netip.AddrPortFrom(nobody, discardPort))
	}
	if err != nil {
		if out != nil {
			out.Close()
		}
		return nil, fmt.Errorf("open a second socket on UDP port %d: %w", c.port, err)
	}
	return out, nil
}

// discardPort is where nobody sends from (RFC 863).
const discardPort = 9

// share says whether other sockets that want it too may have the port.
func (c *Conn) share(yes bool) error {
	value := 0
	if yes {
		value = 1
	}
	return c.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, value) })
}

func (c *Conn) connect(to netip.AddrPort) error {
	var a unix.Sockaddr
	if c.v6 {
		a = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	} else {
		a = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return c.control(func(fd int) error { return unix.Connect(fd, a) })
}

func (c *Conn) control(f func(fd int) error) error {
	rc, err := c.conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var set error
	return errors.Join(rc.Control(func(fd uintptr) { set = f(int(fd)) }), set)
}

// ListenIP opens a raw socket, for one address family, that sends whole IP packets
// as they are, and receives nothing. A packet that is larger than the MTU of the
// interface is an error; of paths that are narrower the kernel is to know nothing.
func ListenIP(v6 bool, mark uint32) (*Conn, error) {
	network, address := fmt.Sprintf("ip4:%d", unix.IPPROTO_RAW), "0.0.0.0"
	if v6 {
		network, address = fmt.Sprintf("ip6:%d", unix.IPPROTO_RAW), "::"
	}
	return listen(network, address, &Conn{v6: v6, raw: true, whole: true}, mark, false)
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
// kernel, whatever the path, unless what is sent stays whole: then the caller
// knows the path, and the kernel is not asked.
func (c *Conn) configure(fd int, mark uint32, gro bool) error {
	type option struct{ level, name, value int }
	var opts []option
	if mark != 0 { // which needs CAP_NET_ADMIN
		opts = append(opts, option{unix.SOL_SOCKET, unix.SO_MARK, int(mark)})
	}
	if c.shared {
		opts = append(opts, option{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1})
	}
	discover4, discover6 := unix.IP_PMTUDISC_DONT, unix.IPV6_PMTUDISC_DONT
	if c.whole {
		discover4, discover6 = unix.IP_PMTUDISC_PROBE, unix.IPV6_PMTUDISC_PROBE
	}
	if c.v6 {
		opts = append(opts,
			option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			option{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1},
			option{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, discover6})
	} else {
		opts = append(opts,
			option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
			option{unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
			option{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, discover4})
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
