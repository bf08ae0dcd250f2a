package test

import (
	"bytes"
	"fmt"
	"net/rpc"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

const psk = "correct horse battery staple"

// connection is an IKE SA with one Child SA, of the same name, as strongSwan
// is to have it.
type connection struct {
	Name              string
	Local, Remote     string // addresses, which are the identities with a preshared key
	Mode              string // transport or tunnel
	LocalTS, RemoteTS string // "dynamic" is the addresses
	LocalID, RemoteID string // with certificates: the names in them
	Certificate       string // file of the own certificate; empty for a preshared key

	Proposals, ESP string   // algorithms; empty for some usual ones
	AH             string   // instead of ESP
	More           []string // further settings of the connection
	MoreRemote     []string // of what the other end has to prove
	MoreChild      []string // and of its Child SA
}

// charon is a strongSwan daemon, in a host or in a guest.
type charon struct {
	dir  string
	run  func(command []string) (string, error)
	kill func() // as a crash would; only in a host
	ppks []ppk
}

// ppk is a post-quantum preshared key.
type ppk struct{ ID, Key string }

var strongswanConf = template.Must(template.New("strongswan.conf").Parse(`
charon {
  load = random nonce openssl pem pkcs1 pkcs8 x509 revocation constraints pubkey aes sha1 sha2 hmac xcbc cmac ccm ctr gcm chapoly curve25519 kdf drbg {{.Kernel}} socket-default vici
  retransmit_tries = 3
  install_virtual_ip = no
  filelog {
    f {
      path = {{.Dir}}/charon.log
      time_format = %T
      default = 1
      knl = 2
      flush_line = yes
    }
  }
  plugins {
    vici {
      socket = unix://{{.Dir}}/vici
    }
  }
}
swanctl {
  load = random nonce openssl pem pkcs1 pkcs8 x509 pubkey curve25519
}
`))

var swanctlConf = template.Must(template.New("swanctl.conf").Parse(`
connections {
{{- range .Connections}}
  {{.Name}} {
    version = 2
    local_addrs = {{.Local}}
    remote_addrs = {{.Remote}}
    proposals = {{or .Proposals "aes256gcm16-prfsha256-x25519,aes128-sha256-modp2048"}}
{{- range .More}}
    {{.}}
{{- end}}
    local {
{{- if .Certificate}}
      auth = pubkey
      certs = {{.Certificate}}
      id = {{.LocalID}}
{{- else}}
      auth = psk
      id = {{or .LocalID .Local}}
{{- end}}
    }
    remote {
{{- if .Certificate}}
      auth = pubkey
      id = {{.RemoteID}}
{{- else}}
      auth = psk
      id = {{or .RemoteID .Remote}}
{{- end}}
{{- range .MoreRemote}}
      {{.}}
{{- end}}
    }
    children {
      {{.Name}} {
        mode = {{.Mode}}
{{- if .AH}}
        ah_proposals = {{.AH}}
{{- else}}
        esp_proposals = {{or .ESP "aes256gcm16,chacha20poly1305"}}
{{- end}}
{{- range .MoreChild}}
        {{.}}
{{- end}}
        local_ts = {{.LocalTS}}
        remote_ts = {{.RemoteTS}}
      }
    }
  }
{{- end}}
}
secrets {
  ike-1 {
    secret = "{{.Secret}}"
  }
{{- range $i, $key := .PPKs}}
  ppk-{{$i}} {
    id = {{$key.ID}}
    secret = "{{$key.Key}}"
  }
{{- end}}
}
`))

// configure writes strongSwan's files. Kernel names the plugins that install
// SAs.
func (c *charon) configure(t *testing.T, kernel string, connections ...connection) {
	t.Helper()
	var b bytes.Buffer
	must(t, strongswanConf.Execute(&b, map[string]any{"Kernel": kernel, "Dir": c.dir}))
	c.write(t, "strongswan.conf", b.Bytes())
	c.write(t, "swanctl.conf", c.swanctlFile(t, connections))
}

// connect makes strongSwan have these connections and no others.
func (c *charon) connect(t *testing.T, connections ...connection) {
	t.Helper()
	c.write(t, "swanctl.conf", c.swanctlFile(t, connections))
	c.load(t)
}

func (c *charon) swanctlFile(t *testing.T, connections []connection) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, swanctlConf.Execute(&b, map[string]any{"Connections": connections, "Secret": psk, "PPKs": c.ppks}))
	return b.Bytes()
}

// trust gives strongSwan a certificate, to be named NAME.pem.
func (c *charon) trust(t *testing.T, a *authority, name, address string) {
	t.Helper()
	cert, key := a.issue(t, name, address)
	c.write(t, "x509ca/ca.pem", a.pem)
	c.write(t, "x509/"+name+".pem", cert)
	c.write(t, "private/"+name+".pem", key)
}

func (c *charon) write(t *testing.T, name string, content []byte) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, content, 0o600))
}

func (c *charon) env() []string {
	return []string{"STRONGSWAN_CONF=" + c.dir + "/strongswan.conf", "SWANCTL_DIR=" + c.dir}
}

const charonPath = "/usr/lib/ipsec/charon"

// startCharon starts strongSwan in a host, with its user-space ESP: tunnel
// mode only, always UDP-encapsulated, for traffic that is not between the
// addresses of IKE.
func startCharon(t *testing.T, h *lab.Host, c *charon, connections ...connection) {
	t.Helper()
	need(t, charonPath, "swanctl", "/usr/lib/ipsec/plugins/libstrongswan-gcm.so", "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so")
	c.configure(t, "kernel-libipsec kernel-netlink", connections...)
	c.run = func(command []string) (string, error) {
		out, err := h.Command(command[0], command[1:]...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
		}
		return string(out), err
	}
	c.start(t, h)
	t.Cleanup(func() {
		c.kill()
		c.show(t)
	})
}

// start starts the process in a host, and loads what was configured.
func (c *charon) start(t *testing.T, h *lab.Host) {
	t.Helper()
	// Its process ID is at a fixed place in /run: each gets a /run of its own.
	cmd := h.Command("sh", "-c", "mount -t tmpfs none /run && exec "+charonPath)
	cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	cmd.Env = append(os.Environ(), c.env()...)
	must(t, cmd.Start())
	c.kill = func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.Remove(c.dir + "/vici")
	}
	c.load(t)
}

// startGuestCharon starts strongSwan in a guest, with the ESP of its kernel.
func startGuestCharon(t *testing.T, guest *rpc.Client, c *charon, connections ...connection) {
	t.Helper()
	need(t, charonPath, "swanctl", "/usr/lib/ipsec/plugins/libstrongswan-gcm.so")
	c.configure(t, "kernel-netlink", connections...)
	c.run = func(command []string) (string, error) {
		var out string
		err := guest.Call("Guest.Run", command, &out)
		return out, err
	}
	must(t, guest.Call("Guest.Start", Daemon{[]string{charonPath}, c.env(), filepath.Join(c.dir, "console")}, nil))
	t.Cleanup(func() { c.show(t) })
	c.load(t)
}

// show shows strongSwan's log if the test has failed.
func (c *charon) show(t *testing.T) {
	if t.Failed() {
		log, _ := os.ReadFile(filepath.Join(c.dir, "charon.log"))
		t.Logf("log of strongSwan:\n%s", log)
	}
}

func (c *charon) log(t *testing.T) string {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(c.dir, "charon.log"))
	must(t, err)
	return string(log)
}

func (c *charon) swanctl(args ...string) (string, error) {
	command := append([]string{"env"}, c.env()...)
	command = append(command, "swanctl")
	return c.run(append(append(command, args...), "--uri", "unix://"+c.dir+"/vici"))
}

// load waits for strongSwan and loads connections and secrets.
func (c *charon) load(t *testing.T) {
	t.Helper()
	var err error
	eventually(t, patience, "strongSwan answers", func() bool {
		if _, missing := os.Stat(c.dir + "/vici"); missing != nil {
			return false
		}
		_, err = c.swanctl("--load-all", "--clear", "--noprompt", "--file", c.dir+"/swanctl.conf")
		return err == nil || !strings.Contains(err.Error(), "connecting to")
	})
	must(t, err)
}

// initiate makes strongSwan establish a connection.
func (c *charon) initiate(t *testing.T, name string) {
	t.Helper()
	_, err := c.swanctl("--initiate", "--child", name, "--timeout", "30")
	must(t, err)
}

// terminate makes strongSwan end a connection.
func (c *charon) terminate(t *testing.T, name string) {
	t.Helper()
	_, err := c.swanctl("--terminate", "--ike", name, "--timeout", "10")
	must(t, err)
}

// clear ends whatever SAs strongSwan has.
func (c *charon) clear(t *testing.T) {
	t.Helper()
	out, err := c.swanctl("--list-sas", "--raw")
	must(t, err)
	for _, match := range ikeSAName.FindAllStringSubmatch(out, -1) {
		c.swanctl("--terminate", "--ike", match[1], "--force", "--timeout", "1") // the peer may be gone
	}
}

var ikeSAName = regexp.MustCompile(`list-sa event \{(\S+) \{`)

var childSA = regexp.MustCompile(`\{([^{}]*\bspi-in=[^{}]*)\}`)

// children lists the keys and values of strongSwan's Child SAs.
func (c *charon) children(t *testing.T) []map[string]string {
	t.Helper()
	out, err := c.swanctl("--list-sas", "--raw")
	must(t, err)
	var list []map[string]string
	for _, match := range childSA.FindAllStringSubmatch(out, -1) {
		child := map[string]string{}
		for _, field := range strings.Fields(match[1]) {
			key, value, _ := strings.Cut(field, "=")
			child[key] = value
		}
		list = append(list, child)
	}
	return list
}
