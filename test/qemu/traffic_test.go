package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// noise is what is sent: so many bytes that nothing can guess.
func noise(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(b)
	return b
}

// serve answers on a port, UDP and TCP, with what comes, until the test ends.
func (p *peer) serve(t *testing.T, port string) {
	t.Helper()
	for _, addr := range p.addrs {
		c, err := p.ListenPacket("udp", net.JoinHostPort(addr, port))
		must(t, err)
		t.Cleanup(func() { c.Close() })
		go func() {
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
		}()
		l, err := p.Listen("tcp", net.JoinHostPort(addr, port))
		must(t, err)
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					io.Copy(c, c)
				}()
			}
		}()
	}
}

// ask sends a datagram of size bytes, again every two seconds, until its echo
// comes.
func (p *peer) ask(ctx context.Context, to, port string, size int) error {
	c, err := p.Dial(ctx, "udp", net.JoinHostPort(to, port))
	if err != nil {
		return err
	}
	defer c.Close()
	sent, got := noise(size), make([]byte, 1<<16)
	return again(ctx, c.SetDeadline, func() error {
		_, err := c.Write(sent)
		return err
	}, func() (bool, error) {
		n, err := c.Read(got)
		return bytes.Equal(got[:n], sent), err
	})
}

// ping sends an ICMP echo request with size bytes of data, again every two
// seconds, until the reply comes.
func (p *peer) ping(ctx context.Context, from, to string, size int) error {
	network, protocol := "ip4:icmp", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if strings.Contains(to, ":") {
		network, protocol = "ip6:ipv6-icmp", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	c, err := p.ListenPacket(network, from)
	if err != nil {
		return err
	}
	defer c.Close()
	message := icmp.Message{Type: request, Body: &icmp.Echo{ID: os.Getpid(), Seq: 1, Data: noise(size)}}
	sent, err := message.Marshal(nil) // of ICMPv6 the kernel makes the checksum
	if err != nil {
		return err
	}
	dst := &net.IPAddr{IP: net.ParseIP(to)}
	got := make([]byte, 1<<16)
	return again(ctx, c.SetDeadline, func() error {
		_, err := c.WriteTo(sent, dst)
		return err
	}, func() (bool, error) {
		n, peer, err := c.ReadFrom(got)
		if err != nil {
			return false, err
		}
		m, err := icmp.ParseMessage(protocol, got[:n])
		return err == nil && m.Type == reply && peer.String() == to && bytes.Equal(got[4:n], sent[4:]), err
	})
}

// again sends, and receives until what came is the answer. It begins anew
// when that takes two seconds.
func again(ctx context.Context, deadline func(time.Time) error, send func() error, receive func() (bool, error)) error {
	for {
		if err := deadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		err, done := send(), false
		for err == nil && !done {
			done, err = receive()
		}
		if done {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("no answer until the deadline, at last: %w", err)
		}
	}
}

// transfer sends size bytes by TCP, and expects them back.
func (p *peer) transfer(ctx context.Context, to, port string, size int) error {
	c, err := p.Dial(ctx, "tcp", net.JoinHostPort(to, port))
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
	}
	sent := noise(size)
	done := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		done <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err = errors.Join(err, <-done); err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", len(got), size, err)
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("the %d bytes that came back are not the %d sent", len(got), size)
	}
	return nil
}

// send sends one datagram, or tries to begin a connection.
func (p *peer) send(network, to, port string) {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	c, err := p.Dial(ctx, network, net.JoinHostPort(to, port))
	if err == nil {
		c.Write([]byte("traced")) // what the rules drop is no error
		c.Close()
	}
}

// cannot fails the test if a port answers.
func (p *peer) cannot(t *testing.T, to, port string) {
	t.Helper()
	ctx := within(t, 2*time.Second)
	asked := make(chan error, 1)
	go func() { asked <- p.ask(ctx, to, port, 512) }()
	c, err := p.Dial(ctx, "tcp", net.JoinHostPort(to, port))
	if err == nil {
		c.Close()
		t.Errorf("%s port %s answers to TCP", to, port)
	}
	if <-asked == nil {
		t.Errorf("%s port %s answers to UDP", to, port)
	}
}
