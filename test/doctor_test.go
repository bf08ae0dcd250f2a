package test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/nfq"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// finding is one as "doctor --json" shows it.
type finding struct{ Severity, On, What, Do string }

// doctor asks what stands in the way of ipsecfw on a host.
func doctor(t *testing.T, h *lab.Host, socket string) []finding {
	t.Helper()
	out, err := h.Command(program, "--socket", socket, "doctor", "--json").Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var all []finding
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatalf("doctor says %s: %v", out, err)
	}
	problem := false
	for _, f := range all {
		problem = problem || f.Severity == "problem"
	}
	if problem != (exit != nil) || exit != nil && exit.ExitCode() != 1 {
		t.Errorf("doctor ends with %v, and says %+v", err, all)
	}
	return all
}

// complaints returns the findings that are not good, as lines. What could not be
// looked at is not among them: whoever tests may not see every process.
func complaints(all []finding) []string {
	var out []string
	for _, f := range all {
		if f.Severity == "problem" || f.Severity == "warning" {
			out = append(out, f.Severity+": "+f.On+": "+f.What+"; "+f.Do)
		}
	}
	return out
}

// A host with nothing in the way, without a daemon, with one, and with a policy
// in force.
func TestDoctorOfTheHealthy(t *testing.T) {
	s := newSite(t)
	healthy := func(when, socket string) {
		t.Helper()
		if bad := complaints(doctor(t, s.server, socket)); len(bad) > 0 {
			t.Errorf("%s doctor complains:\n%s", when, strings.Join(bad, "\n"))
		}
	}
	healthy("without a daemon", t.TempDir()+"/none")
	d := startDaemon(t, s.server)
	healthy("with a daemon", d.path("socket"))
	d.enroll(t, newAuthority(t), "server.test", server4, psk)
	d.apply(t, payroll)
	healthy("with a policy", d.path("socket"))
	out, err := d.run("doctor")
	must(t, err)
	if !strings.Contains(string(out), "ok: kernel: ") {
		t.Errorf("doctor says\n%s", out)
	}
}

// A host that is ill in many ways: each is found.
func TestDoctorOfTheIll(t *testing.T) {
	need(t, "nft", "ip")
	s := newSite(t)
	ip := func(args ...string) {
		t.Helper()
		if out, err := s.server.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v\n%s", args, err, out)
		}
	}
	port, err := s.server.ListenPacket("udp4", server4+":4500")
	must(t, err)
	t.Cleanup(func() { port.Close() })
	found := func(when, socket string, want ...string) {
		t.Helper()
		bad := complaints(doctor(t, s.server, socket))
		for _, w := range want {
			hit := false
			for _, line := range bad {
				begin, more, _ := strings.Cut(w, " … ")
				hit = hit || strings.HasPrefix(line, begin) && strings.Contains(line, more)
			}
			if !hit {
				t.Errorf("%s doctor does not find %q, but\n%s", when, w, strings.Join(bad, "\n"))
			}
		}
	}
	none := t.TempDir() + "/none"
	e := nfq.NewEngine(nfq.Config{Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var q *nfq.Queue
	must(t, s.server.Do(func() (err error) {
		if q, err = nfq.OpenQueue(4951, true, 0x49500002, &e.Counters); err == nil {
			err = q.Start(ctx, e.NewOutbound())
		}
		return err
	}))
	found("with a port and a queue taken", none, "problem: UDP port 4500: … process", "problem: queue 4951: … process")
	must(t, port.Close())
	cancel()
	must(t, q.Close())

	d := startDaemon(t, s.server)
	d.enroll(t, newAuthority(t), "server.test", server4, psk)
	d.apply(t, strings.NewReplacer(
		"filter-lists:\n", "filter-lists:\n  sites: [{from: 10.51.0.0/24, to: 10.52.0.0/24}]\n",
		"filter-actions:\n", "filter-actions:\n  through: {negotiate: {mode: tunnel, tunnel: {local: 10.9.0.10, remote: 10.1.1.10}}}\n",
	).Replace(payroll)+`  - {name: sites, filter-list: sites, path: forward, action: through, authentication: [{preshared-key: {file: psk}}]}
`)
	must(t, s.net.Link(s.server, s.gateway, "eth1", "srv1", []string{"10.8.0.10/24"}, []string{"10.8.0.1/24"}))
	must(t, s.server.Sysctl("net.ipv4.fwmark_reflect", "1"))
	must(t, s.server.MTU("eth1", 1200))
	ip("rule", "add", "to", "10.1.0.0/16", "lookup", "main", "priority", "50")
	ip("route", "append", "default", "via", "10.8.0.1", "dev", "eth1")
	loadRuleset(t, s.server, `
table inet firewalld {
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy drop;
		ct state { established, related } accept
		tcp dport 22 accept
		udp dport 500 accept
	}
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy drop;
	}
}
table ip nat {
	chain POSTROUTING {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "eth0" masquerade
	}
}
`)
	found("with a policy", d.path("socket"),
		"problem: kernel parameter net.ipv4.fwmark_reflect: ",
		"problem: kernel parameter net.ipv4.ip_forward: ",
		"problem: routing rule 50 of IPv4: … from 10.1.0.0/16",
		"warning: interface eth1: its MTU is 1200",
		"warning: default routes of IPv4: … eth1",
		"problem: other firewalls: IKE, … port 4500: table inet firewalld, chain filter_INPUT",
		"problem: other firewalls: ESP, … table inet firewalld, chain filter_INPUT",
		`problem: other firewalls: rule "staff", … port 8443: table inet firewalld, chain filter_INPUT`,
		`problem: other firewalls: rule "sites", … drops it forward`,
		`problem: other firewalls: rule "sites", … another source forward`,
	)
	found("without its socket", none, "warning: daemon: one runs")
	second := startDaemon(t, s.server)
	found("with a second daemon", second.path("socket"), "problem: daemons: several")
}
