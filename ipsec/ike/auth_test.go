package ike

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
)

func TestSameMethods(t *testing.T) {
	newCert := func(name string) *x509.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// Each call reads the files anew, as each policy does.
	method := func(own *x509.Certificate, roots ...*x509.Certificate) Certificate {
		c := Certificate{Chain: []*x509.Certificate{own}, Authorities: x509.NewCertPool()}
		for _, r := range roots {
			c.Authorities.AddCert(r)
		}
		return c
	}
	psk := func(s string) PresharedKey { return PresharedKey{Secret: []byte(s)} }
	host, other, ca, ca2 := newCert("host"), newCert("host"), newCert("ca"), newCert("ca")
	for _, tt := range []struct {
		name string
		a, b []AuthMethod
		want bool
	}{
		{"nothing", nil, []AuthMethod{}, true},
		{"same key", []AuthMethod{psk("x")}, []AuthMethod{psk("x")}, true},
		{"other key", []AuthMethod{psk("x")}, []AuthMethod{psk("y")}, false},
		{"same certificate", []AuthMethod{method(host, ca)}, []AuthMethod{method(host, ca)}, true},
		{"pointer", []AuthMethod{method(host, ca)}, []AuthMethod{new(method(host, ca))}, true},
		{"other certificate of the name", []AuthMethod{method(host, ca)}, []AuthMethod{method(other, ca)}, false},
		{"other authority of the name", []AuthMethod{method(host, ca)}, []AuthMethod{method(host, ca2)}, false},
		{"one authority more", []AuthMethod{method(host, ca)}, []AuthMethod{method(host, ca, ca2)}, false},
		{"other kind", []AuthMethod{method(host, ca)}, []AuthMethod{psk("x")}, false},
		{"one more", []AuthMethod{psk("x")}, []AuthMethod{psk("x"), method(host, ca)}, false},
		{"other order", []AuthMethod{psk("x"), method(host, ca)}, []AuthMethod{method(host, ca), psk("x")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := SameMethods(tt.a, tt.b); got != tt.want {
				t.Errorf("same: %v", got)
			}
			if got := SameMethods(tt.b, tt.a); got != tt.want {
				t.Errorf("the other way round: %v", got)
			}
		})
	}
}
