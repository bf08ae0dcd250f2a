package test

import (
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// espModules are what strongSwan wants of the guest's kernel.
const espModules = "esp4,esp6,xfrm_user,cbc,ctr,gcm,ghash-generic,seqiv,echainiv,drbg,authenc,hmac,sha1,sha256,sha512,chacha20poly1305"

// A guest hangs on two TAP interfaces of a host: one for the test's packets,
// and one for its commands.
const (
	controlHost  = "172.31.0.1"
	controlGuest = "172.31.0.2"
)

// boot starts a guest on the far side of an interface of the router h, with a
// folder that it may write to and modules of the kernel, separated by commas.
// It ends with the test.
func boot(t *testing.T, n *lab.Net, h *lab.Host, ifname, share, modules string) *rpc.Client {
	t.Helper()
	need(t, "linux.uml", "modprobe", "ip")
	must(t, n.Tap(h, ifname))
	must(t, n.Tap(h, "control", controlHost+"/30"))
	l, err := h.Listen("tcp", controlHost+":7000")
	must(t, err)
	calls := make(chan net.Conn)
	go func() {
		if c, err := l.Accept(); err == nil {
			calls <- c
		}
	}()

	console, err := os.Create(filepath.Join(share, "console"))
	must(t, err)
	defer console.Close()
	kernel := guestKernel(t, h, ifname, share, modules)
	kernel.Stdout, kernel.Stderr = console, console
	must(t, kernel.Start())
	exited := make(chan struct{})
	go func() {
		kernel.Wait()
		close(exited)
	}()
	var guest *rpc.Client
	t.Cleanup(func() {
		l.Close()
		if guest != nil {
			guest.Close() // it powers off
			select {
			case <-exited:
			case <-time.After(10 * time.Second):
			}
		}
		unix.Kill(-kernel.Process.Pid, unix.SIGKILL)
	})

	// The guest's call is the sign that it is up.
	problem := "the guest ended"
	select {
	case c := <-calls:
		guest = rpc.NewClient(c)
		return guest
	case <-exited:
	case <-time.After(patience):
		problem = "the guest does not call"
	}
	out, _ := os.ReadFile(console.Name())
	t.Fatalf("%s; its console:\n%s", problem, out)
	return nil
}

// guestKernel is the command that runs a guest.
func guestKernel(t *testing.T, h *lab.Host, ifname, share, modules string) *lab.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	kernel := h.Command("linux.uml",
		"umid=ipsecfw", "uml_dir="+share+"/", "mem=256M", "quiet", "panic=-1", "cryptomgr.notests",
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init="+self,
		"con=null", "con0=null,fd:1",
		"vec0:transport=tap,ifname="+ifname+",depth=128,gro=1",
		"vec1:transport=tap,ifname=control,depth=128",
		guestControl+"="+controlHost+":7000", guestAddress+"="+controlGuest+"/30",
		guestShare+"="+share, guestModules+"="+modules)
	// The guest's memory is a file: on a tmpfs, or it is written to a disk.
	kernel.Env = append(os.Environ(), "TMPDIR=/dev/shm", "HOME="+share)
	kernel.SysProcAttr.Setsid = true // the guest's processes are ours too, and end as a group
	return kernel
}

// inGuest runs a command line in a guest.
func inGuest(t *testing.T, guest *rpc.Client, command string) string {
	t.Helper()
	var out string
	must(t, guest.Call("Guest.Run", strings.Fields(command), &out))
	return out
}

// guestWorkstation boots a guest in the place of the workstation.
func (s *site) guestWorkstation(t *testing.T, share, modules string) *rpc.Client {
	t.Helper()
	guest := boot(t, s.net, s.gateway, "wks0", share, modules)
	s.connect(t, guest, "vec0")
	return guest
}

// connect gives the addresses of the workstation to an interface of the guest.
func (s *site) connect(t *testing.T, guest *rpc.Client, ifname string) {
	t.Helper()
	must(t, s.gateway.Address("wks0", "10.1.1.1/24", "fd00:1:1::1/64"))
	for _, command := range []string{
		"ip address add " + workstation4 + "/24 dev " + ifname,
		"ip address add " + workstation6 + "/64 dev " + ifname + " nodad",
		"ip link set " + ifname + " up",
		"ip route add default via 10.1.1.1",
		"ip route add default via fd00:1:1::1",
	} {
		inGuest(t, guest, command)
	}
}
