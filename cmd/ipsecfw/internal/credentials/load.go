// Package credentials turns the files that a rule names into methods of
// authentication. It opens no file itself: the client reads them from where
// the administrator is, the daemon from its state directory.
package credentials

import (
	"errors"
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
	"github.com/ipsecfw/ipsecfw/rules"
)

// A Reader returns the content of a file, by its path as a rule names it.
type Reader func(path string) ([]byte, error)

// Credentials are what a rule proves itself by, and what it believes.
type Credentials struct {
	Auth []ike.AuthMethod // the preferred first
	PPKs []ike.PPK        // likewise
}

// Load returns a rule's credentials, without post-quantum keys that the file
// names for all peers. Fetcher gets what certificates point at,
// once peers use them; nil if nothing is to be fetched. The error holds all
// that is wrong, one thing to a line, each with the rule's position and the
// file.
func Load(n rules.Negotiation, read Reader, fetcher pki.Fetcher) (Credentials, error) {
	var c Credentials
	var errs []error
	for _, a := range n.Auth {
		m, err := load(a, read)
		if err != nil {
			errs = append(errs, err...)
			continue
		}
		if x, ok := m.(ike.Certificate); ok {
			x.Fetcher, x.Legacy = fetcher, n.Legacy
			m = x
		}
		c.Auth = append(c.Auth, m)
	}
	if keys := c.unnamedKeys(); n.PeerID != "" && keys > 1 {
		errs = append(errs, fmt.Errorf("peer-id: %d raw keys of peers are listed, of which none proves the name %q: list the peer's alone, or write peers with fingerprints in its place", keys, n.PeerID))
	}
	ppks, err := PPKs(n.Exchange.PPKs, read)
	c.PPKs, errs = ppks, append(errs, err...)
	for i, err := range errs {
		errs[i] = fmt.Errorf("%s: rule %q: %w", n.Position, n.Rule, err)
	}
	return c, errors.Join(errs...)
}

// unnamedKeys counts the raw keys of peers that may call themselves as they
// like.
func (c Credentials) unnamedKeys() int {
	n := 0
	for _, m := range c.Auth {
		if k, ok := m.(ike.RawKey); ok {
			for _, p := range k.Peers {
				if p.ID == "" {
					n++
				}
			}
		}
	}
	return n
}

func load(a rules.Authentication, read Reader) (ike.AuthMethod, []error) {
	switch {
	case a.Certificate != nil:
		return certificate(a.Certificate, read)
	case a.RawKey != nil:
		return rawKey(a.RawKey, read)
	case a.Anonymous != 0:
		return ike.Null{Ours: a.Anonymous.Own(), Theirs: a.Anonymous.Peer()}, nil
	}
	s, err := parse(read, a.PresharedKey.File, secret)
	if err != nil {
		return nil, []error{err}
	}
	return ike.PresharedKey{Secret: s}, nil
}

// PPKs returns post-quantum preshared keys, each error with the file.
func PPKs(named []rules.PPK, read Reader) ([]ike.PPK, []error) {
	var out []ike.PPK
	var errs []error
	for _, k := range named {
		s, err := parse(read, k.File, ppk)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, ike.PPK{ID: k.ID, Secret: s})
	}
	return out, errs
}

// rawKey reads our key without a certificate, and those of peers.
func rawKey(k *rules.RawKey, read Reader) (ike.AuthMethod, []error) {
	var errs []error
	out := ike.RawKey{PKCS1: k.PKCS1}
	var err error
	if out.Key, err = parse(read, k.Key, privateKey); err != nil {
		errs = append(errs, err)
	}
	for _, path := range k.Peers {
		keys, err := parse(read, path, publicKeys)
		if err != nil {
			errs = append(errs, err)
		}
		for _, key := range keys {
			out.Peers = append(out.Peers, ike.PeerKey{Key: key})
		}
	}
	return out, errs
}

// parse reads the file at a path; what is wrong with it is said with the
// path.
func parse[T any](read Reader, path string, as func([]byte) (T, error)) (T, error) {
	var v T
	b, err := read(path)
	if err != nil {
		return v, err // which names the file
	}
	if v, err = as(b); err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}
