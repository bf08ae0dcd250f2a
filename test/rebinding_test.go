package test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// translate makes a router pretend that what comes from the workstation is its
// own, from a port of a range, and forgets from which ports it did before.
func translate(t *testing.T, h *lab.Host, from, to int) {
	t.Helper()
	loadRuleset(t, h, fmt.Sprintf(`table ip nat
delete table ip nat
table ip nat {
	chain post {
		type nat hook postrouting priority srcnat
		ip saddr %s oifname srv0 udp dport { 500, 4500 } masquerade to :%d-%d
	}
}`, workstation4, from, to))
	must(t, h.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
}

// A NAT that gives the peer other ports in the midst of a transfer: both IKE and
// ESP follow (RFC 7296 section 2.23), whoever has something to say.
func TestNATRebinding(t *testing.T) {
	t.Parallel() // it waits for the ends to notice
	const policy = `version: 1
name: behind-nat
filter-lists:
  inner: [{from: %s, to: %s}]
filter-actions:
  secure: {negotiate: {mode: tunnel, tunnel: {local: %s, remote: %s}}}
rules:
  - {name: inner, filter-list: inner, action: secure, authentication: [{preshared-key: {file: psk}}]}
`
	const outside = "10.9.0.1"
	s := newSite(t)
	w := s.workstation(t)
	must(t, s.server.Address("lo", serverInner+"/32"))
	must(t, w.Address("lo", workstationInner+"/32"))
	ds, dw := startDaemon(t, s.server), startDaemon(t, w)
	ds.write(t, "psk", []byte(psk))
	dw.write(t, "psk", []byte(psk))
	ds.apply(t, fmt.Sprintf(policy, serverInner, workstationInner, server4, outside))
	dw.apply(t, fmt.Sprintf(policy, workstationInner, serverInner, workstation4, server4))
	translate(t, s.gateway, 20000, 20999)
	listenEcho(t, s.server, serverInner+":7")
	listenEcho(t, w, workstationInner+":7")
	listenSwaps(t, s.server, serverInner+":8443")
	port := func() int {
		list := ds.ikeSAs(t)
		if len(list) != 1 {
			t.Fatalf("the server has the IKE SAs %+v", list)
		}
		at := netip.MustParseAddrPort(list[0].Remote)
		if at.Addr().String() != outside || !list[0].NATRemote {
			t.Fatalf("the server has the IKE SA %+v", list[0])
		}
		return int(at.Port())
	}

	up := startPulseFrom(t, w, workstationInner, serverInner+":7")
	up.beats(t, 10*time.Second)
	down := startPulseFrom(t, s.server, serverInner, workstationInner+":7")
	down.beats(t, 10*time.Second)
	if p := port(); p < 20000 || p > 20999 {
		t.Fatalf("the peer is at the port %d", p)
	}
	before := ds.sas(t)
	transferred := make(chan error, 1)
	go func() { transferred <- transfer(w, workstationInner, serverInner+":8443", 300*megabyte) }()
	eventually(t, 20*time.Second, "the transfer is under way", func() bool { return ds.sas(t)[0].InBytes > before[0].InBytes+megabyte })
	translate(t, s.gateway, 30000, 30999)
	moved := time.Now()
	up.beats(t, 20*time.Second)
	down.beats(t, 20*time.Second)
	t.Logf("the datagrams came back after %v", time.Since(moved))
	must(t, <-transferred)
	if p := port(); p < 30000 || p > 30999 {
		t.Errorf("the peer is at the port %d", p)
	}
	if after := ds.sas(t); len(after) != 1 || after[0].InSPI != before[0].InSPI {
		t.Errorf("the SAs were %+v, and are %+v", before, after)
	}
	ds.untroubled(t)
	dw.untroubled(t)
}
