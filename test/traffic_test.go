package test

import (
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// traffic is numbered datagrams that go to an echo, one each few milliseconds.
type traffic struct {
	conn     net.Conn
	sent     atomic.Uint64
	received atomic.Uint64
	stop     chan struct{}
	done     chan struct{}
}

const trafficEvery = 5 * time.Millisecond

// startTraffic begins to send from an address to an echo.
func startTraffic(t *testing.T, h *lab.Host, from, to string) *traffic {
	t.Helper()
	c, err := h.DialFrom(within(t, 20*time.Second), "udp", from, to)
	must(t, err)
	must(t, widen(c))
	s := &traffic{conn: c, stop: make(chan struct{}), done: make(chan struct{})}
	t.Cleanup(func() { c.Close() })
	go s.receive()
	go s.send()
	return s
}

func (s *traffic) send() {
	defer close(s.done)
	tick := time.NewTicker(trafficEvery)
	defer tick.Stop()
	b := make([]byte, 700)
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		binary.BigEndian.PutUint64(b, s.sent.Load())
		if _, err := s.conn.Write(b); err == nil {
			s.sent.Add(1)
		}
	}
}

func (s *traffic) receive() {
	seen := map[uint64]bool{}
	b := make([]byte, 2048)
	for {
		n, err := s.conn.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && n >= 8 && !seen[binary.BigEndian.Uint64(b)] {
			seen[binary.BigEndian.Uint64(b)] = true
			s.received.Add(1)
		}
	}
}

// end stops it and returns how many datagrams were sent, and how many
// of them never came back.
func (s *traffic) end(t *testing.T) (sent, lost uint64) {
	t.Helper()
	close(s.stop)
	<-s.done
	await(t, time.Second, func() bool { return s.received.Load() == s.sent.Load() })
	return s.sent.Load(), s.sent.Load() - s.received.Load()
}
