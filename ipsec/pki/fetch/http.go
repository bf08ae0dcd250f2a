package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// sizes are the most bytes of each kind.
var sizes = map[pki.Kind]int64{
	pki.KindCRL:         16 << 20,
	pki.KindOCSP:        64 << 10,
	pki.KindCertificate: 64 << 10,
}

const (
	maxRedirects = 3
	maxURL       = 2048
	maxHeaders   = 16 << 10
)

// check refuses URLs that are not fetched, of whomever they are.
func check(text string, trusted bool) error {
	if len(text) > maxURL {
		return fmt.Errorf("a URL of %d bytes is too long", len(text))
	}
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("no URL: %w", err)
	}
	return checkURL(u, trusted)
}

func checkURL(u *url.URL, trusted bool) error {
	switch {
	case u.Scheme != "http" && (u.Scheme != "https" || !trusted):
		return fmt.Errorf("fetch %q: only http is fetched, not %q", u, u.Scheme)
	case u.Hostname() == "" || u.User != nil:
		return fmt.Errorf("fetch %q: it names no host, or a user", u.Redacted())
	case !trusted && u.Port() != "" && u.Port() != "80":
		return fmt.Errorf("fetch %q: a URL that a peer made up is fetched from port 80 only", u)
	}
	return nil
}

// translated are addresses of IPv6 that stand for some of IPv4, which a gateway
// or the kernel may turn into those: by NAT64 (RFC 6052 section 2.1, RFC 8215),
// and the IPv4-compatible ones (RFC 4291 section 2.5.5.1).
var translated = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("::/96")}

// reachable refuses addresses that a peer must not have us talk to: those of
// this host, of which own are the ones of its interfaces, and link-local ones.
// It is asked after the name was resolved.
func reachable(address string, own []net.Addr) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", address, err)
	}
	a := at.Addr().Unmap().WithZone("") // a prefix contains none with a zone
	zero := netip.PrefixFrom(netip.IPv4Unspecified(), 8)
	has := func(p netip.Prefix) bool { return p.Contains(a) }
	is := func(x net.Addr) bool {
		p, err := netip.ParsePrefix(x.String())
		return err == nil && p.Addr().Unmap() == a
	}
	if a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() || zero.Contains(a) ||
		slices.ContainsFunc(translated, has) || slices.ContainsFunc(own, is) {
		return fmt.Errorf("connect to %s: a URL that a peer made up does not lead there", a)
	}
	return nil
}

func newClient(d *net.Dialer, trusted bool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            d.DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true, // a bomb
			MaxResponseHeaderBytes: maxHeaders,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("too many redirections")
			}
			return checkURL(r.URL, trusted)
		},
	}
}

// download makes one request and returns the body of its answer.
func download(ctx context.Context, c *http.Client, r pki.Request) ([]byte, error) {
	method, body := http.MethodGet, io.Reader(nil)
	if r.Body != nil {
		method, body = http.MethodPost, bytes.NewReader(r.Body)
	}
	q, err := http.NewRequestWithContext(ctx, method, r.URL, body)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", r.URL, err)
	}
	q.Header.Set("User-Agent", "ipsecfw")
	if r.Body != nil {
		q.Header.Set("Content-Type", "application/ocsp-request")
	}
	answer, err := c.Do(q)
	if err != nil {
		return nil, fmt.Errorf("fetch the %s: %w", r.Kind, err) // it names the URL
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch %s: the server answers %s", r.URL, answer.Status)
	}
	most := sizes[r.Kind]
	data, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetch %s: %w", r.URL, err)
	case int64(len(data)) > most:
		return nil, fmt.Errorf("fetch %s: the %s has more than %d bytes", r.URL, r.Kind, most)
	}
	return data, nil
}
