package ike

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// ParseID reads an identity as people write it: an IP address, an e-mail
// address, or else a domain name.
func ParseID(s string) wire.ID {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return AddrID(a)
	}
	if strings.Contains(s, "@") {
		return wire.ID{Kind: wire.IDEmail, Data: []byte(s)}
	}
	return wire.ID{Kind: wire.IDFQDN, Data: []byte(s)}
}

// SameID reports whether an identity is the one that a policy names, in the
// form that ParseID reads, or for a distinguished name as ID.String writes it.
func SameID(named string, id wire.ID) bool {
	want := ParseID(named)
	switch id.Kind {
	case wire.IDDN:
		return id.String() == named
	case wire.IDFQDN:
		return want.Kind == id.Kind && strings.EqualFold(strings.TrimSuffix(named, "."), strings.TrimSuffix(string(id.Data), "."))
	}
	return want.Kind == id.Kind && bytes.Equal(want.Data, id.Data)
}

// AddrID returns an address as an identity.
func AddrID(a netip.Addr) wire.ID {
	a = a.Unmap()
	kind := wire.IDIPv6
	if a.Is4() {
		kind = wire.IDIPv4
	}
	return wire.ID{Kind: kind, Data: a.AsSlice()}
}

// CertID returns the identity that the owner of a certificate claims: the
// first domain name of it, or else the subject, or else another of its
// alternative names.
func CertID(c *x509.Certificate) (wire.ID, error) {
	emptyDN := []byte{0x30, 0}
	switch {
	case len(c.DNSNames) > 0:
		return wire.ID{Kind: wire.IDFQDN, Data: []byte(c.DNSNames[0])}, nil
	case len(c.RawSubject) > 0 && !bytes.Equal(c.RawSubject, emptyDN):
		return wire.ID{Kind: wire.IDDN, Data: c.RawSubject}, nil
	case len(c.IPAddresses) > 0:
		if a, ok := netip.AddrFromSlice(c.IPAddresses[0]); ok {
			return AddrID(a), nil
		}
	case len(c.EmailAddresses) > 0:
		return wire.ID{Kind: wire.IDEmail, Data: []byte(c.EmailAddresses[0])}, nil
	}
	return wire.ID{}, fmt.Errorf("our certificate number %x names nobody: give it a DNS subject alternative name or a subject", c.SerialNumber)
}

// MatchID checks that a certificate speaks for an identity: the name or
// address stands among its alternative names, or the distinguished name is
// its subject, byte for byte (RFC 4945 section 3.1). A wildcard matches
// nothing, since it is no identity.
func MatchID(c *x509.Certificate, id wire.ID) error {
	name := string(id.Data)
	ok := false
	switch id.Kind {
	case wire.IDFQDN:
		ok = slices.ContainsFunc(c.DNSNames, func(s string) bool {
			return !strings.Contains(s, "*") && strings.EqualFold(strings.TrimSuffix(s, "."), strings.TrimSuffix(name, "."))
		})
	case wire.IDEmail:
		ok = slices.Contains(c.EmailAddresses, name)
	case wire.IDIPv4, wire.IDIPv6:
		a, valid := netip.AddrFromSlice(id.Data)
		for _, ip := range c.IPAddresses {
			b, _ := netip.AddrFromSlice(ip)
			ok = ok || valid && a == b.Unmap()
		}
	case wire.IDDN:
		ok = bytes.Equal(c.RawSubject, id.Data)
	}
	if !ok {
		return fmt.Errorf("the certificate of %q does not speak for %s", c.Subject, id)
	}
	return nil
}
