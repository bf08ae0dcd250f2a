package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// Ports of the server, by what the policy does with them.
const (
	permitted = "8080"
	secured   = "8443"
	blocked   = "9999"
)

// peer is a host with a daemon.
type peer struct {
	*lab.Host
	addrs  []string // IPv4 and IPv6
	dir    string   // of the daemon's files
	cmd    *lab.Cmd
	exited chan error
}

// newPeers makes two hosts, joined by a cable.
func newPeers(t *testing.T) (client, server *peer) {
	t.Helper()
	n, err := lab.New("native")
	must(t, err)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	client = newPeer(t, n, "client", "10.9.0.20", "fd00:9::20")
	server = newPeer(t, n, "server", "10.9.0.10", "fd00:9::10")
	must(t, n.Link(client.Host, server.Host, "eth0", "eth0", client.prefixes(), server.prefixes()))
	return client, server
}

func newPeer(t *testing.T, n *lab.Net, name string, addrs ...string) *peer {
	t.Helper()
	h, err := n.Host(name)
	must(t, err)
	p := &peer{Host: h, addrs: addrs, dir: t.TempDir()}
	must(t, os.WriteFile(p.path("psk"), []byte("the one that both of them know, and nobody else"), 0o600))
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			log, _ := os.ReadFile(p.path("log"))
			t.Logf("log of the daemon of %s:\n%s", name, log)
		}
	})
	return p
}

func (p *peer) prefixes() []string { return []string{p.addrs[0] + "/24", p.addrs[1] + "/64"} }

func (p *peer) path(name string) string { return filepath.Join(p.dir, name) }

// start starts the daemon and waits until it answers.
func (p *peer) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(p.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer log.Close()
	p.cmd = p.Command(program, "--socket", p.path("socket"), "daemon", "--state", p.path("state"))
	p.cmd.Stdout, p.cmd.Stderr = log, log
	must(t, p.cmd.Start())
	cmd, exited := p.cmd, make(chan error, 1)
	p.exited = exited
	go func() { exited <- cmd.Wait() }()
	answers := func() bool {
		c, err := net.Dial("unix", p.path("socket"))
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	if !await(time.Minute, answers) {
		t.Fatalf("the daemon of %s does not answer", p.Name)
	}
}

// kill ends the daemon as a crash would.
func (p *peer) kill() {
	if p.exited != nil {
		p.cmd.Process.Kill()
		<-p.exited
		p.exited = nil
	}
}

// run runs a command of ipsecfw against the daemon.
func (p *peer) run(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := p.Command(program, append([]string{"--socket", p.path("socket")}, args...)...).Output()
	if err != nil {
		t.Fatalf("ipsecfw %s on %s: %v", strings.Join(args, " "), p.Name, err)
	}
	return out
}

// show reads what a command prints as JSON.
func (p *peer) show(t *testing.T, into any, args ...string) {
	t.Helper()
	out := p.run(t, append(args, "-o", "json")...)
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("ipsecfw %s on %s: %v\n%s", strings.Join(args, " "), p.Name, err, out)
	}
}

// apply makes a rule file the policy in force.
func (p *peer) apply(t *testing.T, policy string) {
	t.Helper()
	must(t, os.WriteFile(p.path("policy.yaml"), []byte(policy), 0o600))
	p.run(t, "apply", p.path("policy.yaml"))
}

var trouble = regexp.MustCompile(`(?m)^.*(level=WARN|level=ERROR|^panic:).*$`)

// untroubled fails the test if the daemon has warned of anything.
func (p *peer) untroubled(t *testing.T) {
	t.Helper()
	log, err := os.ReadFile(p.path("log"))
	must(t, err)
	if lines := trouble.FindAllString(string(log), 5); lines != nil {
		t.Errorf("the daemon of %s logged:\n%s", p.Name, strings.Join(lines, "\n"))
	}
}

// policy is the rule file of one end: everything between the client's
// addresses and those of the server is to be secured, but for two ports.
func policy(client, server []string) string {
	var lists [3]strings.Builder
	for i := range client {
		ends := fmt.Sprintf("    - {from: %q, to: %q", client[i], server[i])
		fmt.Fprintf(&lists[0], "%s}\n", ends)
		for _, protocol := range []string{"tcp", "udp"} {
			for j, port := range []string{permitted, blocked} {
				fmt.Fprintf(&lists[1+j], "%s, protocol: %s, to-port: %s}\n", ends, protocol, port)
			}
		}
	}
	return fmt.Sprintf(`version: 1
name: native
filter-lists:
  secured:
%s  permitted:
%s  blocked:
%srules:
  - {name: secured, filter-list: secured, action: require-security, authentication: [{preshared-key: {file: psk}}]}
  - {name: permitted, filter-list: permitted, action: permit}
  - {name: blocked, filter-list: blocked, action: block}
`, lists[0].String(), lists[1].String(), lists[2].String())
}

// sa is a pair of SAs as "list sas -o json" shows it.
type sa struct {
	InSPI    string `json:"in-spi"`
	OutSPI   string `json:"out-spi"`
	Remote   string `json:"remote"`
	InBytes  uint64 `json:"in-bytes"`
	OutBytes uint64 `json:"out-bytes"`
}

// agree fails the test unless the peers share one pair of SAs for an address
// of the server, have moved at least so many bytes each way, and count the
// same.
func agree(t *testing.T, client, server *peer, to string, bytes uint64) {
	t.Helper()
	var problem error
	if !await(20*time.Second, func() bool { // what ends a connection may be on its way
		problem = differ(t, client, server, to, bytes)
		return problem == nil
	}) {
		t.Error(problem)
	}
}

func differ(t *testing.T, client, server *peer, to string, bytes uint64) error {
	var mine, theirs []sa
	client.show(t, &mine, "list", "sas")
	server.show(t, &theirs, "list", "sas")
	var found []sa
	for _, x := range mine {
		if x.Remote == to {
			found = append(found, x)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("the client has the SAs %+v, want one for %s", mine, to)
	}
	c := found[0]
	for _, s := range theirs {
		switch {
		case s.InSPI != c.OutSPI || s.OutSPI != c.InSPI:
		case s.InBytes != c.OutBytes || s.OutBytes != c.InBytes || min(s.InBytes, s.OutBytes) < bytes:
			return fmt.Errorf("the client counts %d bytes out and %d in, the server %d in and %d out, want the same and %d at least",
				c.OutBytes, c.InBytes, s.InBytes, s.OutBytes, bytes)
		default:
			return nil
		}
	}
	return errors.New("the server does not have the SA " + c.OutSPI + " for " + strconv.Quote(to))
}
