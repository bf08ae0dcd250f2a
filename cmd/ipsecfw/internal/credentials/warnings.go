package credentials

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// goodSecret is from how many bytes on a preshared key is not warned of:
// whoever records a handshake can try shorter ones at home, unless they are
// random.
const goodSecret = 16

// Warnings returns what works and should not stay so, or will soon be refused
// by peers.
func (c Credentials) Warnings(now time.Time) []string {
	var out []string
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, m := range c.Auth {
		switch m := m.(type) {
		case ike.PresharedKey:
			if len(m.Secret) < goodSecret {
				warn("the preshared key has %d bytes: write at least 32 random characters", len(m.Secret))
			}
		case ike.Certificate:
			for _, x := range m.Chain {
				expiry(x, now, warn)
			}
			for _, x := range m.Roots {
				expiry(x, now, warn)
			}
			if last := len(m.Chain) - 1; last >= 0 && !slices.ContainsFunc(m.Roots, func(root *x509.Certificate) bool {
				return root.Equal(m.Chain[last]) || m.Chain[last].CheckSignatureFrom(root) == nil
			}) {
				warn("none of the authorities issued the certificate %q: only peers that believe others accept it", m.Chain[0].Subject)
			}
			for _, l := range m.CRLs {
				if end := l.NextUpdate(); !end.IsZero() && now.After(end) {
					warn("the list of revoked certificates of %q was to be replaced on %s: what it lists is refused still, and of all else it says nothing any more", l.Issuer(), end.Format(time.DateOnly))
				}
			}
		}
	}
	return out
}

// expiry warns of a certificate whose time has not come, or is over.
func expiry(x *x509.Certificate, now time.Time, warn func(string, ...any)) {
	switch {
	case now.After(x.NotAfter):
		warn("the certificate %q expired on %s: renew it", x.Subject, x.NotAfter.Format(time.DateOnly))
	case now.Before(x.NotBefore):
		warn("the certificate %q is not valid before %s", x.Subject, x.NotBefore.Format(time.DateOnly))
	}
}
