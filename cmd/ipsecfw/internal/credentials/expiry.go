package credentials

import (
	"fmt"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// Expiry returns what is to be said of our own certificates whose time has not
// come, or is over: peers refuse them.
func Expiry(methods []ike.AuthMethod, now time.Time) []string {
	var out []string
	for _, m := range methods {
		c, ok := m.(ike.Certificate)
		if !ok {
			continue
		}
		for _, x := range c.Chain {
			switch {
			case now.After(x.NotAfter):
				out = append(out, fmt.Sprintf("the certificate %q expired on %s: renew it", x.Subject, x.NotAfter.Format(time.DateOnly)))
			case now.Before(x.NotBefore):
				out = append(out, fmt.Sprintf("the certificate %q is not valid before %s", x.Subject, x.NotBefore.Format(time.DateOnly)))
			}
		}
	}
	return out
}
