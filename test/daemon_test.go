package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// daemon is an ipsecfw daemon in a host, with its folder of rule files and
// keys.
type daemon struct {
	host   *lab.Host
	dir    string
	cmd    *lab.Cmd
	exited chan error
	root   string   // if not empty, has the etc and var/lib that the daemon sees
	args   []string // more of its command line
}

// startDaemon starts a daemon without a policy. It ends with the test, and
// its log is shown if that fails.
func startDaemon(t *testing.T, h *lab.Host) *daemon {
	t.Helper()
	return startDaemonIn(t, h, "")
}

// startDaemonIn is startDaemon with a folder for what the daemon is to see as
// /etc and /var/lib.
func startDaemonIn(t *testing.T, h *lab.Host, root string) *daemon {
	t.Helper()
	if root != "" {
		need(t, "unshare")
	}
	d := &daemon{host: h, dir: t.TempDir(), root: root}
	d.start(t)
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("log of the daemon in %s:\n%s", h.Name, d.log(t))
		}
	})
	return d
}

func (d *daemon) path(name string) string { return filepath.Join(d.dir, name) }

// start starts the daemon, again perhaps with the state of the last time, and
// waits until it answers.
func (d *daemon) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(d.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer log.Close()
	args := []string{program, "--socket", d.path("socket"), "daemon", "--state", d.path("state")}
	args = append(args, d.args...)
	if d.root != "" {
		mounted := `mount --bind "$0/etc" /etc && mount --bind "$0/var/lib" /var/lib && exec "$@"`
		args = append([]string{"unshare", "--mount", "sh", "-c", mounted, d.root}, args...)
	}
	d.cmd = d.host.Command(args[0], args[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	must(t, d.cmd.Start())
	cmd, exited := d.cmd, make(chan error, 1)
	d.exited = exited
	go func() { exited <- cmd.Wait() }()
	ctx := within(t, 20*time.Second)
	eventually(t, 20*time.Second, "the daemon in "+d.host.Name+" answers", func() bool {
		select {
		case err := <-exited:
			t.Fatalf("the daemon in %s ended: %v\n%s", d.host.Name, err, d.log(t))
		default:
		}
		c, err := new(net.Dialer).DialContext(ctx, "unix", d.path("socket"))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// kill ends the daemon as a crash would, and returns when it is gone.
func (d *daemon) kill() {
	if d.exited != nil {
		d.cmd.Process.Kill()
		<-d.exited
		d.exited = nil
	}
}

// stop asks the daemon to end.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	must(t, d.cmd.Process.Signal(os.Interrupt))
	select {
	case err := <-d.exited:
		d.exited = nil
		if err != nil {
			t.Errorf("the daemon in %s ended: %v", d.host.Name, err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("the daemon in %s does not end on an interrupt", d.host.Name)
	}
}

func (d *daemon) log(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(d.path("log"))
	must(t, err)
	return b
}

// clearLog forgets what was logged until now.
func (d *daemon) clearLog() error { return os.Truncate(d.path("log"), 0) }

var trouble = regexp.MustCompile(`(?m)^.*(level=WARN|level=ERROR|DATA RACE|^panic:).*$`)

// unchecked is what is said of a peer whose revocation nobody tells who should.
const unchecked = "audit: a peer is believed whose certificates may have been revoked"

// untroubled fails the test if the daemon has warned of anything but what is
// expected, or not of that.
func (d *daemon) untroubled(t *testing.T, expected ...string) {
	t.Helper()
	log := d.log(t)
	lines := trouble.FindAll(log, -1)
	for _, e := range expected {
		known := func(line []byte) bool { return bytes.Contains(line, []byte(e)) }
		if !slices.ContainsFunc(lines, known) {
			t.Errorf("the daemon in %s did not warn: %s\n%s", d.host.Name, e, log)
		}
		lines = slices.DeleteFunc(lines, known)
	}
	if len(lines) > 0 {
		t.Errorf("the daemon in %s logged:\n%s", d.host.Name, bytes.Join(lines[:min(5, len(lines))], []byte("\n")))
	}
}

// write puts a file beside the rule file.
func (d *daemon) write(t *testing.T, name string, content []byte) string {
	t.Helper()
	must(t, os.WriteFile(d.path(name), content, 0o600))
	return d.path(name)
}

// run runs a command of ipsecfw against the daemon.
func (d *daemon) run(args ...string) ([]byte, error) {
	return d.host.Command(program, append([]string{"--socket", d.path("socket")}, args...)...).Output()
}

// apply makes a rule file the policy in force.
func (d *daemon) apply(t *testing.T, policy string) {
	t.Helper()
	if _, err := d.run("apply", d.write(t, "policy.yaml", []byte(policy))); err != nil {
		t.Fatalf("apply in %s: %v\n%s", d.host.Name, err, policy)
	}
}

// sa is a pair of SAs as "list sas -o json" shows it.
type sa struct {
	Rule       string `json:"rule"`
	Mode       string `json:"mode"`
	InSPI      string `json:"in-spi"`
	OutSPI     string `json:"out-spi"`
	Remote     string `json:"remote"`
	UDP        bool   `json:"udp-encapsulation"`
	InBytes    uint64 `json:"in-bytes"`
	InPackets  uint64 `json:"in-packets"`
	OutBytes   uint64 `json:"out-bytes"`
	OutPackets uint64 `json:"out-packets"`

	Protocol          string `json:"protocol"`
	ReplayDrops       uint64 `json:"replay-drops"`
	IntegrityFailures uint64 `json:"integrity-failures"`
	Malformed         uint64 `json:"malformed"`
	Mismatches        uint64 `json:"selector-mismatches"`
}

// sas lists the daemon's pairs of SAs.
func (d *daemon) sas(t *testing.T) []sa {
	t.Helper()
	out, err := d.run("list", "sas", "-o", "json")
	must(t, err)
	var list []sa
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("list sas: %v\n%s", err, out)
	}
	return list
}

// ruleset is what nftables holds in a host, as nft prints it.
func ruleset(t *testing.T, h *lab.Host) string {
	t.Helper()
	out, err := h.Command("nft", "-j", "list", "ruleset").Output()
	must(t, err)
	return string(out)
}

// loadRuleset adds to what nftables holds in a host.
func loadRuleset(t *testing.T, h *lab.Host, rules string) {
	t.Helper()
	need(t, "nft")
	nft := h.Command("nft", "-f", "-")
	nft.Stdin = bytes.NewReader([]byte(rules))
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
}

// refused says how a connection did not come about, or that it did.
func refused(h *lab.Host, address string, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	c, err := h.Dial(ctx, "tcp", address)
	if err != nil {
		return nil
	}
	c.Close()
	return fmt.Errorf("%s reached %s", h.Name, address)
}
