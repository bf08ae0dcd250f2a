package test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// status is what "status -o json" says of the policy.
type status struct {
	Policy     string     `json:"policy"`
	Persistent string     `json:"persistent"`
	ConfirmBy  *time.Time `json:"confirm-by"`
}

func (d *daemon) status(t *testing.T) status {
	t.Helper()
	out, err := d.run("status", "-o", "json")
	must(t, err)
	var s status
	must(t, json.Unmarshal(out, &s))
	return s
}

// guarded reports whether the process runs that rolls back a trial when no
// daemon does.
func (d *daemon) guarded(t *testing.T) bool {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, path := range all {
		line, err := os.ReadFile(path)
		if err == nil && bytes.Contains(line, []byte("\x00guard\x00--state\x00"+d.path("state")+"\x00")) {
			return true
		}
	}
	return false
}

// onTrial applies a policy that goes again in a second.
func (d *daemon) onTrial(t *testing.T, policy string) {
	t.Helper()
	out, err := d.run("apply", "--confirm", "1s", d.write(t, "trial.yaml", []byte(policy)))
	if err != nil || !strings.Contains(string(out), "ipsecfw confirm") {
		t.Fatalf("apply --confirm: error %v, and it says\n%s", err, out)
	}
}

// A policy on trial goes again, unless somebody confirms it, whatever becomes
// of the daemon.
func TestTrial(t *testing.T) {
	t.Parallel() // it waits most of the time
	_, f, d := peers(t)
	const nine, ten = "work me udp 1 9", "work me udp 1 10"
	old := fieldRow{filters: []string{"from: any, to: me, protocol: udp, to-port: 9"}}.policy(f, "permit", "block")
	next := fieldRow{filters: []string{"from: any, to: me, protocol: udp, to-port: 10"}}.policy(f, "permit", "block")
	passes := func(probe string) func() bool {
		return func() bool { return f.fly(t, probe)[probe] }
	}
	begin := func(t *testing.T, policy string) {
		t.Helper()
		if policy == "" {
			_, err := d.run("unapply")
			must(t, err)
		} else {
			d.apply(t, policy)
		}
		d.onTrial(t, next)
		f.expect(t, []string{ten}, []string{nine})
	}

	t.Run("not confirmed", func(t *testing.T) {
		begin(t, old)
		if d.status(t).ConfirmBy == nil {
			t.Error("the status does not say until when the trial is to be confirmed")
		}
		eventually(t, 10*time.Second, "the old policy comes back", passes(nine))
		f.expect(t, []string{nine}, []string{ten})
		if by := d.status(t).ConfirmBy; by != nil {
			t.Errorf("after the trial it is still to be confirmed by %v", by)
		}
		if _, err := d.run("confirm"); err == nil {
			t.Error("a trial is confirmed that is over")
		}
	})
	t.Run("confirmed", func(t *testing.T) {
		begin(t, old)
		_, err := d.run("confirm")
		must(t, err)
		// The guard looks again after the trial's time, and finds nothing to do.
		eventually(t, 10*time.Second, "the guard ends", func() bool { return !d.guarded(t) })
		f.expect(t, []string{ten}, []string{nine})
	})
	t.Run("with no policy before", func(t *testing.T) {
		begin(t, "")
		eventually(t, 10*time.Second, "the policy goes", passes(nine))
		f.expect(t, []string{nine, ten}, nil)
		if rules := ruleset(t, d.host); strings.Contains(rules, "ipsecfw") {
			t.Errorf("nftables has still\n%s", rules)
		}
	})
	for _, tt := range []struct {
		name, before string
		pass, stop   []string
	}{
		{"the daemon killed", old, []string{nine}, []string{ten}},
		{"the daemon killed, with no policy before", "", []string{nine, ten}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin(t, tt.before)
			d.kill()
			f.expect(t, []string{ten}, []string{nine}) // the rules outlive it
			eventually(t, 10*time.Second, "the guard puts the old rules back", passes(nine))
			f.expect(t, tt.pass, tt.stop)
			eventually(t, 10*time.Second, "the guard ends", func() bool { return !d.guarded(t) })
			d.start(t)
			f.expect(t, tt.pass, tt.stop)
			if s := d.status(t); s.ConfirmBy != nil || (s.Policy == "") != (tt.before == "") {
				t.Errorf("the daemon that comes later has %+v", s)
			}
		})
	}
	t.Run("the daemon killed and back late", func(t *testing.T) {
		begin(t, old)
		d.kill()
		eventually(t, 10*time.Second, "the guard ends", func() bool { return !d.guarded(t) })
		d.start(t)
		f.expect(t, []string{nine}, []string{ten})
	})
	t.Run("the daemon killed and back early", func(t *testing.T) {
		begin(t, old)
		d.kill()
		d.start(t)
		eventually(t, 10*time.Second, "the old policy comes back", passes(nine))
		f.expect(t, []string{nine}, []string{ten})
	})
	t.Run("refused", func(t *testing.T) {
		d.apply(t, old)
		broken := strings.Replace(next, "action: permit}", "action: permitt}", 1)
		if _, err := d.run("apply", "--confirm", "1s", d.write(t, "trial.yaml", []byte(broken))); err == nil {
			t.Error("a broken policy is tried")
		}
		if by := d.status(t).ConfirmBy; by != nil {
			t.Errorf("a broken policy is to be confirmed by %v", by)
		}
		f.expect(t, []string{nine}, []string{ten})
	})
}
