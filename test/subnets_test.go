package test

import (
	"fmt"
	"testing"
	"time"
)

// Several networks at each end of one tunnel: each pair of them gets its SA on
// the one IKE SA, and packets go by the right one.
func TestSubnetsOfOneTunnel(t *testing.T) {
	s := newSite(t)
	w := s.workstation(t)
	ours, theirs := []string{"10.5.1.1", "10.6.1.1", "fd00:5:1::1"}, []string{"10.5.2.1", "10.6.2.1", "fd00:5:2::1"}
	for i := range ours {
		must(t, s.server.Address("lo", hostPrefix(ours[i])))
		must(t, w.Address("lo", hostPrefix(theirs[i])))
	}
	policy := func(local, remote, from, to string) string {
		return fmt.Sprintf(`version: 1
name: subnets
filter-lists:
  sites: [{from: [%[3]s], to: [%[4]s]}]
filter-actions:
  tunnel: {negotiate: {mode: tunnel, tunnel: {local: %[1]s, remote: %[2]s}}}
rules:
  - {name: sites, filter-list: sites, action: tunnel, authentication: [{preshared-key: {file: psk}}]}
`, local, remote, from, to)
	}
	const a, b = `10.5.1.0/24, 10.6.1.0/24, "fd00:5:1::/48"`, `10.5.2.0/24, 10.6.2.0/24, "fd00:5:2::/48"`
	ds, dw := startDaemon(t, s.server), startDaemon(t, w)
	ds.write(t, "psk", []byte(psk))
	dw.write(t, "psk", []byte(psk))
	ds.apply(t, policy(server4, workstation4, a, b))
	dw.apply(t, policy(workstation4, server4, b, a))
	pairs := 0
	for i, from := range ours {
		for j, to := range theirs {
			if (i == 2) != (j == 2) { // of different families
				continue
			}
			pairs++
			must(t, ping(within(t, 10*time.Second), s.server, from, to, 1000))
			must(t, ping(within(t, 10*time.Second), w, to, from, 1000))
		}
	}
	for _, d := range []*daemon{ds, dw} {
		if sas := d.sas(t); len(sas) != pairs {
			t.Errorf("%d SAs, want %d: %+v", len(sas), pairs, sas)
		}
		d.untroubled(t)
	}
}
