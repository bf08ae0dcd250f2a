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

// flaw is what is wrong with what a key of the rule file names.
type flaw struct {
	key string // its name in rules.Places, below that of the way to authenticate or of the key exchange
	err error
}

// Load returns a rule's credentials, without post-quantum keys that the file
// names for all peers. Fetcher gets what certificates point at,
// once peers use them; nil if nothing is to be fetched. The error holds all
// that is wrong, one thing to a line, each with the place of the key that it is
// about and the file.
func Load(n rules.Negotiation, read Reader, fetcher pki.Fetcher) (Credentials, error) {
	var c Credentials
	var errs []error
	report := func(within string, flaws ...flaw) {
		for _, f := range flaws {
			errs = append(errs, fmt.Errorf("%s: rule %q: %w", n.At(within+f.key), n.Rule, f.err))
		}
	}
	for i, a := range n.Auth {
		m, flaws := load(a, read)
		if report(way(i), flaws...); len(flaws) > 0 {
			continue
		}
		if x, ok := m.(ike.Certificate); ok {
			x.Fetcher, x.Legacy = fetcher, n.Legacy
			m = x
		}
		c.Auth = append(c.Auth, m)
	}
	if keys := c.unnamedKeys(); n.PeerID != "" && keys > 1 {
		report("", flaw{"peer-id", fmt.Errorf("peer-id: %d raw keys of peers are listed, of which none proves the name %q: list the peer's alone, or write peers with fingerprints in its place", keys, n.PeerID)})
	}
	ppks, flaws := ppksOf(n.Exchange.PPKs, read)
	c.PPKs = ppks
	report("key-exchange/", flaws...)
	return c, errors.Join(errs...)
}

// way is the name in rules.Places of a way to authenticate, before those of its
// keys.
func way(i int) string { return fmt.Sprintf("authentication/%d/", i) }

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

func load(a rules.Authentication, read Reader) (ike.AuthMethod, []flaw) {
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
		return nil, []flaw{{"preshared-key/file", err}}
	}
	return ike.PresharedKey{Secret: s}, nil
}

// FilePPKs returns the post-quantum preshared keys that a file names for all
// peers. The error holds all that is wrong, one thing to a line, each with its
// place and the file.
func FilePPKs(f *rules.File, read Reader) ([]ike.PPK, error) {
	out, flaws := ppksOf(f.KeyExchange.PPKs, read)
	errs := make([]error, len(flaws))
	for i, x := range flaws {
		errs[i] = fmt.Errorf("%s: key-exchange: %w", f.KeyExchangeAt(x.key), x.err)
	}
	return out, errors.Join(errs...)
}

func ppksOf(named []rules.PPK, read Reader) ([]ike.PPK, []flaw) {
	var out []ike.PPK
	var flaws []flaw
	for i, k := range named {
		s, err := parse(read, k.File, ppk)
		if err != nil {
			flaws = append(flaws, flaw{rules.PPKFile(i), err})
			continue
		}
		out = append(out, ike.PPK{ID: k.ID, Secret: s})
	}
	return out, flaws
}

// rawKey reads our key without a certificate, and those of peers.
func rawKey(k *rules.RawKey, read Reader) (ike.AuthMethod, []flaw) {
	var flaws []flaw
	out := ike.RawKey{PKCS1: k.PKCS1}
	var err error
	if out.Key, err = parse(read, k.Key, privateKey); err != nil {
		flaws = append(flaws, flaw{"raw-key/key", err})
	}
	keys, more := parseAll(read, "raw-key/peers", k.Peers, publicKeys)
	for _, key := range keys {
		out.Peers = append(out.Peers, ike.PeerKey{Key: key})
	}
	return out, append(flaws, more...)
}

// parseAll reads the files that a key names, which has the values of all.
func parseAll[T any](read Reader, key string, paths []string, as func([]byte) ([]T, error)) (all []T, flaws []flaw) {
	for i, path := range paths {
		v, err := parse(read, path, as)
		if err != nil {
			flaws = append(flaws, flaw{fmt.Sprintf("%s/%d", key, i), err})
		}
		all = append(all, v...)
	}
	return all, flaws
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
