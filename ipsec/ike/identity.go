package ike

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// ParseID reads an identity as people write it: an IP address, an e-mail
// address, a distinguished name as in RFC 4514 ("CN=host, O=Acme", the most
// specific part first), or else a domain name. A prefix says what it is where
// that could be mistaken: "ipv4:", "ipv6:", "email:", "dn:", "fqdn:", or
// "keyid:" for an ID_KEY_ID, whose bytes may be written in hexadecimal after
// "#". What does not have the form that its prefix promises gives an identity
// of kind 0, which is nobody's.
func ParseID(s string) wire.ID {
	if prefix, rest, ok := strings.Cut(s, ":"); ok {
		if id, ok := prefixed(strings.ToLower(prefix), rest); ok {
			return id
		}
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return AddrID(a)
	}
	if id, err := dnID(s); err == nil {
		return id
	}
	if strings.Contains(s, "@") {
		return wire.ID{Kind: wire.IDEmail, Data: []byte(s)}
	}
	return wire.ID{Kind: wire.IDFQDN, Data: []byte(s)}
}

func prefixed(prefix, s string) (id wire.ID, known bool) {
	switch prefix {
	case "fqdn":
		return wire.ID{Kind: wire.IDFQDN, Data: []byte(s)}, true
	case "email":
		return wire.ID{Kind: wire.IDEmail, Data: []byte(s)}, true
	case "dn":
		id, _ = dnID(s) // of kind 0 if it is none
		return id, true
	case "ipv4", "ipv6":
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && a.Is4() == (prefix == "ipv4") {
			id = AddrID(a)
		}
		return id, true
	case "keyid":
		data := []byte(s)
		if digits, ok := strings.CutPrefix(s, "#"); ok {
			var err error
			if data, err = hex.DecodeString(digits); err != nil {
				return wire.ID{}, true
			}
		}
		return wire.ID{Kind: wire.IDKeyID, Data: data}, true
	}
	return id, false
}

// claimedID reads the identity that we are to claim.
func claimedID(s string) (wire.ID, error) {
	id := ParseID(s)
	if id.Kind == 0 || len(id.Data) == 0 {
		return id, fmt.Errorf("our identity %q does not have the form that its prefix promises", s)
	}
	return id, nil
}

// SameID reports whether an identity is the one that a policy names, in the
// form that ParseID reads. Of domain names, case and the final dot do not
// count; distinguished names are compared part by part, and may be written in
// either direction.
func SameID(named string, id wire.ID) bool {
	want := ParseID(named)
	if want.Kind != id.Kind || want.Kind == 0 {
		return false
	}
	switch id.Kind {
	case wire.IDDN:
		a, err1 := decodeDN(want.Data)
		b, err2 := decodeDN(id.Data)
		if err1 != nil || err2 != nil {
			return false
		}
		if sameDN(a, b) {
			return true
		}
		slices.Reverse(a)
		return sameDN(a, b)
	case wire.IDFQDN:
		return sameName(string(want.Data), string(id.Data))
	}
	return bytes.Equal(want.Data, id.Data)
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
	return wire.ID{}, fmt.Errorf("our certificate number %s names nobody: give it a DNS subject alternative name or a subject", pki.Serial(c))
}

// MatchID checks that a certificate speaks for an identity: the name or
// address stands among its alternative names, or the distinguished name is
// its subject (RFC 4945 section 3.1). A wildcard matches nothing, since it is
// no identity. The error is a *pki.CertificateError.
func MatchID(c *x509.Certificate, id wire.ID) error {
	if speaksFor(c, id) {
		return nil
	}
	e := pki.NewError(c, pki.NotForIdentity, time.Time{}, nil)
	e.Detail = fmt.Sprintf("the peer calls itself %s, and the certificate says %q", clip(id.String()), certNames(c))
	e.Detail = clip(e.Detail)
	return e
}

func speaksFor(c *x509.Certificate, id wire.ID) bool {
	name := string(id.Data)
	switch id.Kind {
	case wire.IDFQDN:
		return slices.ContainsFunc(c.DNSNames, func(s string) bool { return name != "" && !strings.Contains(s, "*") && sameName(s, name) })
	case wire.IDEmail:
		return slices.Contains(c.EmailAddresses, name)
	case wire.IDIPv4, wire.IDIPv6:
		want, valid := netip.AddrFromSlice(id.Data)
		for _, ip := range c.IPAddresses {
			if a, ok := netip.AddrFromSlice(ip); ok && valid && a.Unmap() == want {
				return true
			}
		}
	case wire.IDDN:
		if bytes.Equal(c.RawSubject, id.Data) {
			return true
		}
		// The peer may have encoded its strings in another way than its issuer.
		a, err1 := decodeDN(c.RawSubject)
		b, err2 := decodeDN(id.Data)
		return err1 == nil && err2 == nil && len(a) > 0 && sameDN(a, b)
	}
	return false
}
