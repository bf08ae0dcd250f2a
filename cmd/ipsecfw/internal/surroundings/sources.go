package surroundings

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The files that say which servers there are and what they need not be asked.
const (
	resolvConf  = "/etc/resolv.conf"
	resolvedOwn = "/run/systemd/resolve/resolv.conf" // the servers behind the stub of systemd-resolved
	hostsFile   = "/etc/hosts"
)

// maxFile bounds what is read of a file, in bytes: lists of blocked names in
// /etc/hosts have several million.
const maxFile = 64 << 20

// local is what the host itself says, before any server is asked.
type local struct {
	dns, dhcp, gateways []netip.Addr

	servers []netip.AddrPort        // to ask for names
	hosts   map[string][]netip.Addr // by canonical name, of the wanted names only
	expiry  time.Time               // when the first of the leases ends, zero for never
}

// sameNaming reports whether names mean the same by l and m, but for what
// servers change.
func (l local) sameNaming(m local) bool {
	return slices.Equal(l.servers, m.servers) && maps.EqualFunc(l.hosts, m.hosts, slices.Equal[[]netip.Addr])
}

// sources reads what the host itself says.
type sources struct {
	wanted Wanted
	cfg    Config // complete
	routes *netlink.Handle
	known  map[string][]lease // by path, what was last understood
}

func (s *sources) open() error {
	if !s.wanted.DefaultGateways {
		return nil
	}
	var err error
	if s.routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink to list routes: %w", err)
	}
	return nil
}

func (s *sources) close() {
	if s.routes != nil {
		s.routes.Close()
	}
}

// read reads everything that is wanted. What cannot be read stays as it is in
// last, and the error says what that was.
func (s *sources) read(last local) (local, error) {
	now := last
	var errs []error
	if len(s.wanted.Names) > 0 {
		servers, err := s.servers()
		if err == nil {
			now.servers = servers
		}
		content, err2 := s.file(hostsFile)
		if err2 == nil {
			now.hosts = parseHosts(content, s.wanted.Names)
		}
		errs = append(errs, err, err2)
	}
	if s.wanted.DNSServers {
		dns, err := s.dnsServers()
		if err == nil {
			now.dns = dns
		}
		errs = append(errs, err)
	}
	if s.wanted.DHCPServers {
		leases, err := s.leases()
		now.dhcp, now.expiry = valid(leases, s.cfg.Now())
		errs = append(errs, err)
	}
	if s.wanted.DefaultGateways {
		gateways, err := listGateways(s.routes)
		if err == nil {
			now.gateways = gateways
		}
		errs = append(errs, err)
	}
	return now, errors.Join(errs...)
}

// servers returns whom to ask for names.
func (s *sources) servers() ([]netip.AddrPort, error) {
	content, err := s.file(resolvConf)
	if err != nil {
		return nil, err
	}
	var servers []netip.AddrPort
	for _, a := range asked(parseResolvConf(content)) {
		servers = append(servers, netip.AddrPortFrom(a, s.cfg.DNSPort))
	}
	return servers, nil
}

// dnsServers returns what the side dns-servers stands for.
func (s *sources) dnsServers() ([]netip.Addr, error) {
	content, err := s.file(resolvConf)
	if err != nil {
		return nil, err
	}
	named := parseResolvConf(content)
	if onlyStub(named) {
		if content, err = s.file(resolvedOwn); err != nil {
			return nil, err
		}
		named = parseResolvConf(content)
	}
	return set(slices.DeleteFunc(named, func(a netip.Addr) bool { return a.Unmap().IsLoopback() })), nil
}

// file returns the content of a file of the host, nil if there is none.
func (s *sources) file(path string) ([]byte, error) {
	content, _, err := readFile(s.cfg.path(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

// readFile returns the content of a file, and when it was last written.
func readFile(path string) ([]byte, time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(content) > maxFile {
		return nil, time.Time{}, fmt.Errorf("read %s: it has more than %d bytes", path, maxFile)
	}
	return content, info.ModTime(), nil
}
