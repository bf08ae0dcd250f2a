package test

import (
	"fmt"
	"net/rpc"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// guestKernel loads what strongSwan wants of a kernel.
const guestKernel = "esp4,esp6,xfrm_user,cbc,ctr,gcm,ghash-generic,seqiv,echainiv,authenc,hmac,sha1,sha256,chacha20poly1305"

// A guest hangs on two TAP interfaces of a host: one for the test's packets,
// and one for its commands.
const (
	controlHost  = "172.31.0.1"
	controlGuest = "172.31.0.2"
)

// boot starts a guest on the far side of an interface of the router h. The
// call of the guest on its control link is the sign that it is up.
func boot(t *testing.T, n *lab.Net, h *lab.Host, ifname, share string) *rpc.Client {
	t.Helper()
	need(t, "linux.uml", "modprobe", "ip")
	must(t, n.Tap(h, ifname))
	must(t, n.Tap(h, "control", controlHost+"/30"))
	l, err := h.Listen("tcp", controlHost+":7000")
	must(t, err)
	defer l.Close()
	self, err := os.Executable()
	must(t, err)
	console, err := os.Create(filepath.Join(share, "console"))
	must(t, err)
	defer console.Close()
	kernel := h.Command("linux.uml",
		"umid=ipsecfw", "uml_dir="+share+"/", "mem=256M", "quiet", "panic=-1", "cryptomgr.notests",
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init="+self,
		"con=null", "con0=null,fd:1",
		"vec0:transport=tap,ifname="+ifname+",depth=128,gro=1",
		"vec1:transport=tap,ifname=control,depth=128",
		guestControl+"="+controlHost+":7000", guestAddress+"="+controlGuest+"/30",
		guestShare+"="+share, guestModules+"="+guestKernel)
	// The guest's memory is a file: on a tmpfs, or it is written to a disk.
	kernel.Env = append(os.Environ(), "TMPDIR=/dev/shm", "HOME="+share)
	kernel.Stdout, kernel.Stderr = console, console
	kernel.SysProcAttr = &unix.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	must(t, kernel.Start())
	exited := make(chan error, 1)
	go func() { exited <- kernel.Wait() }()
	t.Cleanup(func() { killGroup(kernel.Process.Pid) })
	fail := func(what string) {
		out, _ := os.ReadFile(console.Name())
		t.Fatalf("%s\nconsole of the guest:\n%s", what, out)
	}
	type call struct {
		client *rpc.Client
		err    error
	}
	calls := make(chan call, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			calls <- call{err: err}
			return
		}
		calls <- call{client: rpc.NewClient(c)}
	}()
	select {
	case c := <-calls:
		must(t, c.err)
		return c.client
	case err := <-exited:
		fail(fmt.Sprintf("the guest ended: %v", err))
	case <-time.After(patience):
		fail("the guest does not call")
	}
	return nil
}

// inGuest runs a command line in a guest.
func inGuest(t *testing.T, guest *rpc.Client, command string) string {
	t.Helper()
	var out string
	must(t, guest.Call("Guest.Run", strings.Fields(command), &out))
	return out
}

func TestGuest(t *testing.T) {
	need(t)
	n, err := lab.New("ipsecfw-guest")
	must(t, err)
	t.Cleanup(func() { n.Close() })
	gw, err := n.Host("gw")
	must(t, err)
	start := time.Now()
	g := boot(t, n, gw, "tap0", t.TempDir())
	t.Log("booted in", time.Since(start))
	t.Log(inGuest(t, g, "ip address"))
	t.Log(inGuest(t, g, "lsmod"))
	t.Log(inGuest(t, g, "dmesg"))
	must(t, gw.Address("tap0", "10.1.1.1/24"))
	inGuest(t, g, "ip address add 10.1.1.10/24 dev vec0")
	inGuest(t, g, "ip link set vec0 up")
	start = time.Now()
	listenSwaps(t, gw, "10.1.1.1:8443")
	must(t, g.Call("Guest.Swap", Swap{"10.1.1.1:8443", 10 * megabyte}, nil))
	t.Log("swapped in", time.Since(start))
}
