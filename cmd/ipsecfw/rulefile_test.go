package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/examples"
	"github.com/ipsecfw/ipsecfw/rules"
)

// payrollDir is a directory with payroll.yaml and all that it names.
func payrollDir(t *testing.T) (dir string) {
	t.Helper()
	t.Setenv("SSH_CONNECTION", "") // no warning depends on how the test was started
	dir = t.TempDir()
	ca, err := newAuthority("Test CA")
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.equip(dir, "server.example"); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "payroll.yaml"), string(examples.Payroll))
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	dir := payrollDir(t)
	file := filepath.Join(dir, "payroll.yaml")
	// No daemon answers here: none is needed.
	t.Setenv("IPSECFW_SOCKET", filepath.Join(dir, "none.sock"))
	code, stdout, stderr := ipsecfw(t, "check", file)
	if want := file + ": 3 rules, 3 filters: good\n"; code != exitGood || stdout != want || stderr != "" {
		t.Errorf("exit code %d, output %q, errors %q; want %q", code, stdout, stderr, want)
	}
}

func TestCheckFromItsDirectory(t *testing.T) {
	t.Chdir(payrollDir(t))
	if code, stdout, stderr := ipsecfw(t, "check", "payroll.yaml"); code != exitGood || stdout != "payroll.yaml: 3 rules, 3 filters: good\n" {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
}

// Whatever is wrong, check and apply say it the same way, and no policy is
// applied.
func TestBadFiles(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  []string // one for each line
	}{
		{"no rule file", func(t *testing.T, dir string) { remove(t, dir, "payroll.yaml") },
			[]string{"ipsecfw: open DIR/payroll.yaml: no such file or directory"}},
		{"a mistake in the rules", func(t *testing.T, dir string) {
			replace(t, dir, "payroll.yaml", "filter-list: lookups", "fliter-list: lookups")
		}, []string{"DIR/payroll.yaml:21:"}},
		{"two mistakes in the rules", func(t *testing.T, dir string) {
			replace(t, dir, "payroll.yaml", "protocol: udp", "protocol: upd")
			replace(t, dir, "payroll.yaml", "mode: transport", "mode: transit")
		}, []string{"DIR/payroll.yaml:10:", "DIR/payroll.yaml:17:"}},
		{"no certificate and no secret", func(t *testing.T, dir string) {
			remove(t, dir, "host.pem")
			remove(t, dir, "psk")
		}, []string{
			`DIR/payroll.yaml:23:62: rule "staff": open DIR/host.pem: no such file or directory`,
			`DIR/payroll.yaml:23:112: rule "staff": open DIR/psk: no such file or directory`,
		}},
		{"an empty secret", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "psk"), "\n") },
			[]string{`DIR/payroll.yaml:23:112: rule "staff": psk: the preshared key is empty`}},
		{"a huge file", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "ca.pem"), strings.Repeat("x", maxCredential+1))
		}, []string{`DIR/payroll.yaml:23:49: rule "staff": DIR/ca.pem is larger than 1048576 bytes`}},
	} {
		for _, command := range []string{"check", "apply"} {
			t.Run(tt.name+" "+command, func(t *testing.T) {
				dir := payrollDir(t)
				tt.spoil(t, dir)
				e := &fakeEngine{}
				code, stdout, stderr := ipsecfw(t, "--socket", serveEngine(t, e), command, filepath.Join(dir, "payroll.yaml"))
				lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
				if code != exitFailed || stdout != "" || len(lines) != len(tt.want) {
					t.Fatalf("exit code %d, output %q, errors\n%s\nwant %d lines", code, stdout, stderr, len(tt.want))
				}
				for i, want := range tt.want {
					if want = strings.ReplaceAll(want, "DIR", dir); !strings.HasPrefix(lines[i], want) {
						t.Errorf("line %d is %q, want %q", i+1, lines[i], want)
					}
				}
				if len(e.applied) != 0 {
					t.Errorf("the daemon got %d policies", len(e.applied))
				}
			})
		}
	}
}

func remove(t *testing.T, dir, file string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, file)); err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, dir, file, old, by string) {
	t.Helper()
	path := filepath.Join(dir, file)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%s does not contain %q", path, old)
	}
	write(t, path, strings.ReplaceAll(string(b), old, by))
}

func TestApply(t *testing.T) {
	dir := payrollDir(t)
	e := &fakeEngine{}
	socket := serveEngine(t, e)
	// Paths in the rule file are relative to its directory, not to ours.
	file := filepath.Join(dir, "payroll.yaml")
	if code, stdout, stderr := ipsecfw(t, "--socket", socket, "apply", file); code != exitGood || stdout != "" || stderr != "" {
		t.Fatalf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
	want := api.Policy{Name: file, Source: string(examples.Payroll), Files: map[string][]byte{}}
	for _, name := range []string{"ca.pem", "host.pem", "host.key", "psk"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want.Files[name] = b
	}
	if len(e.applied) != 1 || !reflect.DeepEqual(e.applied[0], api.Application{Policy: want}) {
		t.Errorf("the daemon got %+v, want %+v", e.applied, want)
	}

	e.err = &api.Error{Code: api.CodeInternal, Message: "nftables refused the transaction", Hint: "load nf_tables"}
	if code, _, stderr := ipsecfw(t, "--socket", socket, "apply", file); code != exitFailed || stderr != "ipsecfw: nftables refused the transaction: load nf_tables\n" {
		t.Errorf("exit code %d, errors %q", code, stderr)
	}
}

func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		now   time.Duration // from now
		want  []string
	}{
		{"none", func(*testing.T, string) {}, 0, nil},
		{"group may read", func(t *testing.T, dir string) { chmod(t, dir, "host.key", 0o640) }, 0, nil},
		{"everybody may read the key", func(t *testing.T, dir string) { chmod(t, dir, "host.key", 0o644) }, 0,
			[]string{`DIR/payroll.yaml:23:77: warning: rule "staff": everybody on this host can read the secret in DIR/host.key: chmod 600 DIR/host.key`}},
		{"everybody may read the secret", func(t *testing.T, dir string) { chmod(t, dir, "psk", 0o604) }, 0,
			[]string{`DIR/payroll.yaml:23:112: warning: rule "staff": everybody on this host can read the secret in DIR/psk: chmod 600 DIR/psk`}},
		{"everybody may read the certificate", func(t *testing.T, dir string) { chmod(t, dir, "host.pem", 0o644) }, 0, nil},
		{"expired", func(*testing.T, string) {}, 48 * time.Hour,
			[]string{`DIR/payroll.yaml:23:62: warning: rule "staff": the certificate "CN=server.example" expired on `, `DIR/payroll.yaml:23:49: warning: rule "staff": the certificate "CN=Test CA" expired on `}},
		{"not yet valid", func(*testing.T, string) {}, -48 * time.Hour,
			[]string{`DIR/payroll.yaml:23:62: warning: rule "staff": the certificate "CN=server.example" is not valid before `, `DIR/payroll.yaml:23:49: warning: rule "staff": the certificate "CN=Test CA" is not valid before `}},
		{"a short secret", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "psk"), "8 bytes!") }, 0,
			[]string{`DIR/payroll.yaml:23:112: warning: rule "staff": the preshared key has 8 bytes: write at least 32 random characters`}},
		{"everybody may read a post-quantum key", func(t *testing.T, dir string) {
			replace(t, dir, "payroll.yaml", "version: 1\n", "key-exchange: {ppk: {id: a, file: ppk}}\nversion: 1\n")
			write(t, filepath.Join(dir, "ppk"), strings.Repeat("random", 6))
			chmod(t, dir, "ppk", 0o644)
		}, 0, []string{`DIR/payroll.yaml:3:35: warning: key-exchange: everybody on this host can read the secret in DIR/ppk: chmod 600 DIR/ppk`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := payrollDir(t)
			tt.spoil(t, dir)
			f, err := parseRuleFile(filepath.Join(dir, "payroll.yaml"))
			if err == nil {
				err = f.loadCredentials(time.Now().Add(tt.now))
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(f.warnings) != len(tt.want) {
				t.Fatalf("warnings %q, want %q", f.warnings, tt.want)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(f.warnings[i], strings.ReplaceAll(want, "DIR", dir)) {
					t.Errorf("warning %q, want %q", f.warnings[i], want)
				}
			}
		})
	}
}

func chmod(t *testing.T, dir, file string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(filepath.Join(dir, file), mode); err != nil {
		t.Fatal(err)
	}
}

// The examples are rule files in which nothing is wrong: their assertions hold,
// nothing in them is without effect, and they are laid out as fmt does it.
func TestExamples(t *testing.T) {
	files := []examples.Template{{Name: "payroll", Content: examples.Payroll}, {Name: "workstation", Content: examples.Workstation}}
	for _, x := range append(files, examples.Templates...) {
		t.Run(x.Name, func(t *testing.T) {
			dir := payrollDir(t)
			file := filepath.Join(dir, x.Name+".yaml")
			write(t, file, string(x.Content))
			write(t, filepath.Join(dir, "partner.pem"), mustRead(t, filepath.Join(dir, "ca.pem")))
			if code, _, stderr := ipsecfw(t, "check", file); code != exitGood || stderr != "" {
				t.Errorf("exit code %d, errors %q", code, stderr)
			}
			if code, stdout, stderr := ipsecfw(t, "fmt", "--check", file); code != exitGood || stdout+stderr != "" {
				t.Errorf("fmt --check: exit code %d, output %q, errors %q", code, stdout, stderr)
			}
			// Nor is there when names and dynamic sides stand for hosts of the
			// very networks that the examples are about.
			f, err := parseRuleFile(file)
			if err != nil {
				t.Fatal(err)
			}
			server := []netip.Addr{netip.MustParseAddr("10.2.0.20"), netip.MustParseAddr("10.5.0.53"), netip.MustParseAddr("fd00::53")}
			v, err := policy{files: []*rules.File{f.file}, addresses: rules.Addresses{DNSServers: server, DHCPServers: server[:2], DefaultGateways: server}}.toVerify()
			if err != nil {
				t.Fatal(err)
			}
			if err, warnings := v.Errors(), v.Warnings(); err != nil || len(warnings) != 0 {
				t.Errorf("errors %v, warnings %q", err, warnings)
			}
		})
	}
}
