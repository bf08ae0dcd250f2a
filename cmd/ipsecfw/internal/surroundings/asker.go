package surroundings

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxAtOnce = 16   // names that are looked up at the same time
	rounds    = 2    // how often a silent server is asked: the attempts of resolv.conf(5)
	maxUDP    = 4096 // bytes of an answer by UDP; more than 512 only a server sends that errs
)

// found is what is known about a name, the IPv4 addresses before the IPv6.
type found [2]answer

var families = [2]dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}

// asker asks servers. It may be used from several goroutines.
type asker struct {
	servers  []netip.AddrPort
	exchange time.Duration // for one question to one server
	places   chan struct{} // taken by lookups under way
}

func newAsker(cfg Config, servers []netip.AddrPort) *asker {
	return &asker{servers: servers, exchange: cfg.tempo.exchange, places: make(chan struct{}, maxAtOnce)}
}

// lookup asks for the addresses of a name in both families.
func (k *asker) lookup(ctx context.Context, name string) found {
	select {
	case k.places <- struct{}{}:
		defer func() { <-k.places }()
	case <-ctx.Done():
		return found{{err: ctx.Err()}, {err: ctx.Err()}}
	}
	six := make(chan answer, 1)
	go func() { six <- k.ask(ctx, name, families[1]) }()
	return found{k.ask(ctx, name, families[0]), <-six}
}

// ask asks the servers one after the other until one knows.
func (k *asker) ask(ctx context.Context, name string, kind dnsmessage.Type) answer {
	last := errors.New("no servers: name one in " + resolvConf)
	for range rounds {
		for _, server := range k.servers {
			a, err := k.askOne(ctx, server, name, kind)
			if err == nil || errors.Is(err, ErrNoSuchName) {
				a.err = err
				return a
			}
			last = fmt.Errorf("ask %v for %s: %w", server, kind.String()[len("Type"):], err)
			if ctx.Err() != nil {
				return answer{err: last}
			}
		}
	}
	return answer{err: last}
}

// askOne puts one question to one server, by UDP, and by TCP if the answer
// does not fit or cannot be trusted.
func (k *asker) askOne(ctx context.Context, server netip.AddrPort, name string, kind dnsmessage.Type) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, k.exchange)
	defer cancel()
	a, err := put(ctx, "udp", server, name, kind, askUDP)
	if errors.Is(err, errTruncated) || errors.Is(err, errCase) {
		return put(ctx, "tcp", server, name, kind, askTCP)
	}
	return a, err
}

// put asks a question of its own, from a socket of its own: identifier and
// source port are new each time (RFC 5452 section 9.2). The socket is
// connected: the kernel drops what comes from elsewhere.
func put(ctx context.Context, network string, server netip.AddrPort, name string, kind dnsmessage.Type, exchange func(net.Conn, question, []byte) (answer, error)) (answer, error) {
	random := make([]byte, len(name)+3)
	rand.Read(random) // never fails
	q, err := newQuestion(name, kind, random)
	if err != nil {
		return answer{}, err
	}
	msg, err := q.pack()
	if err != nil {
		return answer{}, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	a, err := exchange(conn, q, msg)
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("no answer by %s in time: %w", network, ctx.Err())
	}
	return a, err
}

func askUDP(conn net.Conn, q question, msg []byte) (answer, error) {
	if _, err := conn.Write(msg); err != nil {
		return answer{}, err
	}
	buf := make([]byte, maxUDP)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return answer{}, err
		}
		a, err := q.parse(buf[:n], false)
		if !errors.Is(err, errForeign) {
			return a, err
		}
	}
}

// askTCP has the length before each message (RFC 1035 section 4.2.2).
func askTCP(conn net.Conn, q question, msg []byte) (answer, error) {
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)); err != nil {
		return answer{}, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return answer{}, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return answer{}, err
	}
	return q.parse(buf, true)
}
