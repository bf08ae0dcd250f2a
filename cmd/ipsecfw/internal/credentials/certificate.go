package credentials

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
	"github.com/ipsecfw/ipsecfw/rules"
)

// certificate reads our certificate with its key, and the authorities that
// we believe. Whether they are valid today is for the negotiation to say.
func certificate(c *rules.Certificate, read Reader) (ike.AuthMethod, []error) {
	var errs []error
	failed := func(err error) bool {
		if err != nil {
			errs = append(errs, err)
		}
		return err != nil
	}
	out := ike.Certificate{
		Authorities: x509.NewCertPool(), Revocation: revocations[c.Revocation], Lookup: c.AcceptURLs, URL: c.URL, PKCS1: c.PKCS1,
	}
	for _, path := range c.Authorities {
		roots, err := parse(read, path, authorities)
		failed(err)
		for _, root := range roots {
			out.Authorities.AddCert(root)
		}
		out.Roots = append(out.Roots, roots...)
	}
	if c.Unnamed {
		out.Excluded = out.Roots
	}
	for _, path := range c.Intermediates {
		issuers, err := parse(read, path, authorities)
		failed(err)
		out.Intermediates = append(out.Intermediates, issuers...)
	}
	for _, path := range c.CRLs {
		lists, err := parse(read, path, revocationLists)
		failed(err)
		out.CRLs = append(out.CRLs, lists...)
	}
	var own ownership
	var err error
	switch {
	case c.PKCS12 != "":
		own, err = bundle(c, read)
		failed(err)
	case c.Own != "":
		own, err = pair(c, read)
		for _, err := range unjoined(err) {
			failed(err)
		}
	}
	out.Chain, out.Key = own.chain, own.key
	return out, errs
}

var revocations = map[rules.Revocation]pki.Revocation{
	rules.RevocationIfPresent: pki.IfPresent, rules.RevocationStrict: pki.Strict, rules.RevocationOff: pki.Off,
}

// ownership is our certificate with its key.
type ownership struct {
	chain []*x509.Certificate // and those of its issuers
	key   crypto.Signer
}

// pair reads our certificate and its key from a file each.
func pair(c *rules.Certificate, read Reader) (ownership, error) {
	chain, chainErr := parse(read, c.Own, ownChain)
	key, keyErr := parse(read, c.Key, privateKey)
	if err := errors.Join(chainErr, keyErr); err != nil {
		return ownership{}, err
	}
	if !owns(key, chain[0]) {
		return ownership{}, fmt.Errorf("%s: the key is not that of the certificate %q in %s: name the file of its key", c.Key, chain[0].Subject, c.Own)
	}
	return ownership{chain, key}, nil
}

// unjoined returns the parts of what errors.Join made.
func unjoined(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	return []error{err}
}

// bundle reads our certificate and its key from a PKCS #12 file (RFC 7292).
func bundle(c *rules.Certificate, read Reader) (ownership, error) {
	password := ""
	if c.PasswordFile != "" {
		b, err := read(c.PasswordFile)
		if err != nil {
			return ownership{}, err
		}
		password = string(withoutLineEnd(b))
	}
	return parse(read, c.PKCS12, func(file []byte) (ownership, error) {
		key, leaf, issuers, err := pkcs12.DecodeChain(file, password)
		switch {
		case errors.Is(err, pkcs12.ErrIncorrectPassword) && c.PasswordFile == "":
			return ownership{}, errors.New("it has a password: name the file that holds it as password-file")
		case errors.Is(err, pkcs12.ErrIncorrectPassword):
			return ownership{}, fmt.Errorf("the password in %s is not that of the file", c.PasswordFile)
		case err != nil:
			return ownership{}, fmt.Errorf("it is no PKCS #12 file with one certificate and its key: %w", err)
		}
		signer, err := usable(key)
		if err != nil {
			return ownership{}, err
		}
		if !owns(signer, leaf) {
			return ownership{}, fmt.Errorf("the key is not that of the certificate %q in the same file: make the file anew", leaf.Subject)
		}
		chain := inOrder(leaf, issuers)
		if _, err := ike.CertID(leaf); err != nil {
			return ownership{}, err
		}
		return ownership{chain, signer}, nil
	})
}

// inOrder returns a certificate and its issuers as far as they are there, but
// for an authority that issued itself: peers have that one, or do not believe
// it.
func inOrder(leaf *x509.Certificate, issuers []*x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
next:
	for len(chain) <= len(issuers) {
		last := chain[len(chain)-1]
		for _, x := range issuers {
			if !bytes.Equal(x.RawSubject, x.RawIssuer) && last.CheckSignatureFrom(x) == nil {
				chain = append(chain, x)
				continue next
			}
		}
		break
	}
	return chain
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

// authorities reads certificates of whom others may be issued by.
func authorities(file []byte) ([]*x509.Certificate, error) {
	certs, err := certificates(file)
	if err != nil {
		return nil, err
	}
	for _, c := range certs {
		if err := isAuthority(c); err != nil {
			return nil, err
		}
	}
	return certs, nil
}

func isAuthority(c *x509.Certificate) error {
	if !c.IsCA && (c.Version >= 3 || !bytes.Equal(c.RawSubject, c.RawIssuer)) { // version 1 has no way to say it
		return fmt.Errorf("the certificate %q is of no authority: name the file of its issuer's", c.Subject)
	}
	if err := pki.CheckKey(c.PublicKey); err != nil {
		return fmt.Errorf("the authority %q has %w", c.Subject, err)
	}
	return nil
}
