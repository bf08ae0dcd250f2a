package test

import (
	"fmt"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A guest is a User Mode Linux whose first process is this very test binary.
// The kernel hands it the words "ipsecfw_*=" of its command line as
// environment.
const (
	guestControl = "ipsecfw_control" // address that the guest calls
	guestAddress = "ipsecfw_address" // the guest's own on that link, in prefix notation
	guestShare   = "ipsecfw_share"   // folder that it may write to
	guestModules = "ipsecfw_modules" // kernel modules, separated by commas
)

func isGuest() bool { return os.Getpid() == 1 && os.Getenv(guestControl) != "" }

// guestMain is the whole user space of a guest: it calls the test and obeys.
func guestMain() {
	if err := guestServe(); err != nil {
		fmt.Println("guest:", err) // on the console, which the test shows
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func guestServe() error {
	os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	if err := guestMounts(); err != nil {
		return err
	}
	if err := guestLoad(strings.Split(os.Getenv(guestModules), ",")); err != nil {
		return err
	}
	for _, command := range []string{
		"ip link set lo up",
		"ip address add " + os.Getenv(guestAddress) + " dev vec1",
		"ip link set vec1 up",
	} {
		if err := new(Guest).Run(strings.Fields(command), nil); err != nil {
			return err
		}
	}
	c, err := net.DialTimeout("tcp", os.Getenv(guestControl), 10*time.Second)
	if err != nil {
		return err
	}
	server := rpc.NewServer()
	if err := server.Register(new(Guest)); err != nil {
		return err
	}
	server.ServeConn(c)
	return nil
}

// guestMounts adds to the host's root, which is there read-only, what a
// running system needs.
func guestMounts() error {
	share := os.Getenv(guestShare)
	for _, m := range []struct{ kind, at, options string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"tmpfs", "/run", ""},
		{"hostfs", share, share},
	} {
		if err := unix.Mount("none", m.at, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mounting %s: %w", m.at, err)
		}
	}
	return nil
}

// guestLoad loads kernel modules, and keeps the kernel from looking for
// others: it takes seconds for each new cipher.
func guestLoad(modules []string) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	release := unix.ByteSliceToString(name.Release[:])
	tree := "/run/modules/lib/modules"
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	if err := os.Symlink("/usr/lib/uml/modules/"+release, filepath.Join(tree, release)); err != nil {
		return err
	}
	load := append([]string{"modprobe", "-d", "/run/modules", "-a"}, modules...)
	if err := new(Guest).Run(load, nil); err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/kernel/modprobe", []byte("\n"), 0)
}

// Guest is what a guest does when it is told, by net/rpc.
type Guest struct{}

// Run runs a command and returns its standard output and error.
func (*Guest) Run(command []string, output *string) error {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
	}
	if output != nil {
		*output = string(out)
	}
	return nil
}

// Daemon is a program that a guest keeps running.
type Daemon struct {
	Command []string
	Env     []string
	Log     string // file for its standard output and error
}

// Start starts a daemon.
func (*Guest) Start(d Daemon, _ *struct{}) error {
	log, err := os.Create(d.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(d.Command[0], d.Command[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), d.Env...), log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait()
	return nil
}

// ServeSwaps answers swaps on a TCP address, for good.
func (*Guest) ServeSwaps(address string, _ *struct{}) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go serveSwaps(l)
	return nil
}

// Swap is a transfer that a guest makes.
type Swap struct {
	To   string // TCP address
	Size int64  // bytes each way
}

// Swap makes a transfer.
func (*Guest) Swap(s Swap, _ *struct{}) error {
	c, err := net.DialTimeout("tcp", s.To, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return swap(c, s.Size)
}
