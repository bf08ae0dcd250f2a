package test

import (
	"fmt"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A vendor is another implementation of IKEv2, in a guest whose kernel has its
// ESP. Its one connection is called "host", between workstation and server.
type vendor struct {
	name     string
	modules  string // of the guest's kernel, besides those for ESP
	start    func(t *testing.T, guest *rpc.Client, share string)
	initiate func(share string) []string // a command that begins the IKE SA
	// Commands that replace the SAs, and that keep it from making others once
	// they are gone; nil where it has none.
	rekeyIKE, rekeyChild, end []string
	ike, esp                  string // algorithms, as our rule file names them
}

// Where setup.sh has put Libreswan, which cannot be installed beside
// strongSwan, and where it must be for itself.
const (
	libreswanTree = "/var/cache/ipsecfw-test/libreswan/usr/libexec"
	libreswan     = "/usr/libexec/ipsec/"
)

func whack(args ...string) []string {
	return append([]string{libreswan + "whack", "--rundir", "/run/pluto"}, args...)
}

// startLibreswan starts pluto in a guest and gives it the connection.
func startLibreswan(t *testing.T, guest *rpc.Client, share string) {
	t.Helper()
	need(t, libreswanTree+"/ipsec/pluto", "certutil")
	inGuest(t, guest, "mount --bind "+libreswanTree+" /usr/libexec")
	nss := filepath.Join(share, "nss")
	must(t, os.Mkdir(nss, 0o700))
	if out, err := exec.Command("certutil", "-N", "-d", "sql:"+nss, "--empty-password").CombinedOutput(); err != nil {
		t.Fatalf("certutil: %v\n%s", err, out)
	}
	conf := fmt.Sprintf(`config setup
	nssdir=%s
	uniqueids=no
conn host
	left=%s
	right=%s
	authby=secret
	type=transport
	ikev2=insist
	ike=aes256-sha2_256;modp2048
	esp=aes_gcm256
	leftupdown=/bin/true
	auto=add
`, nss, workstation4, server4)
	must(t, os.WriteFile(filepath.Join(share, "ipsec.conf"), []byte(conf), 0o600))
	secrets := fmt.Sprintf("%s %s : PSK %q\n", workstation4, server4, psk)
	must(t, os.WriteFile(filepath.Join(share, "ipsec.secrets"), []byte(secrets), 0o600))
	inGuest(t, guest, "mkdir -p /run/pluto")
	pluto := Daemon{Log: filepath.Join(share, "pluto.log"), Command: []string{
		libreswan + "pluto", "--nofork", "--stderrlog", "--no-dnssec", "--rundir", "/run/pluto",
		"--config", filepath.Join(share, "ipsec.conf"), "--secretsfile", filepath.Join(share, "ipsec.secrets"),
	}}
	must(t, guest.Call("Guest.Start", pluto, nil))
	eventually(t, patience, "Libreswan has the connection", func() bool {
		if guest.Call("Guest.Run", whack("--status"), nil) != nil {
			return false
		}
		add := []string{libreswan + "addconn", "--config", filepath.Join(share, "ipsec.conf"), "--ctlsocket", "/run/pluto/pluto.ctl", "host"}
		return guest.Call("Guest.Run", add, nil) == nil
	})
	must(t, guest.Call("Guest.Run", whack("--listen"), nil))
}

// startOpenIKED starts OpenBSD's iked in a guest.
func startOpenIKED(t *testing.T, guest *rpc.Client, share string) {
	t.Helper()
	need(t, "iked")
	for _, mode := range []string{"passive", "active"} {
		conf := fmt.Sprintf(`ikev2 "host" %[1]s transport esp from %[2]s to %[3]s local %[2]s peer %[3]s \
	ikesa enc aes-256 prf hmac-sha2-256 auth hmac-sha2-256 group curve25519 \
	childsa enc aes-256 auth hmac-sha2-512 srcid %[2]s dstid %[3]s psk %[4]q
`, mode, workstation4, server4, psk)
		must(t, os.WriteFile(filepath.Join(share, mode+".conf"), []byte(conf), 0o600))
	}
	iked := []string{"iked", "-d", "-v", "-f", filepath.Join(share, "passive.conf")}
	must(t, guest.Call("Guest.Start", Daemon{Log: filepath.Join(share, "iked.log"), Command: iked}, nil))
	eventually(t, patience, "OpenIKED answers", func() bool {
		return guest.Call("Guest.Run", []string{"ikectl", "show", "sa"}, nil) == nil
	})
}

var vendors = []vendor{
	{
		name: "Libreswan", start: startLibreswan,
		initiate: func(string) []string { return whack("--initiate", "--name", "host") },
		rekeyIKE: whack("--rekey-ike", "--name", "host"), rekeyChild: whack("--rekey-ipsec", "--name", "host"),
		end: whack("--terminate", "--name", "host"),
		ike: "aes256-sha256-modp2048", esp: "aes256gcm16",
	},
	{
		name: "OpenIKED", modules: ",af_key", start: startOpenIKED,
		initiate: func(share string) []string { return []string{"ikectl", "load", filepath.Join(share, "active.conf")} },
		ike:      "aes256-sha256-x25519", esp: "aes256-sha512",
	},
}

// Against the programs of other vendors with the ESP of a kernel: who begins,
// and keys that either end replaces in the midst of traffic.
func TestVendors(t *testing.T) {
	for _, v := range vendors {
		t.Run(v.name, func(t *testing.T) {
			s := newSite(t)
			share := t.TempDir()
			guest := s.guestWorkstation(t, share, espModules+v.modules)
			t.Cleanup(func() {
				if t.Failed() {
					logs, _ := filepath.Glob(filepath.Join(share, "*.log"))
					for _, path := range logs {
						log, _ := os.ReadFile(path)
						t.Logf("%s:\n%s", filepath.Base(path), log)
					}
				}
			})
			v.start(t, guest, share)
			d := startDaemon(t, s.server)
			d.write(t, "psk", []byte(psk))
			swaps := net.JoinHostPort(workstation4, "8443")
			must(t, guest.Call("Guest.ServeSwaps", swaps, nil))
			run := func(name string, initiate bool, lifetimes [2]string, command []string) {
				t.Run(name, func(t *testing.T) {
					must(t, d.clearLog())
					d.apply(t, vendorPolicy(v, lifetimes))
					defer func() {
						if v.end != nil {
							must(t, guest.Call("Guest.Run", v.end, nil))
						}
						_, err := d.run("unapply")
						must(t, err)
					}()
					if initiate {
						must(t, guest.Call("Guest.Run", v.initiate(share), nil))
						eventually(t, 20*time.Second, v.name+" begins", func() bool { return len(d.sas(t)) == 1 })
					}
					must(t, ping(within(t, 20*time.Second), s.server, server4, workstation4, 3000))
					children, ikes := d.sas(t), d.ikeSAs(t)
					done := make(chan error, 1)
					go func() { done <- transfer(s.server, server4, swaps, 5*megabyte) }()
					if command != nil {
						guest.Go("Guest.Run", command, nil, nil) // it may wait until it succeeds
					}
					if command != nil || lifetimes != ([2]string{"1h", "8h"}) {
						eventually(t, 20*time.Second, "new keys", func() bool {
							now, nowIKE := d.sas(t), d.ikeSAs(t)
							return len(now) == 1 && len(nowIKE) == 1 && (now[0].InSPI != children[0].InSPI || nowIKE[0].SPIi != ikes[0].SPIi)
						})
					}
					must(t, <-done)
					must(t, transfer(s.server, server4, swaps, megabyte))
					d.untroubled(t)
				})
			}
			usual := [2]string{"1h", "8h"}
			run("ipsecfw begins", false, usual, nil)
			run(v.name+" begins", true, usual, nil)
			run("ipsecfw rekeys Child SA", false, [2]string{"5s", "8h"}, nil)
			run("ipsecfw rekeys IKE SA", false, [2]string{"1h", "5s"}, nil)
			if v.rekeyChild != nil {
				run(v.name+" rekeys Child SA", true, usual, v.rekeyChild)
				run(v.name+" rekeys IKE SA", true, usual, v.rekeyIKE)
			}
			if t.Failed() {
				t.Logf("the guest's kernel:\n%s", inGuest(t, guest, "ip -s xfrm state"))
			}
		})
	}
}

// vendorPolicy is the server's for one peer, with the lifetimes of Child SA
// and IKE SA.
func vendorPolicy(v vendor, lifetimes [2]string) string {
	return strings.NewReplacer("CHILD", lifetimes[0], "WHOLE", lifetimes[1], "IKE", v.ike, "ESP", v.esp, "PEER", workstation4).Replace(`version: 1
name: vendor
key-exchange: {proposals: [IKE], lifetime: WHOLE}
filter-lists:
  peer:
    - {from: me, to: PEER}
filter-actions:
  secure: {negotiate: {methods: [ESP], lifetime: CHILD}}
rules:
  - {name: peer, filter-list: peer, action: secure, authentication: [{preshared-key: {file: psk}}]}
`)
}
