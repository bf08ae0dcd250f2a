package ike

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// PeerGroup is peers that may have a rule's SAs, by what their verified
// certificates say, by their raw keys, or by the identity that goes with a
// preshared key. A peer that proved nothing belongs to no group.
type PeerGroup struct {
	Name string
	// Names are those that a peer may have: alternative names of its
	// certificate (a domain name, an e-mail address, an IP address) or its
	// common name. Case does not count, and "*" in place of a domain name's
	// first label stands for any one label (RFC 6125 section 6.4.3).
	Names        []string
	Units        []string      // organisational units of the certificate's subject
	DNs          []DNPattern   // of the certificate's subject
	Fingerprints []Fingerprint // of the certificate, of its public key, or of a raw key
	// Except are peers that are refused though all else says that they belong;
	// nil for none. Its name is for the reader of the refusal.
	Except *PeerGroup
}

// admits checks that a peer belongs to the group; nil admits everybody. With a
// preshared key the identity is all there is. The error is an
// *AuthorizationError.
func (g *PeerGroup) admits(p Proof) error {
	if g == nil {
		return nil
	}
	w := whoIs(p)
	refused := func(setting, why string) error {
		return &AuthorizationError{
			Peer: p.ID.String(), Group: g.Name, Why: clip(w.what) + " " + why + w.prints(), Setting: "peers: " + g.Name + setting,
		}
	}
	if !g.has(w, w.names) {
		setting := ""
		if len(g.Fingerprints) > 0 && len(g.Names)+len(g.Units)+len(g.DNs) == 0 {
			setting = ": fingerprints"
		}
		return refused(setting, fmt.Sprintf("is not of the peers %q", g.Name))
	}
	if g.Except != nil && g.Except.has(w, w.all) {
		why := fmt.Sprintf("is one of those whom the peers %q except", g.Name)
		if g.Except.Name != "" {
			why += fmt.Sprintf(", %q", g.Except.Name)
		}
		return refused(": except", why)
	}
	return nil
}

// whois is what is known of a peer that proved something.
type whois struct {
	what         string   // for people
	names        []string // by which it may belong to a group
	all          []string // by which it may be excepted
	units        []string
	fingerprints []Fingerprint
	subject      []byte // DER of the certificate's; nil without
}

func whoIs(p Proof) whois {
	var w whois
	add := func(key any) {
		if fp, err := KeyFingerprint(key); err == nil {
			w.fingerprints = append(w.fingerprints, fp)
		}
	}
	switch {
	case len(p.Chain) > 0:
		c := p.Chain[0]
		w.names, w.all, w.units, w.subject = groupNames(p.Chain), certNames(c), c.Subject.OrganizationalUnit, c.RawSubject
		w.fingerprints = []Fingerprint{CertFingerprint(c)}
		add(c.PublicKey)
		w.what = fmt.Sprintf("the certificate of %q with the names %q and the units %q", c.Subject, w.all, w.units)
	case p.Key != nil:
		if w.all = idNames(p.ID); p.Named {
			w.names = w.all
		}
		add(p.Key)
		w.what = fmt.Sprintf("%s, by a raw key,", p.ID)
	case p.ID.Kind == wire.IDNull:
		w.what = "somebody who proved nothing"
	default:
		w.names = idNames(p.ID)
		w.what = fmt.Sprintf("%s, by a preshared key,", p.ID)
	}
	if w.all == nil {
		w.all = w.names
	}
	return w
}

// prints says what fingerprints the peer has, in the words of the rule file.
func (w whois) prints() string {
	switch len(w.fingerprints) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("; its fingerprint is %s", w.fingerprints[0])
	}
	return fmt.Sprintf("; its fingerprint is %s, that of its key %s", w.fingerprints[0], w.fingerprints[1])
}

// has reports whether the group lists a peer in any of the ways, of its names
// by those given.
func (g *PeerGroup) has(w whois, names []string) bool {
	if slices.ContainsFunc(names, g.names) ||
		slices.ContainsFunc(w.units, func(u string) bool { return slices.Contains(g.Units, u) }) ||
		slices.ContainsFunc(w.fingerprints, func(f Fingerprint) bool { return slices.Contains(g.Fingerprints, f) }) {
		return true
	}
	subject, err := decodeDN(w.subject)
	return err == nil && slices.ContainsFunc(g.DNs, func(p DNPattern) bool { return p.matches(subject) })
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

// groupNames returns the names by which the owner of a verified certificate
// may belong to a group. The common name is none where an authority of the
// chain is constrained in the names that it may give: the constraints do not
// reach it.
func groupNames(chain []*x509.Certificate) []string {
	names := certNames(chain[0])
	if chain[0].Subject.CommonName != "" && slices.ContainsFunc(chain[1:], constrained) {
		names = names[:len(names)-1]
	}
	return names
}

func constrained(c *x509.Certificate) bool {
	return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
}

// idNames returns the name that an identity without a certificate is.
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
	return g.Name == h.Name && slices.Equal(g.Names, h.Names) && slices.Equal(g.Units, h.Units) &&
		slices.EqualFunc(g.DNs, h.DNs, func(a, b DNPattern) bool { return a.text == b.text }) &&
		slices.Equal(g.Fingerprints, h.Fingerprints) && g.Except.equal(h.Except)
}
