package test

import (
	"strings"
	"testing"
	"time"
)

// A host without a rule for a peer answers one that requires security, and
// what it sends to that peer from then on is under ESP; to others it speaks in
// clear. When the SAs go, so does that.
func TestDefaultResponse(t *testing.T) {
	s := newSite(t)
	w, x := s.workstation(t), s.stranger(t)
	ds, dw := startDaemon(t, s.server), startDaemon(t, w)
	ds.write(t, "psk", []byte(psk))
	dw.write(t, "psk", []byte(psk))
	listenSwaps(t, s.server, server4+":8443")
	listenSwaps(t, w, workstation4+":8443")
	listenSwaps(t, x, stranger4+":8443")

	// Without the default response nobody answers.
	dw.apply(t, strings.Split(respondOnly, "default-response")[0])
	ds.apply(t, hostPolicy("", workstation4))
	if err := refused(s.server, workstation4+":8443", time.Second); err != nil {
		t.Error(err)
	}
	must(t, dw.clearLog()) // it has complained of the server
	dw.apply(t, respondOnly)
	wire := s.between(t)
	must(t, transfer(s.server, "", workstation4+":8443", megabyte))
	must(t, transfer(w, "", server4+":8443", megabyte)) // its own connection, too
	must(t, ping(within(t, 10*time.Second), w, workstation4, server4, 100))
	wire.secret(t, 4*megabyte)
	onePair(t, ds, dw)
	if sas := dw.sas(t); len(sas) == 1 && sas[0].Rule != "default-response" {
		t.Errorf("the SAs are %+v", sas)
	}
	others := watch(t, s.gateway, "wks0", []string{workstation4}, []string{stranger4})
	must(t, transfer(w, "", stranger4+":8443", megabyte))
	others.end(t)
	if others.esp.Load() > 0 || others.clear.Load() == 0 {
		t.Errorf("%d ESP packets and %d clear ones of the stranger; want none, and some", others.esp.Load(), others.clear.Load())
	}

	// What is applied anew leaves the peers that have SAs as they are.
	dw.apply(t, strings.Replace(respondOnly, "to-port: 53", "to-port: 5353", 1))
	wire = s.between(t)
	must(t, transfer(w, "", server4+":8443", megabyte))
	wire.secret(t, 2*megabyte)
	onePair(t, ds, dw)

	_, err := ds.run("unapply")
	must(t, err)
	eventually(t, 10*time.Second, "the SAs go", func() bool { return len(dw.sas(t)) == 0 })
	must(t, transfer(w, "", server4+":8443", megabyte)) // in clear, as before
	dw.untroubled(t)
}
