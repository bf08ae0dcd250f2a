package credentials

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
	"github.com/ipsecfw/ipsecfw/rules"
)

// certificate reads our certificate with its key, and the authorities that
// we believe. Whether they are valid today is for the negotiation to say.
func certificate(c *rules.Certificate, read Reader) (ike.AuthMethod, []flaw) {
	out := ike.Certificate{
		Authorities: x509.NewCertPool(), Revocation: revocations[c.Revocation], Lookup: c.AcceptURLs, URL: c.URL, PKCS1: c.PKCS1,
	}
	var inRoots, inIntermediates, inCRLs, inOwn []flaw
	out.Roots, inRoots = parseAll(read, "certificate/authority", c.Authorities, authorities)
	for _, root := range out.Roots {
		out.Authorities.AddCert(root)
	}
	if c.Unnamed {
		out.Excluded = out.Roots
	}
	out.Intermediates, inIntermediates = parseAll(read, "certificate/intermediates", c.Intermediates, authorities)
	out.CRLs, inCRLs = parseAll(read, "certificate/crl", c.CRLs, revocationLists)
	var own ownership
	switch {
	case c.PKCS12 != "":
		own, inOwn = bundle(c, read)
	case c.Own != "":
		own, inOwn = pair(c, read)
	}
	out.Chain, out.Key = own.chain, own.key
	return out, slices.Concat(inRoots, inIntermediates, inCRLs, inOwn)
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
func pair(c *rules.Certificate, read Reader) (own ownership, flaws []flaw) {
	var err error
	if own.chain, err = parse(read, c.Own, ownChain); err != nil {
		flaws = append(flaws, flaw{"certificate/own", err})
	}
	if own.key, err = parse(read, c.Key, privateKey); err != nil {
		flaws = append(flaws, flaw{"certificate/key", err})
	}
	if flaws == nil && !owns(own.key, own.chain[0]) {
		flaws = []flaw{{"certificate/key", fmt.Errorf("%s: the key is not that of the certificate %q in %s: name the file of its key", c.Key, own.chain[0].Subject, c.Own)}}
	}
	return own, flaws
}

// bundle reads our certificate and its key from a PKCS #12 file (RFC 7292).
func bundle(c *rules.Certificate, read Reader) (ownership, []flaw) {
	password := ""
	if c.PasswordFile != "" {
		b, err := read(c.PasswordFile)
		if err != nil {
			return ownership{}, []flaw{{"certificate/password-file", err}}
		}
		password = string(withoutLineEnd(b))
	}
	own, err := parse(read, c.PKCS12, func(file []byte) (ownership, error) {
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
	if err != nil {
		return ownership{}, []flaw{{"certificate/pkcs12", err}}
	}
	return own, nil
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
