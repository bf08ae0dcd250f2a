package credentials

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
	"github.com/ipsecfw/ipsecfw/rules"
)

// goodSecret is from how many bytes on a preshared key is not warned of:
// whoever records a handshake can try shorter ones at home, unless they are
// random.
const goodSecret = 16

// Warnings returns what works and should not stay so, or will soon be refused
// by peers, each beginning with the place of the key of the rule from which the
// credentials were loaded.
func (c Credentials) Warnings(n rules.Negotiation, now time.Time) []string {
	var out []string
	for i, m := range c.Auth {
		at := func(key string) warner {
			return func(format string, args ...any) {
				out = append(out, fmt.Sprintf("%s: warning: rule %q: ", n.At(way(i)+key), n.Rule)+fmt.Sprintf(format, args...))
			}
		}
		switch m := m.(type) {
		case ike.PresharedKey:
			if len(m.Secret) < goodSecret {
				at("preshared-key/file")("the preshared key has %d bytes: write at least 32 random characters", len(m.Secret))
			}
		case ike.Certificate:
			own := at("certificate/own")
			if n.Auth[i].Certificate.PKCS12 != "" {
				own = at("certificate/pkcs12")
			}
			for _, x := range m.Chain {
				expiry(x, now, own)
			}
			for _, x := range m.Roots {
				expiry(x, now, at("certificate/authority"))
			}
			issued(m, now, own)
			for _, l := range m.CRLs {
				if end := l.NextUpdate(); !end.IsZero() && now.After(end) {
					at("certificate/crl")("the list of revoked certificates of %q was to be replaced on %s: what it lists is refused still, and of all else it says nothing any more", l.Issuer(), end.Format(time.DateOnly))
				}
			}
		}
	}
	return out
}

// warner takes a warning that is about one key of a rule.
type warner func(format string, args ...any)

// issued warns of a certificate of ours that none of our authorities issued, or
// that its issuer has taken back by our own lists.
func issued(m ike.Certificate, now time.Time, warn warner) {
	for i, x := range m.Chain {
		issuers := m.Roots
		if last := i == len(m.Chain)-1; !last {
			issuers = m.Chain[i+1 : i+2]
		} else if !slices.ContainsFunc(m.Roots, func(root *x509.Certificate) bool { return root.Equal(x) || x.CheckSignatureFrom(root) == nil }) {
			warn("none of the authorities issued the certificate %q: only peers that believe others accept it", m.Chain[0].Subject)
		}
		for _, issuer := range issuers {
			if why := revoked(m.CRLs, x, issuer, now); why != nil {
				warn("the certificate %q was revoked %v: peers that know refuse it; get a new one", x.Subject, why)
				break
			}
		}
	}
}

// revoked returns what the first of the lists that has a certificate of an
// issuer says; nil if none does.
func revoked(lists []*pki.CRL, x, issuer *x509.Certificate, now time.Time) error {
	for _, l := range lists {
		if why := l.Revoked(x, issuer, now); why != nil {
			return why
		}
	}
	return nil
}

// expiry warns of a certificate whose time has not come, or is over.
func expiry(x *x509.Certificate, now time.Time, warn warner) {
	switch {
	case now.After(x.NotAfter):
		warn("the certificate %q expired on %s: renew it", x.Subject, x.NotAfter.Format(time.DateOnly))
	case now.Before(x.NotBefore):
		warn("the certificate %q is not valid before %s", x.Subject, x.NotBefore.Format(time.DateOnly))
	}
}
