package test

import (
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// network is all that a program can change in a host's network, as iproute2
// and nft print it.
func network(t *testing.T, h *lab.Host) map[string]string {
	t.Helper()
	need(t, "ip", "nft")
	is := map[string]string{"nft": ruleset(t, h)}
	for _, what := range []string{"link", "address", "-4 rule", "-6 rule", "-4 route show table all", "-6 route show table all"} {
		out, err := h.Command("ip", strings.Fields("-j "+what)...).Output()
		must(t, err)
		is[what] = string(out)
	}
	return is
}

func TestApplyAllOrNothing(t *testing.T) {
	s := newSite(t)
	d := startDaemon(t, s.server)
	d.enroll(t, newAuthority(t), "server.test", server4, psk)
	loadRuleset(t, s.server, ownFirewall("tcp dport 8443 accept"))
	d.apply(t, payroll)
	before := network(t, s.server)
	filters, err := d.run("list", "filters", "-o", "json")
	must(t, err)
	for _, tt := range []struct{ name, policy, want string }{
		{"unknown action in the last line", strings.Replace(payroll, "action: block}", "action: blok}", 1), ":19:"},
		{"missing key file", strings.Replace(payroll, "file: psk", "file: no-such-key", 1), "no-such-key"},
		{"cut off", strings.TrimSuffix(payroll, "}\n"), ":19:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := d.write(t, "broken.yaml", []byte(tt.policy))
			if _, err := d.run("apply", path); err == nil {
				t.Error("apply accepts it")
			} else if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("apply says %q, not where: %q", err, tt.want)
			}
			for what, is := range network(t, s.server) {
				if is != before[what] {
					t.Errorf("%s was\n%s\nand is\n%s", what, before[what], is)
				}
			}
			if now, err := d.run("list", "filters", "-o", "json"); err != nil || string(now) != string(filters) {
				t.Errorf("list filters was\n%s\nand is, with error %v,\n%s", filters, err, now)
			}
		})
	}
}

func TestUnapplyLeavesNothing(t *testing.T) {
	s, w, ds, dw := secureHosts(t, "")
	_, err := ds.run("unapply")
	must(t, err)
	_, err = dw.run("unapply")
	must(t, err)
	loadRuleset(t, s.server, ownFirewall("tcp dport 8443 accept"))
	before := network(t, s.server)
	if strings.Contains(before["nft"], "ipsecfw") {
		t.Errorf("after unapply nftables has\n%s", before["nft"])
	}
	ds.apply(t, hostPolicy("", workstation4, workstation6))
	dw.apply(t, hostPolicy("", server4, server6))
	listenSwaps(t, s.server, server4+":8443")
	must(t, transfer(w, "", server4+":8443", megabyte))

	_, err = ds.run("unapply")
	must(t, err)
	for what, is := range network(t, s.server) {
		if is != before[what] {
			t.Errorf("%s was\n%s\nand is\n%s", what, before[what], is)
		}
	}
	if sas := ds.sas(t); len(sas) > 0 {
		t.Errorf("after unapply there are the SAs %+v", sas)
	}
	_, err = dw.run("unapply")
	must(t, err)
	must(t, transfer(w, "", server4+":8443", megabyte)) // in clear, as before the policy
	ds.stop(t)
	dw.stop(t)
}
