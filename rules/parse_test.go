package rules

import (
	"bytes"
	"errors"
	"flag"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

var update = flag.Bool("update", false, "write what Parse and Print give to the files in testdata")

func files(t testing.TB, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return names
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// golden compares got with the file, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, name); !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func mustParse(t testing.TB, name string, src []byte) *File {
	t.Helper()
	f, err := Parse(name, src)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// erase sets every Position and the path in what v points to back to zero.
func erase(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[Position]():
		v.SetZero()
	case v.Kind() == reflect.Pointer && !v.IsNil():
		erase(v.Elem())
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			erase(v.Index(i))
		}
	case v.Kind() == reflect.Struct && v.Type().PkgPath() == reflect.TypeFor[File]().PkgPath():
		for i := range v.NumField() {
			erase(v.Field(i))
		}
	}
}

// withoutPositions returns f as it would be on no line. It changes f.
func withoutPositions(f *File) *File {
	f.Path, f.KeyExchange.places = "", nil
	for i := range f.Rules {
		f.Rules[i].places = nil
	}
	for i := range f.Actions {
		f.Actions[i].places = nil
	}
	if f.Response != nil {
		f.Response.places = nil
	}
	erase(reflect.ValueOf(f))
	return f
}

// checkRoundTrip checks that what f prints is f, and prints the same.
func checkRoundTrip(t *testing.T, f *File) []byte {
	t.Helper()
	printed := f.Print()
	g, err := Parse("printed", printed)
	if err != nil {
		t.Fatalf("what is printed does not parse: %v\n%s", err, printed)
	}
	if a, b := withoutPositions(f), withoutPositions(g); !reflect.DeepEqual(a, b) {
		t.Errorf("got  %+v\nfrom %+v\n%s", b, a, printed)
	}
	if again := g.Print(); !bytes.Equal(printed, again) {
		t.Errorf("printed\n%s\nand again\n%s", printed, again)
	}
	return printed
}

func TestGood(t *testing.T) {
	for _, name := range files(t, "testdata/good/*.yaml") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			f := mustParse(t, filepath.Base(name), read(t, name))
			golden(t, strings.TrimSuffix(name, ".yaml")+".printed", checkRoundTrip(t, f))
			checkMeaning(t, mustParse(t, name, read(t, name)))
		})
	}
}

// Each broken file has beside it what is said of it.
func TestBroken(t *testing.T) {
	names := files(t, "testdata/broken/*.yaml")
	if len(names) < 20 {
		t.Errorf("%d broken files, want at least 20", len(names))
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			_, err := Parse(filepath.Base(name), read(t, name))
			var all *Errors
			if !errors.As(err, &all) {
				t.Fatalf("error is %T %v, want *Errors", err, err)
			}
			golden(t, strings.TrimSuffix(name, ".yaml")+".want", []byte(err.Error()+"\n"))
			for _, e := range all.List {
				if e.Problem == "" || e.Hint == "" || e.Line < 1 || e.Column < 1 || e.File != filepath.Base(name) {
					t.Errorf("incomplete: %+v", e)
				}
				if !errors.Is(err, e) {
					t.Errorf("%v is not among the errors that unwrap", e)
				}
			}
		})
	}
}

func TestPayroll(t *testing.T) {
	f := mustParse(t, "payroll.yaml", read(t, "testdata/good/payroll.yaml"))
	tcp := func(s filter.Selector, p uint8) filter.Selector { s.Protocol, s.HasProtocol = p, true; return s }
	want := []filter.Entry{
		{Name: "dns", List: "lookups", Position: "payroll.yaml:9:7", Mirrored: true, Action: filter.Permit,
			Selector: tcp(filter.Selector{From: filter.Me(), To: filter.Address(netip.MustParseAddr("10.9.0.53")), ToPort: filter.PortRange{Lo: 53, Hi: 53}}, 17)},
		{Name: "staff", List: "staff", Position: "payroll.yaml:7:7", Mirrored: true, Action: filter.Negotiate,
			Selector: tcp(filter.Selector{From: filter.Subnet(netip.MustParsePrefix("10.1.0.0/16")), To: filter.Me(), ToPort: filter.PortRange{Lo: 8443, Hi: 8443}}, 6)},
		{Name: "rest", List: "everything", Position: "payroll.yaml:11:7", Mirrored: true, Action: filter.Block,
			Selector: filter.Selector{From: filter.Any(), To: filter.Me()}},
	}
	if got := f.Entries(Addresses{}); !reflect.DeepEqual(got, want) {
		t.Errorf("entries\n%+v\nwant\n%+v", got, want)
	}
	ns := f.Negotiations()
	n, ok := ns["staff"]
	if len(ns) != 1 || !ok {
		t.Fatalf("negotiations %+v", ns)
	}
	var proposals []string
	for i, p := range n.Proposals {
		if int(p.Number) != i+1 || p.Protocol != ipsec.ProtoESP {
			t.Errorf("proposal %d: %+v", i, p)
		}
		proposals = append(proposals, p.String())
	}
	if got := strings.Join(proposals, " "); got != "ESP:aes256gcm16-esn-noesn ESP:chacha20poly1305-esn-noesn" {
		t.Errorf("proposals %s", got)
	}
	if n.Rule != "staff" || n.Mode != ipsec.Transport || n.Lifetime != time.Hour || n.ForceUDP || n.Position != "payroll.yaml:21:5" || len(n.Auth) != 2 {
		t.Errorf("negotiation %+v", n)
	}
	if c := n.Auth[0].Certificate; c == nil || !reflect.DeepEqual(c, &Certificate{Authorities: []string{"ca.pem"}, Own: "host.pem", Key: "host.key"}) || n.Auth[1].PresharedKey.File != "psk" {
		t.Errorf("authentication %+v", n.Auth)
	}
}

func TestFull(t *testing.T) {
	f := mustParse(t, "full.yaml", read(t, "testdata/good/full.yaml"))
	n := f.Negotiations()["Büro & lager"]
	if n.Mode != ipsec.Tunnel || n.TunnelLocal != netip.MustParseAddr("192.0.2.1") || n.TunnelPeer != netip.MustParseAddr("198.51.100.7") ||
		n.Lifetime != 90*time.Minute || !n.ForceUDP || n.OwnID != "branch@example.com" || n.PeerID != "true" ||
		len(n.Proposals) != 1 || n.Proposals[0].String() != "ESP:aes128gcm16-noesn" {
		t.Errorf("negotiation %+v", n)
	}
	if six := f.Negotiations()["six"]; len(six.Proposals) != 2 || six.Mode != ipsec.Transport {
		t.Errorf("negotiation by default %+v", six)
	}
	actions := map[string]filter.Action{}
	for _, e := range f.Entries(Addresses{}) {
		actions[e.Name] = e.Action
	}
	if actions["no telnet"] != filter.Block || actions["pings"] != filter.Permit {
		t.Errorf("actions %v", actions)
	}
	ike := f.KeyExchange.ike()
	if len(ike) != 2 || ike[0].String() != "IKE:aes256gcm16-prfsha384-ecp384-ke1_mlkem1024-ke1_none" ||
		ike[1].String() != "IKE:aes256-aes128-prfsha256-prfsha512-sha256-sha512-x25519-modp2048" || ike[1].Number != 2 {
		t.Errorf("IKE proposals %v", ike)
	}
	if f.KeyExchange.Lifetime != 4*time.Hour || f.KeyExchange.Liveness != 10*time.Second {
		t.Errorf("key exchange %+v", f.KeyExchange)
	}
}

// A key that someone wrote into the rule file by mistake does not come back
// in a message, which may go to a log.
func TestSecretsAreNotRepeated(t *testing.T) {
	const secret = "hunter2-correct-horse"
	for _, auth := range []string{
		"[{preshared-key: " + secret + "}]",
		"[{preshared-key: [" + secret + "]}]",
		"[{preshared-key: {file: [" + secret + "]}}]",
		"[" + secret + "]",
		secret,
		"[{preshared-key: {" + secret + "}}]",
		"[{preshared-key: {" + secret + ": 1, " + secret + ": 2}}]",
		"[{preshared-key " + secret + "}]",
		"{" + secret + "}",
		"[{certificate: " + secret + "}]",
		`[{certificate: {authority: a, own: b, key: "-----BEGIN\n` + secret + `"}}]`,
	} {
		_, err := Parse("r.yaml", []byte("version: 1\nname: x\nfilter-lists: {a: [{from: any, to: me}]}\nfilter-actions: {s: {negotiate: {}}}\n"+
			"rules: [{name: a, filter-list: a, action: s, authentication: "+auth+"}]\n"))
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: error %v", auth, err)
		}
	}
}

// checkMeaning checks that what a file means can be made use of: SPDs take its
// filters whatever dynamic sides stand for, and proposals have what they need.
func checkMeaning(t *testing.T, f *File) {
	t.Helper()
	a := Addresses{Names: map[string][]netip.Addr{}}
	some := addresses("192.0.2.1", "2001:db8::1", "224.0.0.1")
	a.DNSServers, a.DHCPServers, a.DefaultGateways = some, some, some
	for _, name := range f.Needs().Names {
		a.Names[name] = some
	}
	_, boot := f.Boot()
	all := [][]filter.Entry{f.Entries(Addresses{}), f.Entries(a), boot}
	for _, s := range f.Assertions(a) {
		all = append(all, s.Entries)
		if len(s.Outcomes) == 0 || len(s.Outcomes) == len(outcomes) {
			t.Errorf("an assertion of %v", s.Outcomes)
		}
	}
	for _, entries := range all {
		if _, err := filter.New(entries, filter.Settings{Exemptions: f.Exemptions}); err != nil {
			t.Errorf("the SPD refuses the entries: %v", err)
		}
	}
	negotiations := slices.Collect(maps.Values(f.Negotiations()))
	if n, ok := f.DefaultResponse(); ok {
		negotiations = append(negotiations, n)
	}
	for _, n := range negotiations {
		if len(n.Auth) == 0 || len(n.Proposals) == 0 || len(n.Proposals) != len(n.Lifetimes) {
			t.Errorf("negotiation %+v", n)
		}
		for _, p := range n.Proposals {
			cipher, _ := p.First(ipsec.TypeEncr)
			if integ, ok := p.First(ipsec.TypeInteg); ok == cipher.AEAD() {
				t.Errorf("proposal %s has the integrity %s", p, integ)
			}
		}
	}
	for _, w := range f.Unused() {
		if w.Position == "" || w.Text == "" || w.Hint == "" {
			t.Errorf("warning %+v", w)
		}
	}
	if len(f.Filters()) == 0 && len(f.Entries(a)) != 0 {
		t.Error("entries without filters")
	}
}

// Whatever a file holds, Parse returns, and says where an error is; what it
// accepts prints and parses again, and makes an SPD.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/broken/*.yaml"} {
		for _, name := range files(f, pattern) {
			f.Add(read(f, name))
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := Parse("f.yaml", src)
		if err == nil {
			checkMeaning(t, file)
			checkRoundTrip(t, file)
			return
		}
		var all *Errors
		if !errors.As(err, &all) || len(all.List) == 0 {
			t.Fatalf("error is %T %v", err, err)
		}
		lines := bytes.Count(src, []byte("\n")) + bytes.Count(src, []byte("\r")) + 1 // YAML takes either for the end of a line
		for _, e := range all.List {
			if e.Line < 1 || e.Line > lines || e.Column < 1 || e.Problem == "" || e.Hint == "" || strings.Contains(e.Error(), "\n") {
				t.Errorf("%q has no place or hint in %d lines: %+v", e.Error(), lines, e)
			}
		}
	})
}
