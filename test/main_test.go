// Package test runs whole daemons in network namespaces, against each other
// and against strongSwan. It needs root and some Debian packages; "make test"
// installs them.
package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// program is the ipsecfw under test.
var program string

func TestMain(m *testing.M) {
	if isGuest() {
		guestMain()
		return
	}
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// run builds the program and runs the tests.
func run(m *testing.M) (status int, err error) {
	if os.Geteuid() != 0 {
		return m.Run(), nil // they skip themselves
	}
	dir, err := os.MkdirTemp("", "ipsecfw-test")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "ipsecfw")
	build := exec.Command("go", "build", "-o", program, "../cmd/ipsecfw")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building ipsecfw: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// packages says which Debian package brings a file that the tests need.
var packages = map[string]string{
	"nft":                   "nftables",
	"ip":                    "iproute2",
	"modprobe":              "kmod",
	"unshare":               "util-linux",
	"tshark":                "tshark",
	"linux.uml":             "user-mode-linux",
	"swanctl":               "strongswan-swanctl",
	"/usr/lib/ipsec/charon": "strongswan-charon",
	"/usr/lib/ipsec/plugins/libstrongswan-gcm.so":             "libstrongswan-standard-plugins",
	"/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so": "libcharon-extra-plugins",
	"/usr/lib/ipsec/plugins/libstrongswan-ccm.so":             "libstrongswan-extra-plugins",
	scapyModule: "python3-scapy",
}

// need skips the test for a user who is not root, and fails it if a program is
// missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root: run make test with sudo")
	}
	for _, name := range programs {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if _, err := os.Stat(name); err != nil {
			t.Fatalf("%s is missing: apt-get install %s", name, packages[name])
		}
	}
}

// must ends the test if a step of its set-up fails.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within is a context that ends before the patience of the test does.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// await asks for a condition until it holds, and reports whether it did in
// time. It is for what sends no event.
func await(t *testing.T, d time.Duration, holds func() bool) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// eventually ends the test if a condition does not come to hold.
func eventually(t *testing.T, d time.Duration, what string, holds func() bool) {
	t.Helper()
	if !await(t, d, holds) {
		t.Fatalf("waited %v in vain: %s", d, what)
	}
}
