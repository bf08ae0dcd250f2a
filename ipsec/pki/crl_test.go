package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"
)

// idp encodes an issuing distribution point, critical as it must be.
func idp(t testing.TB, p distributionPoint, urls ...string) pkix.Extension {
	t.Helper()
	for _, u := range urls {
		p.Name.Full = append(p.Name.Full, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u)})
	}
	der, err := asn1.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidIDP, Critical: true, Value: der}
}

func TestCRL(t *testing.T) {
	const url = "http://pki.example/crl"
	root := newRoot(t, "Root")
	leaf := root.issue(t, "h", pointsAt(url, ""))
	sub := root.sub(t, "Sub")
	impostor := newRoot(t, "Root")
	critical := func(oid asn1.ObjectIdentifier) pkix.Extension {
		return pkix.Extension{Id: oid, Critical: true, Value: []byte{2, 1, 1}}
	}
	with := func(es ...pkix.Extension) x509.RevocationList { return x509.RevocationList{ExtraExtensions: es} }
	someReasons := distributionPoint{Reasons: asn1.BitString{Bytes: []byte{0x40}, BitLength: 2}}
	for _, tt := range []struct {
		name    string
		by      *owner
		list    x509.RevocationList
		cert    *owner
		revoked bool // the certificate is in it
		want    status
		why     string
	}{
		{"complete", root, with(), leaf, false, good, ""},
		{"complete, revoked", root, with(), leaf, true, revoked, "key compromise"},
		{"of its last second", root, x509.RevocationList{ThisUpdate: now.Add(-time.Hour), NextUpdate: now}, leaf, false, good, ""},
		{"over", root, x509.RevocationList{ThisUpdate: now.Add(-2 * day), NextUpdate: now.Add(-time.Second)}, leaf, false, unknown, "it was good until"},
		{"over, revoked all the same", root, x509.RevocationList{ThisUpdate: now.Add(-2 * day), NextUpdate: now.Add(-time.Second)}, leaf, true, revoked, "key compromise"},
		{"of an issuer whose clock is a little ahead", root, x509.RevocationList{ThisUpdate: now.Add(maxSkew), NextUpdate: now.Add(day)}, leaf, false, good, ""},
		{"of the future", root, x509.RevocationList{ThisUpdate: now.Add(maxSkew + time.Second), NextUpdate: now.Add(day)}, leaf, false, unknown, "our clock says"},
		{"of the future, revoked all the same", root, x509.RevocationList{ThisUpdate: now.Add(maxSkew + time.Second), NextUpdate: now.Add(day)}, leaf, true, revoked, "key compromise"},
		{"of another authority", sub, with(), leaf, true, unknown, "is of"},
		{"of another with the name", impostor, with(), leaf, true, unknown, "signature"},
		{"delta", root, with(critical(oidDeltaCRL)), leaf, true, unknown, "delta"},
		{"critical extension", root, with(critical(asn1.ObjectIdentifier{1, 2, 3})), leaf, true, unknown, "1.2.3"},
		{"of its distribution point", root, with(idp(t, distributionPoint{}, "ldap://x", url)), leaf, false, good, ""},
		{"of its distribution point, revoked", root, with(idp(t, distributionPoint{}, url)), leaf, true, revoked, ""},
		{"of another distribution point", root, with(idp(t, distributionPoint{}, url+"2")), leaf, false, unknown, "another distribution point"},
		{"of another distribution point, revoked all the same", root, with(idp(t, distributionPoint{}, url+"2")), leaf, true, revoked, "key compromise"},
		{"of a distribution point for one without", root, with(idp(t, distributionPoint{}, url)), sub, false, unknown, "another distribution point"},
		{"of a distribution point for one without, revoked all the same", root, with(idp(t, distributionPoint{}, url)), sub, true, revoked, "key compromise"},
		{"of hosts", root, with(idp(t, distributionPoint{Users: true})), leaf, false, good, ""},
		{"of hosts, for an authority", root, with(idp(t, distributionPoint{Users: true})), sub, false, unknown, "not about authorities"},
		{"of hosts, for an authority, revoked all the same", root, with(idp(t, distributionPoint{Users: true})), sub, true, revoked, "key compromise"},
		{"of authorities", root, with(idp(t, distributionPoint{CAs: true})), sub, true, revoked, ""},
		{"of authorities, for a host", root, with(idp(t, distributionPoint{CAs: true})), leaf, false, unknown, "about authorities only"},
		{"of authorities, for a host, revoked all the same", root, with(idp(t, distributionPoint{CAs: true})), leaf, true, revoked, "key compromise"},
		{"of attributes", root, with(idp(t, distributionPoint{Attributes: true})), leaf, true, unknown, "attribute"},
		{"of some reasons", root, with(idp(t, someReasons)), leaf, false, unknown, "some reasons"},
		{"of some reasons, revoked", root, with(idp(t, someReasons)), leaf, true, revoked, ""},
		{"indirect", root, with(idp(t, distributionPoint{Indirect: true})), leaf, true, unknown, "indirect"},
		{"nonsense for distribution point", root, with(pkix.Extension{Id: oidIDP, Critical: true, Value: []byte{1}}), leaf, true, unknown, "does not parse"},
		{"entry with a critical extension", root, x509.RevocationList{RevokedCertificateEntries: []x509.RevocationListEntry{{
			SerialNumber: big.NewInt(99999), RevocationTime: now, ExtraExtensions: []pkix.Extension{critical(asn1.ObjectIdentifier{2, 5, 29, 29})},
		}}}, leaf, true, unknown, "an entry has a critical extension"},
		{"over, on hold", root, x509.RevocationList{ThisUpdate: now.Add(-2 * day), NextUpdate: now.Add(-day), RevokedCertificateEntries: []x509.RevocationListEntry{{
			SerialNumber: leaf.SerialNumber, RevocationTime: now.Add(-3 * day), ReasonCode: 6,
		}}}, leaf, false, unknown, "it was good until"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var in []*owner
			if tt.revoked {
				in = []*owner{tt.cert}
			}
			list, err := ParseCRL(tt.by.crlOf(t, tt.list, in...))
			if err == nil {
				err = list.checkIssuer(root.Certificate)
			}
			got := finding{why: err}
			if err == nil {
				got = list.finding(question{tt.cert.Certificate, root.Certificate, now})
			}
			if got.status != tt.want {
				t.Fatalf("status %d (%v), want %d", got.status, got.why, tt.want)
			}
			if tt.why != "" && (got.why == nil || !strings.Contains(got.why.Error(), tt.why)) {
				t.Errorf("%v does not say %q", got.why, tt.why)
			}
		})
	}
}

// An authority whose key usage is not cRLSign does not revoke.
func TestCRLByWhomItIsNotFor(t *testing.T) {
	root := newRoot(t, "Root")
	signer := root.sub(t, "Signer")
	list, err := ParseCRL(signer.crlOf(t, x509.RevocationList{}))
	if err != nil {
		t.Fatal(err)
	}
	same := root.issueFor(t, "Signer", signer.key.Public(), authority, usage(x509.KeyUsageCertSign))
	if list.checkIssuer(same) == nil {
		t.Error("signed all the same")
	}
}

func TestCRLEqual(t *testing.T) {
	root := newRoot(t, "Root")
	a, b := root.crlOf(t, x509.RevocationList{}), root.crlOf(t, x509.RevocationList{}, root)
	parse := func(der []byte) *CRL {
		c, err := ParseCRL(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if !parse(a).Equal(parse(a)) || parse(a).Equal(parse(b)) {
		t.Error("CRLs compare wrongly")
	}
}

// FuzzCRL reads what a peer or a server may send.
func FuzzCRL(f *testing.F) {
	root := newRoot(f, "Root")
	leaf := root.issue(f, "h", pointsAt("http://pki.example/crl", ""))
	f.Add(root.crlOf(f, x509.RevocationList{}, leaf))
	f.Add(root.crlOf(f, x509.RevocationList{ExtraExtensions: []pkix.Extension{idp(f, distributionPoint{Users: true}, "http://pki.example/crl")}}))
	f.Fuzz(func(t *testing.T, der []byte) {
		list, err := ParseCRL(der)
		if err != nil {
			return
		}
		if list.checkIssuer(newRoot(t, "Root").Certificate) == nil {
			t.Error("signed by a key that was just made")
		}
		if f := list.finding(question{leaf.Certificate, root.Certificate, now}); f.status != good && f.why == nil {
			t.Error("no reason given")
		}
	})
}
