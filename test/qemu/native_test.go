package qemu

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// program is the ipsecfw under test, inside the machine.
const program = "/ipsecfw"

// patience is how long the machine may take: ten times what it takes where
// nothing else runs. The test inside has a little less, to say where it hung.
const patience = 7 * time.Minute

// modules are what ipsecfw wants of the kernel, and the cable between the
// hosts. There is no module for targets of xtables (nft_compat) among them.
var modules = []string{
	"nf_tables", "nft_ct", "nft_fib_inet", "nft_limit", "nft_log", "nft_queue", "nft_reject_inet",
	"nf_conntrack_netlink", "nfnetlink_log", "nfnetlink_queue", "inet_diag", "tcp_diag", "udp_diag",
	"tun", "veth",
}

// The whole program on the kernel of a distribution, with nft's own statement
// queue: this test runs once more in a machine, as its first process, and
// there does what it is about.
func TestNativeQueue(t *testing.T) {
	if Inside() {
		nativeQueue(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("what it needs is installed by root only: run make test with sudo")
	}
	kernel, err := FindKernel()
	must(t, err)
	dir := t.TempDir()
	m := Machine{
		Kernel: kernel, Modules: modules,
		Init:  filepath.Join(dir, "init"),
		Args:  []string{"-test.v", "-test.run=^" + t.Name() + "$", "-test.timeout=" + (patience - time.Minute).String()},
		Files: map[string]string{program: filepath.Join(dir, "ipsecfw")},
	}
	build(t, "test", "-c", "-ldflags=-s -w", "-o", m.Init, ".")
	build(t, "build", "-ldflags=-s -w", "-o", m.Files[program], "../../cmd/ipsecfw")
	var console bytes.Buffer
	if err := m.Run(within(t, patience), &console); err != nil {
		t.Error(err)
	}
	report(t, strings.ReplaceAll(console.String(), "\r\n", "\n"))
}

// build runs the go command for a program that needs no library.
func build(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// outcome is the line by which a test tells how it ended.
var outcome = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (\S+) \((\S+)\)$`)

// report fails the test, and those of its parts that did, unless it passed
// inside.
func report(t *testing.T, console string) {
	t.Helper()
	passed := false
	for _, m := range outcome.FindAllStringSubmatch(console, -1) {
		part, isPart := strings.CutPrefix(m[2], t.Name()+"/")
		if !isPart {
			passed = m[1] == "PASS" && m[2] == t.Name()
			continue
		}
		t.Run(part, func(t *testing.T) {
			if io.WriteString(t.Output(), "inside, in "+m[3]+"\n"); m[1] != "PASS" {
				t.Fail()
			}
		})
	}
	if !passed || !strings.Contains(console, Ended+" 0\n") {
		t.Errorf("it did not pass inside; the console:\n%s", console)
	}
}
