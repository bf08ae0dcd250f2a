package ikev2_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// authority issues certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t *testing.T, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "ecdsa256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ecdsa521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "rsa2048":
		return rsaKey()
	case "rsa1024":
		return shortRSAKey()
	default:
		t.Fatalf("no key of kind %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// RSA keys take long to make, and the tests can share one.
var (
	rsaKey      = sync.OnceValue(func() crypto.Signer { return mustRSA(2048) })
	shortRSAKey = sync.OnceValue(func() crypto.Signer { return mustRSA(1024) })
)

func mustRSA(bits int) crypto.Signer {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return k
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key := newKey(t, "ecdsa256")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return authority{sign(t, template, template, key.Public(), key), key}
}

func sign(t *testing.T, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// issue returns a method with a certificate of the authority, which it
// trusts too.
func (a authority) issue(t *testing.T, kind, name string, change ...func(*x509.Certificate)) ike.Certificate {
	t.Helper()
	key := newKey(t, kind)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, f := range change {
		f(template)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return ike.Certificate{
		Chain: []*x509.Certificate{sign(t, template, a.cert, key.Public(), a.key)},
		Key:   key, Authorities: pool, Roots: []*x509.Certificate{a.cert},
	}
}

// trusting returns the method with another authority to believe.
func trusting(c ike.Certificate, a authority) ike.Certificate {
	c.Authorities = x509.NewCertPool()
	c.Authorities.AddCert(a.cert)
	c.Roots = []*x509.Certificate{a.cert}
	return c
}

func TestCertificates(t *testing.T) {
	for _, kind := range []string{"ecdsa256", "ecdsa384", "ecdsa521", "rsa2048", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			ca := newAuthority(t, "test CA")
			w := newWorld(1)
			w.a.Policy.Auth = []ike.AuthMethod{ca.issue(t, kind, "a.example")}
			w.b.Policy.Auth = []ike.AuthMethod{ca.issue(t, kind, "b.example")}
			w.mustConnect(t)
			p := w.a.Established[0].Peer
			if p.RemoteID != "b.example" || p.Auth != "certificate CN=b.example" {
				t.Errorf("peer of a: %s, by %s", p.RemoteID, p.Auth)
			}
		})
	}
}

// withoutRFC7427 takes the SIGNATURE_HASH_ALGORITHMS away, as an older peer
// would not send them.
func withoutRFC7427(t *testing.T, w *world) {
	w.Mangle = func(_, _ netip.AddrPort, data []byte) []byte {
		h, ps, err := wire.Decode(data)
		if err != nil {
			t.Errorf("decode: %v", err)
			return data
		}
		if h.Exchange == wire.IKESAInit {
			for _, p := range ps {
				if n, ok := p.(*wire.Notify); ok && n.Kind == wire.SignatureHashAlgorithms {
					n.Kind = 40000 // of no meaning to anybody
				}
			}
			if data, err = wire.Encode(h, ps); err != nil {
				t.Errorf("encode: %v", err)
			}
		}
		return data
	}
}

func TestOldSignatures(t *testing.T) {
	for _, tt := range []struct {
		kind string
		want string // of the failure, or empty
	}{
		// The manglers change what both ends sign, so that a signature made
		// with the right method fails, and one not made never gets so far.
		{"ecdsa256", "made with another key"},
		{"rsa2048", "only an ECDSA key"},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			ca := newAuthority(t, "test CA")
			w := newWorld(1)
			w.a.Policy.Auth = []ike.AuthMethod{ca.issue(t, tt.kind, "a.example")}
			w.b.Policy.Auth = []ike.AuthMethod{ca.issue(t, tt.kind, "b.example")}
			withoutRFC7427(t, w)
			w.connect(t)
			w.Run(time.Minute)
			if len(w.a.Installed)+len(w.b.Installed) != 0 {
				t.Fatal("connected although IKE_SA_INIT was changed on its way")
			}
			got := ""
			for _, f := range append(w.a.Failed, w.b.Failed...) {
				got += f.Why.Error() + "\n"
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("failures %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAuthenticationFails(t *testing.T) {
	ca, other := newAuthority(t, "test CA"), newAuthority(t, "other CA")
	a, b := ca.issue(t, "ecdsa256", "a.example"), ca.issue(t, "ecdsa256", "b.example")
	expired := func(c *x509.Certificate) { c.NotAfter = epoch.Add(-time.Minute) }
	early := func(c *x509.Certificate) { c.NotBefore = epoch.Add(time.Minute) }
	stolen := a
	stolen.Key = newKey(t, "ecdsa256")
	long := a
	modulus := new(big.Int).Lsh(big.NewInt(1), 8192)
	long.Chain = []*x509.Certificate{sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(4), DNSNames: []string{"a.example"}, NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(time.Hour),
	}, ca.cert, &rsa.PublicKey{N: modulus.SetBit(modulus, 0, 1), E: 1<<31 - 1}, ca.key)}
	for _, tt := range []struct {
		name string
		a, b ike.AuthMethod
		who  string // finds out
		want string
	}{
		{"other key", ike.PresharedKey{Secret: []byte("one")}, ike.PresharedKey{Secret: []byte("another")}, "b", "does not have our preshared key"},
		{"empty keys", ike.PresharedKey{}, ike.PresharedKey{}, "a", "the preshared key is empty"},
		{"expired at the initiator", ca.issue(t, "ecdsa256", "a.example", expired), b, "b", "expired"},
		{"expired at the responder", a, ca.issue(t, "ecdsa256", "b.example", expired), "a", "expired"},
		{"not yet valid", ca.issue(t, "ecdsa256", "a.example", early), b, "b", "is not valid before"},
		{"unknown CA at the initiator", trusting(other.issue(t, "ecdsa256", "a.example"), ca), b, "b", "no authority that is trusted"},
		{"unknown CA at the responder", a, trusting(other.issue(t, "ecdsa256", "b.example"), ca), "a", "no authority that is trusted"},
		{"certificate without its key", stolen, b, "b", "made with another key"},
		{"short RSA key", ca.issue(t, "rsa1024", "a.example"), b, "b", "2048"},
		{"RSA key that takes seconds", long, b, "b", "8192 are the most"},
		{"no authorities", a, ike.Certificate{Chain: b.Chain, Key: b.Key}, "b", "no authority is trusted"},
		{"authorities only", ike.Certificate{Authorities: a.Authorities, Roots: a.Roots}, b, "a", "no certificate of our own"},
		{"kinds differ", ike.PresharedKey{Secret: []byte("one")}, b, "b", "for which the policy has nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("GODEBUG", "rsa1024min=0")
			w := newWorld(1)
			w.a.Policy.Auth, w.b.Policy.Auth = []ike.AuthMethod{tt.a}, []ike.AuthMethod{tt.b}
			w.connect(t)
			w.Run(time.Minute)
			if len(w.a.Alive())+len(w.b.Alive()) != 0 {
				t.Fatal("a Child SA is alive")
			}
			if len(w.a.Machines)+len(w.b.Machines) != 0 {
				t.Errorf("machines left: %d and %d", len(w.a.Machines), len(w.b.Machines))
			}
			if len(w.a.Failed) != 1 || !w.a.Failed[0].Whole || w.a.Failed[0].Policy != "web" {
				t.Fatalf("failures of a: %+v, want one for the rule", w.a.Failed)
			}
			h := map[string]*iketest.Host{"a": w.a, "b": w.b}[tt.who]
			if len(h.Failed) == 0 || !strings.Contains(h.Failed[0].Why.Error(), tt.want) {
				t.Errorf("%s says %v, want %q", tt.who, h.Failed, tt.want)
			}
			var n *ike.NegotiationError
			if !errors.As(w.a.Failed[0].Why, &n) || n.Hint == "" && ike.CauseOf(n) == ike.CauseFault {
				t.Errorf("no explanation: %v", w.a.Failed[0].Why)
			}
		})
	}
}

// TestMethods has ordered lists of methods at both ends.
func TestMethods(t *testing.T) {
	ca, other := newAuthority(t, "test CA"), newAuthority(t, "other CA")
	certA, certB := ca.issue(t, "ecdsa256", "a.example"), ca.issue(t, "ed25519", "b.example")
	strange := other.issue(t, "ecdsa256", "a.example")
	key, wrong := ike.PresharedKey{Secret: []byte("shared")}, ike.PresharedKey{Secret: []byte("wrong")}
	for _, tt := range []struct {
		name  string
		a, b  []ike.AuthMethod
		auth  string // how b proved itself, empty for a failure
		inits int    // of a
	}{
		{"certificate first", []ike.AuthMethod{certA, key}, []ike.AuthMethod{certB, key}, "certificate CN=b.example", 1},
		{"b lists them otherwise", []ike.AuthMethod{certA, key}, []ike.AuthMethod{key, certB}, "certificate CN=b.example", 1},
		{"b has only a key", []ike.AuthMethod{certA, key}, []ike.AuthMethod{key}, "preshared-key", 1},
		{"b asks for others' certificates", []ike.AuthMethod{strange, key}, []ike.AuthMethod{certB, key}, "preshared-key", 1},
		{"a's certificate is refused", []ike.AuthMethod{trusting(strange, ca), key}, []ike.AuthMethod{certB, key}, "preshared-key", 2},
		{"the second key fits", []ike.AuthMethod{wrong, key}, []ike.AuthMethod{key}, "preshared-key", 2},
		{"b has the key second", []ike.AuthMethod{key}, []ike.AuthMethod{wrong, key}, "preshared-key", 1},
		{"none fits", []ike.AuthMethod{trusting(strange, ca), wrong}, []ike.AuthMethod{certB, key}, "", 2},
		{"a has only a certificate, b asks for none", []ike.AuthMethod{certA}, []ike.AuthMethod{key}, "", 1},
		{"none", nil, []ike.AuthMethod{key}, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			w.a.Policy.Auth, w.b.Policy.Auth = tt.a, tt.b
			w.connect(t)
			w.Run(10 * time.Second)
			inits := 0
			for _, s := range w.a.Sent {
				if h, err := wire.ParseHeader(s.Data); err == nil && h.Exchange == wire.IKESAInit {
					inits++
				}
			}
			if inits != tt.inits {
				t.Errorf("%d IKE_SA_INIT, want %d", inits, tt.inits)
			}
			if tt.auth == "" {
				if len(w.a.Alive())+len(w.b.Alive()) != 0 || len(w.a.Failed) != 1 {
					t.Errorf("want one failure, got %v", w.a.Failed)
				}
				return
			}
			if len(w.a.Alive()) != 1 || len(w.b.Alive()) != 1 {
				t.Fatalf("not connected: %v %v", w.a.Failed, w.b.Failed)
			}
			if got := w.a.Established[0].Peer.Auth; got != tt.auth {
				t.Errorf("b proved itself by %s, want %s", got, tt.auth)
			}
		})
	}
}

func TestIntermediate(t *testing.T) {
	root := newAuthority(t, "root")
	key := newKey(t, "ecdsa384")
	middle := authority{sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "middle"},
		NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, root.cert, key.Public(), root.key), key}
	own := middle.issue(t, "ecdsa256", "a.example")
	own.Chain = append(own.Chain, middle.cert)
	w := newWorld(1)
	w.a.Policy.Auth = []ike.AuthMethod{trusting(own, root)}
	w.b.Policy.Auth = []ike.AuthMethod{root.issue(t, "ecdsa256", "b.example")}
	w.mustConnect(t)
}

func TestIdentities(t *testing.T) {
	ca := newAuthority(t, "test CA")
	noDNS := func(c *x509.Certificate) { c.DNSNames = nil }
	for _, tt := range []struct {
		name    string
		localID string // with a preshared key
		cert    []func(*x509.Certificate)
		want    string
	}{
		{"address", "", nil, "10.0.0.1"},
		{"name", "host.example", nil, "host.example"},
		{"e-mail", "alice@host.example", nil, "alice@host.example"},
		{"IPv6", "2001:db8::1", nil, "2001:db8::1"},
		{"subject", "", []func(*x509.Certificate){noDNS}, "CN=a.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			if tt.cert != nil {
				w.a.Policy.Auth = []ike.AuthMethod{ca.issue(t, "ecdsa256", "a.example", tt.cert...)}
				w.b.Policy.Auth = []ike.AuthMethod{ca.issue(t, "ecdsa256", "b.example")}
			}
			w.a.Policy.LocalID = tt.localID
			w.mustConnect(t)
			if got := w.b.Established[0].Peer.RemoteID; got != tt.want {
				t.Errorf("a calls itself %s, want %s", got, tt.want)
			}
		})
	}
}

// A peer that authenticates as somebody else than the policy names is refused,
// whoever began.
func TestPeerID(t *testing.T) {
	for _, tt := range []struct {
		name         string
		aSays, bSays string // whom each wants the other to be
		refused      bool
	}{
		{"both right", "10.0.0.2", "10.0.0.1", false},
		{"the responder is another", "10.0.0.9", "", true},
		{"the initiator is another", "", "10.0.0.9", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			w.a.Policy.PeerID, w.b.Policy.PeerID = tt.aSays, tt.bSays
			if !tt.refused {
				w.mustConnect(t)
				return
			}
			w.connect(t)
			w.Run(time.Minute)
			if len(w.a.Alive())+len(w.b.Alive()) != 0 {
				t.Fatal("a Child SA is alive")
			}
			h := w.a
			if tt.bSays != "" {
				h = w.b
			}
			if len(h.Failed) == 0 || !errors.Is(h.Failed[0].Why, ike.ErrAuthentication) || !strings.Contains(h.Failed[0].Why.Error(), "10.0.0.9") {
				t.Errorf("failed with %v, want ErrAuthentication that names 10.0.0.9", h.Failed)
			}
		})
	}
}
