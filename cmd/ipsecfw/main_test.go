package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
)

// fakeEngine answers the commands, and remembers what they asked for.
type fakeEngine struct {
	applied   []api.Policy
	unapplied int
	err       error
}

func (f *fakeEngine) Apply(_ context.Context, p api.Policy) error {
	f.applied = append(f.applied, p)
	return f.err
}

func (f *fakeEngine) Unapply(context.Context) error {
	f.unapplied++
	return f.err
}

func (f *fakeEngine) Filters() []api.Filter { return testFilters }
func (f *fakeEngine) SAs() []api.SA         { return testSAs }
func (f *fakeEngine) Peers() []api.Peer     { return testPeers }
func (f *fakeEngine) Status() api.Status    { return testStatus }

var (
	testFilters = []api.Filter{
		{Order: 1, Rule: "dns", List: "lookups", Index: 1, Position: "payroll.yaml:10:7", Weight: 32848, Action: "permit",
			From: "me", To: "10.9.0.53", Protocol: "udp", FromPort: "any", ToPort: "53", Mirrored: true},
		{Order: 2, Rule: "rest", List: "everything", Index: 1, Position: "payroll.yaml:12:7", Weight: 16384, Action: "block",
			From: "any", To: "me", Protocol: "any", FromPort: "any", ToPort: "any"},
	}
	testSAs = []api.SA{
		{Rule: "staff", Mode: "transport", Protocol: "ESP", InSPI: "c0ffee01", OutSPI: "0badcafe", Local: "10.2.0.10:4500", Remote: "10.1.0.20:4500",
			LocalSelectors: []string{"10.2.0.10 tcp 8443"}, RemoteSelectors: []string{"10.1.0.20 tcp"}, Encryption: "aes256gcm16", ESN: true, UDPEncap: true,
			InBytes: 1000, InPackets: 10, OutBytes: 2000, OutPackets: 20, ReplayDrops: 1, IntegrityFailures: 2, AgeSeconds: 61},
		{Rule: "staff", Mode: "tunnel", Protocol: "ESP", InSPI: "00000100", OutSPI: "00000101", Local: "2001:db8::1", Remote: "2001:db8::2",
			LocalSelectors: []string{"2001:db8::/64", "10.0.0.0/8"}, RemoteSelectors: []string{"2001:db8:1::/64"}, Encryption: "chacha20poly1305"},
	}
	testPeers = []api.Peer{
		{Version: 2, Initiator: true, SPIi: "0000000000000001", SPIr: "00000000000000ff", Local: "10.2.0.10:500", Remote: "10.1.0.20:500",
			LocalID: "server.example", RemoteID: "workstation.example", Authentication: "certificate CN=workstation.example",
			Proposal: "IKE:aes256gcm16-prfsha256-x25519", NATRemote: true, Children: 2, AgeSeconds: 3600},
	}
	testStatus = api.Status{Policy: "payroll-server", File: "payroll.yaml", Generation: 3, Queue: api.QueueCompat,
		Counters: map[string]uint64{"sealed": 7, "held": 2, "held-dropped": 0}}
)

// serveEngine serves an engine at a socket of its own.
func serveEngine(t *testing.T, e api.Engine) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "d.sock")
	l, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, l, api.Handler(e, log), log) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return socket
}

// ipsecfw runs a command line.
func ipsecfw(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, problem bytes.Buffer
	code = run(t.Context(), append([]string{"ipsecfw"}, args...), &out, &problem)
	return code, out.String(), problem.String()
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		name, args, want string
	}{
		{"nothing", "", "a command is missing, one of daemon, check"},
		{"unknown command", "chek x.yaml", `unknown command "chek", not one of daemon, check`},
		{"unknown flag", "--sock /x status", "flag provided but not defined: -sock"},
		{"unknown flag of a command", "status --all", "flag provided but not defined: -all"},
		{"list of nothing", "list", "a command is missing, one of filters, sas, peers"},
		{"list of something else", "list rules", `unknown command "rules", not one of filters, sas, peers`},
		{"superfluous argument", "list sas now", `unexpected argument "now"`},
		{"unknown format", "list sas -o xml", `the output format is "xml", not table or json`},
		{"check of nothing", "check", "check takes one rule file, not 0 arguments"},
		{"apply of two files", "apply a b", "apply takes one rule file, not 2 arguments"},
		{"unapply of a file", "unapply a", `unexpected argument "a"`},
		{"unknown log level", "daemon --log-level loud", `the log level is "loud"`},
		{"demo with an argument", "demo quickly", `unexpected argument "quickly"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := ipsecfw(t, strings.Fields(tt.args)...)
			if code != exitUsage || stdout != "" || !strings.HasPrefix(stderr, "ipsecfw: "+tt.want) || !strings.HasSuffix(stderr, `: see "ipsecfw --help"`+"\n") {
				t.Errorf("exit code %d, output %q, errors %q; want %d and %q", code, stdout, stderr, exitUsage, tt.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	code, stdout, stderr := ipsecfw(t, "--help")
	if code != exitGood || stderr != "" {
		t.Errorf("exit code %d, errors %q", code, stderr)
	}
	for _, want := range []string{"daemon", "check", "apply", "unapply", "list", "status", "demo", "--socket", "IPSECFW_SOCKET"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the help does not mention %s:\n%s", want, stdout)
		}
	}
}

// The tables that the commands print, byte for byte.
func TestTables(t *testing.T) {
	socket := serveEngine(t, &fakeEngine{})
	for _, command := range []string{"list filters", "list sas", "list peers", "status"} {
		t.Run(command, func(t *testing.T) {
			golden := filepath.Join("testdata", strings.ReplaceAll(command, " ", "-")+".txt")
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := ipsecfw(t, append([]string{"--socket", socket}, strings.Fields(command)...)...)
			if code != exitGood || stderr != "" || stdout != string(want) {
				t.Errorf("exit code %d, errors %q, output\n%s\nwant what is in %s:\n%s", code, stderr, stdout, golden, want)
			}
		})
	}
}

func TestStatusWithoutPolicy(t *testing.T) {
	var b bytes.Buffer
	if err := statusTable(api.Status{Queue: api.QueueNative}).print(&b); err != nil {
		t.Fatal(err)
	}
	if want := "policy      none\ngeneration  0\nqueue       native\n"; b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
}

func TestJSON(t *testing.T) {
	socket := serveEngine(t, &fakeEngine{})
	for _, tt := range []struct {
		command string
		into    any
		want    any
	}{
		{"list filters -o json", &[]api.Filter{}, &testFilters},
		{"list sas -o json", &[]api.SA{}, &testSAs},
		{"list peers --output json", &[]api.Peer{}, &testPeers},
		{"status -o json", &api.Status{}, &testStatus},
	} {
		t.Run(tt.command, func(t *testing.T) {
			code, stdout, stderr := ipsecfw(t, append([]string{"--socket", socket}, strings.Fields(tt.command)...)...)
			if code != exitGood || stderr != "" {
				t.Fatalf("exit code %d, errors %q", code, stderr)
			}
			if err := json.Unmarshal([]byte(stdout), tt.into); err != nil || !reflect.DeepEqual(tt.into, tt.want) {
				t.Errorf("got %+v, error %v, want %+v", tt.into, err, tt.want)
			}
		})
	}
}

func TestSocketFromEnvironment(t *testing.T) {
	t.Setenv("IPSECFW_SOCKET", serveEngine(t, &fakeEngine{}))
	if code, stdout, stderr := ipsecfw(t, "status"); code != exitGood || !strings.Contains(stdout, "payroll-server") {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
}

func TestNoDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "d.sock")
	for _, command := range []string{"list filters", "list sas", "list peers", "status", "unapply"} {
		t.Run(command, func(t *testing.T) {
			code, stdout, stderr := ipsecfw(t, append([]string{"--socket", socket}, strings.Fields(command)...)...)
			if want := "ipsecfw: no daemon answers at " + socket + `: start it with "ipsecfw daemon"`; code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, want) {
				t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
			}
		})
	}
}

func TestUnapply(t *testing.T) {
	e := &fakeEngine{}
	socket := serveEngine(t, e)
	if code, stdout, stderr := ipsecfw(t, "--socket", socket, "unapply"); code != exitGood || stdout != "" || stderr != "" || e.unapplied != 1 {
		t.Errorf("exit code %d, output %q, errors %q, unapplied %d times", code, stdout, stderr, e.unapplied)
	}
	e.err = errors.New("nftables: busy")
	if code, _, stderr := ipsecfw(t, "--socket", socket, "unapply"); code != exitFailed || stderr != "ipsecfw: nftables: busy\n" {
		t.Errorf("exit code %d, errors %q", code, stderr)
	}
}
