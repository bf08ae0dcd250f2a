package test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// While the daemon is dead, what is permitted goes on, what is blocked stays
// blocked, and what is to be secured stops in both directions.
func TestWithoutTheDaemon(t *testing.T) {
	s := newSite(t)
	w := s.workstation(t)
	d := startDaemon(t, s.server)
	d.enroll(t, newAuthority(t), "server.test", server4, psk)
	d.apply(t, payroll)
	listenSwaps(t, s.server, server4+":8443")
	listenSwaps(t, s.server, server4+":9999")
	listenEcho(t, s.gateway, resolver4+":53")
	d.kill()

	if err := echo(within(t, 5*time.Second), s.server, resolver4+":53", 512); err != nil {
		t.Errorf("the permitted lookup: %v", err)
	}
	for _, port := range []string{"8443", "9999"} {
		if err := refused(w, server4+":"+port, 2*time.Second); err != nil {
			t.Error(err)
		}
	}
	d.start(t)
	if err := refused(w, server4+":9999", 2*time.Second); err != nil {
		t.Errorf("with the daemon back: %v", err)
	}
}

// "me" is whatever address the host has at the moment.
func TestNewAddress(t *testing.T) {
	const later4 = "10.9.0.77"
	s := newSite(t)
	w := s.workstation(t)
	ca := newAuthority(t)
	ds, dw := startDaemon(t, s.server), startDaemon(t, w)
	ds.enroll(t, ca, "server.test", server4, psk)
	dw.enroll(t, ca, "workstation.test", workstation4, psk)
	ds.apply(t, payroll)
	dw.apply(t, staff)
	must(t, s.server.Address("eth0", later4+"/24"))
	listenSwaps(t, s.server, later4+":8443")
	listenSwaps(t, s.server, later4+":9999")
	wire := watch(t, s.gateway, "wks0", []string{later4}, []string{workstation4})
	for _, port := range []string{"8443", "9999"} { // the workstation's policy does not know the address yet
		if err := refused(w, later4+":"+port, 2*time.Second); err != nil {
			t.Error(err)
		}
	}
	wire.end(t)

	wire = watch(t, s.gateway, "wks0", []string{later4}, []string{workstation4})
	dw.apply(t, fmt.Sprintf(`version: 1
name: staff
filter-lists:
  payroll:
    - {from: me, to: %s, protocol: tcp, to-port: 8443}
rules:
  - {name: payroll, filter-list: payroll, action: require-security, authentication: [{preshared-key: {file: psk}}]}
`, later4))
	must(t, transfer(w, "", later4+":8443", megabyte))
	wire.secret(t, 2*megabyte)
	onePair(t, ds, dw)
}

// Two ipsecfw hosts in tunnel mode, by protocol 50 and in UDP.
func TestTunnel(t *testing.T) {
	const rule = `version: 1
name: tunnel
filter-lists:
  inner:
    - {from: %[1]s, to: %[2]s}
filter-actions:
  secure: {negotiate: {mode: tunnel, tunnel: {local: %[3]s, remote: %[4]s}, udp-encapsulation: %[5]s}}
rules:
  - {name: inner, filter-list: inner, action: secure, authentication: [{preshared-key: {file: psk}}]}
`
	for _, tt := range []struct{ name, serverAddr, workstationAddr, serverOuter, workstationOuter, udp string }{
		{"IPv4", serverInner, workstationInner, server4, workstation4, "auto"},
		{"IPv4 in UDP", serverInner, workstationInner, server4, workstation4, "always"},
		{"IPv6", "fd00:5:1::1", "fd00:5:2::1", server6, workstation6, "auto"},
		{"IPv6 in IPv4", "fd00:5:1::1", "fd00:5:2::1", server4, workstation4, "auto"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			w := s.workstation(t)
			must(t, s.server.Address("lo", hostPrefix(tt.serverAddr)))
			must(t, w.Address("lo", hostPrefix(tt.workstationAddr)))
			ds, dw := startDaemon(t, s.server), startDaemon(t, w)
			ds.write(t, "psk", []byte(psk))
			dw.write(t, "psk", []byte(psk))
			ds.apply(t, fmt.Sprintf(rule, tt.serverAddr, tt.workstationAddr, tt.serverOuter, tt.workstationOuter, tt.udp))
			dw.apply(t, fmt.Sprintf(rule, tt.workstationAddr, tt.serverAddr, tt.workstationOuter, tt.serverOuter, tt.udp))
			wire := watch(t, s.gateway, "wks0", []string{tt.serverOuter, tt.serverAddr}, []string{tt.workstationOuter, tt.workstationAddr})
			address := net.JoinHostPort(tt.serverAddr, "8443")
			listenSwaps(t, s.server, address)
			must(t, ping(within(t, 10*time.Second), w, tt.workstationAddr, tt.serverAddr, 3000))
			must(t, transfer(w, tt.workstationAddr, address, 10*megabyte))
			wire.secret(t, 20*megabyte)
			if udp := wire.udp.Load() > 0; udp != (tt.udp == "always") {
				t.Errorf("%d ESP packets were UDP-encapsulated", wire.udp.Load())
			}
			onePair(t, ds, dw)
			ds.untroubled(t)
			dw.untroubled(t)
		})
	}
}

// hostPrefix is the prefix of one address.
func hostPrefix(a string) string {
	addr := netip.MustParseAddr(a)
	return netip.PrefixFrom(addr, addr.BitLen()).String()
}
