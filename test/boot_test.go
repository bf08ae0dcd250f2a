package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A persistent policy is in force beside the one that is applied later, stays
// when that goes, and goes when it is told to.
func TestPersistentPolicy(t *testing.T) {
	_, f, d := peers(t)
	persistent := `version: 1
name: always
persistent: true
filter-lists:
  last:
` + f.lastFilters() + `  everything: [{from: any, to: any}]
  nine: [{from: any, to: me, protocol: udp, to-port: %d}]
rules:
  - {name: last, filter-list: last, action: permit}
  - {name: everything, filter-list: everything, action: block}
  - {name: nine, filter-list: nine, action: permit}
`
	const later = `version: 1
name: later
%sfilter-lists:
  ten: [{from: any, to: me, protocol: udp, to-port: %d}]
  not-other: [{from: 10.1.2.66, to: me, protocol: udp, to-port: 9}]
rules:
  - {name: %s, filter-list: ten, action: permit}
  - {name: not-other, filter-list: not-other, action: block}
`
	const nine, otherNine, ten, eleven, rsvp = "work me udp 1 9", "other me udp 1 9", "work me udp 1 10", "work me udp 1 11", "work me rsvp"
	unapply := func(args ...string) {
		t.Helper()
		_, err := d.run(append([]string{"unapply"}, args...)...)
		must(t, err)
	}
	for _, step := range []struct {
		name       string
		do         func()
		pass, stop []string
		has        status
	}{
		{"the persistent one", func() { d.apply(t, fmt.Sprintf(persistent, 9)) },
			[]string{nine, otherNine}, []string{ten, eleven}, status{"always", "always", nil}},
		{"a later one beside it", func() { d.apply(t, fmt.Sprintf(later, "", 10, "ten")) },
			[]string{nine, ten}, []string{otherNine, eleven, rsvp}, status{"later", "always", nil}},
		{"another later one in its place", func() { d.apply(t, fmt.Sprintf(later, "exemptions: 2\n", 11, "ten")) },
			[]string{nine, eleven, rsvp}, []string{otherNine, ten}, status{"later", "always", nil}},
		{"a new daemon", func() { d.kill(); d.start(t); d.status(t) },
			[]string{nine, eleven, rsvp}, []string{otherNine, ten}, status{"later", "always", nil}},
		{"another persistent one", func() { d.apply(t, fmt.Sprintf(persistent, 10)) },
			[]string{ten, eleven}, []string{nine, otherNine}, status{"later", "always", nil}},
		{"the later one gone", func() { unapply() },
			[]string{ten}, []string{nine, otherNine, eleven, rsvp}, status{"always", "always", nil}},
		{"the later one gone, which there is not", func() { unapply() },
			[]string{ten}, []string{nine, eleven}, status{"always", "always", nil}},
		{"both gone", func() { d.apply(t, fmt.Sprintf(later, "", 10, "ten")); unapply("--persistent") },
			[]string{nine, otherNine, ten, eleven, rsvp}, nil, status{}},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.do()
			f.expect(t, step.pass, step.stop)
			if s := d.status(t); s != step.has {
				t.Errorf("the status is %+v, want %+v", s, step.has)
			}
		})
	}
	if rules := ruleset(t, d.host); strings.Contains(rules, "ipsecfw") {
		t.Errorf("nftables has still\n%s", rules)
	}

	d.apply(t, fmt.Sprintf(persistent, 9))
	path := d.write(t, "policy.yaml", []byte(fmt.Sprintf(later, "", 10, "nine")))
	if _, err := d.run("apply", path); err == nil || !strings.Contains(err.Error(), `"nine"`) {
		t.Errorf("two rules of one name: error %v", err)
	}
	f.expect(t, []string{nine}, []string{ten})
}

// reboot leaves of a daemon what a reboot leaves: its files.
func (d *daemon) reboot(t *testing.T) {
	t.Helper()
	d.kill()
	out, err := d.host.Command("nft", "flush", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
}

// boot runs what the boot runs.
func (d *daemon) boot() ([]byte, error) {
	return d.host.Command(program, "boot", "--state", d.path("state")).CombinedOutput()
}

// bootPolicy permits UDP to port 9 while the daemon runs, and has the boot mode
// that is given.
func bootPolicy(f *field, top, boot string) string {
	exempt := ""
	if boot != "mode: permit" {
		exempt = ", exempt: [" + strings.Join(strings.FieldsFunc(strings.ReplaceAll(f.lastFilters(), "    - ", ""), func(r rune) bool { return r == '\n' }), ", ") +
			", {from: 10.1.1.10, to: me, protocol: udp, to-port: 22}]"
	}
	return fieldRow{
		top:     top + "boot: {" + boot + exempt + "}",
		filters: []string{"from: any, to: me, protocol: udp, to-port: 9"},
	}.policy(f, "permit", "block")
}

// From the start of the host until there is a daemon.
func TestBootModes(t *testing.T) {
	need(t, "nft")
	_, f, d := peers(t)
	const persistently = "persistent: true\n"
	dhcp := []string{"me gate udp 68 67", "gate me udp 67 68", "me6 gate6 udp 546 547", "gate6 me6 udp 547 546"}
	exempt := []string{"work me udp 1 22", "me work udp 22 1"}
	incoming := []string{"work me udp 1 23", "other me udp 1 22", "work6 me6 udp 1 22"}
	for _, tt := range []struct {
		name, policy string
		pass, stop   []string
	}{
		{"permit", bootPolicy(f, "", "mode: permit"), append(incoming, "work me udp 1 9", "me work udp 1 5"), nil},
		{"block", bootPolicy(f, "", "mode: block"), append(dhcp, exempt...), append(incoming, "work me udp 1 9", "me work udp 1 5")},
		{"stateful", bootPolicy(f, "", "mode: stateful"), append(append(dhcp, exempt...), "me work udp 2 5", "work me udp 5 2", "me6 work6 udp 2 5", "work6 me6 udp 5 2"),
			append(incoming, "work me udp 1 9", "work me udp 5 3", "other me udp 5 2")},
		{"with a persistent policy", bootPolicy(f, persistently, "mode: block"), append(dhcp, "work me udp 1 9", "me work udp 9 1"), append(incoming, "me work udp 1 5")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d.apply(t, tt.policy)
			d.reboot(t)
			f.expect(t, []string{"work me udp 1 24"}, nil) // there is nothing yet
			if out, err := d.boot(); err != nil {
				t.Fatalf("boot: %v\n%s", err, out)
			}
			f.expect(t, tt.pass, tt.stop)
			d.start(t)
			d.status(t) // it answers when it has its policy
			f.expect(t, []string{"work me udp 1 9"}, []string{"work me udp 1 22", "me work udp 1 5", "gate me udp 67 68"})
			if out, err := d.boot(); err == nil {
				t.Errorf("boot beside a daemon: it says %s", out)
			}
			_, err := d.run("unapply", "--persistent")
			must(t, err)
		})
	}

	t.Run("with no policy", func(t *testing.T) {
		d.reboot(t)
		if out, err := d.boot(); err != nil {
			t.Fatalf("boot: %v\n%s", err, out)
		}
		f.expect(t, []string{"work me udp 1 9"}, nil)
		if rules := ruleset(t, d.host); strings.Contains(rules, "ipsecfw") {
			t.Errorf("nftables has\n%s", rules)
		}
		d.start(t)
	})
	t.Run("with a policy that cannot be read", func(t *testing.T) {
		d.apply(t, bootPolicy(f, "", "mode: permit"))
		d.reboot(t)
		kept, err := filepath.Glob(d.path("state") + "/policy*")
		must(t, err)
		for _, path := range kept {
			must(t, os.WriteFile(path, []byte(`{"applied": {"name": "pol`), 0o600))
		}
		if out, err := d.boot(); err == nil || !strings.Contains(string(out), "everything is blocked") {
			t.Errorf("boot: error %v, and it says\n%s", err, out)
		}
		blocked := func() {
			t.Helper()
			for _, address := range []string{server4 + ":22", "[" + server6 + "]:22"} {
				if err := refused(f.parties["work"].host, address, 300*time.Millisecond); err != nil {
					t.Error(err)
				}
			}
		}
		listenSwaps(t, d.host, ":22")
		blocked()
		// Neither does a daemon open what it cannot understand.
		if out, err := d.host.Command(program, "--socket", d.path("socket"), "daemon", "--state", d.path("state")).CombinedOutput(); err == nil {
			t.Errorf("a daemon runs without its policy, and says\n%s", out)
		}
		blocked()
	})
}

// The daemon takes over from the boot in one step: what both let pass loses no
// packet, and of what neither does none comes through.
func TestDaemonAfterBoot(t *testing.T) {
	_, f, d := peers(t)
	w := f.parties["work"].host
	row := fieldRow{
		top:     "boot: {mode: block, exempt: [{from: any, to: me, protocol: udp, to-port: 7}]}",
		filters: []string{"from: any, to: me, protocol: udp, to-port: 7"},
	}
	d.apply(t, row.policy(f, "permit", "block"))
	d.reboot(t)
	if out, err := d.boot(); err != nil {
		t.Fatalf("boot: %v\n%s", err, out)
	}
	listenEcho(t, d.host, server4+":7")
	listenEcho(t, d.host, server4+":8")
	permitted, blocked := startStream(t, w, server4+":7"), startStream(t, w, server4+":8")
	eventually(t, 10*time.Second, "datagrams come back", func() bool { return permitted.back.Load() > 10 && blocked.sent.Load() > 10 })
	d.start(t)
	d.status(t) // it answers when it has its policy
	before := permitted.back.Load()
	eventually(t, 10*time.Second, "datagrams come back", func() bool { return permitted.back.Load() > before+10 })
	permitted.end(t)
	close(blocked.stop)
	blocked.sender.Wait()
	if n := blocked.back.Load(); n > 0 {
		t.Errorf("%d of %d blocked datagrams came back", n, blocked.sent.Load())
	}
}
