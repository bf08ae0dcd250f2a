package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// authentication is how the ends of an IKE SA prove who they are: by a secret,
// or by certificates of one authority.
type authentication struct {
	name                 string
	secret               string
	authority            *x509.Certificate
	initiator, responder *identity // nil with a secret
}

// identity is a certificate with its key.
type identity struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newSecret() *authentication {
	return &authentication{name: "preshared key", secret: "correct horse battery staple"}
}

// newCertificates makes an authority and a certificate for each end, with ECDSA
// on P-256.
func newCertificates() (*authentication, error) {
	ca, err := issue("authority.test", 1, nil)
	if err != nil {
		return nil, err
	}
	initiator, err := issue("initiator.test", 2, ca)
	if err != nil {
		return nil, err
	}
	responder, err := issue("responder.test", 3, ca)
	if err != nil {
		return nil, err
	}
	return &authentication{name: "ECDSA P-256", authority: ca.certificate, initiator: initiator, responder: responder}, nil
}

// issue makes a certificate for a name; that of an authority if there is none
// to issue it.
func issue(name string, serial int64, ca *identity) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	own := &identity{key: key, certificate: &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}}
	if ca == nil {
		ca = own
		own.certificate.IsCA, own.certificate.KeyUsage = true, x509.KeyUsageCertSign
	} else {
		own.certificate.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, own.certificate, ca.certificate, key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", name, err)
	}
	own.certificate, err = x509.ParseCertificate(der)
	return own, err
}

// policies returns those of both ends with proposals for the IKE SA.
func (a *authentication) policies(proposals []ipsec.Proposal) (initiator, responder ike.Policy) {
	return ike.Policy{Proposals: proposals, Auth: a.method(a.initiator)}, ike.Policy{Proposals: proposals, Auth: a.method(a.responder)}
}

func (a *authentication) method(own *identity) []ike.AuthMethod {
	if own == nil {
		return []ike.AuthMethod{ike.PresharedKey{Secret: []byte(a.secret)}}
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.authority)
	return []ike.AuthMethod{ike.Certificate{
		Chain: []*x509.Certificate{own.certificate}, Key: own.key, Authorities: pool, Roots: []*x509.Certificate{a.authority},
	}}
}
