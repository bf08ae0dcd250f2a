package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

const charonPath = "/usr/lib/ipsec/charon"

// charonConf has the daemon find its IKE SAs by a hash, and write no log. Its
// ESP is that in user space, which needs no more of the kernel than a TUN
// device, and gets no SA here.
const charonConf = `charon {
  load = random nonce openssl pem pkcs1 pkcs8 x509 constraints pubkey aes sha1 sha2 hmac gcm curve25519 kdf drbg kernel-libipsec kernel-netlink socket-default vici
  ikesa_table_size = 1024
  ikesa_table_segments = 16
  install_routes = no
  install_virtual_ip = no
  filelog {
    f {
      path = %[1]s/charon.log
      default = -1
    }
  }
  plugins {
    vici {
      socket = unix://%[1]s/vici
    }
  }
}
`

// charon is a strongSwan daemon in a host.
type charon struct {
	*vici
	cmd *lab.Cmd
}

// startCharon starts a daemon that has its files in a folder, and waits until
// it answers.
func startCharon(h *lab.Host, dir string, events int) (*charon, error) {
	if _, err := exec.LookPath(charonPath); err != nil {
		return nil, fmt.Errorf("%w: apt-get install strongswan-charon libcharon-extra-plugins libstrongswan-standard-plugins", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "strongswan.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, charonConf, dir), 0o600); err != nil {
		return nil, err
	}
	// Its process ID is at a fixed place in /run: each gets a /run of its own.
	c := &charon{cmd: h.Command("sh", "-c", "mount -t tmpfs none /run && exec "+charonPath)}
	c.cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	c.cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+conf)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var err error
	for start := time.Now(); time.Since(start) < startWithin; <-tick.C {
		if c.vici, err = dialVici(filepath.Join(dir, "vici"), events); err == nil {
			return c, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("charon in %s does not answer: %w", h.Name, err), c.end())
}

func (c *charon) end() error {
	if c.vici != nil {
		c.close()
	}
	err := c.cmd.Process.Kill()
	c.cmd.Wait()
	return err
}

// cpuTime returns what the daemon has used of the processors, to a hundredth
// of a second.
func (c *charon) cpuTime() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", c.cmd.Process.Pid, len(f))
	}
	user, err := strconv.Atoi(f[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

// charons are a daemon that begins IKE SAs and one that answers.
type charons struct {
	initiator, responder *charon
	begun                int // connections that the initiator has
}

// startCharons starts both for up to n IKE SAs.
func startCharons(p *pairOfHosts, dir string, n int) (*charons, error) {
	c := &charons{begun: n}
	var err error
	if c.initiator, err = startCharon(p.initiator, filepath.Join(dir, "initiator"), 2*n); err != nil {
		return nil, err
	}
	if c.responder, err = startCharon(p.responder, filepath.Join(dir, "responder"), 2*n); err != nil {
		return nil, errors.Join(err, c.initiator.end())
	}
	return c, nil
}

func (c *charons) end() error { return errors.Join(c.initiator.end(), c.responder.end()) }

// configure has the daemons authenticate in a way, with the algorithms that
// both implementations have. They make no Child SA, so that what their data
// path takes is not counted: ipsecfw, whose data path here only counts, does
// make one.
func (c *charons) configure(a *authentication) error {
	for _, x := range []struct {
		daemon *charon
		own    *identity
	}{{c.initiator, a.initiator}, {c.responder, a.responder}} {
		proof := func(own bool) viciMessage {
			switch {
			case x.own == nil:
				return viciMessage{{"auth", "psk"}}
			case own:
				return viciMessage{{"auth", "pubkey"}, {"certs", []string{string(x.own.certificate.Raw)}}}
			}
			return viciMessage{{"auth", "pubkey"}}
		}
		connection := func(local, remote string) viciMessage {
			return viciMessage{
				{"version", "2"}, {"local_addrs", []string{local}}, {"remote_addrs", []string{remote}},
				{"proposals", []string{charonProposal}}, {"unique", "never"}, {"mobike", "no"}, {"childless", "force"},
				{"local", proof(true)}, {"remote", proof(false)},
			}
		}
		if err := x.daemon.credentials(a, x.own); err != nil {
			return err
		}
		if x.daemon == c.responder {
			if err := x.daemon.command("load-conn", viciMessage{{"all", connection(responderAddress.String(), initiators)}}); err != nil {
				return err
			}
			continue
		}
		for i := range c.begun {
			m := viciMessage{{connectionName(i), connection(initiatorAddress(i).String(), responderAddress.String())}}
			if err := x.daemon.command("load-conn", m); err != nil {
				return err
			}
		}
	}
	return nil
}

func connectionName(i int) string { return "c" + strconv.Itoa(i) }

// credentials loads a daemon's secrets.
func (c *charon) credentials(a *authentication, own *identity) error {
	if own == nil {
		return c.command("load-shared", viciMessage{{"id", "bench"}, {"type", "IKE"}, {"data", a.secret}})
	}
	if err := c.command("load-cert", viciMessage{{"type", "X509"}, {"flag", "CA"}, {"data", string(a.authority.Raw)}}); err != nil {
		return err
	}
	key, err := x509.MarshalECPrivateKey(own.key)
	if err != nil {
		return err
	}
	return c.command("load-key", viciMessage{{"type", "ecdsa"}, {"data", string(key)}})
}

// handshakes makes n IKE SAs and ends them again.
func (c *charons) handshakes(ctx context.Context, n int) (made measured, err error) {
	used := func() (time.Duration, error) {
		a, err := c.initiator.cpuTime()
		b, again := c.responder.cpuTime()
		return a + b, errors.Join(err, again)
	}
	made, err = measure(n, used, func() error {
		return establish(ctx, n, func(i int) error {
			// With this timeout the answer does not wait for the IKE SA.
			return c.initiator.command("initiate", viciMessage{{"ike", connectionName(i)}, {"timeout", "-1"}})
		}, c.initiator.stands, c.responder.stands)
	})
	if err != nil {
		return made, err
	}
	for i := range n {
		if err := c.initiator.command("terminate", viciMessage{{"ike", connectionName(i)}, {"timeout", "-1"}}); err != nil {
			return made, err
		}
	}
	for range n {
		for _, end := range []*charon{c.initiator, c.responder} {
			select {
			case _, ok := <-end.stands:
				if !ok {
					return made, errors.New("charon has ended")
				}
			case <-ctx.Done():
				return made, fmt.Errorf("the IKE SAs of charon do not end: %w", ctx.Err())
			}
		}
	}
	return made, nil
}
