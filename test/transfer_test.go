package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

const (
	megabyte = 1 << 20
	patience = 2 * time.Minute // for anything that ought to succeed
)

// give writes size bytes of noise and their SHA-256.
func give(w io.Writer, size int64) error {
	noise := rand.NewChaCha8([32]byte{byte(size)})
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(w, sum), noise, size); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

// take reads what give wrote and checks it.
func take(r io.Reader, size int64) error {
	sum := sha256.New()
	if n, err := io.CopyN(sum, r, size); err != nil {
		return fmt.Errorf("receiving, after %d of %d bytes: %w", n, size, err)
	}
	theirs := make([]byte, sha256.Size)
	if _, err := io.ReadFull(r, theirs); err != nil {
		return fmt.Errorf("receiving the checksum: %w", err)
	}
	if ours := sum.Sum(nil); !bytes.Equal(ours, theirs) {
		return fmt.Errorf("sent %x, received %x", theirs, ours)
	}
	return nil
}

// swap sends size bytes and receives as many.
func swap(c net.Conn, size int64) error {
	if err := binary.Write(c, binary.BigEndian, size); err != nil {
		return err
	}
	if err := give(c, size); err != nil {
		return err
	}
	return take(c, size)
}

// serveSwaps is the other end of swap, for every connection.
func serveSwaps(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var size int64
			for binary.Read(c, binary.BigEndian, &size) == nil {
				if take(c, size) != nil || give(c, size) != nil {
					return
				}
			}
		}()
	}
}

// listenSwaps serves swaps in a host until the test ends.
func listenSwaps(t *testing.T, h *lab.Host, address string) {
	t.Helper()
	l, err := h.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go serveSwaps(l)
}

// transfer swaps size bytes over TCP; the client's address is a literal one
// or empty.
func transfer(h *lab.Host, from, to string, size int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := h.DialFrom(ctx, "tcp", from, to)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	return swap(c, size)
}

// listenEcho answers UDP datagrams with themselves until the test ends.
func listenEcho(t *testing.T, h *lab.Host, address string) {
	t.Helper()
	c, err := h.ListenPacket("udp", address)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, widen(c))
	go serveEcho(c)
}

// serveEcho answers datagrams with themselves until the socket is closed.
func serveEcho(c net.PacketConn) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			c.WriteTo(buf[:n], from) // a lost answer is for the asker to notice
		}
	}
}

// widen gives a socket room for a burst of datagrams, such as those that have
// waited for an SA.
func widen(c any) error {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) }); e != nil {
		return e
	}
	return err
}

// echo sends a UDP datagram of size bytes, again each second, until its echo
// comes.
func echo(ctx context.Context, h *lab.Host, to string, size int) error {
	c, err := h.Dial(ctx, "udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	sent := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(sent)
	return askUntil(ctx, func(deadline time.Time) error {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
		if _, err := c.Write(sent); err != nil {
			return err
		}
		got := make([]byte, 1<<16)
		n, err := c.Read(got)
		if err == nil && !bytes.Equal(got[:n], sent) {
			err = fmt.Errorf("echo of %d bytes differs from the %d bytes sent", n, size)
		}
		return err
	})
}

// askUntil repeats a question with a second for each answer.
func askUntil(ctx context.Context, ask func(deadline time.Time) error) error {
	for {
		deadline := time.Now().Add(time.Second)
		err := ask(deadline)
		if err == nil {
			return nil
		}
		wait, cancel := context.WithDeadline(ctx, deadline) // a refusal comes at once
		<-wait.Done()
		cancel()
		if ctx.Err() != nil {
			return fmt.Errorf("no answer until the deadline, at last: %w", err)
		}
	}
}

// ping sends an ICMP echo request with size bytes of data, again each second,
// until the reply comes.
func ping(ctx context.Context, h *lab.Host, from, to string, size int) error {
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if strings.Contains(to, ":") {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	c, err := h.ListenPacket(network, from)
	if err != nil {
		return err
	}
	defer c.Close()
	dst, err := net.ResolveIPAddr("ip", to)
	if err != nil {
		return err
	}
	id := uint16(os.Getpid())
	message := make([]byte, 8+size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(message[8:])
	message[0], message[1] = request, 0
	binary.BigEndian.PutUint16(message[4:], id)
	var seq uint16
	return askUntil(ctx, func(deadline time.Time) error {
		seq++
		message[2], message[3] = 0, 0
		binary.BigEndian.PutUint16(message[6:], seq)
		if request == 8 { // the kernel sums ICMPv6 itself
			binary.BigEndian.PutUint16(message[2:], internetChecksum(message))
		}
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
		if _, err := c.WriteTo(message, dst); err != nil {
			return err
		}
		got := make([]byte, 1<<16)
		for {
			n, peer, err := c.ReadFrom(got)
			if err != nil {
				return err
			}
			if n >= 8 && got[0] == reply && peer.String() == to && bytes.Equal(got[4:8], message[4:8]) {
				if !bytes.Equal(got[8:n], message[8:]) {
					return fmt.Errorf("reply of %d bytes differs from the request of %d", n, len(message))
				}
				return nil
			}
		}
	})
}

// internetChecksum is that of RFC 1071.
func internetChecksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
