package test

import (
	"sync"
	"testing"
	"time"
)

// payroll lets the staff in under ESP, asks a name server in clear, and blocks
// everything else.
const payroll = `version: 1
name: payroll-server
filter-lists:
  staff:
    - {from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 8443}
  lookups:
    - {from: me, to: 10.9.0.53, protocol: udp, to-port: 53}
  everything:
    - {from: any, to: me}
filter-actions:
  protect:
    negotiate:
      mode: transport
      methods: [aes256gcm16, chacha20poly1305]
rules:
  - {name: dns,   filter-list: lookups,    action: permit}
  - {name: staff, filter-list: staff,      action: protect,
     authentication: [{certificate: {authority: ca.pem, own: host.pem, key: host.key}}, {preshared-key: {file: psk}}]}
  - {name: rest,  filter-list: everything, action: block}
`

// staff is the policy of who may talk to the payroll server.
const staff = `version: 1
name: staff
filter-lists:
  payroll:
    - {from: me, to: 10.9.0.10, protocol: tcp, to-port: 8443}
filter-actions:
  protect:
    negotiate:
      mode: transport
      methods: [chacha20poly1305]
rules:
  - {name: payroll, filter-list: payroll, action: protect,
     authentication: [{certificate: {authority: ca.pem, own: host.pem, key: host.key}}, {preshared-key: {file: psk}}]}
`

// enroll gives a daemon keys.
func (d *daemon) enroll(t *testing.T, a *authority, name, address, psk string, units ...string) {
	t.Helper()
	cert, key := a.issue(t, name, address, units...)
	d.write(t, "ca.pem", a.pem)
	d.write(t, "host.pem", cert)
	d.write(t, "host.key", key)
	d.write(t, "psk", []byte(psk))
}

func TestOnlyTheStaffGetIn(t *testing.T) {
	s := newSite(t)
	w, stranger := s.workstation(t), s.stranger(t)
	ca := newAuthority(t)
	ds, dw := startDaemon(t, s.server), startDaemon(t, w)
	ds.enroll(t, ca, "server.test", server4, psk)
	dw.enroll(t, ca, "workstation.test", workstation4, psk)
	ds.apply(t, payroll)
	dw.apply(t, staff)
	listenSwaps(t, s.server, server4+":8443")
	listenSwaps(t, s.server, server4+":9999")
	listenEcho(t, s.gateway, resolver4+":53")
	wire := watch(t, s.gateway, "wks0", []string{server4}, []string{workstation4})

	if err := transfer(w, "", server4+":8443", megabyte); err != nil {
		t.Errorf("the workstation is not served: %v", err)
	}
	wire.secret(t, 2*megabyte)
	lookups := watch(t, s.gateway, "srv0", []string{server4}, []string{resolver4})
	if err := echo(within(t, 5*time.Second), s.server, resolver4+":53", 512); err != nil {
		t.Errorf("the server cannot ask the name server: %v", err)
	}
	lookups.end(t)
	if n := lookups.clear.Load(); n != 2 {
		t.Errorf("%d packets in clear to and from the name server, want a question and an answer", n)
	}

	answers := watch(t, s.gateway, "srv0", []string{server4}, []string{stranger4})
	var refusals sync.WaitGroup
	for _, port := range []string{"8443", "9999"} {
		refusals.Go(func() {
			if err := refused(stranger, server4+":"+port, 3*time.Second); err != nil {
				t.Error(err)
			}
		})
	}
	refusals.Go(func() {
		if err := refused(w, server4+":9999", 3*time.Second); err != nil {
			t.Error(err)
		}
	})
	refusals.Wait()
	answers.end(t)
	if answers.esp.Load() > 0 || answers.clear.Load() == 0 {
		t.Errorf("%d ESP packets and %d clear ones of the stranger; want none, and some", answers.esp.Load(), answers.clear.Load())
	}

	// A stranger who speaks IKE is refused too.
	forger := startDaemon(t, stranger)
	forger.enroll(t, newAuthority(t), "workstation.test", workstation4, "swordfish")
	forger.apply(t, staff)
	if err := refused(stranger, server4+":8443", 3*time.Second); err != nil {
		t.Error(err)
	}
	if sas := forger.sas(t); len(sas) > 0 {
		t.Errorf("the stranger has the SAs %+v", sas)
	}
	onePair(t, ds, dw)
	dw.untroubled(t)
}
