// Package udp is the sockets of IKE: UDP ports 500 and 4500 on all addresses
// of the host. On port 4500 it tells IKE from UDP-encapsulated ESP by the
// non-ESP marker (RFC 3948 section 2.2), and keeps NAT mappings alive.
package udp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/ipsec/ipsock"
)

// The ports of IKE (RFC 7296 section 2) and of IKE and ESP together behind a
// NAT (RFC 3948).
const (
	Port    = 500
	NATPort = 4500
)

// marker stands where an ESP packet has its SPI, which is never zero.
var marker = [4]byte{}

// keepalive is a NAT keepalive packet (RFC 3948 section 2.3).
var keepalive = [1]byte{0xff}

// Receiver takes UDP-encapsulated ESP packets. Each reading goroutine has its
// own.
type Receiver interface {
	// Receive takes the ESP packet that begins at an offset in buf, and may
	// overwrite all of buf up to the packet's end. It came by the interface
	// whose index is link.
	Receive(buf []byte, offset int, local, remote netip.AddrPort, trafficClass uint8, link int)
	// Flush says that a batch has ended.
	Flush()
}

// Sockets is the open sockets.
type Sockets struct {
	ike, nat, icmp [2]*ipsock.Conn // IPv4, IPv6; IPv6 is nil on a host without it
	whole          [2]*ipsock.Conn // the same port as nat, for what must not be fragmented
}

// Listen opens the sockets. What they send carries the mark.
func Listen(mark uint32) (*Sockets, error) {
	s := &Sockets{}
	for family, v6 := range []bool{false, true} {
		var err error
		if s.ike[family], err = ipsock.ListenUDP(v6, Port, mark, false); err == nil {
			s.nat[family], err = ipsock.ListenUDP(v6, NATPort, mark, true)
		}
		if err == nil {
			s.whole[family], err = s.nat[family].DialUDP(mark)
		}
		if err == nil {
			s.icmp[family], err = ipsock.ListenErrors(v6)
		}
		switch {
		case v6 && ipsock.NoFamily(err):
			s.ike[1], s.nat[1], s.whole[1], s.icmp[1] = nil, nil, nil, nil
		case errors.Is(err, unix.EADDRINUSE):
			s.Close()
			return nil, fmt.Errorf("%w; another IKE daemon has the port: stop it first", err)
		case err != nil:
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

func (s *Sockets) all() []*ipsock.Conn {
	var out []*ipsock.Conn
	for _, c := range slices.Concat(s.ike[:], s.nat[:], s.whole[:], s.icmp[:]) {
		if c != nil {
			out = append(out, c)
		}
	}
	return out
}

// Close closes the sockets, which ends Run.
func (s *Sockets) Close() {
	for _, c := range s.all() {
		c.Close()
	}
}

// Run reads until ctx ends: IKE messages, without the marker, go to ike, ESP to
// a receiver of the goroutine, and ICMP errors that come back for either to
// lost, with what they say. It returns the first error that ends the reading
// of a socket.
func (s *Sockets) Run(ctx context.Context, ike func(local, remote netip.AddrPort, msg []byte), esp func() Receiver, lost func(local, remote netip.AddrPort, what string)) error {
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	var wg sync.WaitGroup
	errs := make(chan error, 6)
	read := func(c *ipsock.Conn, f func(ipsock.Batch)) { wg.Go(func() { errs <- ipsock.Each(c, f) }) }
	for family := range s.ike {
		if s.ike[family] == nil {
			continue
		}
		read(s.ike[family], func(b ipsock.Batch) {
			for i := range b {
				ike(b[i].Local, b[i].Remote, b[i].Buf[b[i].Offset:])
			}
		})
		r := esp()
		read(s.nat[family], func(b ipsock.Batch) {
			for i := range b {
				demultiplex(&b[i], ike, r)
			}
			r.Flush()
		})
		read(s.icmp[family], func(b ipsock.Batch) {
			for i := range b {
				if e, ok := ipsock.ParseError(&b[i]); ok && (e.Local.Port() == Port || e.Local.Port() == NATPort) {
					lost(e.Local, e.Remote, e.String())
				}
			}
		})
	}
	err := <-errs
	s.Close() // the others are of no use without it
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// demultiplex sorts what came to port 4500.
func demultiplex(p *ipsock.Packet, ike func(local, remote netip.AddrPort, msg []byte), esp Receiver) {
	if p.Size <= 0 { // nothing says where one datagram ends
		return
	}
	for at := p.Offset; at < len(p.Buf); at += p.Size {
		end := min(at+p.Size, len(p.Buf))
		switch d := p.Buf[at:end]; {
		case len(d) < len(marker): // a keepalive, or nothing that we know
		case bytes.HasPrefix(d, marker[:]):
			ike(p.Local, p.Remote, d[len(marker):])
		default:
			esp.Receive(p.Buf[:end], at, p.Local, p.Remote, p.TrafficClass, p.Link)
		}
	}
}

func family(a netip.AddrPort) int {
	if a.Addr().Is4() {
		return 0
	}
	return 1
}

func (s *Sockets) natConn(remote netip.AddrPort) (*ipsock.Conn, error) {
	if c := s.nat[family(remote)]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("send to %s: this host has no IPv6", remote)
}

// Send sends an IKE message from the local port that local names, 500 or
// 4500; on 4500 the marker goes before it.
func (s *Sockets) Send(local, remote netip.AddrPort, msg []byte) error {
	c, err := s.natConn(remote)
	if err != nil {
		return err
	}
	if local.Port() == Port {
		return s.ike[family(remote)].Write(local, remote, 0, msg, len(msg))
	}
	msg = append(marker[:len(marker):len(marker)], msg...)
	return c.Write(local, remote, 0, msg, len(msg))
}

// SendESP sends UDP-encapsulated ESP packets that stand back to back, each of
// size bytes but the last. With df set, no router on the way may fragment them,
// and none is larger than the MTU of the interface.
func (s *Sockets) SendESP(local, remote netip.AddrPort, trafficClass uint8, df bool, packets []byte, size int) error {
	c, err := s.natConn(remote)
	if err != nil {
		return err
	}
	if df {
		c = s.whole[family(remote)]
	}
	return c.Write(local, remote, trafficClass, packets, size)
}

// Keepalive sends what keeps a NAT's mapping for a peer (RFC 3948 section 4).
func (s *Sockets) Keepalive(local, remote netip.AddrPort) error {
	c, err := s.natConn(remote)
	if err != nil {
		return err
	}
	return c.Write(local, remote, 0, keepalive[:], len(keepalive))
}
