package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// site is a sender, and hosts that differ in what their packets have to pass.
type site struct {
	net     *lab.Net
	sender  *lab.Host
	program string
	dir     string
	daemons []*daemon
}

func newSite(program, dir string) (*site, error) {
	n, err := lab.New("ipsecfw-bench")
	if err != nil {
		return nil, err
	}
	s := &site{net: n, program: program, dir: dir}
	if s.sender, err = n.Host("sender"); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *site) close() error {
	for _, d := range s.daemons {
		d.end()
	}
	return s.net.Close()
}

// target is a host with a link to the sender.
type target struct {
	*lab.Host
	policy policy
}

// target makes a host, whose policy of so many filters is not in force yet.
func (s *site) target(name string, n int, filters int) (*target, error) {
	h, err := s.net.Host(name)
	if err != nil {
		return nil, err
	}
	network := func(host byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, byte(n), host}) }
	own := []string{network(2).String() + "/24"}
	senders := []string{network(1).String() + "/24", network(3).String() + "/24"}
	err = s.net.Link(h, s.sender, "eth0", name, own, senders)
	return &target{h, policy{host: network(2), middle: network(1), last: network(3), filters: filters}}, err
}

// in measures datagrams to the host that the filter in the middle permits.
func (t *target) in(s *site, d time.Duration) (float64, error) {
	return flow(s.sender, at(t.policy.middle, middlePort), t.Host, at(t.policy.host, middlePort), d)
}

// inLast measures datagrams to the host that the last filter permits.
func (t *target) inLast(s *site, d time.Duration) (float64, error) {
	return flow(s.sender, at(t.policy.last, lastPort), t.Host, at(t.policy.host, lastPort), d)
}

// out measures datagrams from the host, which the mirrored half of the filter
// in the middle permits.
func (t *target) out(s *site, d time.Duration) (float64, error) {
	return flow(t.Host, at(t.policy.host, middlePort), s.sender, at(t.policy.middle, middlePort), d)
}

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// daemon is an ipsecfw daemon in a host.
type daemon struct {
	host    *lab.Host
	program string
	dir     string
	cmd     *lab.Cmd
	log     bytes.Buffer
}

const startWithin = 30 * time.Second

// start starts a daemon and waits until it answers.
func (s *site) start(h *lab.Host) (*daemon, error) {
	d := &daemon{host: h, program: s.program, dir: filepath.Join(s.dir, h.Name)}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return nil, err
	}
	d.cmd = h.Command(s.program, "--socket", d.path("socket"), "daemon", "--state", d.path("state"))
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	s.daemons = append(s.daemons, d)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < startWithin; <-tick.C {
		if c, err := net.Dial("unix", d.path("socket")); err == nil {
			return d, c.Close()
		}
	}
	return nil, fmt.Errorf("the daemon in %s does not answer", h.Name)
}

func (d *daemon) path(name string) string { return filepath.Join(d.dir, name) }

func (d *daemon) end() {
	d.cmd.Process.Kill()
	d.cmd.Wait()
}

// run runs a command of ipsecfw and returns the seconds that it took.
func (d *daemon) run(args ...string) (float64, error) {
	return timed(d.host.Command(d.program, append([]string{"--socket", d.path("socket")}, args...)...))
}

// timed runs a command and returns the seconds that it took.
func timed(c *lab.Cmd) (float64, error) {
	start := time.Now()
	out, err := c.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%.2000s", strings.Join(c.Args, " "), err, out)
	}
	return time.Since(start).Seconds(), nil
}

// memory returns what the daemon has resident, now and at most, in MiB.
func (d *daemon) memory() (now, most float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "VmRSS:" && f[0] != "VmHWM:" {
			continue
		}
		kib, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			return 0, 0, err
		}
		if f[0] == "VmRSS:" {
			now = kib / 1024
		} else {
			most = kib / 1024
		}
	}
	return now, most, nil
}
