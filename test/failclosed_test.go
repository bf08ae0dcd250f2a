package test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/nfq"
)

// After a reboot there is no ruleset. A daemon that cannot start all that it
// needs must restore at least that, before it gives up.
func TestRestoreWithoutPorts(t *testing.T) {
	s := newSite(t)
	w := s.workstation(t)
	d := startDaemon(t, s.server)
	d.enroll(t, newAuthority(t), "server.test", server4, psk)
	d.apply(t, payroll)
	d.kill()
	loadRuleset(t, s.server, "delete table inet ipsecfw")
	other, err := s.server.ListenPacket("udp4", ":500")
	must(t, err)
	defer other.Close()

	out, err := s.server.Command(program, "--socket", d.path("socket"), "daemon", "--state", d.path("state")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another IKE daemon") {
		t.Errorf("the daemon ended with error %v and said\n%s", err, out)
	}
	listenSwaps(t, s.server, server4+":8443")
	if err := refused(w, server4+":8443", 2*time.Second); err != nil {
		t.Errorf("in clear, without a daemon: %v", err)
	}
	other.Close()
	d.start(t)
	d.stop(t)
}

// A second daemon in a network namespace leaves alone what the first one has
// in force; a later one takes down what a dead one left.
func TestOneDaemonForEachNetwork(t *testing.T) {
	s := newSite(t)
	first, second := startDaemon(t, s.server), startDaemon(t, s.server)
	for _, d := range []*daemon{first, second} {
		d.write(t, "psk", []byte(psk))
	}
	empty := network(t, s.server)
	first.apply(t, hostPolicy("", workstation4, workstation6))
	before := network(t, s.server)
	second.write(t, "policy.yaml", []byte(hostPolicy("", stranger4)))
	for _, args := range [][]string{{"apply", second.path("policy.yaml")}, {"unapply"}} {
		if _, err := second.run(args...); err == nil || !strings.Contains(err.Error(), "another ipsecfw daemon") {
			t.Errorf("%s by the second daemon: error %v", args[0], err)
		}
		for what, is := range network(t, s.server) {
			if is != before[what] {
				t.Errorf("after %s %s was\n%s\nand is\n%s", args[0], what, before[what], is)
			}
		}
	}
	first.kill()
	_, err := second.run("unapply")
	must(t, err)
	for what, is := range network(t, s.server) {
		if is != empty[what] {
			t.Errorf("before there was any policy %s was\n%s\nand is\n%s", what, empty[what], is)
		}
	}
}

// An apply that fails late, when the queues are to be read, leaves all as it
// was, the daemon included.
func TestApplyWithoutAQueue(t *testing.T) {
	s := newSite(t)
	d := startDaemon(t, s.server)
	d.write(t, "psk", []byte(psk))
	path := d.write(t, "policy.yaml", []byte(hostPolicy("", workstation4, workstation6)))
	before := network(t, s.server)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	e := nfq.NewEngine(nfq.Config{Log: slog.New(slog.DiscardHandler)})
	var q *nfq.Queue
	must(t, s.server.Do(func() (err error) {
		if q, err = nfq.OpenQueue(4951, true, 0x49500002, &e.Counters); err == nil {
			err = q.Start(ctx, e.NewOutbound())
		}
		return err
	}))
	if _, err := d.run("apply", path); err == nil || !strings.Contains(err.Error(), "packet queue 4951") {
		t.Errorf("apply without a queue: error %v", err)
	}
	for what, is := range network(t, s.server) {
		if is != before[what] {
			t.Errorf("%s was\n%s\nand is\n%s", what, before[what], is)
		}
	}
	cancel()
	q.Close()
	_, err := d.run("apply", path)
	must(t, err)
}

// A peer that wants small segments gets them from the stack in packets that
// are large, and yet smaller than the path takes.
func TestSmallSegments(t *testing.T) {
	const size = 1000 // two of the peer's segments, in one packet
	s, w, _, _ := secureHosts(t, "")
	wire := s.between(t)
	var l net.Listener
	must(t, s.server.Do(func() (err error) {
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
			c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 500) })
			return err
		}}
		l, err = lc.Listen(t.Context(), "tcp", server4+":8443")
		return err
	}))
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.Copy(c, c)
	}()
	c, err := w.Dial(t.Context(), "tcp", server4+":8443")
	must(t, err)
	defer c.Close()
	start := time.Now()
	buf := make([]byte, size)
	for range 50 {
		_, err := c.Write(buf)
		must(t, err)
		_, err = io.ReadFull(c, buf)
		must(t, err)
	}
	// Each that is lost costs a retransmission, 200 ms and more.
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("50 requests took %v", d)
	}
	wire.secret(t, 50*size)
}
