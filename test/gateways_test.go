package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// The addresses of two sites with a gateway each, and a network between:
//
//	a ── gateA ── s.gateway ── gateB ── b
const (
	hostA4, hostB4 = "10.51.0.10", "10.52.0.10"
	hostA6, hostB6 = "fd00:51::10", "fd00:52::10"
	gateA4, gateB4 = "10.61.0.2", "10.62.0.2"
)

// twoSites makes the sites; everybody reaches everybody.
func twoSites(t *testing.T) (s *site, a, gateA, gateB, b *lab.Host) {
	t.Helper()
	s = newGateway(t)
	gateA = s.host(t, "gate-a", "a0", []string{gateA4 + "/24", "fd00:61::2/64"}, []string{"10.61.0.1/24", "fd00:61::1/64"})
	gateB = s.host(t, "gate-b", "b0", []string{gateB4 + "/24", "fd00:62::2/64"}, []string{"10.62.0.1/24", "fd00:62::1/64"})
	for _, x := range []struct {
		gate           *lab.Host
		host           **lab.Host
		name           string
		net4, net6     string
		gate4, gate6   string
		inner4, inner6 string
	}{
		{gateA, &a, "a", "10.51.0.0/24", "fd00:51::/64", gateA4, "fd00:61::2", hostA4, hostA6},
		{gateB, &b, "b", "10.52.0.0/24", "fd00:52::/64", gateB4, "fd00:62::2", hostB4, hostB6},
	} {
		must(t, x.gate.Forwarding())
		h, err := s.net.Host(x.name)
		must(t, err)
		*x.host = h
		first4, first6 := x.inner4[:len(x.inner4)-1], x.inner6[:len(x.inner6)-2]+"1"
		must(t, s.net.Link(h, x.gate, "eth0", "lan0", []string{x.inner4 + "/24", x.inner6 + "/64"}, []string{first4 + "/24", first6 + "/64"}))
		must(t, h.Route("default", first4))
		must(t, h.Route("default", first6))
		must(t, s.gateway.Route(x.net4, x.gate4))
		must(t, s.gateway.Route(x.net6, x.gate6))
	}
	return s, a, gateA, gateB, b
}

// betweenSites watches the network between the sites.
func (s *site) betweenSites(t *testing.T) *wire {
	t.Helper()
	return watch(t, s.gateway, "a0", []string{hostA4, hostA6, gateA4}, []string{hostB4, hostB6, gateB4})
}

// Two gateways put what goes between the hosts behind them into a tunnel, and
// nothing else; what is to come by the tunnel is dropped when it comes in clear.
func TestTunnelBetweenGateways(t *testing.T) {
	const policy = `version: 1
name: sites
filter-lists:
  sites:
    - {from: %[1]s, to: %[2]s}
    - {from: "%[3]s", to: "%[4]s"}
filter-actions:
  tunnel: {negotiate: {mode: tunnel, tunnel: {local: %[5]s, remote: %[6]s}}}
rules:
  - {name: sites, filter-list: sites, action: tunnel, path: forward, authentication: [{preshared-key: {file: psk}}]}
`
	s, a, gateA, gateB, b := twoSites(t)
	listenSwaps(t, b, hostB4+":8443")
	listenSwaps(t, a, hostA4+":8443")
	listenSwaps(t, b, "["+hostB6+"]:8443")
	listenEcho(t, b, hostB4+":7")
	must(t, transfer(a, "", hostB4+":8443", 1)) // in clear, without policies
	da, db := startDaemon(t, gateA), startDaemon(t, gateB)
	for _, d := range []*daemon{da, db} {
		d.write(t, "psk", []byte(psk))
	}
	da.apply(t, fmt.Sprintf(policy, "10.51.0.0/24", "10.52.0.0/24", "fd00:51::/64", "fd00:52::/64", gateA4, gateB4))
	db.apply(t, fmt.Sprintf(policy, "10.52.0.0/24", "10.51.0.0/24", "fd00:52::/64", "fd00:51::/64", gateB4, gateA4))

	wire := s.betweenSites(t)
	must(t, ping(within(t, 10*time.Second), a, hostA4, hostB4, 3000))
	must(t, echo(within(t, 10*time.Second), a, hostB4+":7", 20_000))
	must(t, transfer(a, "", hostB4+":8443", 10*megabyte))
	must(t, transfer(b, "", hostA4+":8443", 10*megabyte))
	must(t, transfer(a, "", "["+hostB6+"]:8443", megabyte))
	wire.secret(t, 42*megabyte)
	if as, bs := da.sas(t), db.sas(t); len(as) != 2 || len(bs) != 2 || as[0].Mode != "tunnel" {
		t.Errorf("the gateways have the SAs %+v and %+v; want two pairs each, for IPv4 and IPv6", as, bs)
	}

	// Somebody between the sites says that he is of the other one.
	must(t, s.gateway.Address("lo", "10.52.0.99/32"))
	f := newField(t)
	f.join(t, a, "eth0", map[string]string{"a": hostA4})
	f.join(t, s.gateway, "a0", map[string]string{"between": "10.61.0.1", "forger": "10.52.0.99"})
	for _, text := range []string{"forger a udp 1000 9", "forger a tcp 1000 8443", "forger a icmp 8 0"} {
		forged, honest := f.parse(t, text), f.parse(t, "between a udp 1000 9")
		must(t, forged.send())
		must(t, honest.send())
		if f.ears[a].until(t, honest.number)[forged.number] {
			t.Errorf("%s: comes in clear", text)
		}
	}
	f.expect(t, []string{"a between udp 1000 9", "between a udp 1000 9"}, nil) // no rule is about that
	da.untroubled(t)
	db.untroubled(t)

	wire = s.betweenSites(t)
	da.kill()
	if err := refused(a, hostB4+":8443", 500*time.Millisecond); err != nil {
		t.Error(err)
	}
	wire.secret(t, 0)
}
