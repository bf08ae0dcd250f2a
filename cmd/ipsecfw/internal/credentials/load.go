// Package credentials turns the files that a rule names into methods of
// authentication. It opens no file itself: the client reads them from where
// the administrator is, the daemon from its state directory.
package credentials

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// A Reader returns the content of a file that a rule names.
type Reader func(path string) ([]byte, error)

// parse reads the file at a path; what is wrong with it is said with the
// path.
func parse[T any](read Reader, path string, as func([]byte) (T, error)) (T, error) {
	var v T
	b, err := read(path)
	if err != nil {
		return v, fmt.Errorf("cannot be read: %w", err)
	}
	if v, err = as(b); err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

func presharedKey(file string, read Reader) (ike.PresharedKey, error) {
	s, err := parse(read, file, secret)
	return ike.PresharedKey{Secret: s}, err
}

// certificate reads our certificate with its key, and the authorities that
// we believe. Whether they are valid today is for the negotiation to say.
func certificate(authority, own, key string, read Reader) (ike.Certificate, error) {
	roots, rootsErr := parse(read, authority, certificates)
	chain, chainErr := parse(read, own, ownChain)
	signer, keyErr := parse(read, key, privateKey)
	if err := errors.Join(rootsErr, chainErr, keyErr); err != nil {
		return ike.Certificate{}, err
	}
	if !owns(signer, chain[0]) {
		return ike.Certificate{}, fmt.Errorf("%s: the key is not that of the certificate %q in %s: name the file of its key", key, chain[0].Subject, own)
	}
	authorities := x509.NewCertPool()
	for _, c := range roots {
		authorities.AddCert(c)
	}
	return ike.Certificate{Chain: chain, Key: signer, Authorities: authorities, Roots: roots}, nil
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
