package iketest

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// auth returns by what two hosts authenticate.
func (w *world) auth() []ike.AuthMethod {
	key := ike.PresharedKey{Secret: []byte("correct horse")}
	if !w.chance(0.1) {
		return []ike.AuthMethod{key}
	}
	return []ike.AuthMethod{certificate()}
}

// certificate returns one that all hosts have, made once. An Ed25519 signature
// is the same each time: one of ECDSA would have another length now and then,
// and the same seed no longer do the same thing.
var certificate = sync.OnceValue(func() ike.Certificate {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "host.example"}, DNSNames: []string{"host.example"},
		NotBefore: begins.AddDate(-10, 0, 0), NotAfter: begins.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		panic(fmt.Sprintf("iketest: make a certificate: %v", err))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(fmt.Sprintf("iketest: read our certificate: %v", err))
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return ike.Certificate{Chain: []*x509.Certificate{cert}, Key: key, Authorities: pool, Roots: []*x509.Certificate{cert}}
})
