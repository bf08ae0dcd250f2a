package test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// hostPolicy secures everything between this host and another one. Extra is
// more of the action "negotiate".
func hostPolicy(extra string, peers ...string) string {
	var filters strings.Builder
	for _, peer := range peers {
		fmt.Fprintf(&filters, "    - {from: me, to: %q}\n", peer)
	}
	return fmt.Sprintf(`version: 1
name: between-hosts
filter-lists:
  peer:
%sfilter-actions:
  secure:
    negotiate:
      mode: transport
      methods: [aes256gcm16, chacha20poly1305]
%srules:
  - {name: secure, filter-list: peer, action: secure, authentication: [{preshared-key: {file: psk}}]}
`, filters.String(), extra)
}

// ownFirewall is what an administrator may have beside ipsecfw: it lets in
// answers, what IPsec needs, and new connections as given.
func ownFirewall(new string) string {
	return `table inet own {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iif lo accept
		meta l4proto { esp, ipv6-icmp } accept
		udp dport { 500, 4500 } accept
		` + new + `
	}
}
`
}

// secureHosts runs ipsecfw on the server and on the workstation of a new site,
// with everything between them under ESP.
func secureHosts(t *testing.T, extra string) (s *site, w *lab.Host, ds, dw *daemon) {
	t.Helper()
	s = newSite(t)
	w = s.workstation(t)
	ds, dw = startDaemon(t, s.server), startDaemon(t, w)
	ds.write(t, "psk", []byte(psk))
	dw.write(t, "psk", []byte(psk))
	ds.apply(t, hostPolicy(extra, workstation4, workstation6))
	dw.apply(t, hostPolicy(extra, server4, server6))
	return s, w, ds, dw
}

// between watches the wire between the server and the workstation.
func (s *site) between(t *testing.T) *wire {
	t.Helper()
	return watch(t, s.gateway, "wks0", []string{server4, server6}, []string{workstation4, workstation6})
}

func TestTransport(t *testing.T) {
	for _, tt := range []struct {
		name                string
		server, workstation string
		extra               string
		udp                 bool
	}{
		{"IPv4", server4, workstation4, "", false},
		{"IPv6", server6, workstation6, "", false},
		{"IPv4 in UDP", server4, workstation4, "      udp-encapsulation: always\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, w, ds, dw := secureHosts(t, tt.extra)
			loadRuleset(t, s.server, ownFirewall("meta l4proto icmp accept; tcp dport 8443 accept; udp dport 7 accept"))
			loadRuleset(t, w, ownFirewall(""))
			wire := s.between(t)

			must(t, ping(within(t, 10*time.Second), w, tt.workstation, tt.server, 3000))
			listenEcho(t, s.server, net.JoinHostPort(tt.server, "7"))
			must(t, echo(within(t, 10*time.Second), w, net.JoinHostPort(tt.server, "7"), 60_000))
			listenSwaps(t, s.server, net.JoinHostPort(tt.server, "8443"))
			start := time.Now()
			must(t, transfer(w, tt.workstation, net.JoinHostPort(tt.server, "8443"), 100*megabyte))
			t.Logf("200 MiB in %v", time.Since(start))

			wire.secret(t, 200*megabyte)
			if udp := wire.udp.Load(); (udp == wire.esp.Load()) != tt.udp || (udp == 0) == tt.udp {
				t.Errorf("%d of %d ESP packets were UDP-encapsulated", udp, wire.esp.Load())
			}
			onePair(t, ds, dw)
			ds.untroubled(t)
			dw.untroubled(t)
		})
	}
}

// onePair fails the test unless two daemons share one pair of SAs, and agree
// on it. Nothing may be in flight.
func onePair(t *testing.T, a, b *daemon) {
	t.Helper()
	as, bs := a.sas(t), b.sas(t)
	if len(as) != 1 || len(bs) != 1 {
		t.Errorf("%s has the SAs %+v, %s has %+v; want one pair each", a.host.Name, as, b.host.Name, bs)
		return
	}
	if x, y := as[0], bs[0]; x.InSPI != y.OutSPI || x.OutSPI != y.InSPI {
		t.Errorf("%s has the SPIs %s and %s, %s has %s and %s", a.host.Name, x.InSPI, x.OutSPI, b.host.Name, y.InSPI, y.OutSPI)
	} else if x.InBytes != y.OutBytes || x.OutBytes != y.InBytes {
		t.Errorf("%s counts %d bytes in and %d out, %s counts %d and %d", a.host.Name, x.InBytes, x.OutBytes, b.host.Name, y.InBytes, y.OutBytes)
	}
}
