package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/surroundings"
	"github.com/ipsecfw/ipsecfw/rules"
)

func TestApplyOnTrial(t *testing.T) {
	file := filepath.Join(payrollDir(t), "payroll.yaml")
	by := time.Now().Add(90 * time.Second)
	e := &fakeEngine{applies: api.Applied{ConfirmBy: &by, Cut: 2}}
	code, stdout, stderr := ipsecfw(t, "--socket", serveEngine(t, e), "apply", file, "--confirm", "89.5s")
	want := "2 connections were cut that the policy before permitted and this one does not\non trial: say \"ipsecfw confirm\" by " + by.Format(time.TimeOnly)
	if code != exitGood || !strings.HasPrefix(stdout, want) || stderr != "" {
		t.Errorf("exit code %d, output %q, errors %q, want %q", code, stdout, stderr, want)
	}
	if len(e.applied) != 1 || e.applied[0].ConfirmSeconds != 90 {
		t.Errorf("the daemon got %+v, want 90 seconds", e.applied)
	}
}

func TestReport(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 30, 0, 0, time.Local)
	by := now.Add(time.Minute)
	for _, tt := range []struct {
		applied api.Applied
		want    string
	}{
		{api.Applied{}, ""},
		{api.Applied{Persistent: true}, ""},
		{api.Applied{Cut: 1}, "1 connection was cut that the policy before permitted and this one does not\n"},
		{api.Applied{ConfirmBy: &by}, "on trial: say \"ipsecfw confirm\" by 10:31:00, in 1m0s, or the policy before comes back in force\n"},
	} {
		var b bytes.Buffer
		if report(&b, tt.applied, now); b.String() != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.applied, b.String(), tt.want)
		}
	}
}

// What the daemon finds wrong with the policy is printed as a compiler says it.
func TestApplyRefused(t *testing.T) {
	file := filepath.Join(payrollDir(t), "payroll.yaml")
	e := &fakeEngine{err: &api.Error{Code: api.CodeInvalidPolicy, Message: file + ":8:7: wrong\n" + file + ":9:7: wrong too"}}
	code, stdout, stderr := ipsecfw(t, "--socket", serveEngine(t, e), "apply", file)
	if want := file + ":8:7: wrong\n" + file + ":9:7: wrong too\n"; code != exitFailed || stdout != "" || stderr != want {
		t.Errorf("exit code %d, output %q, errors %q, want %q", code, stdout, stderr, want)
	}
}

// The policy locks this shell out: check and apply warn, before it is in force.
func TestLockout(t *testing.T) {
	file := filepath.Join(payrollDir(t), "payroll.yaml")
	t.Setenv("SSH_CONNECTION", "198.18.7.7 50000 10.2.0.10 22")
	want := file + ":12:7: warning: the policy cuts this shell off, which came from 198.18.7.7:50000: "
	if code, _, stderr := ipsecfw(t, "check", file); code != exitGood || !strings.HasPrefix(stderr, want) {
		t.Errorf("check: exit code %d, errors %q, want %q", code, stderr, want)
	}
	e := &fakeEngine{locksOut: "the policy cuts this shell off"}
	if code, _, stderr := ipsecfw(t, "--socket", serveEngine(t, e), "apply", file); code != exitGood || stderr != e.locksOut+"\n" {
		t.Errorf("apply: exit code %d, errors %q, want %q", code, stderr, e.locksOut)
	}
	if len(e.applied) != 1 || e.applied[0].Shell != "198.18.7.7 50000 10.2.0.10 22" || !e.applied[0].CutShell {
		t.Errorf("the daemon got %+v: a warning is no refusal", e.applied)
	}
}

func TestApplyWarns(t *testing.T) {
	dir := payrollDir(t)
	file := filepath.Join(dir, "payroll.yaml")
	chmod(t, dir, "psk", 0o604)
	e := &fakeEngine{applies: api.Applied{Warnings: []string{"payroll.yaml:5:3: warning: nothing uses it"}}}
	want := file + ":23:112: rule \"staff\": everybody on this host can read the secret in " + filepath.Join(dir, "psk") + ": chmod 600 " + filepath.Join(dir, "psk") +
		"\npayroll.yaml:5:3: warning: nothing uses it\n"
	if code, _, stderr := ipsecfw(t, "--socket", serveEngine(t, e), "apply", file); code != exitGood || stderr != want {
		t.Errorf("exit code %d, errors %q, want %q", code, stderr, want)
	}
}

func TestDryRun(t *testing.T) {
	dir := payrollDir(t)
	file := filepath.Join(dir, "payroll.yaml")
	e := &fakeEngine{inForce: api.InForce{Files: []api.File{{Name: "/etc/p.yaml", Source: strings.Replace(mustRead(t, file), "action: block", "action: permit", 1)}}}}
	socket := serveEngine(t, e)
	for _, tt := range []struct{ name, socket, diff, stderr string }{
		{"policy in force", socket, "inbound: permit → block\n", ""},
		{"no daemon", filepath.Join(dir, "none.sock"), "outbound: permit → negotiate (mode transport; ", "compared with no policy\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := ipsecfw(t, "--socket", tt.socket, "apply", "--dry-run", file)
			if code != exitGood || !strings.Contains(stdout, "table inet ipsecfw {") && !strings.Contains(stdout, "table ip ipsecfw {") || !strings.HasSuffix(stderr, tt.stderr) {
				t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
			}
			if _, diff, _ := strings.Cut(stdout, "}\n\n"); !strings.Contains(diff, tt.diff) {
				t.Errorf("output\n%s\nwant %q at its end", stdout, tt.diff)
			}
		})
	}
	replace(t, dir, "payroll.yaml", "  - {name: rest, filter-list: everything, action: block}", "  - {name: rest, filter-list: everything, action: block}\n  - {name: all, filter-list: everything, action: permit}")
	if code, stdout, stderr := ipsecfw(t, "--socket", socket, "apply", "--dry-run", file); code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, file+":12:7: filter 1 of list \"everything\"") {
		t.Errorf("a contradiction: exit code %d, output %q, errors %q", code, stdout, stderr)
	}
	if len(e.applied) != 0 {
		t.Errorf("%d policies were applied", len(e.applied))
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	b, err := readFile(path, maxRules)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Check verifies what the daemon would refuse.
func TestCheckVerifies(t *testing.T) {
	for _, tt := range []struct{ name, old, by, want string }{
		{"a contradiction", "action: block}", "action: block}\n  - {name: all, filter-list: everything, action: permit}", "FILE:12:7: filter 1 of list \"everything\" of rule \"rest\" and "},
		{"an assertion", "rules:", "assert: [{from: any, to: me, protocol: tcp, to-port: 8443, always: secured}]\n\nrules:", "FILE:20:10: the assertion always secured does not hold: "},
		{"the key of the default response", "rules:", "default-response: {action: protect, authentication: [{preshared-key: {file: none}}]}\n\nrules:", "FILE:20:77: rule \"default-response\": open DIR/none: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := payrollDir(t)
			file := filepath.Join(dir, "payroll.yaml")
			replace(t, dir, "payroll.yaml", tt.old, tt.by)
			code, stdout, stderr := ipsecfw(t, "check", file)
			if want := strings.NewReplacer("FILE", file, "DIR", dir).Replace(tt.want); code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, want) {
				t.Errorf("exit code %d, output %q, errors %q, want %q", code, stdout, stderr, want)
			}
		})
	}
}

// What does not resolve is named where it stands.
func TestPlaceOfNames(t *testing.T) {
	f, err := rules.Parse("p.yaml", []byte(`version: 1
name: names
address-sets:
  servers: [10.1.0.1, {dns: a.example}]
filter-lists:
  all: [{from: {set: servers}, to: me}, {from: me, to: [{dns: b.example}]}]
rules:
  - {name: all, filter-list: all, action: permit}
assert:
  - {from: {dns: c.example}, to: me, never: blocked}
`))
	if err != nil {
		t.Fatal(err)
	}
	p := &policy{files: []*rules.File{f}}
	for name, want := range map[string]string{"a.example": "p.yaml:4:3", "b.example": "p.yaml:6:41", "c.example": "p.yaml:10:5", "d.example": ""} {
		if got := placeOf(name, []*policy{p}); got != want {
			t.Errorf("%s stands at %q, want %q", name, got, want)
		}
	}
	joined := joinedError{&surroundings.LookupError{Name: "b.example", Err: surroundings.ErrNoSuchName}}
	if got := placed(joined, []*policy{p}); got == nil || !strings.HasPrefix(got.Error(), "p.yaml:6:41: ") {
		t.Errorf("got %v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody is asked
	if err := look(ctx, p); err == nil {
		t.Error("names resolve, though nobody was asked")
	}
}

type joinedError []error

func (e joinedError) Error() string   { return "joined" }
func (e joinedError) Unwrap() []error { return e }
