// Package credentials turns the files that a rule names into methods of
// authentication. It opens no file itself: the client reads them from where
// the administrator is, the daemon from its state directory.
package credentials

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

// A Reader returns the content of a file, by its path as a rule names it.
type Reader func(path string) ([]byte, error)

// Load returns a rule's methods of authentication, the preferred first. The
// error holds all that is wrong, one thing to a line, each with the rule's
// position and the file.
func Load(n rules.Negotiation, read Reader) ([]ike.AuthMethod, error) {
	var methods []ike.AuthMethod
	var errs []error
	for _, a := range n.Auth {
		m, err := load(a, read)
		if err != nil {
			errs = append(errs, err...)
			continue
		}
		methods = append(methods, m)
	}
	for i, err := range errs {
		errs[i] = fmt.Errorf("%s: rule %q: %w", n.Position, n.Rule, err)
	}
	return methods, errors.Join(errs...)
}

func load(a rules.Authentication, read Reader) (ike.AuthMethod, []error) {
	if c := a.Certificate; c != nil {
		return certificate(c, read)
	}
	s, err := parse(read, a.PresharedKey.File, secret)
	if err != nil {
		return nil, []error{err}
	}
	return ike.PresharedKey{Secret: s}, nil
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

// certificate reads our certificate with its key, and the authorities that
// we believe. Whether they are valid today is for the negotiation to say.
func certificate(c *rules.Certificate, read Reader) (ike.AuthMethod, []error) {
	roots, rootsErr := parse(read, c.Authority, certificates)
	chain, chainErr := parse(read, c.Own, ownChain)
	key, keyErr := parse(read, c.Key, privateKey)
	errs := slices.DeleteFunc([]error{rootsErr, chainErr, keyErr}, func(err error) bool { return err == nil })
	if len(errs) > 0 {
		return nil, errs
	}
	if !owns(key, chain[0]) {
		return nil, []error{fmt.Errorf("%s: the key is not that of the certificate %q in %s: name the file of its key", c.Key, chain[0].Subject, c.Own)}
	}
	authorities := x509.NewCertPool()
	for _, root := range roots {
		authorities.AddCert(root)
	}
	return ike.Certificate{Chain: chain, Key: key, Authorities: authorities, Roots: roots}, nil
}

// ownChain reads our certificate and those of its issuers.
func ownChain(file []byte) ([]*x509.Certificate, error) {
	chain, err := certificates(file)
	if err != nil {
		return nil, err
	}
	if _, err := ike.CertID(chain[0]); err != nil {
		return nil, err
	}
	return chain, chained(chain)
}
