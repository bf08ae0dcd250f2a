package surroundings

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// quick has waits that a test can wait for.
func (c Config) quick() Config {
	c.tempo = tempo{
		minTTL: 20 * time.Millisecond, maxTTL: time.Hour,
		firstRetry: 20 * time.Millisecond, lastRetry: 100 * time.Millisecond,
		settle: 20 * time.Millisecond, exchange: 3 * time.Second,
	}
	return c
}

// here runs f on the goroutine that calls it.
func here(f func() error) error { return f() }

// watching has Watch run by do until the end of the test.
func watching(t *testing.T, w Wanted, from Addresses, cfg Config, do func(func() error) error) <-chan Addresses {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan Addresses, 100), make(chan error, 1)
	go func() {
		done <- do(func() error { return Watch(ctx, w, from, cfg, func(a Addresses) { told <- a }) })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the watch ended: %v", err)
		}
	})
	return told
}

// await reads on until it is told what is wanted.
func await(t *testing.T, told <-chan Addresses, want Addresses) {
	t.Helper()
	late := time.After(20 * time.Second)
	var last Addresses
	for {
		select {
		case last = <-told:
			if last.Equal(want) {
				return
			}
		case <-late:
			t.Fatalf("never told of %+v, last of %+v", want, last)
		}
	}
}

func servers(s string) Addresses { return Addresses{DNSServers: addresses(s)} }

func nameIs(s string) Addresses {
	return Addresses{Names: map[string][]netip.Addr{"a.example": addresses(s)}}
}

var (
	wantServers = Wanted{DNSServers: true}
	wantName    = Wanted{Names: []string{"a.example"}}
)

func TestWatchResolvConf(t *testing.T) {
	r := newRoot(t)
	told := watching(t, wantServers, servers("192.0.2.66"), Config{Root: r.dir}.quick(), here)
	await(t, told, servers("")) // what happened before counts, too
	r.write(resolvConf, "nameserver 192.0.2.1\n")
	await(t, told, servers("192.0.2.1"))
	r.write(resolvConf, "nameserver 192.0.2.2\n") // by a rename
	await(t, told, servers("192.0.2.2"))
	if err := os.WriteFile(filepath.Join(r.dir, resolvConf), []byte("nameserver 192.0.2.3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	await(t, told, servers("192.0.2.3"))
	r.write(resolvedOwn, "nameserver 192.0.2.4\n")
	r.write(resolvConf, "nameserver 127.0.0.53\n")
	await(t, told, servers("192.0.2.4"))
	r.write(resolvedOwn, "nameserver 192.0.2.5\n")
	await(t, told, servers("192.0.2.5"))
	r.remove(resolvConf)
	if err := os.Symlink("../run/resolv.conf", filepath.Join(r.dir, resolvConf)); err != nil {
		t.Fatal(err)
	}
	await(t, told, servers(""))
	r.write("/run/resolv.conf", "nameserver 192.0.2.6\n")
	await(t, told, servers("192.0.2.6"))
	r.write("/run/resolv.conf", "nameserver 192.0.2.7\n")
	await(t, told, servers("192.0.2.7"))
}

func TestStormIsOneChange(t *testing.T) {
	r := newRoot(t)
	r.write(resolvConf, "nameserver 192.0.2.1\n")
	cfg := Config{Root: r.dir}.quick()
	cfg.tempo.settle = 500 * time.Millisecond
	told := watching(t, wantServers, servers(""), cfg, here)
	await(t, told, servers("192.0.2.1"))
	for range 50 {
		r.write(resolvConf, "nameserver 192.0.2.66\n")
		r.write(resolvConf, "nameserver 192.0.2.2\n")
	}
	if got := <-told; !got.Equal(servers("192.0.2.2")) {
		t.Errorf("first told of %+v", got)
	}
	r.write(resolvConf, "nameserver 192.0.2.3\n")
	if got := <-told; !got.Equal(servers("192.0.2.3")) {
		t.Errorf("then told of %+v", got)
	}
}

func TestUnreadableFileKeepsServers(t *testing.T) {
	r := newRoot(t)
	r.write(resolvConf, "nameserver 192.0.2.1\n")
	log := &journal{said: make(chan string, 100)}
	cfg := Config{Root: r.dir, Log: slog.New(slog.NewTextHandler(log, nil))}.quick()
	told := watching(t, wantServers, servers(""), cfg, here)
	await(t, told, servers("192.0.2.1"))
	r.remove(resolvConf)
	if err := os.Mkdir(filepath.Join(r.dir, resolvConf), 0o755); err != nil { // a directory in its place
		t.Fatal(err)
	}
	log.await(t, "stays as it was")
	r.remove(resolvConf)
	r.write(resolvConf, "nameserver 192.0.2.2\n")
	for a := range told {
		if a.Equal(servers("192.0.2.2")) {
			break
		}
		if !a.Equal(servers("")) { // between the file and the directory there was none
			t.Fatalf("told of %+v", a)
		}
	}
}

// journal is a log that can be waited for.
type journal struct{ said chan string }

func (j *journal) Write(line []byte) (int, error) {
	select {
	case j.said <- string(line):
	default: // nobody listens to so much
	}
	return len(line), nil
}

func (j *journal) await(t *testing.T, text string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case line := <-j.said:
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			t.Fatalf("never logged: %s", text)
		}
	}
}

func TestWatchLeases(t *testing.T) {
	r := newRoot(t)
	var now atomic.Int64 // seconds since the lease was given
	cfg := Config{Root: r.dir, Now: func() time.Time { return written.Add(time.Duration(now.Load()) * time.Second) }}.quick()
	dhcp := func(s string) Addresses { return Addresses{DHCPServers: addresses(s)} }
	told := watching(t, Wanted{DHCPServers: true}, dhcp(""), cfg, here)
	r.write("/var/lib/dhcp/dhclient.leases", "lease { option dhcp-server-identifier 192.0.2.1; expire never; }\n")
	await(t, told, dhcp("192.0.2.1"))
	r.write("/run/systemd/netif/leases/2", "SERVER_ADDRESS=192.0.2.2\n")
	await(t, told, dhcp("192.0.2.1 192.0.2.2"))
	r.remove("/run/systemd/netif/leases/2")
	await(t, told, dhcp("192.0.2.1"))
	// In place, as dhclient does; a lease that is over a second later.
	f, err := os.OpenFile(filepath.Join(r.dir, "/var/lib/dhcp/dhclient.leases"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("lease { option dhcp-server-identifier 192.0.2.3; expire epoch 1700000001; }\n"); err != nil {
		t.Fatal(err)
	}
	await(t, told, dhcp("192.0.2.3"))
	now.Store(1)
	await(t, told, dhcp(""))
}

func TestWatchName(t *testing.T) {
	s := newDNSServer(t, "127.0.0.1:0")
	r := newRoot(t)
	log := &journal{said: make(chan string, 100)}
	cfg := r.named(s).quick()
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	s.set("a.example", zoneEntry{data: []string{"192.0.2.1", "2001:db8::1"}}) // TTL 0
	told := watching(t, wantName, nameIs("192.0.2.66"), cfg, here)
	await(t, told, nameIs("192.0.2.1 2001:db8::1"))
	s.set("a.example", zoneEntry{data: []string{"192.0.2.2"}})
	await(t, told, nameIs("192.0.2.2"))

	s.set("a.example", zoneEntry{}) // no such name
	log.await(t, "no such name")
	s.set("a.example", zoneEntry{data: []string{"192.0.2.2"}})
	log.await(t, "resolves again")
	s.set("a.example", zoneEntry{fails: dnsmessage.RCodeServerFailure})
	log.await(t, "keeps the addresses")
	s.set("a.example", zoneEntry{ttl: 3600, data: []string{"192.0.2.3"}})
	if got := <-told; !got.Equal(nameIs("192.0.2.3")) { // and nothing in between
		t.Errorf("told of %+v", got)
	}
}

func TestWatchHostsAndServers(t *testing.T) {
	s := newDNSServer(t, "127.0.0.1:0")
	r := newRoot(t)
	cfg := r.named(s).quick()
	s.set("a.example", zoneEntry{ttl: 3600, data: []string{"192.0.2.1"}})
	told := watching(t, wantName, nameIs(""), cfg, here)
	await(t, told, nameIs("192.0.2.1"))
	r.write(hostsFile, "192.0.2.50 a.example\n")
	await(t, told, nameIs("192.0.2.50"))
	r.write(hostsFile, "192.0.2.51 a.example\n")
	await(t, told, nameIs("192.0.2.51"))
	r.remove(hostsFile)
	await(t, told, nameIs("192.0.2.1"))

	// Other servers are asked at once, whatever the TTL was.
	other := newDNSServer(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), s.addr.Port()).String())
	other.set("a.example", zoneEntry{ttl: 3600, data: []string{"192.0.2.2"}})
	r.write(resolvConf, "nameserver 127.0.0.2\n")
	await(t, told, nameIs("192.0.2.2"))
}

// TestTTLIsKept sees that a name is asked for when its TTL of a second is
// over, and not sooner.
func TestTTLIsKept(t *testing.T) {
	s := newDNSServer(t, "127.0.0.1:0")
	cfg := newRoot(t).named(s).quick()
	s.set("a.example", zoneEntry{ttl: 1, data: []string{"192.0.2.1"}})
	told := watching(t, wantName, nameIs(""), cfg, here)
	await(t, told, nameIs("192.0.2.1"))
	start := time.Now()
	s.set("a.example", zoneEntry{ttl: 3600, data: []string{"192.0.2.2"}})
	await(t, told, nameIs("192.0.2.2"))
	if passed := time.Since(start); passed < 800*time.Millisecond {
		t.Errorf("asked again after %v", passed)
	}
	if n := s.count("udp a.example"); n != 4 {
		t.Errorf("%d questions, want 4", n)
	}
}

// TestWatchEnds ends a watch with a lookup under way.
func TestWatchEnds(t *testing.T) {
	s := newDNSServer(t, "127.0.0.1:0")
	asked := make(chan struct{}, 10)
	s.before(func(func(func(*dnsmessage.Message)), netip.AddrPort) { asked <- struct{}{} })
	s.set("a.example", zoneEntry{ttl: 3600, data: []string{"192.0.2.1"}, truncated: true})
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	cfg := newRoot(t).named(s).quick()
	ended.Go(func() {
		if err := Watch(ctx, Wanted{Names: []string{"a.example"}, DNSServers: true, DHCPServers: true, DefaultGateways: true}, Addresses{}, cfg, func(Addresses) {}); err != nil {
			t.Error(err)
		}
	})
	<-asked
	cancel()
	ended.Wait()
}

func TestNothingWanted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var log bytes.Buffer
	cfg := Config{Root: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))}
	err := Watch(ctx, Wanted{}, Addresses{}, cfg, func(a Addresses) { t.Errorf("told of %+v", a) })
	if err != nil || log.Len() != 0 {
		t.Errorf("%v, log %q", err, log.String())
	}
}
