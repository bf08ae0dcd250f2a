package test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// example returns one of the rule files of the folder examples, with
// addresses of it changed, as its comments ask for: pairs of old and new text.
func example(t *testing.T, name string, changes ...string) string {
	t.Helper()
	b, err := os.ReadFile("../examples/" + name + ".yaml")
	must(t, err)
	text := string(b)
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("the template %s has no %q", name, changes[i])
		}
		text = strings.ReplaceAll(text, changes[i], changes[i+1])
	}
	return text
}

const allOfDomain = "domain: [10.0.0.0/8, fd00::/8]"

// templateSite is the site with a daemon on the server, which asks the name
// server on the gateway.
func templateSite(t *testing.T) (s *site, w, x *lab.Host, ca *authority, ds *daemon) {
	t.Helper()
	s = newSite(t)
	w, x = s.workstation(t), s.stranger(t)
	ca = newAuthority(t)
	ds = startDaemonIn(t, s.server, surroundings(t, map[string]string{"etc/resolv.conf": "nameserver " + resolver4 + "\n"}))
	ds.enroll(t, ca, "server.test", server4, psk)
	listenEcho(t, s.gateway, resolver4+":53")
	return s, w, x, ca, ds
}

// open fails the test unless connections to addresses come about.
func open(t *testing.T, from *lab.Host, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		if err := transfer(from, "", a, 1000); err != nil {
			t.Errorf("%s to %s: %v", from.Name, a, err)
		}
	}
}

// closed fails the test if a connection to one of the addresses comes about.
func closed(t *testing.T, from *lab.Host, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		if err := refused(from, a, 300*time.Millisecond); err != nil {
			t.Error(err)
		}
	}
}

// under fails the test unless what do does is under ESP on an interface of the
// gateway, but for so many packets.
func (s *site) under(t *testing.T, ifname string, left, right string, clear int64, do func()) {
	t.Helper()
	wire := watch(t, s.gateway, ifname, []string{left}, []string{right})
	do()
	wire.end(t)
	if n := wire.clear.Load(); n > clear {
		t.Errorf("%d clear packets on the wire, the first: %s", n, *wire.witness.Load())
	}
	if wire.esp.Load() == 0 {
		t.Error("no ESP on the wire")
	}
}

// serve listens on ports of all addresses of a host.
func serve(t *testing.T, h *lab.Host, ports ...int) {
	t.Helper()
	for _, p := range ports {
		listenSwaps(t, h, fmt.Sprintf(":%d", p))
	}
}

// The templates client, which answers, and secure server, which requires: two
// secure servers speak to each other, and a client to none of its own accord.
func TestTemplatesClientAndSecureServer(t *testing.T) {
	s, w, x, ca, ds := templateSite(t)
	dw := startDaemon(t, w)
	dw.enroll(t, ca, "workstation.test", workstation4, psk)
	serve(t, s.server, 8443)
	serve(t, w, 8443)
	serve(t, x, 8443)

	ds.apply(t, example(t, "secure-server", allOfDomain, `domain: [10.1.1.0/24, "fd00:1::/32"]`))
	if err := echo(within(t, 5*time.Second), s.server, resolver4+":53", 100); err != nil {
		t.Errorf("a lookup: %v", err)
	}
	closed(t, w, server4+":8443", "["+server6+"]:8443")
	closed(t, x, server4+":8443")
	closed(t, s.server, stranger4+":8443", workstation4+":8443")

	dw.apply(t, example(t, "client"))
	s.under(t, "wks0", server4, workstation4, 0, func() {
		open(t, s.server, workstation4+":8443") // it is asked
		open(t, w, server4+":8443")             // and knows from now on
	})
	open(t, w, stranger4+":8443")
	onePair(t, ds, dw)
	ds.untroubled(t)
	dw.untroubled(t)

	dw.apply(t, example(t, "secure-server", allOfDomain, `domain: [10.9.0.10, "fd00:9::10"]`))
	s.under(t, "wks0", server6, workstation6, 0, func() { open(t, w, "["+server6+"]:8443") })
	closed(t, w, stranger4+":8443")
}

// The template server: it secures with whom it can, and speaks to others in
// clear after a while.
func TestTemplateServer(t *testing.T) {
	s, w, x, ca, ds := templateSite(t)
	serve(t, s.server, 8443)
	ds.apply(t, example(t, "server", allOfDomain, `domain: [10.1.0.0/16, "fd00:1::/32"]`))
	dw := startDaemon(t, w)
	dw.enroll(t, ca, "workstation.test", workstation4, psk)
	dw.apply(t, example(t, "client"))
	// The client's SYN, before it knows; it may come again while keys are made.
	s.under(t, "wks0", server4, workstation4, 5, func() { open(t, w, server4+":8443") })
	s.under(t, "wks0", server4, workstation4, 0, func() { open(t, w, server4+":8443") })
	must(t, ping(within(t, 5*time.Second), x, stranger4, server4, 100))
	if len(ds.softSAs(t)) > 0 {
		t.Error("there are soft SAs already")
	}
	open(t, x, server4+":8443")
	if soft := ds.softSAs(t); len(soft) != 1 || soft[0].Remote != stranger4 {
		t.Errorf("the soft SAs are %+v", soft)
	}
	if err := echo(within(t, 5*time.Second), s.server, resolver4+":53", 100); err != nil {
		t.Errorf("a lookup: %v", err)
	}
}

// The template web server: the world has the web, management has SSH, the
// application is asked under IPsec, and the rest is refused at once.
func TestTemplateWebServer(t *testing.T) {
	s, w, x, ca, ds := templateSite(t)
	serve(t, s.server, 80, 443, 22, 23, 8080)
	serve(t, x, 8080, 25)
	ds.apply(t, example(t, "web-server", "management: [10.9.0.0/24]", "management: [10.1.1.0/24]", "application: [10.2.0.20]", "application: [10.1.2.66]"))
	dx := startDaemon(t, x)
	dx.enroll(t, ca, "application.test", stranger4, psk)
	dx.apply(t, example(t, "client"))

	open(t, w, server4+":80", server4+":443", server4+":22", "["+server6+"]:80", "["+server6+"]:443")
	open(t, x, server4+":80", server4+":443")
	must(t, ping(within(t, 5*time.Second), w, workstation4, server4, 100))
	must(t, ping(within(t, 5*time.Second), w, workstation6, server6, 100))
	must(t, echo(within(t, 5*time.Second), s.server, resolver4+":53", 100))
	for _, no := range []struct {
		from *lab.Host
		to   string
	}{
		{w, server4 + ":23"}, {w, "[" + server6 + "]:22"}, {w, server4 + ":8080"}, {x, server4 + ":22"}, {x, server4 + ":8080"}, {s.server, stranger4 + ":25"},
	} {
		start := time.Now()
		if err := ask(t, no.from, "tcp", no.to); !errors.Is(err, syscall.ECONNREFUSED) || time.Since(start) > time.Second {
			t.Errorf("%s to %s: error %v after %v, want a refusal at once", no.from.Name, no.to, err, time.Since(start))
		}
	}
	s.under(t, "str0", server4, stranger4, 0, func() { open(t, s.server, stranger4+":8080") })
	ds.untroubled(t)
}

// The template SQL server: queries under IPsec, of the application's servers
// by the names in their certificates; SSH for management; nothing else.
func TestTemplateSQLServer(t *testing.T) {
	s, w, x, ca, ds := templateSite(t)
	serve(t, s.server, 5432, 22, 80)
	serve(t, x, 80)
	ds.apply(t, example(t, "sql-server", "application: [10.2.0.0/24]", "application: [10.1.1.0/24]", "management: [10.9.0.0/24]", "management: [10.1.2.0/24]"))
	const application = `version: 1
name: application
filter-lists:
  sql: [{from: me, to: 10.9.0.10, protocol: tcp, to-port: 5432}]
rules:
  - {name: sql, filter-list: sql, action: require-security, authentication: [{certificate: {authority: ca.pem, own: host.pem, key: host.key}}]}
`
	closed(t, w, server4+":5432") // in clear
	for _, tt := range []struct {
		name  string
		units []string
		in    bool
	}{
		{"one.sales.example.com", nil, false},
		{"one.app.example.com", nil, true},
		{"one.sales.example.com", []string{"Application"}, true},
	} {
		dw := startDaemon(t, w)
		dw.enroll(t, ca, tt.name, workstation4, psk, tt.units...)
		dw.apply(t, application)
		if tt.in {
			s.under(t, "wks0", server4, workstation4, 0, func() { open(t, w, server4+":5432") })
		} else if err := refused(w, server4+":5432", time.Second); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		_, err := dw.run("unapply")
		must(t, err)
		dw.kill()
	}
	open(t, x, server4+":22")
	closed(t, x, server4+":5432", server4+":80")
	closed(t, w, server4+":22")
	closed(t, s.server, stranger4+":80")
	must(t, echo(within(t, 5*time.Second), s.server, resolver4+":53", 100))
}

// The template gateway, at both ends of a tunnel.
func TestTemplateGateway(t *testing.T) {
	s, a, gateA, gateB, b := twoSites(t)
	for _, h := range []*lab.Host{a, b, s.gateway, gateA} {
		serve(t, h, 80, 22, 8080)
	}
	here, there, tunnel := "here: [10.5.1.0/24]", "there: [10.5.2.0/24]", "tunnel: {local: 192.0.2.1, remote: 192.0.2.2}"
	da, db := startDaemon(t, gateA), startDaemon(t, gateB)
	da.write(t, "psk", []byte(psk))
	db.write(t, "psk", []byte(psk))
	da.apply(t, example(t, "gateway", here, "here: [10.51.0.0/24]", there, "there: [10.52.0.0/24]", tunnel, "tunnel: {local: "+gateA4+", remote: "+gateB4+"}"))
	db.apply(t, example(t, "gateway", here, "here: [10.52.0.0/24]", there, "there: [10.51.0.0/24]", tunnel, "tunnel: {local: "+gateB4+", remote: "+gateA4+"}"))
	const between, ownA, ownB = "10.61.0.1", "10.51.0.1", "10.52.0.1"
	wire := s.betweenSites(t)
	open(t, a, hostB4+":8080")
	open(t, b, hostA4+":8080", hostA4+":22")
	wire.secret(t, 3000)
	open(t, a, between+":80", ownA+":22")
	closed(t, a, between+":8080", ownA+":8080")
	closed(t, s.gateway, hostA4+":80", gateA4+":22")
	open(t, gateA, between+":8080")
	da.untroubled(t)
	db.untroubled(t)
}

// The template L2TP server: tunnels under IPsec alone; a device without a link
// layer stands for the users' PPP.
func TestTemplateL2TPServer(t *testing.T) {
	s, w, x, ca, ds := templateSite(t)
	must(t, s.server.Forwarding())
	must(t, s.net.Tunnel(s.server, w, "ppp0", "ppp0", []string{"10.6.0.1/24"}, []string{"10.6.0.2/24"}))
	must(t, w.Route("10.1.2.0/24", "10.6.0.1"))
	must(t, s.gateway.Route("10.6.0.0/24", server4))
	listenEcho(t, s.server, server4+":1701")
	serve(t, s.server, 22, 80)
	serve(t, x, 80)
	serve(t, s.gateway, 80)
	// One user has an address that administrators have, and is none.
	ds.apply(t, example(t, "l2tp-server", "internal: [10.5.0.0/16]", "internal: [10.1.2.0/24, 10.6.0.2]", "users: [10.6.0.0/24]", "users: [10.6.0.0/24]"))
	dw := startDaemon(t, w)
	dw.enroll(t, ca, "user.test", workstation4, psk)

	datagram := func(h *lab.Host) error {
		c, err := h.Dial(t.Context(), "udp", server4+":1701")
		must(t, err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(300 * time.Millisecond))
		_, err = c.Write([]byte("word"))
		must(t, err)
		_, err = c.Read(make([]byte, 16))
		return err
	}
	for _, h := range []*lab.Host{w, x} {
		if err := datagram(h); err == nil {
			t.Errorf("%s has a tunnel in clear", h.Name)
		}
	}
	dw.apply(t, `version: 1
name: user
filter-lists:
  l2tp: [{from: me, to: 10.9.0.10, protocol: udp, to-port: 1701}]
rules:
  - {name: l2tp, filter-list: l2tp, action: require-security, authentication: [{certificate: {authority: ca.pem, own: host.pem, key: host.key}}]}
`)
	s.under(t, "wks0", server4, workstation4, 0, func() { must(t, echo(within(t, 5*time.Second), w, server4+":1701", 1000)) })

	open(t, w, net.JoinHostPort(stranger4, "80")) // the internal network, by the tunnel
	must(t, w.Route("10.9.0.53/32", "10.6.0.1"))
	closed(t, w, resolver4+":80", "10.6.0.1:22", "10.6.0.1:80")
	open(t, x, server4+":22")
	closed(t, x, server4+":80")
	open(t, s.server, resolver4+":80", stranger4+":80")
	ds.untroubled(t)
}
