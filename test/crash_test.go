package test

import (
	"context"
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// pulse sends a numbered datagram every 50 ms and remembers the last number
// that came back.
type pulse struct {
	conn net.Conn
	back atomic.Uint64
}

func startPulse(t *testing.T, h *lab.Host, to string) *pulse {
	t.Helper()
	return startPulseFrom(t, h, "", to)
}

// startPulseFrom is startPulse from one of the host's addresses.
func startPulseFrom(t *testing.T, h *lab.Host, from, to string) *pulse {
	t.Helper()
	c, err := h.DialFrom(t.Context(), "udp", from, to)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	p := &pulse{conn: c}
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for n := uint64(1); ; n++ {
			select {
			case <-t.Context().Done():
				return
			case <-tick.C:
				c.Write(binary.BigEndian.AppendUint64(nil, n)) // it may well be refused
			}
		}
	}()
	go func() {
		buf := make([]byte, 8)
		for t.Context().Err() == nil {
			if n, err := c.Read(buf); err == nil && n == 8 {
				p.back.Store(binary.BigEndian.Uint64(buf))
			}
		}
	}()
	return p
}

// beats waits until more datagrams have come back.
func (p *pulse) beats(t *testing.T, d time.Duration) {
	t.Helper()
	from := p.back.Load()
	eventually(t, d, "the datagrams come back", func() bool { return p.back.Load() > from+3 })
}

func TestCrash(t *testing.T) {
	s, w, ds, dw := secureHosts(t, "")
	listenSwaps(t, s.server, server4+":8443")
	listenEcho(t, w, workstation4+":7")
	wire := s.between(t)
	pulse := startPulse(t, s.server, workstation4+":7")
	pulse.beats(t, 10*time.Second)

	// The daemon dies while the workstation sends.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := w.Dial(ctx, "tcp", server4+":8443")
	must(t, err)
	defer c.Close()
	go swap(c, 1<<40)
	before := wire.bytes.Load()
	eventually(t, 20*time.Second, "the transfer is under way", func() bool { return wire.bytes.Load() > before+20*megabyte })
	dw.kill()
	stopped := wire.esp.Load()

	// Whatever the workstation sends now goes nowhere.
	if err := refused(w, server4+":8443", 2*time.Second); err != nil {
		t.Error(err)
	}
	if err := ping(within(t, 2*time.Second), w, workstation4, server4, 100); err == nil {
		t.Error("a ping came back without a daemon")
	}
	if n := wire.clear.Load(); n > 0 {
		t.Errorf("%d clear packets after the crash, the first: %s", n, *wire.witness.Load())
	}
	t.Logf("%d ESP packets after the crash, from the server", wire.esp.Load()-stopped)

	// It comes back with its policy, and the server follows.
	dw.start(t)
	start := time.Now()
	if err := transfer(w, workstation4, server4+":8443", 10*megabyte); err != nil {
		t.Errorf("a new connection after the restart: %v", err)
	}
	t.Logf("a new connection and its 20 MiB took %v", time.Since(start))
	pulse.beats(t, patience)
	t.Logf("the datagrams came back after %v", time.Since(start))
	wire.secret(t, 20*megabyte)
	ds.untroubled(t)
}

// The other host alone has something to say after the restart: it must find
// out that its SAs lead nowhere.
func TestCrashOfTheListener(t *testing.T) {
	s, w, _, dw := secureHosts(t, "")
	listenEcho(t, w, workstation4+":7")
	wire := s.between(t)
	pulse := startPulse(t, s.server, workstation4+":7")
	pulse.beats(t, 10*time.Second)
	dw.kill()
	dw.start(t)
	start := time.Now()
	pulse.beats(t, patience)
	t.Logf("the datagrams came back after %v", time.Since(start))
	wire.secret(t, 1)
}
