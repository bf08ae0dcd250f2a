package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// host is whose packets are explained: this host, or the one that a capture was
// made on.
type host struct {
	addrs      map[netip.Addr]bool
	broadcasts map[netip.Addr]bool
	global     []netip.Addr // that other hosts know it by
}

// thisHost returns this host.
func thisHost() (*host, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this host: %w", err)
	}
	h := &host{addrs: map[netip.Addr]bool{}, broadcasts: map[netip.Addr]bool{}}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			h.add(p)
		}
	}
	return h, nil
}

// hostOf returns the host of a list of addresses, each with the length of its
// network's prefix if its broadcast address is to be known.
func hostOf(text string) (*host, error) {
	h := &host{addrs: map[netip.Addr]bool{}, broadcasts: map[netip.Addr]bool{}}
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		p, err := netip.ParsePrefix(word)
		if err != nil {
			a, err := parseAddr(word)
			if err != nil {
				return nil, err
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		h.add(p)
	}
	return h, nil
}

func (h *host) add(p netip.Prefix) {
	a := p.Addr().Unmap().WithZone("")
	h.addrs[a] = true
	if a.IsGlobalUnicast() {
		h.global = append(h.global, a)
	}
	if a.Is4() && p.Bits() < 31 {
		h.broadcasts[filter.Subnet(p).Last()] = true
	}
}

func (h *host) local(a netip.Addr) bool { return h.addrs[a] || a.IsLoopback() }

// direction returns the way of a packet.
func (h *host) direction(from, to netip.Addr) filter.Direction {
	switch {
	case h.local(from):
		return filter.Outbound
	case h.local(to), filter.IsMulticast(to), h.broadcasts[to]:
		return filter.Inbound
	}
	return filter.Forward
}

// me returns the address by which the host speaks with another one.
func (h *host) me(other netip.Addr) (netip.Addr, error) {
	// A UDP socket that is connected sends nothing, and has its address.
	if c, err := net.Dial("udp", netip.AddrPortFrom(other, 9).String()); err == nil {
		a := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
		if err := c.Close(); err == nil && h.addrs[a] {
			return a, nil
		}
	}
	for _, a := range h.global {
		if a.Is4() == other.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("this host has no address of the family of %s: write an address instead of me", other)
}

// parseAddr reads a plain address.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Is4In6() || a.Zone() != "" {
		return netip.Addr{}, usageError{fmt.Errorf("%q is no address: write one as in 10.1.2.3 or 2001:db8::1", s)}
	}
	return a, nil
}
