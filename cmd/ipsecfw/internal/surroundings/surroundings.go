// Package surroundings tells what the sides of filters stand for that the
// host's surroundings decide: DNS names, and the servers and gateways of the
// host's own configuration. It finds out once (Look) and follows what changes
// (Watch).
//
// What cannot be found out at the moment keeps what it last stood for: a name
// whose server is silent, a file that cannot be read.
package surroundings

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"time"
)

// Wanted is what a policy asks for.
type Wanted struct {
	Names           []string // absolute domain names, with or without the last dot
	DNSServers      bool     // those that the host asks, loopback addresses left out
	DHCPServers     bool     // IPv4: those that gave the host a lease that is valid still
	DefaultGateways bool     // the next hops of all default routes of the main table
}

// Addresses is what it stands for now. IPv4 addresses are never written as
// IPv6, IPv6 addresses have no zone, all are unicast. Every slice is sorted
// and without duplicates. Do not modify what the slices hold: successive
// values share them.
type Addresses struct {
	// Names has an entry for every name that is wanted, spelt as it was
	// wanted; empty for one that never resolved. A name has at most 64.
	Names map[string][]netip.Addr

	DNSServers, DHCPServers, DefaultGateways []netip.Addr
}

// Equal reports whether a and b are the same addresses.
func (a Addresses) Equal(b Addresses) bool {
	return maps.EqualFunc(a.Names, b.Names, slices.Equal[[]netip.Addr]) &&
		slices.Equal(a.DNSServers, b.DNSServers) &&
		slices.Equal(a.DHCPServers, b.DHCPServers) &&
		slices.Equal(a.DefaultGateways, b.DefaultGateways)
}

// Config says where to look. The zero value is the host itself.
type Config struct {
	Root    string           // goes before /etc, /run and /var; absolute symbolic links below it are the kernel's to follow
	Log     *slog.Logger     // nil for none
	Now     func() time.Time // nil for time.Now; leases and answers expire by it
	DNSPort uint16           // of the servers in resolv.conf; 0 for 53

	tempo tempo // zero for usual
}

// tempo is how often and how long.
type tempo struct {
	minTTL, maxTTL        time.Duration // an answer is believed no shorter and no longer
	firstRetry, lastRetry time.Duration // after a failure, doubling from the first to the last
	settle                time.Duration // from the first sign of a change to the look at it
	exchange              time.Duration // for a question to one server
}

var usual = tempo{
	minTTL:     5 * time.Second,
	maxTTL:     time.Hour,
	firstRetry: 5 * time.Second,
	lastRetry:  5 * time.Minute,
	settle:     200 * time.Millisecond,
	exchange:   3 * time.Second,
}

func (c Config) complete() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.DNSPort == 0 {
		c.DNSPort = 53
	}
	if c.tempo == (tempo{}) {
		c.tempo = usual
	}
	return c
}

// path is where a file of the host is.
func (c Config) path(p string) string { return filepath.Join("/", c.Root, p) }

// LookupError says why a name did not resolve, in one family or in both.
type LookupError struct {
	Name string // as it was wanted
	Err  error
}

func (e *LookupError) Error() string { return fmt.Sprintf("resolve %s: %v", e.Name, e.Err) }

// Unwrap returns the cause: ErrNoSuchName, ErrNoAddress, or what was wrong
// with the servers.
func (e *LookupError) Unwrap() error { return e.Err }

// Look finds out what is wanted once, until ctx ends. The error joins a
// *LookupError for every name that did not resolve, and what is wrong with
// files and routes that could not be read; everything else in the result is
// valid. Files that do not exist are no error. Gateways are those of the
// network namespace of the calling thread.
func Look(ctx context.Context, w Wanted, cfg Config) (Addresses, error) {
	cfg = cfg.complete()
	s := sources{wanted: w, cfg: cfg}
	if err := s.open(); err != nil {
		return Addresses{}, err
	}
	defer s.close()
	here, err := s.read(local{})
	errs := []error{err}

	names := make(map[string]*name, len(w.Names))
	answers := make(chan resolved)
	asker := newAsker(cfg, here.servers)
	asked := 0
	for _, n := range w.Names {
		if names[n] != nil {
			continue
		}
		names[n] = &name{}
		if addrs := here.hosts[canonical(n)]; len(addrs) > 0 {
			names[n].know(addrs)
			continue
		}
		asked++
		go func() { answers <- resolved{name: n, found: asker.lookup(ctx, n)} }()
	}
	for range asked {
		a := <-answers
		if err := names[a.name].learn(a.found, cfg.Now(), cfg.tempo); err != nil {
			errs = append(errs, &LookupError{Name: a.name, Err: err})
		}
	}
	return assemble(here, names, cfg.Log), errors.Join(errs...)
}

// assemble puts together what files, routes and servers said.
func assemble(here local, names map[string]*name, log *slog.Logger) Addresses {
	a := Addresses{
		Names:           make(map[string][]netip.Addr, len(names)),
		DNSServers:      here.dns,
		DHCPServers:     here.dhcp,
		DefaultGateways: here.gateways,
	}
	for n, state := range names {
		a.Names[n] = state.addresses(n, log)
	}
	return a
}

// unicast returns an address as Addresses has it; ok is false for one that is
// not that of a single host.
func unicast(a netip.Addr) (clean netip.Addr, ok bool) {
	a = a.Unmap().WithZone("")
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return a, a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && a != broadcast
}

// set sorts addresses and removes duplicates and what is not unicast, in
// place.
func set(addrs []netip.Addr) []netip.Addr {
	kept := addrs[:0]
	for _, a := range addrs {
		if a, ok := unicast(a); ok {
			kept = append(kept, a)
		}
	}
	slices.SortFunc(kept, netip.Addr.Compare)
	return slices.Compact(kept)
}
