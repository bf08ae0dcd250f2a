package test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"path"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// sub makes an authority below this one, whose certificate is not quite as
// usual.
func (a *authority) sub(t *testing.T, name string, key crypto.Signer, change func(*x509.Certificate)) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber:          serial(t),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{cert, key, block("CERTIFICATE", der)}
}

// crl is the list of the certificates that an authority has revoked, DER.
func (a *authority) crl(t *testing.T, revoked ...*big.Int) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, n := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now().Add(-time.Minute), ReasonCode: ocsp.KeyCompromise})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	must(t, err)
	return der
}

// serialOf is the serial number of the first certificate in a PEM file.
func serialOf(t *testing.T, file []byte) *big.Int {
	t.Helper()
	b, _ := pem.Decode(file)
	cert, err := x509.ParseCertificate(b.Bytes)
	must(t, err)
	return cert.SerialNumber
}

// bureau is an HTTP server of authorities: below /crl lists of revoked
// certificates, and /ocsp answers questions.
type bureau struct {
	mu      sync.Mutex
	lists   map[string][]byte
	issuer  *authority
	revoked map[string]bool // serial numbers
	asked   map[string]int  // how often, by path
}

const bureauURL = "http://" + resolver4

// openBureau starts the server in a host, at resolver4. It ends with the test.
func openBureau(t *testing.T, h *lab.Host) *bureau {
	t.Helper()
	b := &bureau{lists: map[string][]byte{}, revoked: map[string]bool{}, asked: map[string]int{}}
	l, err := h.Listen("tcp", resolver4+":80")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go http.Serve(l, b)
	return b
}

// publish puts a list at a URL, which it returns.
func (b *bureau) publish(name string, list []byte) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lists[name] = list
	return bureauURL + "/crl/" + name
}

// asks returns how often a path was asked for.
func (b *bureau) asks(path string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[path]
}

func (b *bureau) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked[r.URL.Path]++
	if r.URL.Path == "/ocsp" {
		b.answer(w, r)
		return
	}
	list, ok := b.lists[path.Base(r.URL.Path)]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(list))
}

// answer is that of an OCSP responder.
func (b *bureau) answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	q, err := ocsp.ParseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a := ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	if b.revoked[q.SerialNumber.String()] {
		a.Status, a.RevokedAt, a.RevocationReason = ocsp.Revoked, a.ThisUpdate, ocsp.KeyCompromise
	}
	der, err := ocsp.CreateResponse(b.issuer.cert, b.issuer.cert, a, b.issuer.key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(der)
}

// mark says what the responder is to think of a certificate.
func (b *bureau) mark(serial string, revoked bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.revoked[serial] = revoked
}
