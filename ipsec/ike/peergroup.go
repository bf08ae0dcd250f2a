package ike

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// PeerGroup is peers that may have a rule's SAs, by what their certificates
// say, or by the identity that goes with a preshared key.
type PeerGroup struct {
	Name string
	// Names are those that a peer may have: alternative names of its
	// certificate (a domain name, an e-mail address, an IP address) or its
	// common name. Case does not count, and "*" in place of a domain name's
	// first label stands for any one label (RFC 6125 section 6.4.3).
	Names []string
	Units []string // organisational units of the certificate's subject
}

// admits checks that a peer belongs to the group; nil admits everybody. With a
// preshared key the identity is all there is. The error wraps
// ErrAuthentication.
func (g *PeerGroup) admits(p Proof) error {
	if g == nil {
		return nil
	}
	names, units := idNames(p.ID), []string(nil)
	what := fmt.Sprintf("%s, by a preshared key,", p.ID)
	if len(p.Chain) > 0 {
		c := p.Chain[0]
		names, units = certNames(c), c.Subject.OrganizationalUnit
		what = fmt.Sprintf("the certificate of %q with the names %q and the units %q", c.Subject, names, units)
	}
	if slices.ContainsFunc(names, g.names) || slices.ContainsFunc(units, func(u string) bool { return slices.Contains(g.Units, u) }) {
		return nil
	}
	return fmt.Errorf("%w: %s is not of the peers %q", ErrAuthentication, clip(what), g.Name)
}

// names reports whether the group has a peer's name. A name with a wildcard,
// as some certificates have it, is nobody's.
func (g *PeerGroup) names(name string) bool {
	if name == "" || strings.Contains(name, "*") {
		return false
	}
	addr, err := netip.ParseAddr(name)
	address := err == nil
	return slices.ContainsFunc(g.Names, func(want string) bool {
		if parent, ok := strings.CutPrefix(want, "*."); ok {
			label, rest, dotted := strings.Cut(name, ".")
			return dotted && label != "" && !strings.Contains(name, "@") && !address && sameName(parent, rest)
		}
		if w, err := netip.ParseAddr(want); err == nil {
			return address && w.Unmap() == addr.Unmap()
		}
		return sameName(want, name)
	})
}

// sameName compares without regard to case, but only in ASCII: there are
// other letters that fold to those of it, and are none of them.
func sameName(a, b string) bool {
	a, b = strings.TrimSuffix(a, "."), strings.TrimSuffix(b, ".")
	return a == b || ascii(a) && ascii(b) && strings.EqualFold(a, b)
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f })
}

// certNames returns what a certificate calls its owner.
func certNames(c *x509.Certificate) []string {
	names := slices.Concat(c.DNSNames, c.EmailAddresses)
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			names = append(names, a.Unmap().String())
		}
	}
	if c.Subject.CommonName != "" {
		names = append(names, c.Subject.CommonName)
	}
	return names
}

// idNames returns the name that an identity of a preshared key is.
func idNames(id wire.ID) []string {
	switch id.Kind {
	case wire.IDIPv4, wire.IDIPv6:
		return []string{id.String()}
	case wire.IDFQDN, wire.IDEmail:
		return []string{string(id.Data)}
	}
	return nil
}

// equal reports whether two groups have the same peers, and say so.
func (g *PeerGroup) equal(h *PeerGroup) bool {
	if g == nil || h == nil {
		return g == h
	}
	return g.Name == h.Name && slices.Equal(g.Names, h.Names) && slices.Equal(g.Units, h.Units)
}
