package surroundings

import (
	"net/netip"
	"slices"
	"strings"
)

// stub is where systemd-resolved answers.
var stub = netip.AddrFrom4([4]byte{127, 0, 0, 53})

// maxServers is how many servers of resolv.conf are asked: the MAXNS of
// resolv.conf(5).
const maxServers = 3

// parseResolvConf returns the addresses of the nameserver lines, in their
// order, as they are written (resolv.conf(5): the keyword begins the line).
// Lines that it does not understand it leaves out, as the resolver of the C
// library does.
func parseResolvConf(content []byte) []netip.Addr {
	var servers []netip.Addr
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || line[0] != 'n' {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, a)
		}
	}
	return servers
}

// onlyStub reports whether systemd-resolved stands before all servers.
func onlyStub(servers []netip.Addr) bool {
	return len(servers) > 0 && !slices.ContainsFunc(servers, func(a netip.Addr) bool { return a != stub })
}

// asked returns the servers that are asked, given those that are named: a
// host that names none has its own (resolv.conf(5)).
func asked(named []netip.Addr) []netip.Addr {
	if len(named) == 0 {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return named[:min(len(named), maxServers)]
}

// parseHosts returns the unicast addresses that hosts(5) gives to some of the
// names, by canonical name.
func parseHosts(content []byte, names []string) map[string][]netip.Addr {
	hosts := make(map[string][]netip.Addr, len(names))
	wanted := make(map[string]bool, len(names))
	for _, n := range names {
		wanted[canonical(n)] = true
	}
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, alias := range fields[1:] {
			if alias = canonical(alias); wanted[alias] {
				hosts[alias] = append(hosts[alias], a)
			}
		}
	}
	for n, addrs := range hosts {
		if hosts[n] = set(addrs); len(hosts[n]) == 0 {
			delete(hosts, n)
		}
	}
	return hosts
}

// canonical is the spelling by which names are compared: in lower case, as
// far as ASCII goes (RFC 4343), and without the dot of the root.
func canonical(name string) string {
	lower := []byte(strings.TrimSuffix(name, "."))
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	return string(lower)
}
