package test

import (
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// Against strongSwan with the ESP of a kernel, in transport mode through a NAT:
// the kernel's host behind it, and then ipsecfw's. Whoever is behind it begins,
// and packets go both ways.
func TestKernelTransportThroughNAT(t *testing.T) {
	s := newSite(t)
	share := t.TempDir()
	guest := s.guestWorkstation(t, share, espModules)
	d, c := startDaemon(t, s.server), &charon{dir: share}
	d.write(t, "psk", []byte(psk))
	startGuestCharon(t, guest, c)
	swaps, echoes := net.JoinHostPort(workstation4, "8443"), net.JoinHostPort(workstation4, "7")
	must(t, guest.Call("Guest.ServeSwaps", swaps, nil))
	must(t, guest.Call("Guest.ServeEcho", echoes, nil))
	listenSwaps(t, s.server, server4+":8443")
	all := []string{workstation4, outside4, "10.1.1.1", server4}
	for _, tt := range []struct {
		name          string
		chain         string // of the NAT
		guest, server string // as the other end knows them
	}{
		{"strongSwan behind it", "oifname srv0 snat to " + outside4, outside4, server4},
		{"ipsecfw behind it", "oifname wks0 snat to 10.1.1.1", workstation4, "10.1.1.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			loadRuleset(t, s.gateway, `table ip nat
delete table ip nat
table ip nat {
	chain post {
		type nat hook postrouting priority srcnat
		`+tt.chain+`
	}
}`)
			must(t, s.gateway.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
			c.connect(t, connection{
				Name: "nat", Local: workstation4, Remote: tt.server, RemoteID: server4, Mode: "transport", LocalTS: "dynamic", RemoteTS: "dynamic",
			})
			d.apply(t, hostPolicy("", tt.guest))
			wires := []*wire{watch(t, s.gateway, "wks0", all, all), watch(t, s.gateway, "srv0", all, all)}
			if tt.guest == outside4 {
				c.initiate(t, "nat")
			}
			must(t, ping(within(t, 20*time.Second), s.server, server4, tt.guest, 1000))
			must(t, echo(within(t, 20*time.Second), s.server, net.JoinHostPort(tt.guest, "7"), 1000))
			must(t, transfer(s.server, "", net.JoinHostPort(tt.guest, "8443"), 2*megabyte))
			must(t, guest.Call("Guest.Swap", Swap{net.JoinHostPort(tt.server, "8443"), 5 * megabyte}, nil))
			agree(t, d, c, func() uint64 { return 0 })
			for _, wire := range wires {
				wire.secret(t, 8*megabyte)
				if udp, esp := wire.udp.Load(), wire.esp.Load(); udp != esp {
					t.Errorf("%d of %d ESP packets were inside UDP", udp, esp)
				}
			}
			c.terminate(t, "nat")
			eventually(t, 10*time.Second, "the SAs end with strongSwan's", func() bool { return len(d.sas(t)) == 0 })
			d.untroubled(t)
		})
	}
	if t.Failed() {
		t.Logf("the guest's kernel:\n%s%s", inGuest(t, guest, "ip -s xfrm state"), inGuest(t, guest, "cat /proc/net/xfrm_stat"))
	}
}
