package test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// dropFragments makes a firewall of a router that drops fragments of IP
// packets, as many a one does, and counts them.
func dropFragments(t *testing.T, h *lab.Host) (dropped func() int) {
	t.Helper()
	loadRuleset(t, h, `table ip fragments {
	counter dropped { }
	chain pre {
		type filter hook prerouting priority -450; policy accept;
		ip frag-off & 0x3fff != 0 counter name dropped drop
	}
}`)
	return func() int {
		out, err := h.Command("nft", "list", "counter", "ip", "fragments", "dropped").Output()
		must(t, err)
		_, rest, _ := strings.Cut(string(out), "packets ")
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		must(t, err)
		return n
	}
}

// newLarge is a tunnel peer where both ends have chains of RSA certificates
// that do not fit into a packet, and fragments of packets do not pass.
func newLarge(t *testing.T) (p *tunnelPeer, dropped func() int) {
	t.Helper()
	p = newTunnelPeer(t)
	var key crypto.Signer // one for all, as to make it takes long
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	must(t, err)
	root := newAuthority(t)
	first := root.sub(t, "First authority", key, usual)
	second := first.sub(t, "Second authority", key, usual)
	cert, private := second.issueWith(t, key, "server.test", server4, usual)
	p.d.write(t, "root.pem", root.pem)
	p.d.write(t, "host.pem", bytes.Join([][]byte{cert, second.pem, first.pem}, nil))
	p.d.write(t, "host.key", private)
	cert, private = second.issueWith(t, key, "workstation.test", workstation4, usual)
	p.c.enroll(t, root, cert, private, first, second)
	return p, dropFragments(t, p.gateway)
}

// Messages larger than a packet are cut by IKE, and pass where fragments of IP
// packets do not: RFC 7383.
func TestLargeMessages(t *testing.T) {
	p, dropped := newLarge(t)
	for _, initiator := range []bool{true, false} {
		t.Run(role(initiator), func(t *testing.T) {
			defer p.end(t)
			conn := p.connection("fragmentation = yes")
			conn.Certificate, conn.LocalID, conn.RemoteID = "host.pem", "workstation.test", "server.test"
			p.c.connect(t, conn)
			p.d.apply(t, p.policy(byCertificate(""), ""))
			p.works(t, initiator)
			log := p.c.log(t)
			for _, line := range []string{"parsed IKE_AUTH re%s 1 [ EF(", "generating IKE_AUTH re%s 1 [ EF("} {
				said := strings.Contains(log, fmt.Sprintf(line, "quest")) || strings.Contains(log, fmt.Sprintf(line, "sponse"))
				if !said {
					t.Errorf("strongSwan did not log %q", line)
				}
			}
			if list := p.d.ikeSAs(t); len(list) != 1 || !list[0].Fragmentation {
				t.Errorf("the IKE SAs are %+v", list)
			}
		})
	}
	if n := dropped(); n > 0 {
		t.Errorf("%d fragments of IP packets were on the way", n)
	}
}

// Without that they get lost, and the post-mortem says so.
func TestLargeMessagesLost(t *testing.T) {
	t.Parallel() // it takes half a minute of patience
	p, dropped := newLarge(t)
	conn := p.connection("fragmentation = yes")
	conn.Certificate, conn.LocalID, conn.RemoteID = "host.pem", "workstation.test", "server.test"
	p.c.connect(t, conn)
	p.d.apply(t, p.policy(byCertificate(""), "fragmentation: false"))
	why := p.fails(t, true, ike.CauseNoAnswerLarge, "this-host")
	if n := dropped(); n == 0 {
		t.Error("no fragments of IP packets were on the way")
	}
	r := why.Evidence.Request
	if r == nil || r.Exchange != "IKE_AUTH" || r.Bytes <= mtu || r.Fragments > 0 || !why.Evidence.Answered {
		t.Errorf("the evidence is %s", why.Evidence)
	}
	if !strings.Contains(why.Change.Text, "fragment") {
		t.Errorf("the change is %s", why.Change)
	}
}
