package ike

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

func TestRawKey(t *testing.T) {
	theirs, strange := p256Key(t), p256Key(t)
	fp, err := KeyFingerprint(theirs.Public())
	if err != nil {
		t.Fatal(err)
	}
	strangeFP, err := KeyFingerprint(strange.Public())
	if err != nil {
		t.Fatal(err)
	}
	knows := func(peers ...PeerKey) RawKey { return RawKey{Peers: peers} }
	any, named := PeerKey{Key: theirs.Public()}, PeerKey{Key: theirs.Public(), ID: "h.example"}
	ed := PeerKey{Key: somebody.ed.Public()}
	claims := func(id string) func(*Verifying) { return func(v *Verifying) { v.ID = ParseID(id) } }
	unsent := func(v *Verifying) { v.Certs = nil }
	both := func(fs ...func(*Verifying)) func(*Verifying) {
		return func(v *Verifying) {
			for _, f := range fs {
				f(v)
			}
		}
	}
	for _, tt := range []struct {
		name    string
		by      RawKey
		claimed string
		to      RawKey
		change  func(*Verifying)
		want    string // of the error, or empty
	}{
		{"its key", RawKey{Key: theirs}, "", knows(ed, any), nil, ""},
		{"its name", RawKey{Key: theirs}, "h.example", knows(ed, named), nil, ""},
		{"any name", RawKey{Key: theirs}, "x.example", knows(any), nil, ""},
		{"another name", RawKey{Key: theirs}, "x.example", knows(named), nil, "is that of h.example"},
		{"fingerprint of another key", RawKey{Key: theirs}, "keyid:" + strangeFP.String(), knows(any), nil, "has another fingerprint"},
		{"Ed25519", RawKey{Key: somebody.ed}, "h.example", knows(ed, any), nil, ""},
		{"key not sent", RawKey{Key: theirs}, "h.example", knows(ed, named), unsent, ""},
		{"key not sent, and not named", RawKey{Key: theirs}, "", knows(ed, any), unsent, ""},
		{"key not sent, another name", RawKey{Key: theirs}, "x.example", knows(named), unsent, "sent no raw key"},
		{"strange key", RawKey{Key: strange}, "h.example", knows(any), nil, "its fingerprint is " + strangeFP.String()},
		{"strange key not sent", RawKey{Key: strange}, "h.example", knows(any, ed), unsent, "the signature of h.example"},
		{"strange key, another sent", RawKey{Key: strange}, "h.example", knows(any), func(v *Verifying) {
			v.Certs = encounter{hashes: everyHash}.prove(t, RawKey{Key: theirs}).Certs
		}, ErrWrongKey.Error()},
		{"certificate", RawKey{Key: theirs}, "h.example", knows(any), func(v *Verifying) {
			v.Certs = []*wire.Cert{{Encoding: wire.CertX509, Data: []byte("x")}}
		}, "sent a certificate"},
		{"no key", RawKey{Key: theirs}, "h.example", knows(any), func(v *Verifying) { v.Certs[0].Data = []byte("x") }, "the raw key of h.example"},
		{"name of nobody", RawKey{Key: theirs}, "", knows(named), both(unsent, claims("keyid:x")), "sent no raw key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := encounter{claimed: tt.claimed, hashes: everyHash, change: tt.change}.prove(t, tt.by)
			p, err := Authenticate(t.Context(), []AuthMethod{tt.to}, "", nil, v)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, ErrAuthentication) {
					t.Errorf("%v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !samePublicKey(p.Key, tt.by.Key.Public()) || !strings.HasPrefix(p.How, "raw-key sha256:") {
				t.Errorf("%+v", p)
			}
			if err := tt.to.Accepts(p, authTime); err != nil {
				t.Errorf("does not accept its own proof: %v", err)
			}
			if knows(PeerKey{Key: strange.Public()}).Accepts(p, authTime) == nil {
				t.Error("accepts the proof of another key")
			}
			if knows(PeerKey{Key: p.Key, ID: "other.example"}).Accepts(p, authTime) == nil {
				t.Error("accepts it by another name")
			}
		})
	}
	id, err := RawKey{Key: theirs}.Identity("", someAddr)
	if err != nil || id.Kind != wire.IDKeyID || string(id.Data) != fp.String() {
		t.Errorf("identity %s, %v", id, err)
	}
	if _, err := knows(any).Identity("", someAddr); err == nil || knows(any).Proves() {
		t.Error("an identity without a key")
	}
	if (RawKey{Key: theirs}).Understands(wire.AuthDigitalSignature) {
		t.Error("understands signatures without a peer's key")
	}
}

// The payload is a SubjectPublicKeyInfo (RFC 7670 section 3).
func TestRawKeyPayload(t *testing.T) {
	v := encounter{hashes: everyHash}.prove(t, RawKey{Key: somebody.ed})
	want := slices.Concat(unhex(t, "302a300506032b6570032100"), somebody.ed.Public().(ed25519.PublicKey))
	if len(v.Certs) != 1 || v.Certs[0].Encoding != 15 || string(v.Certs[0].Data) != string(want) {
		t.Errorf("%x", v.Certs[0].Data)
	}
	der, err := x509.MarshalPKIXPublicKey(somebody.ed.Public())
	if err != nil || string(der) != string(want) {
		t.Errorf("%x, %v", der, err)
	}
}

// Several raw keys whose owners may call themselves as they like prove no name
// that a rule insists on.
func TestRawKeyProvesName(t *testing.T) {
	theirs, other := PeerKey{Key: p256Key(t).Public()}, PeerKey{Key: p256Key(t).Public()}
	named := theirs
	named.ID = "h.example"
	staff := &PeerGroup{Name: "staff", Names: []string{"h.example"}}
	knows := func(peers ...PeerKey) AuthMethod { return RawKey{Peers: peers} }
	for _, tt := range []struct {
		name string
		rule []AuthMethod
		want bool
	}{
		{"the only key", []AuthMethod{knows(theirs)}, true},
		{"one of two", []AuthMethod{knows(theirs, other)}, false},
		{"one of two, each by a method of its own", []AuthMethod{knows(theirs), knows(other)}, false},
		{"one of two, with its name", []AuthMethod{knows(named, other)}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// What another rule found does not count.
			p := Proof{By: RawKey{Peers: []PeerKey{theirs}}, ID: ParseID("h.example"), Key: theirs.Key, Named: true}
			if err := Entitled(tt.rule, "h.example", nil, p, time.Now()); (err == nil) != tt.want {
				t.Errorf("peer-id: %v, want %v", err, tt.want)
			}
			if err := Entitled(tt.rule, "", staff, p, time.Now()); (err == nil) != tt.want {
				t.Errorf("group: %v, want %v", err, tt.want)
			}
			if err := Entitled(tt.rule, "", nil, p, time.Now()); err != nil {
				t.Errorf("no name wanted: %v", err)
			}
		})
	}
}
