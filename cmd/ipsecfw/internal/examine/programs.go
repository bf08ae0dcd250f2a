package examine

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/doctor"
	"github.com/ipsecfw/ipsecfw/filter"
)

// programs finds who does IPsec in this network namespace, and who has the
// ports and queues that a daemon needs.
func (f *facts) programs() {
	ports := f.sockets()
	queues := f.queues()
	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		f.unseen("programs", err, "")
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		f.unseen("programs", err, "")
	}
	holders := map[string]doctor.Program{} // by the number of a socket
	hidden := false
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		args := strings.Split(string(line), "\x00")
		if err != nil || args[0] == "" {
			continue // it has ended, or is of the kernel
		}
		p := doctor.Program{PID: pid, Name: filepath.Base(args[0])}
		ns, err := os.Readlink(filepath.Join(dir, "ns/net"))
		hidden = hidden || errors.Is(err, fs.ErrPermission)
		ours := p.Name == "ipsecfw" && slices.Contains(args[1:], "daemon")
		if err == nil && ns == here && (ours || doctor.KeyExchange(p.Name)) {
			f.Programs = append(f.Programs, p)
		}
		// Whoever has a socket may have come from another namespace.
		if len(ports)+len(queues) > 0 {
			hold(holders, dir, p)
		}
	}
	if hidden {
		do := asRoot
		if os.Geteuid() == 0 { // and in a container
			do = "run this command outside of the container"
		}
		f.unseen("programs", errors.New("some are hidden"), do)
	}
	for _, s := range ports {
		f.Ports = append(f.Ports, doctor.Port{Number: s.number, Holder: holders[s.inode]})
	}
	for _, s := range queues {
		f.Queues = append(f.Queues, doctor.Queue{Number: s.number, Holder: holders[s.inode]})
	}
}

// hold notes the sockets of a process.
func hold(holders map[string]doctor.Program, dir string, p doctor.Program) {
	files, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return // it has ended, or is hidden
	}
	for _, file := range files {
		to, err := os.Readlink(filepath.Join(dir, "fd", file.Name()))
		if inode, ok := strings.CutPrefix(to, "socket:["); ok && err == nil {
			holders[strings.TrimSuffix(inode, "]")] = p
		}
	}
}

// socket is a socket by which a program has a port or a queue.
type socket struct {
	number uint16
	inode  string
}

// sockets returns those of the key exchange's ports.
func (f *facts) sockets() []socket {
	var out []socket
	for _, path := range []string{"/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"} {
		err := lines(path, func(w []string) {
			if len(w) < 10 {
				return
			}
			_, hex, ok := strings.Cut(w[1], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			if ok && err == nil && (port == filter.IKEPort || port == filter.NATPort) {
				out = append(out, socket{uint16(port), w[9]})
			}
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.unseen("UDP ports", err, asRoot)
		}
	}
	return out
}

// queues returns the sockets that read queues.
func (f *facts) queues() []socket {
	const netfilter = "12" // NETLINK_NETFILTER of linux/netlink.h
	inodes := map[string]string{}
	err := lines("/proc/thread-self/net/netlink", func(w []string) {
		if len(w) >= 10 && w[1] == netfilter {
			inodes[w[2]] = w[9]
		}
	})
	var out []socket
	if err == nil {
		err = lines("/proc/thread-self/net/netfilter/nfnetlink_queue", func(w []string) {
			if len(w) < 2 {
				return
			}
			if number, err := strconv.ParseUint(w[0], 10, 16); err == nil {
				out = append(out, socket{uint16(number), inodes[w[1]]})
			}
		})
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.unseen("queues", err, asRoot)
	}
	return out
}

// lines gives the words of each line of a file to take.
func lines(path string, take func(words []string)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	for s.Scan() {
		take(strings.Fields(s.Text()))
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
