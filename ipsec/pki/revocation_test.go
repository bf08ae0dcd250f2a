package pki

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// crlOf makes a CRL of an authority.
func (o *owner) crlOf(t testing.TB, template x509.RevocationList, revoked ...*owner) []byte {
	t.Helper()
	if template.Number == nil {
		template.Number = big.NewInt(1)
	}
	if template.ThisUpdate.IsZero() {
		template.ThisUpdate, template.NextUpdate = now.Add(-time.Hour), now.Add(day)
	}
	for _, r := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: r.SerialNumber, RevocationTime: now.Add(-2 * time.Hour), ReasonCode: 1,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, &template, o.Certificate, o.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// answer makes an OCSP response about a certificate of an issuer.
func (o *owner) answer(t testing.TB, about *owner, status int, changes ...func(*ocsp.Response)) []byte {
	t.Helper()
	template := ocsp.Response{
		Status: status, SerialNumber: about.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour),
		RevokedAt: now.Add(-2 * time.Hour), RevocationReason: ocsp.KeyCompromise,
	}
	for _, c := range changes {
		c(&template)
	}
	der, err := ocsp.CreateResponse(o.Certificate, o.Certificate, template, o.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func pointsAt(crl, responder string) change {
	return func(c *x509.Certificate) {
		if crl != "" {
			c.CRLDistributionPoints = []string{crl}
		}
		if responder != "" {
			c.OCSPServer = []string{responder}
		}
	}
}

// Each way to learn of a revocation, under each policy.
func TestRevocation(t *testing.T) {
	const list, responder = "http://pki.example/crl", "http://ocsp.example"
	root := newRoot(t, "Root")
	leaf := root.issue(t, "h", pointsAt(list, responder))
	bare := root.issue(t, "h")
	empty, revoking := root.crlOf(t, x509.RevocationList{}), root.crlOf(t, x509.RevocationList{}, leaf, bare)
	old := x509.RevocationList{ThisUpdate: now.Add(-2 * day), NextUpdate: now.Add(-day)}
	stale, staleRevoking := root.crlOf(t, old), root.crlOf(t, old, leaf)
	good, bad, dunno := root.answer(t, leaf, ocsp.Good), root.answer(t, leaf, ocsp.Revoked), root.answer(t, leaf, ocsp.Unknown)
	type pages = map[string]func([]byte) []byte
	for _, tt := range []struct {
		name            string
		leaf            *owner
		pages           pages
		evidence        Evidence
		ours            []byte // CRL
		strict, present Reason
		asked           int // requests under Strict
	}{
		{"OCSP says good", leaf, pages{responder: page(good)}, Evidence{}, nil, 0, 0, 1},
		{"OCSP says revoked", leaf, pages{responder: page(bad)}, Evidence{}, nil, Revoked, Revoked, 1},
		{"OCSP does not know, CRL says good", leaf, pages{responder: page(dunno), list: page(empty)}, Evidence{}, nil, 0, 0, 2},
		{"OCSP does not know, CRL says revoked", leaf, pages{responder: page(dunno), list: page(revoking)}, Evidence{}, nil, Revoked, Revoked, 2},
		{"OCSP does not answer, CRL says good", leaf, pages{list: page(empty)}, Evidence{}, nil, 0, 0, 2},
		{"nobody answers", leaf, nil, Evidence{}, nil, RevocationUnknown, 0, 2},
		{"OCSP tries later", leaf, pages{responder: page(ocsp.TryLaterErrorResponse)}, Evidence{}, nil, RevocationUnknown, 0, 2},
		{"CRL is over", leaf, pages{list: page(stale)}, Evidence{}, nil, RevocationUnknown, 0, 2},
		{"CRL that is over revokes", leaf, pages{list: page(staleRevoking)}, Evidence{}, nil, Revoked, Revoked, 2},
		{"CRL of ours that is over revokes", leaf, nil, Evidence{}, staleRevoking, Revoked, Revoked, 0},
		{"names nobody", bare, nil, Evidence{}, nil, RevocationUnknown, 0, 0},
		{"stapled good", leaf, nil, Evidence{OCSP: [][]byte{good}}, nil, 0, 0, 0},
		{"stapled revoked", leaf, pages{responder: page(good)}, Evidence{OCSP: [][]byte{bad}}, nil, Revoked, Revoked, 0},
		{"stapled for another", bare, nil, Evidence{OCSP: [][]byte{good}}, nil, RevocationUnknown, 0, 0},
		{"stapled nonsense, OCSP says good", leaf, pages{responder: page(good)}, Evidence{OCSP: [][]byte{[]byte("x")}}, nil, 0, 0, 1},
		{"peer sends CRL", bare, nil, Evidence{CRLs: [][]byte{empty}}, nil, 0, 0, 0},
		{"peer sends CRL that revokes", bare, nil, Evidence{CRLs: [][]byte{empty, revoking}}, nil, Revoked, Revoked, 0},
		{"peer staples good and sends CRL that revokes", leaf, nil, Evidence{OCSP: [][]byte{good}, CRLs: [][]byte{revoking}}, nil, Revoked, Revoked, 0},
		{"CRL of ours", bare, nil, Evidence{}, empty, 0, 0, 0},
		{"CRL of ours revokes, peer staples good", leaf, nil, Evidence{OCSP: [][]byte{good}}, revoking, Revoked, Revoked, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, m := range []struct {
				mode Revocation
				want Reason
			}{{Strict, tt.strict}, {IfPresent, tt.present}, {Off, 0}} {
				w := &web{pages: tt.pages}
				v := &Verifier{Roots: pool(root), Revocation: m.mode, Fetcher: w}
				if tt.ours != nil {
					crl, err := ParseCRL(tt.ours)
					if err != nil {
						t.Fatal(err)
					}
					v.CRLs = []*CRL{crl}
				}
				got, err := v.Verify(t.Context(), tt.leaf.Certificate, tt.evidence, now)
				if r := reasonOf(t, err); r != m.want {
					t.Errorf("%s: %s (%v), want %s", m.mode, r, err, m.want)
				}
				level := m.mode
				if m.mode == IfPresent && tt.strict == 0 {
					level = Strict // all is known to be good
				}
				if err == nil && got.Revocation != level {
					t.Errorf("%s: satisfies %s, want %s", m.mode, got.Revocation, level)
				}
				if unknown := err == nil && level == IfPresent && tt.name != "names nobody"; (got.Unchecked != nil) != unknown || unknown && !strings.HasPrefix(got.Unchecked.Error(), `revocation of "CN=h" could not be checked: `) {
					t.Errorf("%s: unchecked: %v", m.mode, got.Unchecked)
				}
				if m.mode == Strict && len(w.asked) != tt.asked || m.mode == Off && len(w.asked) != 0 {
					t.Errorf("%s: %d requests, want %d", m.mode, len(w.asked), tt.asked)
				}
				for _, r := range w.asked {
					if !r.Trusted {
						t.Errorf("%s: asked %s as if a peer had made it up", m.mode, r.URL)
					}
				}
			}
		})
	}
}

// An error about revocation names the source, the date and the reason.
func TestRevokedError(t *testing.T) {
	root := newRoot(t, "Root")
	leaf := root.issue(t, "h", pointsAt("http://pki.example/crl", "http://ocsp.example"))
	v := &Verifier{Roots: pool(root), Revocation: Strict, Fetcher: &web{}}
	_, err := v.Verify(t.Context(), leaf.Certificate, Evidence{CRLs: [][]byte{root.crlOf(t, x509.RevocationList{}, leaf)}}, now)
	for _, w := range []string{"was revoked", "2026-03-14T10:00:00Z", "key compromise", "a CRL of 2026-03-14T11:00:00Z", Serial(leaf.Certificate)} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	_, err = v.Verify(t.Context(), leaf.Certificate, Evidence{}, now)
	for _, w := range []string{"OCSP at http://ocsp.example", "CRL at http://pki.example/crl", "connection refused"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	if !errors.Is(err, errUnreachable) {
		t.Errorf("%v does not wrap what the fetcher said", err)
	}
}

// What could not be checked, and why, is said of each certificate of the chain.
func TestUnchecked(t *testing.T) {
	root := newRoot(t, "Root")
	mid := root.sub(t, "Mid", pointsAt("http://pki.example/crl", ""))
	leaf := mid.issue(t, "h")
	sent := Evidence{Intermediates: certs(mid)}
	for _, tt := range []struct {
		name string
		v    Verifier
		ev   Evidence
		want string
	}{
		{"nobody to ask, and one who does not answer", Verifier{Fetcher: &web{}}, sent,
			`revocation of "CN=Mid" could not be checked: CRL at http://pki.example/crl: fetch http://pki.example/crl: connection refused`},
		{"nothing is fetched", Verifier{}, Evidence{Intermediates: certs(mid), CRLs: [][]byte{mid.crlOf(t, x509.RevocationList{})}},
			`revocation of "CN=Mid" could not be checked: no list and no OCSP response is there, and none is fetched`},
		{"nobody is asked", Verifier{Revocation: Off}, sent, ""},
		{"all is known", Verifier{}, Evidence{Intermediates: certs(mid), CRLs: [][]byte{mid.crlOf(t, x509.RevocationList{}), root.crlOf(t, x509.RevocationList{})}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.v.Roots = pool(root)
			got, err := tt.v.Verify(t.Context(), leaf.Certificate, tt.ev, now)
			if err != nil {
				t.Fatal(err)
			}
			if said := fmt.Sprint(got.Unchecked); said != tt.want && (tt.want != "" || got.Unchecked != nil) {
				t.Errorf("got  %s\nwant %s", said, tt.want)
			}
		})
	}
}

// Every certificate but the authority is asked about, and of several chains
// one that is not revoked will do.
func TestRevocationOfIssuers(t *testing.T) {
	a, b := newRoot(t, "A"), newRoot(t, "B")
	mid := a.sub(t, "Mid")
	cross := &owner{b.issueFor(t, "Mid", mid.key.Public(), authority), mid.key}
	leaf := mid.issue(t, "h")
	evidence := func(lists ...[]byte) Evidence {
		return Evidence{Intermediates: certs(mid, cross), CRLs: lists}
	}
	ofA, ofB, ofMid := a.crlOf(t, x509.RevocationList{}, mid), b.crlOf(t, x509.RevocationList{}), mid.crlOf(t, x509.RevocationList{})
	for _, tt := range []struct {
		name     string
		roots    []*owner
		evidence Evidence
		want     Reason
	}{
		{"intermediate revoked", []*owner{a}, evidence(ofA, ofMid), Revoked},
		{"nothing known of the intermediate", []*owner{b}, evidence(ofMid), RevocationUnknown},
		{"the other chain", []*owner{a, b}, evidence(ofA, ofB, ofMid), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &Verifier{Roots: pool(tt.roots...), Revocation: Strict}
			got, err := v.Verify(t.Context(), leaf.Certificate, tt.evidence, now)
			if r := reasonOf(t, err); r != tt.want {
				t.Fatalf("%s (%v), want %s", r, err, tt.want)
			}
			if err == nil && !got.Chain[2].Equal(b.Certificate) {
				t.Errorf("the chain leads to %q", got.Chain[2].Subject)
			}
		})
	}
}

// A certificate that its issuer has taken back is refused, whatever chains
// without that issuer's lists the peer brings along.
func TestRevokedByOneChain(t *testing.T) {
	root := newRoot(t, "Root")
	mid := root.sub(t, "Mid")
	mute := &owner{root.issueFor(t, "Mid", mid.key.Public(), authority, usage(x509.KeyUsageCertSign)), mid.key}
	leaf := mid.issue(t, "h")
	list := mid.crlOf(t, x509.RevocationList{}, leaf)
	for name, sent := range map[string][]*owner{"one chain": {mid}, "another before": {mute, mid}, "another after": {mid, mute}} {
		v := &Verifier{Roots: pool(root)}
		_, err := v.Verify(t.Context(), leaf.Certificate, Evidence{Intermediates: certs(sent...), CRLs: [][]byte{list}}, now)
		if r := reasonOf(t, err); r != Revoked {
			t.Errorf("%s: %s (%v), want %s", name, r, err, Revoked)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		had, want Revocation
		ok        bool
	}{
		{Strict, Strict, true}, {Strict, IfPresent, true}, {Strict, Off, true},
		{IfPresent, Strict, false}, {IfPresent, IfPresent, true}, {IfPresent, Off, true},
		{Off, Strict, false}, {Off, IfPresent, false}, {Off, Off, true},
	} {
		if got := tt.had.Covers(tt.want); got != tt.ok {
			t.Errorf("%s covers %s: %v", tt.had, tt.want, got)
		}
	}
}

// slow is a Fetcher of servers that never answer. The certificates of a chain
// are asked about at the same time, and no longer than the context lasts.
type slow struct {
	mu      sync.Mutex
	waiting int
}

func (s *slow) Fetch(ctx context.Context, r Request) (any, error) {
	s.mu.Lock()
	s.waiting++
	s.mu.Unlock()
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestSlowServers(t *testing.T) {
	root := newRoot(t, "Root")
	mid := root.sub(t, "Mid", pointsAt("http://a.example", ""))
	leaf := mid.issue(t, "h", pointsAt("http://b.example", ""))
	ctx, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	s := &slow{}
	v := &Verifier{Roots: pool(root), Revocation: Strict, Fetcher: s}
	_, err := v.Verify(ctx, leaf.Certificate, Evidence{Intermediates: certs(mid)}, now)
	if reasonOf(t, err) != RevocationUnknown || !errors.Is(err, context.DeadlineExceeded) || s.waiting != 2 {
		t.Errorf("%v, %d asked", err, s.waiting)
	}
}
