package test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// nameServer answers questions for the addresses of names, with the shortest
// time to live that there is.
type nameServer struct {
	mu    sync.Mutex
	names map[string]netip.Addr
}

func (n *nameServer) set(name, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[name] = netip.MustParseAddr(addr)
}

func startNameServer(t *testing.T, h *lab.Host, address string) *nameServer {
	t.Helper()
	n := &nameServer{names: map[string]netip.Addr{}}
	c, err := h.ListenPacket("udp", address)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 1<<16)
		for {
			size, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := n.answer(buf[:size]); answer != nil {
				c.WriteTo(answer, from)
			}
		}
	}()
	return n
}

// answer answers a message with one question (RFC 1035 section 4).
func (n *nameServer) answer(b []byte) []byte {
	if len(b) < 12 {
		return nil
	}
	var labels []string
	at := 12
	for at < len(b) && b[at] != 0 {
		end := at + 1 + int(b[at])
		if end > len(b) {
			return nil
		}
		labels = append(labels, string(b[at+1:end]))
		at = end
	}
	if at+5 > len(b) {
		return nil
	}
	kind := binary.BigEndian.Uint16(b[at+1:])
	out := append([]byte{}, b[:at+5]...)
	out[2], out[3] = 0x84|b[2]&1, 0x80 // an answer with authority
	copy(out[6:12], make([]byte, 6))
	n.mu.Lock()
	addr, known := n.names[strings.ToLower(strings.Join(labels, "."))]
	n.mu.Unlock()
	switch {
	case !known:
		out[3] |= 3 // there is no such name
	case kind == 1 && addr.Is4() || kind == 28 && addr.Is6():
		out[7] = 1
		out = append(out, 0xc0, 12)
		out = binary.BigEndian.AppendUint16(out, kind)
		out = append(out, 0, 1, 0, 0, 0, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(addr.BitLen()/8))
		out = append(out, addr.AsSlice()...)
	}
	return out
}

// surroundings is a folder with an /etc and a /var/lib of a host.
func surroundings(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	must(t, os.MkdirAll(filepath.Join(root, "var/lib/dhcp"), 0o755))
	for name, content := range files {
		replace(t, filepath.Join(root, name), content)
	}
	return root
}

// replace writes a file as programs do that keep it whole at any time.
func replace(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(content), 0o644))
	must(t, os.Rename(path+".new", path))
}

const lease = `lease {
  interface "eth0";
  option dhcp-server-identifier %s;
  expire never;
}
`

// Sides that the host's surroundings decide are followed: DNS names by the
// hosts file and by a server, name servers, DHCP servers, the default gateway.
func TestNamedSides(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newSite(t)
	f := newField(t)
	w, x := s.workstation(t), s.stranger(t)
	f.join(t, s.server, "eth0", map[string]string{"me": server4, "me6": server6})
	f.join(t, w, "eth0", map[string]string{"work": workstation4, "work6": workstation6})
	f.join(t, x, "eth0", map[string]string{"other": stranger4})
	f.join(t, s.gateway, "srv0", map[string]string{"gate": "10.9.0.1", "gate6": "fd00:9::1", "resolver": resolver4})
	names := startNameServer(t, s.gateway, resolver4+":53")
	names.set("served.test", workstation4)
	other := startNameServer(t, s.gateway, "10.9.0.1:53")
	other.set("served.test", workstation4)
	root := surroundings(t, map[string]string{
		"etc/resolv.conf":            "nameserver " + resolver4 + "\n",
		"etc/hosts":                  workstation4 + " listed.test\n" + workstation6 + " listed.test\n",
		"var/lib/dhcp/client.leases": fmt.Sprintf(lease, "10.9.0.1"),
	})
	d := startDaemonIn(t, s.server, root)
	must(t, s.server.Route("10.1.0.0/16", "10.9.0.1")) // when the default route changes
	const lookups = "from: me, to: [10.9.0.1, 10.9.0.53], protocol: udp, to-port: 53"
	for _, tt := range []struct {
		row    fieldRow
		change func()
		match  []string // after the change
		other  []string
	}{{
		row: fieldRow{
			name: "a name of the hosts file", filters: []string{"from: {dns: listed.test}, to: me, protocol: udp"},
			match: []string{"work me udp 1 9", "me work udp 1 9", "work6 me6 udp 1 9"},
			other: []string{"other me udp 1 9", "gate me udp 1 9"},
		},
		change: func() { replace(t, root+"/etc/hosts", stranger4+" listed.test\n") },
		match:  []string{"other me udp 1 9", "me other udp 1 9"},
		other:  []string{"work me udp 1 9", "work6 me6 udp 1 9"},
	}, {
		row: fieldRow{
			name: "name servers", filters: []string{"from: me, to: dns-servers, protocol: udp, to-port: 5353"},
			match: []string{"me resolver udp 1 5353", "resolver me udp 5353 1"},
			other: []string{"me gate udp 1 5353", "me resolver udp 1 5354"},
		},
		change: func() { replace(t, root+"/etc/resolv.conf", "nameserver 10.9.0.1\nnameserver fd00:9::1\n") },
		match:  []string{"me gate udp 1 5353", "gate6 me6 udp 5353 1"},
		other:  []string{"me resolver udp 1 5353"},
	}, {
		row: fieldRow{
			name: "DHCP servers", filters: []string{"from: dhcp-servers, to: me, protocol: udp, from-port: 67, to-port: 68"},
			match: []string{"gate me udp 67 68", "me gate udp 68 67"},
			other: []string{"resolver me udp 67 68", "gate me udp 68 67"},
		},
		change: func() {
			replace(t, root+"/var/lib/dhcp/client.leases", fmt.Sprintf(lease, resolver4))
		},
		match: []string{"resolver me udp 67 68"},
		other: []string{"gate me udp 67 68"},
	}, {
		row: fieldRow{
			name: "the default gateway", filters: []string{"from: default-gateway, to: me, protocol: icmp"},
			match: []string{"gate me icmp 8 0", "me gate icmp 8 0"},
			other: []string{"resolver me icmp 8 0", "work me icmp 8 0"},
		},
		change: func() {
			_, err := s.server.Command("ip", "route", "replace", "default", "via", resolver4).Output()
			must(t, err)
		},
		match: []string{"resolver me icmp 8 0"},
		other: []string{"gate me icmp 8 0"},
	}, {
		row: fieldRow{
			name: "a name that a server knows", filters: []string{"from: {dns: served.test}, to: me, protocol: tcp"},
			match: []string{"work me tcp 1 9", "me work tcp 1 9"},
			other: []string{"other me tcp 1 9"},
		},
		change: func() { // which is seen when the answer has come of age
			names.set("served.test", stranger4)
			other.set("served.test", stranger4)
		},
		match: []string{"other me tcp 1 9"},
		other: []string{"work me tcp 1 9"},
	}} {
		t.Run(tt.row.name, func(t *testing.T) {
			need(t, "ip")
			d.apply(t, tt.row.policy(f, "block", ""))
			f.expect(t, tt.row.other, tt.row.match)
			row := tt.row
			row.filters = append(row.filters, lookups)
			d.apply(t, row.policy(f, "permit", "block"))
			f.expect(t, row.match, row.other)
			tt.change()
			eventually(t, 20*time.Second, "the policy follows", func() bool { return f.fly(t, tt.match[0])[tt.match[0]] })
			f.expect(t, tt.match, tt.other)
		})
	}
	d.untroubled(t)
}

// A name that is known no more stands for what it did last, also for a daemon
// that starts anew; one that never was is refused.
func TestNamesThatAreGone(t *testing.T) {
	_, f, d0 := peers(t)
	host := d0.host
	d0.kill()
	root := surroundings(t, map[string]string{"etc/hosts": workstation4 + " listed.test\n"})
	d := startDaemonIn(t, host, root)
	row := fieldRow{filters: []string{"from: {dns: listed.test}, to: me"}}
	d.apply(t, row.policy(f, "permit", "block"))
	f.expect(t, []string{"work me udp 1 9"}, []string{"other me udp 1 9"})
	replace(t, root+"/etc/hosts", "")
	d.kill()
	d.start(t)
	f.expect(t, []string{"work me udp 1 9"}, []string{"other me udp 1 9"})

	row.filters = []string{"from: {dns: unheard.test}, to: me"}
	path := d.write(t, "policy.yaml", []byte(row.policy(f, "permit", "block")))
	if _, err := d.run("apply", path); err == nil || !strings.Contains(err.Error(), "unheard.test") {
		t.Errorf("a name that stands for nothing: error %v", err)
	}
	f.expect(t, []string{"work me udp 1 9"}, []string{"other me udp 1 9"})
}
