package test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// The inner addresses, of a tunnel between server and workstation.
const serverInner, workstationInner = "10.5.1.1", "10.5.2.1"

// tunnelPolicy is the server's, for a tunnel to the workstation.
func tunnelPolicy(authentication string) string {
	return fmt.Sprintf(`version: 1
name: tunnel
filter-lists:
  inner:
    - {from: %s, to: %s}
filter-actions:
  secure:
    negotiate:
      mode: tunnel
      tunnel: {local: %s, remote: %s}
      methods: [aes256gcm16]
rules:
  - {name: inner, filter-list: inner, action: secure, authentication: [%s]}
`, serverInner, workstationInner, server4, workstation4, authentication)
}

// Against strongSwan with its ESP in user space: tunnel mode, in UDP.
func TestStrongSwan(t *testing.T) {
	ca := newAuthority(t)
	for _, auth := range []struct {
		name, rule string
		configure  func(*testing.T, *daemon, *charon, *connection)
	}{
		{
			name: "preshared key",
			rule: "{preshared-key: {file: psk}}",
			configure: func(t *testing.T, d *daemon, _ *charon, _ *connection) {
				d.write(t, "psk", []byte(psk))
			},
		},
		{
			name: "certificates",
			rule: "{certificate: {authority: ca.pem, own: host.pem, key: host.key}}",
			configure: func(t *testing.T, d *daemon, c *charon, conn *connection) {
				d.enroll(t, ca, "server.test", server4, psk)
				c.trust(t, ca, "workstation.test", workstation4)
				conn.Certificate, conn.LocalID, conn.RemoteID = "workstation.test.pem", "workstation.test", "server.test"
			},
		},
	} {
		for _, initiator := range []bool{true, false} {
			t.Run(auth.name+"/"+role(initiator), func(t *testing.T) {
				s := newSite(t)
				w := s.workstation(t)
				must(t, s.server.Address("lo", serverInner+"/32"))
				must(t, w.Address("lo", workstationInner+"/32"))
				d, c := startDaemon(t, s.server), &charon{dir: t.TempDir()}
				conn := connection{
					Name: "inner", Local: workstation4, Remote: server4, Mode: "tunnel",
					LocalTS: workstationInner + "/32", RemoteTS: serverInner + "/32",
				}
				auth.configure(t, d, c, &conn)
				d.apply(t, tunnelPolicy(auth.rule))
				startCharon(t, w, c, conn)
				wire := watch(t, s.gateway, "wks0", []string{server4, serverInner}, []string{workstation4, workstationInner})
				if !initiator {
					c.initiate(t, "inner")
				}
				must(t, ping(within(t, 10*time.Second), s.server, serverInner, workstationInner, 3000))
				must(t, ping(within(t, 10*time.Second), w, workstationInner, serverInner, 3000))
				lost := socketDrops(t, w)
				agree(t, d, c, lost)
				listenSwaps(t, w, workstationInner+":8443")
				start := time.Now()
				must(t, transfer(s.server, serverInner, workstationInner+":8443", 100*megabyte))
				t.Logf("200 MiB in %v", time.Since(start))
				agree(t, d, c, lost)
				wire.secret(t, 200*megabyte)
				d.untroubled(t)
			})
		}
	}
}

func role(initiator bool) string {
	if initiator {
		return "initiator"
	}
	return "responder"
}

// agree fails the test unless ipsecfw and strongSwan come to have one pair of
// SAs, and the same, in SPIs and in bytes. Lost counts the packets that
// strongSwan's host has dropped before strongSwan could read them.
func agree(t *testing.T, d *daemon, c *charon, lost func() uint64) {
	t.Helper()
	var problem string
	settled := func() bool {
		ours, theirs, lost := d.sas(t), c.children(t), lost()
		if len(ours) != 1 || len(theirs) != 1 {
			problem = fmt.Sprintf("want one pair of SAs at each end: ipsecfw has %+v, strongSwan has %v", ours, theirs)
			return false
		}
		us, them := ours[0], theirs[0]
		problem = fmt.Sprintf("ipsecfw has %+v, strongSwan has %v, and %d packets were lost between them", us, them, lost)
		missing := us.OutBytes - number(t, them, "bytes-in")
		return us.InSPI == them["spi-out"] && us.OutSPI == them["spi-in"] &&
			us.InBytes == number(t, them, "bytes-out") && missing <= lost*mtu
	}
	if !await(t, 10*time.Second, settled) {
		t.Error(problem)
	}
}

const mtu = 1500 // of every link

// socketDrops counts the datagrams for strongSwan's port 4500 that found its
// receive buffer full.
func socketDrops(t *testing.T, h *lab.Host) func() uint64 {
	return func() uint64 {
		var table []byte
		must(t, h.Do(func() (err error) {
			table, err = os.ReadFile("/proc/thread-self/net/udp")
			return err
		}))
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); strings.HasSuffix(f[1], ":1194") { // 4500
				drops, err := strconv.ParseUint(f[len(f)-1], 10, 64)
				must(t, err)
				return drops
			}
		}
		t.Fatalf("nobody listens on port 4500 of %s:\n%s", h.Name, table)
		return 0
	}
}

func number(t *testing.T, values map[string]string, key string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(values[key], 10, 64)
	if err != nil {
		t.Fatalf("strongSwan says nothing of %s: %v", key, values)
	}
	return n
}

// Against strongSwan with the ESP of a kernel: transport mode, protocol 50.
func TestKernelESP(t *testing.T) {
	s := newSite(t)
	share := t.TempDir()
	start := time.Now()
	guest := s.guestWorkstation(t, share, espModules)
	t.Logf("the guest was up in %v", time.Since(start))
	d, c := startDaemon(t, s.server), &charon{dir: share}
	d.write(t, "psk", []byte(psk))
	d.apply(t, hostPolicy("", workstation4, workstation6))
	startGuestCharon(t, guest, c,
		connection{Name: "v4", Local: workstation4, Remote: server4, Mode: "transport", LocalTS: "dynamic", RemoteTS: "dynamic"},
		connection{Name: "v6", Local: workstation6, Remote: server6, Mode: "transport", LocalTS: "dynamic", RemoteTS: "dynamic"})
	none := func() uint64 { return 0 }
	for _, family := range []struct{ name, server, workstation string }{
		{"v4", server4, workstation4},
		{"v6", server6, workstation6},
	} {
		swaps := net.JoinHostPort(family.workstation, "8443")
		must(t, guest.Call("Guest.ServeSwaps", swaps, nil))
		listenSwaps(t, s.server, net.JoinHostPort(family.server, "8443"))
		for _, initiator := range []bool{true, false} {
			t.Run(family.name+"/"+role(initiator), func(t *testing.T) {
				wire := s.between(t)
				if !initiator {
					c.initiate(t, family.name)
				}
				must(t, ping(within(t, 10*time.Second), s.server, family.server, family.workstation, 3000))
				agree(t, d, c, none)
				start := time.Now()
				if initiator {
					must(t, transfer(s.server, family.server, swaps, 10*megabyte))
				} else {
					must(t, guest.Call("Guest.Swap", Swap{net.JoinHostPort(family.server, "8443"), 10 * megabyte}, nil))
				}
				t.Logf("20 MiB in %v", time.Since(start))
				agree(t, d, c, none)
				wire.secret(t, 20*megabyte)
				if n := wire.udp.Load(); n > 0 {
					t.Errorf("%d ESP packets were UDP-encapsulated", n)
				}
				c.terminate(t, family.name)
				eventually(t, 10*time.Second, "the SAs end with strongSwan's", func() bool { return len(d.sas(t)) == 0 })
			})
		}
	}
	d.untroubled(t)
	if t.Failed() {
		t.Logf("the guest's kernel:\n%s%s", inGuest(t, guest, "ip -s xfrm state"), inGuest(t, guest, "cat /proc/net/xfrm_stat"))
	}
}
