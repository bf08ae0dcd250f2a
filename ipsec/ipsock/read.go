package ipsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// bufferSize holds the largest datagram and its headroom.
const bufferSize = Headroom + 1<<16

// Packet is what one read brought: a datagram, or with GRO several of one
// sender back to back.
type Packet struct {
	// Buf[Offset:] is the payload: what follows the IP header, or the UDP
	// header. It is overwritten by the next Read.
	Buf    []byte
	Offset int
	// Size is the length of each datagram in the payload but the last, in
	// bytes.
	Size          int
	Local, Remote netip.AddrPort // ports are 0 on a raw socket
	TrafficClass  uint8
	Link          int // index of the interface by which it came
}

// Batch is room for what one Read brings.
type Batch []Packet

// NewBatch returns a batch whose packets have room for the largest datagram.
func NewBatch() Batch {
	b := make(Batch, batchSize)
	for i := range b {
		b[i].Buf = make([]byte, bufferSize)
	}
	return b
}

// Read waits for packets, and returns how many it put into the batch. Only
// one goroutine may read from a Conn. Once the socket is closed it returns
// net.ErrClosed; other errors concern single packets and may be followed by
// good ones.
func (c *Conn) Read(b Batch) (int, error) {
	for i := range b {
		b[i].Buf = b[i].Buf[:cap(b[i].Buf)]
		c.reading[i].Buffers[0] = b[i].Buf[Headroom:]
	}
	n, err := c.batch.ReadBatch(c.reading[:len(b)], 0)
	if err != nil {
		return 0, err
	}
	for i := range n {
		c.fill(&b[i], c.reading[i].N, c.reading[i].Addr, c.reading[i].OOB[:c.reading[i].NN])
	}
	return n, nil
}

func (c *Conn) fill(p *Packet, n int, from net.Addr, oob []byte) {
	p.Buf, p.Offset = p.Buf[:Headroom+n], Headroom
	if c.raw && !c.v6 { // the kernel gives the IPv4 header too
		p.Offset += ipv4HeaderLen(p.Buf[Headroom:])
	}
	p.Size, p.TrafficClass, p.Link = len(p.Buf)-p.Offset, 0, 0
	p.Local = netip.AddrPortFrom(netip.Addr{}, c.port)
	switch a := from.(type) {
	case *net.UDPAddr:
		p.Remote = a.AddrPort()
	case *net.IPAddr:
		addr, _ := netip.AddrFromSlice(a.IP)
		p.Remote = netip.AddrPortFrom(addr.WithZone(a.Zone), 0)
	}
	p.Remote = netip.AddrPortFrom(p.Remote.Addr().Unmap(), p.Remote.Port())
	controls(oob, func(level, kind int, data []byte) {
		switch {
		case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(data) >= 12:
			p.Link = int(binary.NativeEndian.Uint32(data))
			p.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[8:12])), c.port)
		case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= 20:
			p.Local = netip.AddrPortFrom(netip.AddrFrom16([16]byte(data[:16])), c.port)
			p.Link = int(binary.NativeEndian.Uint32(data[16:]))
		case level == unix.IPPROTO_IP && kind == unix.IP_TOS && len(data) >= 1:
			p.TrafficClass = data[0]
		case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_TCLASS && len(data) >= 4:
			p.TrafficClass = uint8(binary.NativeEndian.Uint32(data))
		case level == unix.IPPROTO_UDP && kind == unix.UDP_GRO && len(data) >= 4:
			p.Size = int(binary.NativeEndian.Uint32(data))
		}
	})
}

// ipv4HeaderLen returns the length of the header that b begins with, or of
// all of b when it is no such header: then nothing is left to misread.
func ipv4HeaderLen(b []byte) int {
	if len(b) < 20 || int(b[0]&15)*4 > len(b) {
		return len(b)
	}
	return int(b[0]&15) * 4
}

// controls calls f for each control message.
func controls(b []byte, f func(level, kind int, data []byte)) {
	for len(b) >= unix.SizeofCmsghdr {
		n := int(binary.NativeEndian.Uint64(b))
		if n < unix.SizeofCmsghdr || n > len(b) {
			return
		}
		f(int(int32(binary.NativeEndian.Uint32(b[8:]))), int(int32(binary.NativeEndian.Uint32(b[12:]))), b[unix.SizeofCmsghdr:n])
		b = b[min((n+7)&^7, len(b)):]
	}
}

// maxErrors is how many reads in a row may fail before the socket is given up.
const maxErrors = 1000

// Each reads until the socket is closed, and calls f with each batch. Errors
// of single packets, such as an ICMP error that came back, are passed over; a
// socket that gives nothing else is an error.
func Each(c *Conn, f func(Batch)) error { return each(c.Read, NewBatch(), f) }

func each(read func(Batch) (int, error), b Batch, f func(Batch)) error {
	for failed := 0; ; {
		n, err := read(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case errors.Is(err, unix.EBADF), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSOCK):
			return fmt.Errorf("read socket: %w", err)
		case err != nil:
			if failed++; failed == maxErrors {
				return fmt.Errorf("read socket: %d times in a row: %w", failed, err)
			}
			continue
		}
		failed = 0
		f(b[:n])
	}
}
