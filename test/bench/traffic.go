package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

const (
	payload    = 64      // bytes of each datagram
	batch      = 32      // datagrams to a system call
	buffer     = 8 << 20 // bytes of datagrams that wait for the receiver
	firstWait  = 10 * time.Second
	afterwards = 50 * time.Millisecond // for what is still on its way when the sender stops
)

// flow sends datagrams from a host to another for a time, as fast as they go,
// and returns how many a second arrived. The veth carries each to the
// receiver's socket before the sender goes on, so what this counts are packets
// through the hooks of both.
func flow(from *lab.Host, source string, to *lab.Host, destination string, duration time.Duration) (float64, error) {
	in, err := listen(to, destination)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := listen(from, source)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	var received atomic.Uint64
	done := make(chan error, 1)
	go func() { done <- receive(in, &received) }()

	addr, err := net.ResolveUDPAddr("udp4", destination)
	if err != nil {
		return 0, err
	}
	messages := make([]ipv4.Message, batch)
	for i := range messages {
		messages[i] = ipv4.Message{Buffers: [][]byte{make([]byte, payload)}, Addr: addr}
	}
	c := ipv4.NewPacketConn(out)
	// The first packets wait for the neighbour's address.
	for start := time.Now(); received.Load() == 0; {
		if _, err := c.WriteBatch(messages[:1], 0); err != nil && !errors.Is(err, unix.EPERM) {
			return 0, fmt.Errorf("sending to %s: %w", destination, err)
		}
		if time.Since(start) > firstWait {
			return 0, fmt.Errorf("nothing comes from %s to %s", source, destination)
		}
	}
	before, start := received.Load(), time.Now()
	for time.Since(start) < duration {
		if _, err := c.WriteBatch(messages, 0); err != nil {
			return 0, fmt.Errorf("sending to %s: %w", destination, err)
		}
	}
	elapsed := time.Since(start)
	if err := in.SetReadDeadline(time.Now().Add(afterwards)); err != nil {
		return 0, err
	}
	if err := <-done; err != nil {
		return 0, fmt.Errorf("receiving at %s: %w", destination, err)
	}
	return float64(received.Load()-before) / elapsed.Seconds(), nil
}

// listen opens a socket at an address, with room for many datagrams.
func listen(h *lab.Host, address string) (*net.UDPConn, error) {
	p, err := h.ListenPacket("udp4", address)
	if err != nil {
		return nil, err
	}
	c := p.(*net.UDPConn)
	raw, err := c.SyscallConn()
	if err == nil {
		err = errors.Join(err, raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer)
		}))
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// receive counts datagrams until the deadline of the socket.
func receive(in *net.UDPConn, count *atomic.Uint64) error {
	messages := make([]ipv4.Message, batch)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, payload)}
	}
	c := ipv4.NewPacketConn(in)
	for {
		n, err := c.ReadBatch(messages, 0)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		count.Add(uint64(n))
	}
}
