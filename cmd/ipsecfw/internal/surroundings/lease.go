package surroundings

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lease is what a DHCP client remembers of one.
type lease struct {
	server netip.Addr
	expiry time.Time // zero if the lease has no end, or its file does not say
}

// parser reads a file of leases that was last written at a time.
type parser func(content []byte, written time.Time) ([]lease, error)

// leaseFiles is where clients keep their leases, all for IPv4: servers of
// DHCPv6 are spoken to by multicast, and no client keeps their addresses.
var leaseFiles = []struct {
	dir, files string
	parse      parser
}{
	{"/run/systemd/netif/leases", "*", parseNetworkd},
	{"/run/NetworkManager/devices", "*", parseDevice},
	{"/var/lib/NetworkManager", "internal-*.lease", parseNetworkd},
	{"/var/lib/NetworkManager", "dhclient-*.lease", parseDhclient},
	{"/var/lib/dhcp", "*.leases", parseDhclient},
	{"/var/lib/dhclient", "*.lease*", parseDhclient},
	{"/var/lib/dhcpcd", "*.lease", parseDhcpcd},
}

// leases returns the leases of all clients. For a file that cannot be
// understood, or a directory that cannot be read, they are those that were
// there before, and the error names it.
func (s *sources) leases() ([]lease, error) {
	var all []lease
	var errs []error
	known := make(map[string][]lease)
	for _, kind := range leaseFiles {
		dir := s.cfg.path(kind.dir)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
			for path, found := range s.known {
				if filepath.Dir(path) == dir {
					known[path] = found
					all = append(all, found...)
				}
			}
			continue
		}
		for _, e := range entries {
			fits, _ := filepath.Match(kind.files, e.Name())
			if !fits || strings.HasPrefix(e.Name(), ".") || e.IsDir() {
				continue
			}
			path := filepath.Join(dir, e.Name())
			content, written, err := readFile(path)
			if errors.Is(err, os.ErrNotExist) {
				continue // gone since
			}
			var found []lease
			if err == nil {
				if found, err = kind.parse(content, written); err != nil {
					err = fmt.Errorf("leases in %s: %w", path, err)
				}
			}
			if err != nil {
				errs = append(errs, err)
				found = s.known[path]
			}
			known[path] = found
			all = append(all, found...)
		}
	}
	s.known = known
	return all, errors.Join(errs...)
}

// valid returns the servers of the leases that are valid, and when the first
// of these ends.
func valid(leases []lease, now time.Time) (servers []netip.Addr, expiry time.Time) {
	for _, l := range leases {
		if l.expiry.IsZero() {
			servers = append(servers, l.server)
			continue
		}
		if !now.Before(l.expiry) {
			continue
		}
		servers = append(servers, l.server)
		if expiry.IsZero() || l.expiry.Before(expiry) {
			expiry = l.expiry
		}
	}
	return set(servers), expiry
}
