package rules

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Print writes the file in its canonical form: keys in a fixed order, one
// filter and one rule to a line, and nothing that is so by default. Parse
// reads the same File from it, but for positions. Comments are not kept.
func (f *File) Print() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nname: %s\n\nfilter-lists:\n", quote(f.Name))
	for _, l := range f.Lists {
		fmt.Fprintf(&b, "  %s:\n", quote(l.Name))
		for _, x := range l.Filters {
			fmt.Fprintf(&b, "    - %s\n", printFilter(x))
		}
	}
	if len(f.Actions) > 0 {
		b.WriteString("\nfilter-actions:\n")
		for _, a := range f.Actions {
			fmt.Fprintf(&b, "  %s:\n    %s: %s\n", quote(a.Name), a.Action, printNegotiate(a))
		}
	}
	b.WriteString("\nrules:\n")
	for _, r := range f.Rules {
		fmt.Fprintf(&b, "  - %s\n", printRule(r))
	}
	var k pairs
	if len(f.KeyExchange.Proposals) > 0 {
		k.add("proposals", "["+strings.Join(f.KeyExchange.Proposals, ", ")+"]")
	}
	if f.KeyExchange.Lifetime != defaultIKELifetime {
		k.add("lifetime", printDuration(f.KeyExchange.Lifetime))
	}
	if f.KeyExchange.Liveness != defaultLiveness {
		k.add("liveness", printDuration(f.KeyExchange.Liveness))
	}
	if len(k) > 0 {
		fmt.Fprintf(&b, "\nkey-exchange: %s\n", k)
	}
	return []byte(b.String())
}

// pairs is a mapping on one line.
type pairs []string

func (p *pairs) add(key, value string) { *p = append(*p, key+": "+value) }

func (p pairs) String() string { return "{" + strings.Join(p, ", ") + "}" }

func printFilter(f Filter) string {
	var p pairs
	s := f.Selector
	p.add("from", quote(s.From.String()))
	p.add("to", quote(s.To.String()))
	if s.HasProtocol {
		p.add("protocol", filter.ProtocolName(s.Protocol))
	}
	if !s.FromPort.Any() {
		p.add("from-port", s.FromPort.String())
	}
	if !s.ToPort.Any() {
		p.add("to-port", s.ToPort.String())
	}
	if !f.Mirrored {
		p.add("mirrored", "false")
	}
	if f.Description != "" {
		p.add("description", quote(f.Description))
	}
	return p.String()
}

func printNegotiate(a Action) string {
	var p pairs
	if n := a.Negotiate; a.Action == filter.Negotiate {
		p.add("mode", n.Mode.String())
		if !slices.Equal(n.Proposals, defaultESP) {
			p.add("proposals", "["+strings.Join(n.Proposals, ", ")+"]")
		}
		if !n.ESN {
			p.add("esn", "false")
		}
		if n.Lifetime != defaultLifetime {
			p.add("lifetime", printDuration(n.Lifetime))
		}
		if n.ForceUDP {
			p.add("udp-encapsulation", "always")
		}
		if n.Mode == ipsec.Tunnel {
			p.add("tunnel", printTunnel(n.TunnelLocal, n.TunnelPeer))
		}
	}
	return p.String()
}

func printTunnel(local, remote netip.Addr) string {
	var p pairs
	p.add("local", quote(local.String()))
	p.add("remote", quote(remote.String()))
	return p.String()
}

func printRule(r Rule) string {
	var p pairs
	p.add("name", quote(r.Name))
	p.add("filter-list", quote(r.List))
	p.add("action", quote(r.Action))
	if len(r.Authentication) > 0 {
		methods := make([]string, len(r.Authentication))
		for i, a := range r.Authentication {
			methods[i] = printAuthentication(a)
		}
		p.add("authentication", "["+strings.Join(methods, ", ")+"]")
	}
	if r.OwnID != "" {
		p.add("own-id", quote(r.OwnID))
	}
	if r.PeerID != "" {
		p.add("peer-id", quote(r.PeerID))
	}
	return p.String()
}

func printAuthentication(a Authentication) string {
	var p, inner pairs
	if c := a.Certificate; c != nil {
		inner.add("authority", quote(c.Authority))
		inner.add("own", quote(c.Own))
		inner.add("key", quote(c.Key))
		p.add("certificate", inner.String())
		return p.String()
	}
	inner.add("file", quote(a.PresharedKey.File))
	p.add("preshared-key", inner.String())
	return p.String()
}

// plain is text that no YAML parser takes for anything else, but for the
// words in reserved.
var plain = regexp.MustCompile(`^(/?[A-Za-z]|[0-9]+\.[0-9]+\.[0-9]+\.[0-9])[A-Za-z0-9._/-]*$`)

var reserved = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null"}

// quote writes text as a YAML scalar, in double quotes where it must.
func quote(s string) string {
	if plain.MatchString(s) && !slices.Contains(reserved, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(s)
}
