package test

import (
	"fmt"
	"slices"
	"testing"
)

// What no filter judges, by the four levels of exemptions, on a host that
// blocks everything else.
func TestExemptions(t *testing.T) {
	_, f, d := peers(t)
	multicast := []string{"me @224.0.0.1=gate udp 1000 9", "me6 @ff02::1=gate udp 1000 9", "me @10.9.0.255=gate udp 1000 9"}
	rsvp := []string{"me work rsvp", "work me rsvp", "work6 me6 rsvp"}
	kerberos := []string{
		"me work udp 1000 88", "work me udp 88 1000", // the second one is an answer
		"work me udp 1000 88", "me work udp 88 1000",
		"me work tcp 1000 88", "work6 me6 tcp 1000 88",
	}
	always := []string{"gate @224.0.0.1=me udp 1000 9", "gate6 @ff02::1=me udp 1000 9", "gate @10.9.0.255=me udp 1000 9"}
	// Whoever sends from Kerberos' port is not therefore a Kerberos server.
	never := []string{
		"work me udp 88 1001", "work me tcp 88 445", "work6 me6 tcp 88 445", "me work udp 88 1001", "me work tcp 88 445",
		"work me icmp 8 0", "work me udp 1000 464", "work me gre",
	}
	for level, passes := range [][][]string{
		0: {multicast, rsvp, kerberos},
		1: {multicast},
		2: {rsvp, kerberos},
		3: {},
	} {
		t.Run(fmt.Sprint("level ", level), func(t *testing.T) {
			r := fieldRow{top: fmt.Sprintf("exemptions: %d\n", level), filters: []string{"from: any, to: any"}}
			d.apply(t, r.policy(f, "block", ""))
			pass := slices.Concat(passes...)
			stop := slices.Clone(never)
			for _, p := range slices.Concat(multicast, rsvp, kerberos) {
				if !slices.Contains(pass, p) {
					stop = append(stop, p)
				}
			}
			f.expect(t, append(pass, always...), stop)
		})
	}
	d.untroubled(t)
}
