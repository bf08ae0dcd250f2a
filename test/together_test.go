package test

import (
	"slices"
	"testing"
	"time"
)

// Two hosts that have something to say to each other at the same instant end
// with one IKE SA, and no datagram is lost, though neither hears the other at
// first.
func TestBothBegin(t *testing.T) {
	s, w, ds, dw := secureHosts(t, "")
	listenEcho(t, s.server, server4+":7")
	listenEcho(t, w, workstation4+":7")
	for _, apart := range []bool{true, false} {
		if apart {
			loadRuleset(t, s.gateway, "table ip apart { chain pre { type filter hook prerouting priority 0; udp dport 500 drop; }; }")
		}
		ike, wire := watchIKE(t, s.gateway, "wks0"), s.between(t)
		far := watchIKE(t, s.gateway, "srv0")
		to, from := startTraffic(t, s.server, server4, workstation4+":7"), startTraffic(t, w, workstation4, server4+":7")
		if apart {
			eventually(t, 10*time.Second, "both begin", func() bool { return len(ike.messages(34)) > 0 && len(far.messages(34)) > 0 })
			must(t, s.gateway.Command("nft", "delete", "table", "ip", "apart").Run())
		}
		eventually(t, 10*time.Second, "datagrams come back", func() bool { return to.received.Load() > 50 && from.received.Load() > 50 })
		for _, x := range []*traffic{to, from} {
			if sent, lost := x.end(t); lost > 0 {
				t.Errorf("apart: %v: %d of %d datagrams were lost", apart, lost, sent)
				for _, d := range []*daemon{ds, dw} {
					out, _ := d.run("status")
					t.Logf("%s:\n%s", d.host.Name, out)
				}
			}
		}
		one := func() bool {
			a, b := ds.ikeSAs(t), dw.ikeSAs(t)
			return len(a) == 1 && len(b) == 1 && a[0].SPIi == b[0].SPIi && a[0].SPIr == b[0].SPIr && a[0].Initiator != b[0].Initiator
		}
		if !await(t, 5*time.Second, one) {
			t.Errorf("apart: %v: the IKE SAs are %+v and %+v", apart, ds.ikeSAs(t), dw.ikeSAs(t))
		}
		samePairs(t, ds, dw)
		wire.secret(t, 1)
		ike.end(t)
		far.end(t)
		for _, d := range []*daemon{ds, dw} {
			d.untroubled(t)
			_, err := d.run("unapply")
			must(t, err)
		}
		ds.apply(t, hostPolicy("", workstation4, workstation6))
		dw.apply(t, hostPolicy("", server4, server6))
	}
}

// samePairs fails the test unless two daemons come to have the same pairs of
// SAs, and at least one.
func samePairs(t *testing.T, a, b *daemon) {
	t.Helper()
	var as, bs []string
	same := func() bool {
		as, bs = nil, nil
		for _, x := range a.sas(t) {
			as = append(as, x.InSPI+" "+x.OutSPI)
		}
		for _, x := range b.sas(t) {
			bs = append(bs, x.OutSPI+" "+x.InSPI)
		}
		slices.Sort(as)
		slices.Sort(bs)
		return len(as) > 0 && slices.Equal(as, bs)
	}
	if !await(t, 5*time.Second, same) {
		t.Errorf("%s has the SAs %v, %s has %v", a.host.Name, as, b.host.Name, bs)
	}
}
