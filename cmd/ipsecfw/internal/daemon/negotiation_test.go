package daemon

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

func offered(ps []ipsec.Proposal) string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.String()
	}
	return strings.Join(texts, " ")
}

// partOf loads a rule file, with the contents of the files that it names.
func partOf(t *testing.T, text string, files map[string]string) *part {
	t.Helper()
	up := api.Policy{Name: "test.yaml", Source: text, Files: map[string][]byte{}}
	for name, content := range files {
		up.Files[name] = []byte(content)
	}
	x, err := load(&up, nil)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func combined(t *testing.T, parts ...*part) *policy {
	t.Helper()
	p, err := combine(parts, rules.Addresses{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	secret    = "a secret that is long enough"
	longer    = "a post-quantum secret of one file"
	stillMore = "a post-quantum secret of the other"
)

// keyPair returns a private key and its public one, PEM.
func keyPair(t *testing.T) (private, public string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err1 := x509.MarshalPKCS8PrivateKey(key)
	b, err2 := x509.MarshalPKIXPublicKey(pub)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: a})), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}))
}

// Each peer gets the settings of the rule of the most specific filter that
// concerns it, and of the file where the rule says nothing.
func TestPeerSettings(t *testing.T) {
	rawKey, rawPub := keyPair(t)
	p := combined(t, partOf(t, `version: 1
name: test
filter-lists:
  net: [{from: me, to: 10.1.0.0/16}]
  old: [{from: me, to: 10.1.0.1}]
  new: [{from: me, to: 10.1.0.2}]
peers:
  some: {names: [a.example], subjects: ["OU=A,O=B"], fingerprints: [abababababababababababababababababababababababababababababababab], except: {units: [Guests]}}
rules:
  - {name: net, filter-list: net, action: require-security, authentication: [{preshared-key: {file: psk}}]}
  - {name: old, filter-list: old, action: require-security, authentication: [{preshared-key: {file: psk}}], legacy: true, key-exchange: {proposals: [3des-sha1-modp1024], ppk: {id: b, file: other}, childless: false}}
  - {name: new, filter-list: new, action: request-security, authentication: [{raw-key: {key: raw.key, peers: raw.pub}}], peers: some, own-id: "keyid:new", key-exchange: {suite: cnsa2, reauthentication: never}}
key-exchange:
  reauthentication: 24h
  lifetime: 4h
  liveness: 7s
  fragmentation: false
  window: 3
  children: 5
  childless: true
  ppk: [{id: a, file: ppk, required: true}]
`, map[string]string{"psk": secret, "ppk": longer, "other": stillMore, "raw.key": rawKey, "raw.pub": rawPub}))
	def, _, _ := ike.Suite("default")
	cnsa, cnsaESP, _ := ike.Suite("cnsa2")
	for _, tt := range []struct {
		peer string
		want ike.Policy // without Auth and Peers
	}{
		{"10.1.0.9", ike.Policy{Proposals: def, Reauth: 24 * time.Hour, Childless: true, PPKs: []ike.PPK{{ID: "a", Secret: []byte(longer)}}, PPKRequired: true}},
		{"10.1.0.1", ike.Policy{Reauth: 24 * time.Hour, PPKs: []ike.PPK{{ID: "b", Secret: []byte(stillMore)}}}},
		{"10.1.0.2", ike.Policy{Proposals: cnsa, Childless: true, PPKs: []ike.PPK{{ID: "a", Secret: []byte(longer)}}, PPKRequired: true, LocalID: "keyid:new", Patience: 3 * time.Second}},
	} {
		t.Run(tt.peer, func(t *testing.T) {
			got, ok := p.Peer(netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr(tt.peer))
			if !ok || len(got.Auth) != 1 {
				t.Fatalf("policy %v, %+v", ok, got)
			}
			want := tt.want
			want.Lifetime, want.Liveness, want.FragmentSize, want.Window, want.MaxChildren = 4*time.Hour, 7*time.Second, -1, 3, 5
			if tt.peer == "10.1.0.1" {
				if offered(got.Proposals) != "IKE:3des-prfsha1-sha1-modp1024" {
					t.Errorf("proposals %s", offered(got.Proposals))
				}
				want.Proposals = got.Proposals
			}
			got.Auth, got.Peers = nil, nil
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%#v\nwant\n%#v", got, want)
			}
		})
	}
	local, remote := netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("10.1.0.2")
	got, _ := p.Peer(local, remote)
	if g := got.Peers; g == nil || g.Name != "some" || fmt.Sprint(g.Names, g.DNs, g.Fingerprints) != "[a.example] [OU=A,O=B] [sha256:"+strings.Repeat("ab", 32)+"]" || g.Except == nil || g.Except.Units[0] != "Guests" {
		t.Errorf("peers %+v", g)
	}
	if c := p.Child(local, remote, nil, nil, true); len(c) != 2 || offered(c[0].Proposals) != offered(cnsaESP) || c[0].Peers != got.Peers {
		t.Errorf("child policies %+v", c)
	}
}

// The key exchange of the file that was applied last holds for the persistent
// one as well, with that file's keys.
func TestSettingsOfAnotherFile(t *testing.T) {
	persistent := partOf(t, `version: 1
name: p
persistent: true
filter-lists:
  a: [{from: me, to: 10.1.0.1}]
  b: [{from: me, to: 10.1.0.2}]
rules:
  - {name: a, filter-list: a, action: require-security, authentication: [{preshared-key: {file: psk}}]}
  - {name: b, filter-list: b, action: require-security, authentication: [{preshared-key: {file: psk}}], key-exchange: {ppk: {id: b, file: ppk}}}
default-response: {action: require-security, authentication: [{preshared-key: {file: psk}}]}
key-exchange: {suite: cnsa2, ppk: {id: p, file: ppk}}
`, map[string]string{"psk": secret, "ppk": longer})
	applied := partOf(t, `version: 1
name: a
filter-lists: {c: [{from: any, to: me}]}
rules: [{name: c, filter-list: c, action: block}]
key-exchange: {suite: interop, liveness: 9s, ppk: {id: a, file: ppk}}
`, map[string]string{"ppk": stillMore})
	at := func(p *policy, peer string) ike.Policy {
		got, _ := p.Peer(netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr(peer))
		return got
	}
	alone, both := combined(t, persistent), combined(t, persistent, applied)
	interop, interopESP, _ := ike.Suite("interop")
	if got := at(alone, "10.1.0.1"); len(got.Proposals) != 1 || string(got.PPKs[0].Secret) != longer || got.PPKs[0].ID != "p" {
		t.Errorf("alone: %+v", got)
	}
	if got := at(both, "10.1.0.1"); offered(got.Proposals) != offered(interop) || string(got.PPKs[0].Secret) != stillMore || got.PPKs[0].ID != "a" || got.Liveness != 9*time.Second {
		t.Errorf("together: %+v", got)
	}
	if got := at(both, "10.1.0.2"); string(got.PPKs[0].Secret) != longer || got.PPKs[0].ID != "b" {
		t.Errorf("together, of a rule that has its own: %+v", got)
	}
	if n := both.rules["a"]; offered(n.Proposals) != offered(interopESP) || len(n.auth) != 1 {
		t.Errorf("together: %+v", n)
	}
	if _, ok := both.Peer(netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("10.9.0.1")); ok {
		t.Error("the default response of the persistent file is in force")
	}
	if alone.same(both, "a") {
		t.Error("rule a means the same to SAs")
	}
}

func TestMissingFilesOfAllKinds(t *testing.T) {
	up := api.Policy{Name: "test.yaml", Source: `version: 1
name: test
filter-lists: {a: [{from: me, to: 10.1.0.1}]}
rules:
  - name: a
    filter-list: a
    action: require-security
    authentication:
      - certificate: {authority: [ca, ca2], intermediates: mid, pkcs12: p12, password-file: password, crl: crl}
      - raw-key: {key: raw, peers: [pub]}
      - anonymous: peer
    key-exchange: {ppk: {id: a, file: ppk}}
key-exchange: {ppk: {id: b, file: ppk2}}
`}
	_, err := load(&up, nil)
	e, ok := err.(*api.Error)
	if !ok {
		t.Fatalf("error %v", err)
	}
	var got []string
	for _, f := range e.Files {
		text := f.Path
		if f.Secret {
			text += "!"
		}
		if f.Path == "ppk2" {
			text += " " + f.Need
		}
		got = append(got, text)
	}
	if got, want := strings.Join(got, ", "), "ca, ca2, crl, mid, p12!, password!, ppk!, ppk2! test.yaml:13:35: key-exchange, pub, raw!"; got != want {
		t.Errorf("missing %s, want %s", got, want)
	}
}

// What a rule asks of the IKE SA is a condition of its Child SAs, whichever
// rule the IKE SA was made by.
func TestChildAsksOfIKE(t *testing.T) {
	p := combined(t, partOf(t, `version: 1
name: test
filter-lists:
  plain: [{from: me, to: 10.1.0.1, protocol: tcp}]
  old: [{from: me, to: 10.1.0.1, protocol: udp}]
  quantum: [{from: me, to: 10.1.0.1}]
rules:
  - {name: plain, filter-list: plain, action: require-security, authentication: [{preshared-key: {file: psk}}]}
  - {name: old, filter-list: old, action: require-security, authentication: [{preshared-key: {file: psk}}], legacy: true}
  - {name: quantum, filter-list: quantum, action: require-security, authentication: [{preshared-key: {file: psk}}], key-exchange: {ppk: {id: b, file: other, required: true}}}
`, map[string]string{"psk": secret, "other": stillMore}))
	got := map[string][2]bool{}
	for _, c := range p.Child(netip.MustParseAddr("10.1.0.9"), netip.MustParseAddr("10.1.0.1"), nil, nil, true) {
		got[c.Name] = [2]bool{c.PPKRequired, c.Legacy}
	}
	if want := map[string][2]bool{"plain": {}, "old": {false, true}, "quantum": {true, false}}; !reflect.DeepEqual(got, want) {
		t.Errorf("PPK required and legacy: %v, want %v", got, want)
	}
}
