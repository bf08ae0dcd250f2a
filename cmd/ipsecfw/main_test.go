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
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/daemon"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/explain"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// fakeEngine answers the commands, and remembers what they asked for.
type fakeEngine struct {
	applied    []api.Application
	confirmed  int
	unapplied  int
	persistent int // of those, how many times with the persistent policy
	explained  []explain.Flow

	applies  api.Applied
	locksOut string // why a policy would cut the shell
	explains explain.Explanation
	inForce  api.InForce
	warnings []string
	err      error

	graves    map[string][]ike.PostMortem // by the peer that is asked for
	initiated []api.Initiation
	progress  []api.Progress
}

func (f *fakeEngine) Apply(_ context.Context, a api.Application) (api.Applied, error) {
	if err := daemon.Verify(a.Policy); err != nil {
		return api.Applied{}, err
	}
	if f.locksOut != "" && !a.CutShell {
		return api.Applied{}, &api.Error{Code: api.CodeLocksOut, Message: f.locksOut}
	}
	f.applied = append(f.applied, a)
	return f.applies, f.err
}

func (f *fakeEngine) Confirm(context.Context) error {
	f.confirmed++
	return f.err
}

func (f *fakeEngine) Unapply(_ context.Context, persistent bool) error {
	f.unapplied++
	if persistent {
		f.persistent++
	}
	return f.err
}

func (f *fakeEngine) Explain(flow explain.Flow) (explain.Explanation, error) {
	f.explained = append(f.explained, flow)
	return f.explains, f.err
}

func (f *fakeEngine) InForce() api.InForce          { return f.inForce }
func (f *fakeEngine) Warnings() []string            { return f.warnings }
func (f *fakeEngine) SpecificFilters() []api.Filter { return testSpecific }
func (f *fakeEngine) Filters() []api.Filter         { return testFilters }
func (f *fakeEngine) SAs() []api.SA                 { return testSAs }
func (f *fakeEngine) Peers() []api.Peer             { return testPeers }
func (f *fakeEngine) Status() api.Status            { return testStatus }

func (f *fakeEngine) PostMortems(peer string) []ike.PostMortem { return f.graves[peer] }

func (f *fakeEngine) Initiate(_ context.Context, i api.Initiation, tell func(api.Progress)) error {
	f.initiated = append(f.initiated, i)
	for _, p := range f.progress {
		if i.Trace || p.Message == "" {
			tell(p)
		}
	}
	return f.err
}

var (
	testFilters = []api.Filter{
		{Order: 1, Rule: "dns", List: "lookups", Index: 1, Position: "payroll.yaml:10:7", Weight: 32848, Action: "permit",
			From: "me", To: "dns-servers", Protocol: "udp", FromPort: "any", ToPort: "53", Mirrored: true,
			Path: "host", Connection: "lan", Options: []string{"stateful", "log"}, Packets: 12, Bytes: 1024},
		{Order: 2, Rule: "ping", List: "ping", Index: 2, Position: "payroll.yaml:11:7", Weight: 20000, Action: "permit",
			From: "10.0.0.0/8", To: "fd00::/8", Protocol: "icmpv6", FromPort: "any", ToPort: "any", ICMP: "echo-request", Path: "forward"},
		{Order: 3, Rule: "rest", List: "everything", Index: 1, Position: "payroll.yaml:12:7", Weight: 16384, Action: "block",
			From: "any", To: "me", Protocol: "any", FromPort: "any", ToPort: "any", Path: "host"},
	}
	testSpecific = []api.Filter{
		{Order: 1, Rule: "dns", List: "lookups", Index: 1, Position: "payroll.yaml:10:7", Weight: 32848, Action: "permit",
			From: "me", To: "10.9.0.53", Protocol: "udp", FromPort: "any", ToPort: "53", Mirrored: true, Path: "host"},
	}
	testSAs = []api.SA{
		{Rule: "staff", Mode: "transport", Protocol: "ESP", InSPI: "c0ffee01", OutSPI: "0badcafe", Local: "10.2.0.10:4500", Remote: "10.1.0.20:4500",
			LocalSelectors: []string{"10.2.0.10 tcp 8443"}, RemoteSelectors: []string{"10.1.0.20 tcp"}, Encryption: "aes256gcm16", Integrity: "aes256gcm16", ESN: true, UDPEncap: true,
			InBytes: 1000, InPackets: 10, OutBytes: 2000, OutPackets: 20, ReplayDrops: 1, IntegrityFailures: 2, Malformed: 3, SelectorMismatch: 4, AgeSeconds: 61},
		{Rule: "staff", Mode: "tunnel", Protocol: "ESP", InSPI: "00000100", OutSPI: "00000101", Local: "2001:db8::1", Remote: "2001:db8::2",
			LocalSelectors: []string{"2001:db8::/64", "10.0.0.0/8"}, RemoteSelectors: []string{"2001:db8:1::/64"}, Encryption: "chacha20poly1305"},
		{Rule: "staff", Mode: "tunnel", Protocol: "ESP", InSPI: "00000102", OutSPI: "00000103", Local: "192.0.2.1", Remote: "192.0.2.2", Nested: true,
			LocalSelectors: []string{"10.0.0.0/8"}, RemoteSelectors: []string{"10.3.0.0/16"}, Encryption: "aes256", Integrity: "sha256"},
		{Rule: "staff", Mode: "transport", Protocol: "AH", InSPI: "00000104", OutSPI: "00000105", Local: "192.0.2.1", Remote: "192.0.2.2",
			LocalSelectors: []string{"192.0.2.1 esp"}, RemoteSelectors: []string{"192.0.2.2 esp"}, Encryption: "none", Integrity: "sha384"},
		{Rule: "domain", Mode: "clear", Protocol: "none", Remote: "10.1.0.77", LocalSelectors: []string{}, RemoteSelectors: []string{}, Encryption: "none",
			AgeSeconds: 60, Soft: true, SoftSeconds: 240},
	}
	testPeers = []api.Peer{
		{Version: 2, Initiator: true, SPIi: "0000000000000001", SPIr: "00000000000000ff", Local: "10.2.0.10:500", Remote: "10.1.0.20:500",
			LocalID: "server.example", RemoteID: "workstation.example", Authentication: "certificate CN=workstation.example", Revocation: "unknown", Unchecked: `revocation of "CN=workstation.example" could not be checked: it names neither a CRL nor an OCSP responder`,
			Proposal: "IKE:aes256gcm16-prfsha256-x25519", NATRemote: true, Children: 2, AgeSeconds: 3600, PPK: "office", Fragmentation: true, Window: 8},
	}
	testStatus = api.Status{Policy: "payroll-server", Persistent: "base", ConfirmBy: &testConfirmBy, File: "payroll.yaml", Generation: 3, Queue: api.QueueCompat, KeyLog: "/root/ikev2_decryption_table",
		Counters: map[string]uint64{"sealed": 7, "held": 2, "held-dropped": 0}}
)

var testConfirmBy = time.Date(2026, 11, 24, 10, 30, 5, 0, time.UTC)

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
		{"nothing", "", "a command is missing, one of daemon, boot, init, check"},
		{"unknown command", "chek x.yaml", `unknown command "chek", not one of daemon, boot, init, check`},
		{"unknown flag", "--sock /x status", "flag provided but not defined: -sock"},
		{"unknown flag of a command", "status --all", "flag provided but not defined: -all"},
		{"list of nothing", "list", "a command is missing, one of filters, sas, peers"},
		{"list of something else", "list rules", `unknown command "rules", not one of filters, sas, peers`},
		{"superfluous argument", "list sas now", `unexpected argument "now"`},
		{"unknown format", "list sas -o xml", `the output format is "xml", not table or json`},
		{"check of nothing", "check", "check takes one rule file, not 0 arguments"},
		{"apply of two files", "apply a b", "apply takes one rule file, not 2 arguments"},
		{"apply with no time to confirm", "apply --confirm 0s a", "0s is no time to confirm in"},
		{"flags behind the file", "apply a --confirm 1ms", "1ms is no time to confirm in"},
		{"a flag without a value", "apply a --confirm", "flag needs an argument: -confirm"},
		{"fmt of nothing", "fmt", "fmt takes at least one rule file"},
		{"fmt in two ways", "fmt -w --check a", "fmt cannot both --write and --check"},
		{"unknown template", "init sever", `there is no template "sever", but client, server`},
		{"init of two", "init client server", "init takes one template, not 2 arguments"},
		{"init of nothing into a file", "init -o a", "init takes a template with --output"},
		{"diff of one file", "diff a", "diff takes two rule files, not 1 arguments"},
		{"diff with too many files", "diff --active a b", "diff --active takes one rule file, not 2 arguments"},
		{"diff in another format", "diff a b -o xml", `the output format is "xml"`},
		{"explain nothing", "explain", "explain takes --from and --to, or --pcap"},
		{"explain no address", "explain --from 10.1.2 --to me", `"10.1.2" is no address`},
		{"explain me to me", "explain --from me --to me", "me speaks with itself"},
		{"explain strangers", "explain --from 198.18.7.7 --to 198.18.7.8", "neither 198.18.7.7 nor 198.18.7.8 is this host's: choose --in, --out or --forward"},
		{"explain two ways", "explain --from 192.0.2.1 --to 192.0.2.2 --in --out", "packets have one direction"},
		{"explain without a port", "explain --from 192.0.2.1 --to 192.0.2.2 --in", "tcp has ports: choose one by --to-port"},
		{"explain with a port of gre", "explain --from 192.0.2.1 --to 192.0.2.2 --in --protocol gre --to-port 1", "protocol gre has no ports"},
		{"explain no protocol", "explain --from 192.0.2.1 --to 192.0.2.2 --in --protocol tpc", `"tpc" is no protocol`},
		{"explain no port", "explain --from 192.0.2.1 --to 192.0.2.2 --in --to-port 70000", "--to-port is 70000, and can be 65535 at most"},
		{"explain no message", "explain --from 192.0.2.1 --to 192.0.2.2 --in --icmp-type ping", `"ping" is no type of icmp`},
		{"explain a message of tcp", "explain --from 192.0.2.1 --to 192.0.2.2 --in --protocol tcp --to-port 1 --icmp-type 8", "an ICMP type needs the protocol icmp"},
		{"explain two families", "explain --from 192.0.2.1 --to 2001:db8::1 --in --to-port 1", "192.0.2.1 and 2001:db8::1 are of different families"},
		{"explain no state", "explain --from 192.0.2.1 --to 192.0.2.2 --in --to-port 1 --state old", `the state is "old"`},
		{"explain a capture's packets", "explain --pcap a --to-port 1", "--pcap tells the packets, so that --to-port does not go with it"},
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
	for _, want := range []string{"daemon", "boot", "init", "check", "fmt", "schema", "diff", "explain", "apply", "confirm", "unapply", "list", "status", "demo", "--socket", "IPSECFW_SOCKET"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the help does not mention %s:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "guard") {
		t.Errorf("the help mentions guard, which is not for people:\n%s", stdout)
	}
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := ipsecfw(t, "--version")
	if code != exitGood || stderr != "" || stdout != "ipsecfw version "+version()+"\n" || version() == "" {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
}

// The tables that the commands print, byte for byte.
func TestTables(t *testing.T) {
	socket := serveEngine(t, &fakeEngine{})
	for _, command := range []string{"list filters", "list filters --specific", "list sas", "list peers", "status"} {
		t.Run(command, func(t *testing.T) {
			golden := filepath.Join("testdata", strings.ReplaceAll(strings.ReplaceAll(command, "--", ""), " ", "-")+".txt")
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
		{"list filters --specific -o json", &[]api.Filter{}, &testSpecific},
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
	for _, command := range []string{"list filters", "list sas", "list peers", "status", "confirm", "unapply"} {
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
	if code, _, stderr := ipsecfw(t, "--socket", socket, "unapply", "--persistent"); code != exitGood || stderr != "" || e.unapplied != 2 || e.persistent != 1 {
		t.Errorf("exit code %d, errors %q, unapplied %d times, %d of them with the persistent policy", code, stderr, e.unapplied, e.persistent)
	}
	e.err = errors.New("nftables: busy")
	if code, _, stderr := ipsecfw(t, "--socket", socket, "unapply"); code != exitFailed || stderr != "ipsecfw: nftables: busy\n" {
		t.Errorf("exit code %d, errors %q", code, stderr)
	}
}

func TestConfirm(t *testing.T) {
	e := &fakeEngine{}
	socket := serveEngine(t, e)
	if code, stdout, stderr := ipsecfw(t, "--socket", socket, "confirm"); code != exitGood || stdout != "" || stderr != "" || e.confirmed != 1 {
		t.Errorf("exit code %d, output %q, errors %q, confirmed %d times", code, stdout, stderr, e.confirmed)
	}
	e.err = &api.Error{Code: api.CodeNotFound, Message: "no policy waits to be confirmed"}
	if code, _, stderr := ipsecfw(t, "--socket", socket, "confirm"); code != exitFailed || stderr != "ipsecfw: no policy waits to be confirmed\n" {
		t.Errorf("exit code %d, errors %q", code, stderr)
	}
}

func TestListWarns(t *testing.T) {
	e := &fakeEngine{warnings: []string{"the table inet filter drops what the filter at payroll.yaml:10:7 permits"}}
	code, stdout, stderr := ipsecfw(t, "--socket", serveEngine(t, e), "list", "filters")
	if want := "warning: " + e.warnings[0] + "\n"; code != exitGood || !strings.HasPrefix(stdout, "ORDER") || stderr != want {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
}

// Where no policy was ever applied there is nothing to boot with, and no trial
// to guard.
func TestBootAndGuardWithoutPolicy(t *testing.T) {
	for _, command := range []string{"boot", "guard"} {
		if code, stdout, stderr := ipsecfw(t, command, "--state", t.TempDir()); code != exitGood || stdout+stderr != "" {
			t.Errorf("%s: exit code %d, output %q, errors %q", command, code, stdout, stderr)
		}
	}
}
