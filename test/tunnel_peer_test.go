package test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// tunnelPeer is strongSwan with its ESP in user space on the workstation,
// ipsecfw on the server, and a tunnel between their inner addresses, for one
// case after another.
type tunnelPeer struct {
	*site
	workstation *lab.Host
	d           *daemon
	c           *charon
}

func newTunnelPeer(t *testing.T) *tunnelPeer {
	t.Helper()
	s := newSite(t)
	p := &tunnelPeer{site: s, workstation: s.workstation(t), c: &charon{dir: t.TempDir()}}
	must(t, p.server.Address("lo", serverInner+"/32"))
	must(t, p.workstation.Address("lo", workstationInner+"/32"))
	p.d = startDaemon(t, s.server)
	p.d.write(t, "psk", []byte(psk))
	listenEcho(t, p.workstation, workstationInner+":7")
	startCharon(t, p.workstation, p.c)
	return p
}

// connection is strongSwan's, with the preshared key.
func (p *tunnelPeer) connection(more ...string) connection {
	return connection{
		Name: "inner", Local: workstation4, Remote: server4, Mode: "tunnel",
		LocalTS: workstationInner + "/32", RemoteTS: serverInner + "/32", More: more,
	}
}

// policy is the server's. KeyExchange is what it says of IKE.
func (p *tunnelPeer) policy(authentication, keyExchange string) string {
	return tunnelPolicy(authentication) + "key-exchange: {" + keyExchange + "}\n"
}

const withPSK = "{preshared-key: {file: psk}}"

// begin makes one end begin, and returns what came of it and what that end
// said meanwhile.
func (p *tunnelPeer) begin(initiator bool) (string, error) {
	if initiator {
		out, err := p.d.run("initiate", workstation4, "--trace")
		return string(out), err
	}
	return p.c.swanctl("--initiate", "--child", "inner", "--timeout", "15")
}

// works fails the test unless an SA comes about and carries packets, with no
// warning but those named.
func (p *tunnelPeer) works(t *testing.T, initiator bool, warnings ...string) (said string) {
	t.Helper()
	said, err := p.begin(initiator)
	if err != nil {
		t.Fatalf("%s: %v\n%s", role(initiator), err, said)
	}
	must(t, ping(within(t, 10*time.Second), p.server, serverInner, workstationInner, 100))
	agree(t, p.d, p.c, func() uint64 { return 1 })
	p.d.untroubled(t, warnings...)
	return said
}

// fails fails the test unless there comes no SA about, and ipsecfw says why.
func (p *tunnelPeer) fails(t *testing.T, initiator bool, cause ike.Cause, side string) *ike.PostMortem {
	t.Helper()
	said, err := p.begin(initiator)
	if err == nil {
		t.Fatalf("%s: there is an SA:\n%s", role(initiator), said)
	}
	var last ike.PostMortem
	if !await(t, 5*time.Second, func() bool {
		for _, m := range p.d.whyJSON(t, workstation4) {
			if m.Initiator == initiator && m.At.After(last.At) {
				last = m
			}
		}
		return last.Cause == cause
	}) {
		t.Fatalf("%s: the cause is %q, want %q:\n%s", role(initiator), last.Cause, cause, &last)
	}
	if last.Change.Side != side || last.Change.Text == "" {
		t.Errorf("%s: the change is %+v, want one on the side %q:\n%s", role(initiator), last.Change, side, &last)
	}
	if sas := p.d.sas(t); len(sas) > 0 {
		t.Errorf("%s: the SAs are %+v", role(initiator), sas)
	}
	return &last
}

// end leaves no SA at either end, and nothing to explain.
func (p *tunnelPeer) end(t *testing.T) {
	if t.Failed() {
		t.Logf("log of the daemon:\n%s", p.d.log(t))
		p.c.show(t)
	}
	_, err := p.d.run("unapply")
	must(t, err)
	must(t, p.d.clearLog())
	p.c.clear(t)
	must(t, os.Truncate(filepath.Join(p.c.dir, "charon.log"), 0))
}

// enroll gives strongSwan a certificate with its key, intermediate ones, and an
// authority to believe, and takes away those that it had.
func (c *charon) enroll(t *testing.T, root *authority, cert, key []byte, intermediates ...*authority) {
	t.Helper()
	for _, kind := range []string{"x509ca", "x509", "private", "x509crl"} {
		must(t, os.RemoveAll(filepath.Join(c.dir, kind)))
	}
	for i, a := range append([]*authority{root}, intermediates...) {
		c.write(t, fmt.Sprintf("x509ca/%d.pem", i), a.pem)
	}
	c.write(t, "x509/host.pem", cert)
	c.write(t, "private/host.pem", key)
}

// withCertificates is a connection by the certificates that enroll gives.
func (p *tunnelPeer) withCertificates(own string, remote ...string) connection {
	conn := p.connection()
	conn.Certificate, conn.LocalID, conn.RemoteID, conn.MoreRemote = "host.pem", own, "server.test", remote
	return conn
}
