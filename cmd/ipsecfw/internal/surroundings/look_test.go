package surroundings

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// root is a host's files.
type root struct {
	t   *testing.T
	dir string
}

func newRoot(t *testing.T) root { return root{t, t.TempDir()} }

// write replaces a file by a rename, as careful programs do.
func (r root) write(path, content string) {
	r.t.Helper()
	path = filepath.Join(r.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new~", []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(path+".new~", path); err != nil {
		r.t.Fatal(err)
	}
}

func (r root) remove(path string) {
	r.t.Helper()
	if err := os.RemoveAll(filepath.Join(r.dir, path)); err != nil {
		r.t.Fatal(err)
	}
}

// named is a Config whose only server is s.
func (r root) named(s *dnsServer) Config {
	r.write(resolvConf, "nameserver "+s.addr.Addr().String()+"\n")
	return Config{Root: r.dir, DNSPort: s.addr.Port()}
}

// look asks for one name.
func look(t *testing.T, cfg Config, name string) ([]netip.Addr, error) {
	t.Helper()
	a, err := Look(t.Context(), Wanted{Names: []string{name}}, cfg)
	return a.Names[name], err
}

func TestLookNames(t *testing.T) {
	s := newDNSServer(t, "127.0.0.1:0")
	r := newRoot(t)
	cfg := r.named(s)
	r.write(hostsFile, "192.0.2.50 host.example\n")
	s.set("a.example", zoneEntry{ttl: 60, data: []string{"192.0.2.2", "192.0.2.1", "2001:db8::1"}})
	s.set("alias.example", zoneEntry{ttl: 60, data: []string{"a.example."}})
	s.set("large.example", zoneEntry{ttl: 60, data: []string{"192.0.2.3"}, truncated: true})
	s.set("lower.example", zoneEntry{ttl: 60, data: []string{"192.0.2.4"}, lowered: true})
	s.set("broken.example", zoneEntry{fails: dnsmessage.RCodeServerFailure})
	s.set("host.example", zoneEntry{ttl: 60, data: []string{"192.0.2.51"}})
	s.set("multicast.example", zoneEntry{ttl: 60, data: []string{"224.0.0.1"}})

	want := map[string]string{
		"A.example.":        "192.0.2.1 192.0.2.2 2001:db8::1",
		"alias.example":     "192.0.2.1 192.0.2.2 2001:db8::1",
		"large.example":     "192.0.2.3",
		"lower.example":     "192.0.2.4",
		"host.example":      "192.0.2.50",
		"broken.example":    "",
		"none.example":      "",
		"multicast.example": "",
	}
	w := Wanted{Names: []string{"A.example."}} // twice
	for n := range want {
		w.Names = append(w.Names, n)
	}
	got, err := Look(t.Context(), w, cfg)
	for n, addrs := range want {
		if list, ok := got.Names[n]; !ok || !slices.Equal(list, addresses(addrs)) {
			t.Errorf("%s is %v, want %s", n, list, addrs)
		}
	}
	if len(got.Names) != len(want) {
		t.Errorf("%d names, want %d", len(got.Names), len(want))
	}
	causes := make(map[string]error)
	for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
		var lookup *LookupError
		if !errors.As(err, &lookup) {
			t.Fatalf("an error of no name: %v", err)
		}
		causes[lookup.Name] = lookup.Err
	}
	if len(causes) != 3 || !errors.Is(causes["none.example"], ErrNoSuchName) || !errors.Is(causes["multicast.example"], ErrNoAddress) ||
		!strings.Contains(causes["broken.example"].Error(), s.addr.String()) {
		t.Errorf("errors %v", causes)
	}
	for what, n := range map[string]int{"tcp large.example": 2, "tcp lower.example": 2, "tcp a.example": 0, "udp a.example": 2, "udp host.example": 0} {
		if s.count(what) != n {
			t.Errorf("asked %d times by %s, want %d", s.count(what), what, n)
		}
	}
}

func TestForgedAnswers(t *testing.T) {
	forged := func(m *dnsmessage.Message) {
		m.Answers = []dnsmessage.Resource{record(t, m.Questions[0].Name.String(), 60, "192.0.2.66")}
	}
	s := newDNSServer(t, "127.0.0.1:0")
	s.set("a.example", zoneEntry{ttl: 60, data: []string{"192.0.2.1"}})
	// Another host, or another port of the same one.
	var elsewhere []*net.UDPConn
	for _, at := range []string{"127.0.0.2:0", "127.0.0.1:0"} {
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		elsewhere = append(elsewhere, conn)
	}
	s.before(func(reply func(func(*dnsmessage.Message)), from netip.AddrPort) {
		reply(func(m *dnsmessage.Message) { forged(m); m.ID ^= 1 })
		reply(func(m *dnsmessage.Message) {
			m.Questions[0].Name = dnsmessage.MustNewName("b.example.")
			forged(m)
		})
		reply(func(m *dnsmessage.Message) { forged(m); m.Response = false })
		for _, conn := range elsewhere {
			reply(func(m *dnsmessage.Message) { // right in all but its source
				right := *m
				forged(&right)
				conn.WriteToUDPAddrPort(s.pack(right), from)
				m.ID ^= 1
			})
		}
	})
	got, err := look(t, newRoot(t).named(s), "a.example")
	if err != nil || !slices.Equal(got, addresses("192.0.2.1")) {
		t.Errorf("%v, %v, want 192.0.2.1", got, err)
	}
	if n := s.count("tcp a.example"); n != 0 {
		t.Errorf("asked %d times by TCP", n)
	}
}

func TestEveryQuestionIsNew(t *testing.T) {
	s := newDNSServer(t, "127.0.0.1:0")
	s.set("abcdefghijklmnopqrstuvwxyz.example", zoneEntry{ttl: 60, data: []string{"192.0.2.1"}})
	ids, ports, spellings := make(map[uint16]bool), make(map[uint16]bool), make(map[string]bool)
	s.before(func(reply func(func(*dnsmessage.Message)), from netip.AddrPort) {
		ports[from.Port()] = true
		reply(func(m *dnsmessage.Message) {
			ids[m.ID] = true
			spellings[m.Questions[0].Name.String()] = true
			m.Response = false
		})
	})
	cfg := newRoot(t).named(s)
	for range 20 {
		if _, err := look(t, cfg, "abcdefghijklmnopqrstuvwxyz.example"); err != nil {
			t.Fatal(err)
		}
	}
	s.hook.Lock()
	defer s.hook.Unlock()
	if len(ids) < 35 || len(ports) < 30 || len(spellings) < 35 {
		t.Errorf("40 questions had %d identifiers, %d ports, %d spellings", len(ids), len(ports), len(spellings))
	}
}

func TestServersInTurn(t *testing.T) {
	s := newDNSServer(t, "127.0.0.3:0")
	s.set("a.example", zoneEntry{ttl: 60, data: []string{"192.0.2.1"}})
	silent, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), s.addr.Port())))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r := newRoot(t)
	r.write(resolvConf, "nameserver 127.0.0.4\nnameserver 127.0.0.2\nnameserver 127.0.0.3\n") // closed, silent, good
	tempo := usual
	tempo.exchange = 100 * time.Millisecond
	cfg := Config{Root: r.dir, DNSPort: s.addr.Port(), tempo: tempo}
	got, err := look(t, cfg, "a.example")
	if err != nil || !slices.Equal(got, addresses("192.0.2.1")) {
		t.Errorf("%v, %v, want 192.0.2.1", got, err)
	}

	r.write(resolvConf, "nameserver 127.0.0.2\n")
	if _, err = look(t, cfg, "a.example"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = Look(ctx, Wanted{Names: []string{"a.example"}}, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("no time left: %v", err)
	}
}

func TestLookFiles(t *testing.T) {
	now := func() time.Time { return written }
	all := Wanted{DNSServers: true, DHCPServers: true}
	tests := []struct {
		name      string
		files     map[string]string
		dns, dhcp string
		err       string
	}{
		{name: "an empty host"},
		{name: "servers", dns: "192.0.2.1 2001:db8::1 fe80::1", files: map[string]string{
			resolvConf:  "nameserver 2001:db8::1\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver ::1\nnameserver 127.0.0.1\nnameserver ::ffff:192.0.2.1\n",
			resolvedOwn: "nameserver 192.0.2.9\n"}},
		{name: "systemd-resolved", dns: "192.0.2.9", files: map[string]string{
			resolvConf:  "nameserver 127.0.0.53\n",
			resolvedOwn: "nameserver 192.0.2.9\n"}},
		{name: "leases of all clients", dhcp: "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6", files: map[string]string{
			"/run/systemd/netif/leases/2":                   "SERVER_ADDRESS=192.0.2.2\n",
			"/run/systemd/netif/leases/.#3":                 "SERVER_ADDRESS=192.0.2.66\n",
			"/run/NetworkManager/devices/2":                 "[dhcp4]\ndhcp4.dhcp_server_identifier=192.0.2.3\ndhcp4.expiry=1700000001\n",
			"/run/NetworkManager/devices/3":                 "[dhcp4]\ndhcp4.dhcp_server_identifier=192.0.2.67\ndhcp4.expiry=1700000000\n",
			"/var/lib/NetworkManager/internal-u-eth0.lease": "SERVER_ADDRESS=192.0.2.4\n",
			"/var/lib/NetworkManager/dhclient-u-eth0.lease": "lease { option dhcp-server-identifier 192.0.2.5; expire never; }",
			"/var/lib/NetworkManager/timestamps":            "SERVER_ADDRESS=192.0.2.68\n",
			"/var/lib/dhcp/dhclient.eth0.leases":            "lease { option dhcp-server-identifier 192.0.2.6; expire never; }",
			"/var/lib/dhclient/dhclient-eth0.leases":        "lease { option dhcp-server-identifier 192.0.2.69; expire 2 2023/11/14 22:13:20; }",
			"/var/lib/dhcpcd/eth0.lease":                    string(ack(options(ackType, serverID), nil, nil))}},
		{name: "a lease that is not understood", dhcp: "192.0.2.2", err: "/var/lib/dhcpcd/eth0.lease", files: map[string]string{
			"/run/systemd/netif/leases/2": "SERVER_ADDRESS=192.0.2.2\n",
			"/var/lib/dhcpcd/eth0.lease":  "x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoot(t)
			for path, content := range tt.files {
				r.write(path, content)
			}
			got, err := Look(t.Context(), all, Config{Root: r.dir, Now: now})
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if want := (Addresses{DNSServers: addresses(tt.dns), DHCPServers: addresses(tt.dhcp)}); !got.Equal(want) {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	r := newRoot(t)
	if err := os.MkdirAll(filepath.Join(r.dir, resolvConf), 0o755); err != nil { // a directory in its place
		t.Fatal(err)
	}
	got, err := Look(t.Context(), Wanted{DNSServers: true}, Config{Root: r.dir})
	if err == nil || !strings.Contains(err.Error(), "resolv.conf") || len(got.DNSServers) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestEqual(t *testing.T) {
	full := func() Addresses {
		return Addresses{
			Names:      map[string][]netip.Addr{"a": addresses("192.0.2.1"), "b": nil},
			DNSServers: addresses("192.0.2.1"), DHCPServers: addresses("192.0.2.2"), DefaultGateways: addresses("192.0.2.3"),
		}
	}
	if !full().Equal(full()) || !(Addresses{}).Equal(Addresses{Names: map[string][]netip.Addr{}}) {
		t.Error("equal ones differ")
	}
	for name, change := range map[string]func(*Addresses){
		"an address of a name": func(a *Addresses) { a.Names["a"] = addresses("192.0.2.9") },
		"a name":               func(a *Addresses) { delete(a.Names, "b") },
		"dns-servers":          func(a *Addresses) { a.DNSServers = nil },
		"dhcp-servers":         func(a *Addresses) { a.DHCPServers = nil },
		"default-gateway":      func(a *Addresses) { a.DefaultGateways = nil },
	} {
		b := full()
		change(&b)
		if full().Equal(b) || b.Equal(full()) {
			t.Errorf("equal but for %s", name)
		}
	}
}
