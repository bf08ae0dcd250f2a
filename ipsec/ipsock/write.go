package ipsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// The kernel takes at most 64 datagrams for each GSO send (UDP_MAX_SEGMENTS
// of the oldest kernels), and no more bytes than one IP packet holds.
const (
	maxSegments  = 64
	maxGSOPacket = 65000
)

// writer is the state of one Write, kept for the next.
type writer struct {
	ms  []ipv4.Message
	oob []byte
	udp net.UDPAddr
	raw net.IPAddr
}

func newWriter() *writer {
	w := &writer{ms: make([]ipv4.Message, batchSize), oob: make([]byte, 0, 128)}
	for i := range w.ms {
		w.ms[i].Buffers = [][]byte{nil}
	}
	return w
}

// Write sends the datagrams that stand back to back in b, each of size bytes
// but the last, which may be shorter. Local says from which address; its port
// is the socket's, whatever it says. A datagram that is larger than the path
// is fragmented.
func (c *Conn) Write(local, remote netip.AddrPort, trafficClass uint8, b []byte, size int) error {
	w := c.writers.Get().(*writer)
	defer c.writers.Put(w)
	w.oob = c.appendControls(w.oob[:0], local.Addr(), trafficClass)
	addr := w.address(c.raw, remote)
	var err error
	if c.raw || len(b) <= size {
		err = c.writeEach(w, addr, b, size)
	} else {
		err = c.writeGSO(w, addr, b, size)
	}
	if err != nil {
		return fmt.Errorf("send %d bytes to %s: %w", len(b), remote, err)
	}
	return nil
}

func (w *writer) address(raw bool, to netip.AddrPort) net.Addr {
	if raw {
		w.raw = net.IPAddr{IP: to.Addr().AsSlice(), Zone: to.Addr().Zone()}
		return &w.raw
	}
	w.udp = net.UDPAddr{IP: to.Addr().AsSlice(), Port: int(to.Port()), Zone: to.Addr().Zone()}
	return &w.udp
}

func (c *Conn) writeEach(w *writer, to net.Addr, b []byte, size int) error {
	for len(b) > 0 {
		n := 0
		for ; n < len(w.ms) && len(b) > 0; n++ {
			k := min(size, len(b))
			w.ms[n].Buffers[0], w.ms[n].OOB, w.ms[n].Addr = b[:k], w.oob, to
			b = b[k:]
		}
		for ms := w.ms[:n]; len(ms) > 0; {
			sent, err := c.batch.WriteBatch(ms, 0)
			if err != nil {
				return err
			}
			ms = ms[sent:]
		}
	}
	return nil
}

func (c *Conn) writeGSO(w *writer, to net.Addr, b []byte, size int) error {
	plain := len(w.oob)
	w.oob = appendControl(w.oob, unix.IPPROTO_UDP, unix.UDP_SEGMENT, binary.NativeEndian.AppendUint16(nil, uint16(size)))
	burst := size * max(1, min(maxSegments, maxGSOPacket/size))
	for len(b) > 0 {
		k := min(burst, len(b))
		m := w.ms[:1]
		m[0].Buffers[0], m[0].OOB, m[0].Addr = b[:k], w.oob, to
		if k <= size {
			m[0].OOB = w.oob[:plain]
		}
		_, err := c.batch.WriteBatch(m, 0)
		if errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE) {
			// The device or its path cannot take them together.
			w.oob = w.oob[:plain]
			return c.writeEach(w, to, b, size)
		}
		if err != nil {
			return err
		}
		b = b[k:]
	}
	return nil
}

// appendControls appends the control messages that choose the source address
// and the traffic class.
func (c *Conn) appendControls(oob []byte, local netip.Addr, trafficClass uint8) []byte {
	class := [4]byte{}
	binary.NativeEndian.PutUint32(class[:], uint32(trafficClass))
	if c.v6 {
		info := [20]byte{}
		a := local.As16()
		copy(info[:], a[:])
		if !local.IsLinkLocalUnicast() { // such an address needs its interface, which the remote's zone gives
			oob = appendControl(oob, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, info[:])
		}
		return appendControl(oob, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, class[:])
	}
	info := [12]byte{}
	a := local.As4()
	copy(info[4:], a[:]) // ipi_spec_dst
	oob = appendControl(oob, unix.IPPROTO_IP, unix.IP_PKTINFO, info[:])
	return appendControl(oob, unix.IPPROTO_IP, unix.IP_TOS, class[:])
}

func appendControl(oob []byte, level, kind int, data []byte) []byte {
	oob = binary.NativeEndian.AppendUint64(oob, uint64(unix.CmsgLen(len(data))))
	oob = binary.NativeEndian.AppendUint32(oob, uint32(level))
	oob = binary.NativeEndian.AppendUint32(oob, uint32(kind))
	oob = append(oob, data...)
	for len(oob)%8 != 0 {
		oob = append(oob, 0)
	}
	return oob
}
