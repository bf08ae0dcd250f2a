package pki

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// delegated makes a response that a responder signed for an issuer.
func (o *owner) delegated(t testing.TB, issuer, about *owner, status int) []byte {
	t.Helper()
	der, err := ocsp.CreateResponse(issuer.Certificate, o.Certificate, ocsp.Response{
		Status: status, SerialNumber: about.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour),
		Certificate: o.Certificate, RevokedAt: now,
	}, o.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestOCSP(t *testing.T) {
	root, other, impostor := newRoot(t, "Root"), newRoot(t, "Other"), newRoot(t, "Root")
	leaf, neighbour := root.issue(t, "h"), root.issue(t, "n")
	signing := purposes(x509.ExtKeyUsageOCSPSigning)
	at := func(this, next time.Duration) func(*ocsp.Response) {
		return func(r *ocsp.Response) {
			r.ThisUpdate, r.NextUpdate = now.Add(this), now.Add(next)
			if next == 0 {
				r.NextUpdate = time.Time{}
			}
		}
	}
	extension := func(critical bool) func(*ocsp.Response) {
		return func(r *ocsp.Response) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: critical, Value: []byte{5, 0}}}
		}
	}
	hash := func(h crypto.Hash) func(*ocsp.Response) { return func(r *ocsp.Response) { r.IssuerHash = h } }
	// The same serial number below another issuer.
	twin := other.issue(t, "h", func(c *x509.Certificate) { c.SerialNumber = leaf.SerialNumber })
	for _, tt := range []struct {
		name string
		der  []byte
		want status
		why  string
	}{
		{"good", root.answer(t, leaf, ocsp.Good), good, ""},
		{"revoked", root.answer(t, leaf, ocsp.Revoked), revoked, "key compromise"},
		{"not known", root.answer(t, leaf, ocsp.Unknown), unknown, "does not know"},
		{"with SHA-256", root.answer(t, leaf, ocsp.Good, hash(crypto.SHA256)), good, ""},
		{"without its end", root.answer(t, leaf, ocsp.Good, at(-time.Hour, 0)), good, ""},
		{"without its end, old", root.answer(t, leaf, ocsp.Good, at(-maxOCSPAge-time.Minute, 0)), unknown, "it was good until"},
		{"over", root.answer(t, leaf, ocsp.Good, at(-2*day, -day)), unknown, "it was good until"},
		{"over, revoked all the same", root.answer(t, leaf, ocsp.Revoked, at(-2*day, -day)), revoked, "key compromise"},
		{"over, on hold", root.answer(t, leaf, ocsp.Revoked, at(-2*day, -day), func(r *ocsp.Response) { r.RevocationReason = ocsp.CertificateHold }), unknown, "it was good until"},
		{"of the future", root.answer(t, leaf, ocsp.Good, at(time.Hour, day)), unknown, "our clock says"},
		{"about another certificate", root.answer(t, neighbour, ocsp.Good), unknown, "not about this certificate"},
		{"about the same number of another issuer", other.answer(t, twin, ocsp.Good), unknown, "not about this certificate"},
		{"of another authority with the name", impostor.answer(t, leaf, ocsp.Good), unknown, "not about this certificate"},
		{"extension", root.answer(t, leaf, ocsp.Good, extension(false)), good, ""},
		{"critical extension", root.answer(t, leaf, ocsp.Good, extension(true)), unknown, "critical extension"},
		{"appointed responder", root.issue(t, "R", signing).delegated(t, root, leaf, ocsp.Good), good, ""},
		{"appointed responder, revoked", root.issue(t, "R", signing).delegated(t, root, leaf, ocsp.Revoked), revoked, ""},
		{"responder that is not appointed", root.issue(t, "R").delegated(t, root, leaf, ocsp.Good), unknown, "not for OCSPSigning"},
		{"responder for TLS", root.issue(t, "R", purposes(x509.ExtKeyUsageServerAuth)).delegated(t, root, leaf, ocsp.Good), unknown, "not for OCSPSigning"},
		{"responder of another authority", other.issue(t, "R", signing).delegated(t, root, leaf, ocsp.Good), unknown, "has no certificate of"},
		{"responder of another with the name", impostor.issue(t, "R", signing).delegated(t, root, leaf, ocsp.Good), unknown, "has no certificate of"},
		{"responder below one that is appointed", root.issue(t, "R", signing).issue(t, "S", signing).delegated(t, root, leaf, ocsp.Good), unknown, "has no certificate of"},
		{"responder that expired", root.issue(t, "R", signing, dates(-2*day, -day)).delegated(t, root, leaf, ocsp.Good), unknown, "is valid from"},
		{"the host itself", leaf.delegated(t, root, leaf, ocsp.Good), unknown, "not for OCSPSigning"},
		{"try later", ocsp.TryLaterErrorResponse, unknown, "try later"},
		{"unauthorized", ocsp.UnauthorizedErrorResponse, unknown, "unauthorized"},
		{"nothing", nil, unknown, "no OCSP response"},
		{"something follows", append(root.answer(t, leaf, ocsp.Good), 0), unknown, "no OCSP response"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got finding
			a, err := parseOCSP(tt.der, leaf.Certificate, root.Certificate, now)
			if err != nil {
				got.why = err
			} else {
				got = a.finding(now)
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

// Every byte of a response counts, and no beginning of one is one.
func TestOCSPIsWhole(t *testing.T) {
	root := newRoot(t, "Root")
	leaf := root.issue(t, "h")
	der := root.answer(t, leaf, ocsp.Good)
	believed := func(der []byte) bool {
		a, err := parseOCSP(der, leaf.Certificate, root.Certificate, now)
		return err == nil && a.finding(now).status == good
	}
	if !believed(der) {
		t.Fatal("the response itself is not believed")
	}
	for n := range der {
		if believed(der[:n]) {
			t.Errorf("believed with %d bytes", n)
		}
	}
	var r ocspResponse
	if _, err := asn1.Unmarshal(der, &r); err != nil {
		t.Fatal(err)
	}
	var b basicResponse
	if _, err := asn1.Unmarshal(r.Bytes.Response, &b); err != nil {
		t.Fatal(err)
	}
	start := strings.Index(string(der), string(b.Data.Raw))
	for i := start; i < start+len(b.Data.Raw); i++ {
		changed := []byte(string(der))
		changed[i] ^= 1
		if believed(changed) {
			t.Errorf("believed with byte %d changed", i)
		}
	}
}

// signResponse makes a response as golang.org/x/crypto/ocsp cannot.
func signResponse(t testing.TB, by, about *owner, algorithm []byte, sign func([]byte) []byte) []byte {
	t.Helper()
	name := sha256.Sum256(by.RawSubject)
	key := sha256.Sum256(keyBits(by.Certificate))
	data := responseData{
		Responder: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: by.RawSubject},
		Produced:  now,
		Responses: []singleResponse{{
			ID:   certID{pkix.AlgorithmIdentifier{Algorithm: certIDHashes[1].oid}, name[:], key[:], about.SerialNumber},
			Good: true, This: now.Add(-time.Hour), Next: now.Add(time.Hour),
		}},
	}
	tbs, err := asn1.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	data.Raw = tbs
	sig := sign(tbs)
	basic, err := asn1.Marshal(basicResponse{Data: data, Algorithm: asn1.RawValue{FullBytes: algorithm}, Signature: asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	if err != nil {
		t.Fatal(err)
	}
	r := ocspResponse{}
	r.Bytes.Type, r.Bytes.Response = oidBasicResponse, basic
	der, err := asn1.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestOCSPAlgorithms(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaRoot, edRoot := selfSigned(t, "RSA", rsaKey(t, 2048)), selfSigned(t, "Ed25519", ed)
	pss := func(tbs []byte) []byte {
		d := sha256.Sum256(tbs)
		sig, err := rsa.SignPSS(rand.Reader, rsaRoot.key.(*rsa.PrivateKey), crypto.SHA256, d[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	der := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const pss256 = "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
	leafR, leafE := rsaRoot.issue(t, "h"), edRoot.issue(t, "h")
	for _, tt := range []struct {
		name         string
		issuer, leaf *owner
		der          []byte
		want         bool
	}{
		{"Ed25519", edRoot, leafE, signResponse(t, edRoot, leafE, der("300506032b6570"), func(b []byte) []byte { return ed25519.Sign(ed, b) }), true},
		{"RSASSA-PSS", rsaRoot, leafR, signResponse(t, rsaRoot, leafR, der(pss256), pss), true},
		{"RSA", rsaRoot, leafR, rsaRoot.answer(t, leafR, ocsp.Good), true},
		{"RSA with SHA-1", rsaRoot, leafR, rsaRoot.answer(t, leafR, ocsp.Good, func(r *ocsp.Response) { r.SignatureAlgorithm = x509.SHA1WithRSA }), false},
		{"no algorithm", edRoot, leafE, signResponse(t, edRoot, leafE, der("0500"), func(b []byte) []byte { return ed25519.Sign(ed, b) }), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := parseOCSP(tt.der, tt.leaf.Certificate, tt.issuer.Certificate, now)
			if (err == nil) != tt.want || err == nil && a.status != good {
				t.Errorf("%v, %v", a, err)
			}
		})
	}
}

// A responder is asked as RFC 6960 says, and what it answers is stapled.
func TestStaple(t *testing.T) {
	const responder = "http://ocsp.example"
	root := newRoot(t, "Root")
	leaf := root.issue(t, "h", pointsAt("", responder))
	status := ocsp.Good
	w := &web{pages: map[string]func([]byte) []byte{responder: func(body []byte) []byte {
		q, err := ocsp.ParseRequest(body)
		if err != nil || q.SerialNumber.Cmp(leaf.SerialNumber) != 0 {
			t.Errorf("asked about %v, %v", q, err)
		}
		return root.answer(t, leaf, status)
	}}}
	der, err := Staple(t.Context(), w, leaf.Certificate, root.Certificate, now)
	if err != nil {
		t.Fatal(err)
	}
	v := &Verifier{Roots: pool(root), Revocation: Strict}
	if _, err := v.Verify(t.Context(), leaf.Certificate, Evidence{OCSP: [][]byte{der}}, now); err != nil {
		t.Errorf("what was stapled is not believed: %v", err)
	}
	status = ocsp.Revoked
	if der, err := Staple(t.Context(), w, leaf.Certificate, root.Certificate, now); err == nil || der != nil {
		t.Error("staples that our own certificate was revoked")
	}
	if _, err := Staple(t.Context(), w, root.issue(t, "n").Certificate, root.Certificate, now); err == nil {
		t.Error("staples for a certificate without a responder")
	}
}

// FuzzOCSP reads what a peer or a responder may send.
func FuzzOCSP(f *testing.F) {
	root := newRoot(f, "Root")
	leaf := root.issue(f, "h")
	f.Add(root.answer(f, leaf, ocsp.Good))
	f.Add(root.issue(f, "R", purposes(x509.ExtKeyUsageOCSPSigning)).delegated(f, root, leaf, ocsp.Revoked))
	f.Add(ocsp.TryLaterErrorResponse)
	twin := newRoot(f, "Root") // another key by the same name
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := parseOCSP(der, leaf.Certificate, twin.Certificate, now); err == nil {
			t.Error("signed by a key that nobody has used")
		}
		if a, err := parseOCSP(der, leaf.Certificate, root.Certificate, now); err == nil && a.finding(now).status == unknown && a.finding(now).why == nil {
			t.Error("no reason given")
		}
	})
}
