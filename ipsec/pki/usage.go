package pki

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

var (
	oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}
	// id-kp-ipsecIKE and the older id-kp-ipsecEndSystem, id-kp-ipsecTunnel and
	// id-kp-ipsecUser (RFC 4945 section 5.1.3.12).
	oidIPsecIKE = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 17}
)

// checkUse checks the key usage and the extended key usage of a certificate,
// which need not have them (RFC 4945 sections 5.1.3.2 and 5.1.3.12). What
// gateways and hosts commonly have is taken for IKE too: the authentication of
// a TLS server or client, and the older usages of IPsec.
func checkUse(c *x509.Certificate, leaf bool) error {
	if leaf && hasExtension(c, oidKeyUsage) && c.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return errors.New("its key usage is neither digitalSignature nor nonRepudiation")
	}
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
		return nil
	}
	for _, u := range c.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageAny, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth,
			x509.ExtKeyUsageIPSECEndSystem, x509.ExtKeyUsageIPSECTunnel, x509.ExtKeyUsageIPSECUser:
			return nil
		}
	}
	if slices.ContainsFunc(c.UnknownExtKeyUsage, oidIPsecIKE.Equal) {
		return nil
	}
	return fmt.Errorf("its extended key usage has neither ipsecIKE (%s) nor anyExtendedKeyUsage, serverAuth or clientAuth", oidIPsecIKE)
}

func hasExtension(c *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return true
		}
	}
	return false
}
