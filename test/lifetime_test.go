package test

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// SAs whose lifetime in bytes or packets is over in a moment are replaced in the
// midst of a transfer at full speed, of which nothing stalls, by whichever end,
// and none carries more than it may.
func TestShortLifetimes(t *testing.T) {
	for _, tt := range []struct {
		name           string
		server, client string
	}{
		{"bytes, at one end", "      lifetime-bytes: 40MB\n", ""},
		{"packets, at the other", "", "      lifetime-packets: 30000\n"},
		{"bytes, at both", "      lifetime-bytes: 40MB\n", "      lifetime-bytes: 40MB\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, w, ds, dw := secureHosts(t, "")
			ds.apply(t, hostPolicy(tt.server, workstation4))
			dw.apply(t, hostPolicy(tt.client, server4))
			wire := s.between(t)
			must(t, ping(within(t, 10*time.Second), w, workstation4, server4, 100))
			listenEcho(t, s.server, server4+":7")
			listenSwaps(t, s.server, server4+":8443")
			numbered := startTraffic(t, w, workstation4, net.JoinHostPort(server4, "7"))
			must(t, transfer(w, workstation4, server4+":8443", 100*megabyte))
			if sent, lost := numbered.end(t); lost > 0 {
				t.Errorf("%d of %d datagrams were lost", lost, sent)
			}
			for _, d := range []*daemon{ds, dw} {
				log := d.log(t)
				// One end has two thirds of 100 MiB in 40 MB, at 80 % to 90 % of it.
				if n := bytes.Count(log, []byte("Child SA installed")); n < 3 {
					t.Errorf("%s had %d SAs", d.host.Name, n)
				}
				if n := bytes.Count(log, []byte("its lifetime is over")); n > 0 {
					t.Errorf("%s came to the end of %d SAs", d.host.Name, n)
				}
				for _, sa := range d.sas(t) {
					if sa.InBytes > 40_000_000 && tt.server != "" || sa.OutBytes > 40_000_000 && tt.server != "" {
						t.Errorf("%s has carried too much: %+v", d.host.Name, sa)
					}
				}
				d.untroubled(t)
			}
			wire.secret(t, 200*megabyte)
		})
	}
}

// Where nobody replaces an SA, as the peer does not answer, nothing is carried
// beyond its lifetime.
func TestHardLifetime(t *testing.T) {
	s, w, ds, dw := secureHosts(t, "")
	ds.apply(t, hostPolicy("", workstation4))
	dw.apply(t, hostPolicy("      lifetime-packets: 1000\n", server4))
	must(t, ping(within(t, 10*time.Second), w, workstation4, server4, 100))
	loadRuleset(t, s.gateway, `table inet cut {
	chain forward {
		type filter hook forward priority 0
		udp dport { 500, 4500 } drop
	}
}`)
	sent := 0
	c, err := s.gateway.Capture("wks0", func(b []byte, outgoing bool) {
		if kind, p := lab.Classify(b); kind == lab.ESP && p.Src.String() == workstation4 {
			sent++
		}
	})
	must(t, err)
	sink, err := s.server.ListenPacket("udp", server4+":9")
	must(t, err)
	defer sink.Close()
	conn, err := w.DialFrom(within(t, 5*time.Second), "udp", workstation4, server4+":9")
	must(t, err)
	defer conn.Close()
	must(t, conn.SetWriteDeadline(time.Now().Add(2*time.Second)))
	for range 3000 {
		if _, err := conn.Write(make([]byte, 100)); err != nil {
			break // what waits for another SA has filled the socket's buffer
		}
	}
	eventually(t, 10*time.Second, "the SA is gone", func() bool { return len(dw.sas(t)) == 0 })
	dw.kill() // which would wait for answers
	ds.kill()
	must(t, c.Close())
	if sent > 1000 || sent < 500 {
		t.Errorf("%d packets under an SA of 1000", sent)
	}
}
