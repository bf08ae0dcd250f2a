// Package examine reads of the host it runs on the facts that package doctor
// judges. It changes nothing.
package examine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/daemon"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/doctor"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/nft"
)

// asRoot is what to do about most of what could not be looked at.
const asRoot = "run this command as root"

// Policy is what the policy in force wants of other firewalls.
type Policy struct {
	SPD *filter.SPD // nil with none in force
	AH  bool        // it has AH
}

// Host reads the facts of the host, in the network namespace of the calling
// thread. What the daemon says is left to the caller.
func Host(p Policy) *doctor.Facts {
	f := &facts{Facts: doctor.Facts{Names: daemon.Names(), Now: time.Now(), Built: built()}}
	f.privileges()
	f.kernel()
	f.tun()
	f.parameters()
	f.network()
	f.xfrm()
	f.programs()
	f.tables(p)
	return &f.Facts
}

// facts collects them.
type facts struct{ doctor.Facts }

func (f *facts) unseen(what string, why error, do string) {
	f.Unseen = append(f.Unseen, doctor.Unseen{What: what, Why: why.Error(), Do: do})
}

// admin reports whether the kernel answers what only administrators may ask.
func (f *facts) admin() bool { return f.Privileges == nil || f.Privileges.NetAdmin }

func (f *facts) privileges() {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		f.unseen("capabilities", err, "")
		return
	}
	has := func(c uint) bool { return d[0].Effective&(1<<c) != 0 }
	f.Privileges = &doctor.Privileges{NetAdmin: has(unix.CAP_NET_ADMIN), NetRaw: has(unix.CAP_NET_RAW)}
}

var errPrivilege = errors.New("it takes CAP_NET_ADMIN")

func (f *facts) kernel() {
	if !f.admin() {
		f.unseen("kernel", errPrivilege, asRoot)
		return
	}
	f.Kernel = &doctor.Kernel{Lacks: nft.Lacks()}
}

func (f *facts) tun() {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case err == nil:
		unix.Close(fd)
	case err == unix.EACCES && os.Geteuid() != 0:
		f.unseen(path, err, asRoot)
	default:
		f.TUN = fmt.Sprintf("it cannot be opened: %v", err)
	}
}

// parameters reads those of the kernel that matter. One that is not there is of
// something that the kernel does not have.
func (f *facts) parameters() {
	f.Parameters = map[string]string{}
	read := func(key string) {
		b, err := os.ReadFile(filepath.Join("/proc/sys", key))
		if err == nil {
			f.Parameters[strings.ReplaceAll(key, "/", ".")] = strings.TrimSpace(string(b))
		} else if !errors.Is(err, os.ErrNotExist) {
			f.unseen("kernel parameter "+strings.ReplaceAll(key, "/", "."), err, asRoot)
		}
	}
	for _, key := range doctor.Reflecting {
		read(strings.ReplaceAll(key, ".", "/"))
	}
	for _, key := range []string{
		"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding",
		"net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter",
		"net/ipv4/conf/" + f.Names.Device + "/rp_filter", "net/ipv4/conf/" + f.Names.Device + "/src_valid_mark",
		"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables",
	} {
		read(key)
	}
}

// built is when the program was made: by the commit that it was built from, or
// else by its file.
func built() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return t
			}
		}
	}
	if info, err := os.Stat("/proc/self/exe"); err == nil {
		return info.ModTime()
	}
	return time.Time{}
}
