package test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// whyJSON is what "why --json" says of a peer.
func (d *daemon) whyJSON(t *testing.T, peer string) []ike.PostMortem {
	t.Helper()
	out, err := d.run("why", peer, "--json", "--all")
	if err != nil && exitCode(err) != 1 {
		t.Fatalf("why: %v", err)
	}
	var list []ike.PostMortem
	must(t, json.Unmarshal(out, &list))
	return list
}

func exitCode(err error) int {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return -1
}

// A negotiation can be asked for and looked at, without any packet.
func TestInitiate(t *testing.T) {
	_, _, ds, dw := secureHosts(t, "")
	out, err := dw.run("initiate", server4, "--trace")
	if err != nil {
		t.Fatalf("initiate: %v\n%s", err, out)
	}
	for _, part := range []string{
		"--> IKE_SA_INIT request 0: SAi", "<-- IKE_SA_INIT response 0: SAr", "--> IKE_AUTH request", "<-- IKE_AUTH response",
		"IKE SA with " + server4, "SA by rule",
	} {
		if !strings.Contains(string(out), part) {
			t.Errorf("%q is missing in\n%s", part, out)
		}
	}
	onePair(t, ds, dw)
	if out, err := dw.run("initiate", server4); err != nil || !strings.Contains(string(out), "SA by rule") {
		t.Errorf("once more: %v\n%s", err, out)
	}
	onePair(t, ds, dw)
	if _, err := dw.run("why", server4); exitCode(err) != 1 {
		t.Errorf("why, though nothing failed: %v", err)
	}
	ds.untroubled(t)
	dw.untroubled(t)
	if out, err := dw.run("initiate", "10.99.0.1"); err == nil {
		t.Errorf("initiate with a peer that no rule concerns:\n%s", out)
	}
}

// Both ends say why there is no SA, and neither the key.
func TestWhy(t *testing.T) {
	s, _, ds, dw := secureHosts(t, "")
	const other = "another secret of enough length"
	dw.write(t, "psk", []byte(other))
	dw.apply(t, hostPolicy("", server4, server6))
	out, err := dw.run("initiate", server4)
	if exitCode(err) != 1 || !strings.Contains(string(out), "cause       refused-by-peer") {
		t.Errorf("initiate with another key: %v\n%s", err, out)
	}
	for _, end := range []struct {
		d         *daemon
		peer      string
		initiator bool
		cause     ike.Cause
	}{{dw, server4, true, ike.CauseRefusedByPeer}, {ds, workstation4, false, ike.CauseKeyMismatch}} {
		list := end.d.whyJSON(t, end.peer)
		if len(list) != 1 || list[0].Cause != end.cause || list[0].Initiator != end.initiator || len(list[0].Messages) == 0 {
			t.Errorf("%s: %+v", end.d.host.Name, list)
		}
		if out, err := end.d.run("why", end.peer); err != nil || !strings.Contains(string(out), "change ") {
			t.Errorf("%s: why: %v\n%s", end.d.host.Name, err, out)
		}
		for _, secret := range []string{psk, other} {
			if text := string(end.d.log(t)); strings.Contains(text, secret) {
				t.Errorf("%s has the key in its log", end.d.host.Name)
			}
		}
	}
	if !ds.says(t, "audit: a peer was refused", "peer="+workstation4) {
		t.Error("the refusal is no audit event")
	}

	// Nobody there: the ICMP error that the peer's kernel sends is evidence.
	ds.kill()
	must(t, s.server.Command("nft", "delete", "table", "inet", "ipsecfw").Run())
	began := time.Now()
	out, err = dw.run("initiate", server4)
	if exitCode(err) != 1 || !strings.Contains(string(out), "cause       unreachable") || !strings.Contains(string(out), "ICMP port unreachable, from "+server4) {
		t.Errorf("initiate with nobody there, after %v: %v\n%s", time.Since(began), err, out)
	}
}

// With the key log as one of its profile's tables Wireshark reads IKE and ESP,
// and nobody but its owner may read it.
func TestKeyLog(t *testing.T) {
	need(t, "tshark")
	s, w, ds, dw := secureHosts(t, "")
	dw.stop(t)
	profile := dw.path("wireshark")
	must(t, os.Mkdir(profile, 0o700))
	dw.args = []string{"--key-log", filepath.Join(profile, "ikev2_decryption_table")}
	dw.start(t)
	// A capture file (pcap, raw IP) of what passes between the hosts.
	packets := binary.NativeEndian.AppendUint32(nil, 0xa1b2c3d4)
	packets = binary.NativeEndian.AppendUint32(packets, 2|4<<16)
	for _, n := range []uint32{0, 0, 65535, 101} {
		packets = binary.NativeEndian.AppendUint32(packets, n)
	}
	capture, err := s.gateway.Capture("wks0", func(b []byte, _ bool) {
		for _, n := range []uint32{0, 0, uint32(len(b)), uint32(len(b))} {
			packets = binary.NativeEndian.AppendUint32(packets, n)
		}
		packets = append(packets, b...)
	})
	must(t, err)
	if out, err := dw.run("initiate", server4); err != nil {
		t.Fatalf("initiate: %v\n%s", err, out)
	}
	onePair(t, ds, dw)
	must(t, ping(within(t, 10*time.Second), w, workstation4, server4, 100))
	must(t, capture.Close())
	file := dw.write(t, "capture.pcap", packets)
	for _, name := range []string{"ikev2_decryption_table", "esp_sa"} {
		info, err := os.Stat(filepath.Join(profile, name))
		must(t, err)
		if info.Mode() != 0o600 {
			t.Errorf("%s has the mode %v", name, info.Mode())
		}
	}
	for _, x := range []struct{ filter, what string }{
		{"isakmp.notify.msgtype == 16384", "INITIAL_CONTACT inside of IKE_AUTH"},
		{"esp && icmp", "the ping inside of ESP"},
	} {
		cmd := exec.Command("tshark", "-r", file, "-o", "esp.enable_encryption_decode:TRUE", "-Y", x.filter)
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dw.dir)
		var problem strings.Builder
		cmd.Stderr = &problem
		out, err := cmd.Output()
		if err != nil || len(out) == 0 || strings.Contains(problem.String(), "Error") {
			t.Errorf("tshark does not see %s: %v\n%s", x.what, err, &problem)
		}
	}
	if out, err := dw.run("status"); err != nil || !strings.Contains(string(out), "key-log") {
		t.Errorf("status: %v\n%s", err, out)
	}
	if !dw.says(t, "level=WARN", "the keys of all SAs are being written to files") {
		t.Error("the log does not warn")
	}
}
