package test

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// rawKey puts a key of a kind of the matrix into files for its owner, and its
// public half into one for the others.
func rawKey(t *testing.T, owner *daemon, kind string, others ...*daemon) {
	t.Helper()
	key := privateKey(t, kind)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	owner.write(t, "raw.key", block("PRIVATE KEY", private))
	public, err := x509.MarshalPKIXPublicKey(crypto.Signer(key).Public())
	must(t, err)
	for _, d := range others {
		d.write(t, "peers.pem", block("PUBLIC KEY", public))
	}
}

// What two hosts with ipsecfw may prove to each other besides the usual: keys
// without certificates (RFC 7670), and nothing (RFC 7619).
func TestProofs(t *testing.T) {
	_, w, ds, dw := secureHosts(t, "")
	ca := newAuthority(t)
	ds.enroll(t, ca, "server.test", server4, psk)
	dw.enroll(t, ca, "workstation.test", workstation4, psk)
	const (
		raw  = "{raw-key: {key: raw.key, peers: peers.pem}}"
		full = "{certificate: {authority: ca.pem, own: host.pem, key: host.key}}"
		half = "{certificate: {authority: ca.pem}}"
	)
	keys := func(server, workstation string) func(*testing.T) {
		return func(t *testing.T) {
			rawKey(t, ds, server, dw)
			rawKey(t, dw, workstation, ds)
		}
	}
	same := func(*testing.T) {}
	for _, tt := range []struct {
		name                string
		keys                func(*testing.T)
		server, workstation string   // ways to authenticate
		seen                []string // in what server and workstation say of each other; nil if there is no SA
		cause               ike.Cause
	}{
		{"raw keys", keys("ecdsa256", "ed25519"), raw, raw, []string{"raw-key", "raw-key"}, ""},
		{"raw keys, RSA", keys("rsa", "ecdsa384"), raw, raw, []string{"raw-key", "raw-key"}, ""},
		{"a raw key that is not known", func(t *testing.T) {
			rawKey(t, ds, "ecdsa256", dw)
			rawKey(t, dw, "ecdsa256")
		}, raw, raw, nil, ike.CauseRefusedByPeer},
		{"an anonymous client", same, full + ", {anonymous: peer}", half + ", {anonymous: own}", []string{"null: nobody proved anything", "certificate CN=server.test"}, ""},
		{"an anonymous client that is not wanted", same, full, half + ", {anonymous: own}", nil, ike.CauseRefusedByPeer},
		{"an anonymous server that is not wanted", same, "{anonymous: both}", half + ", {anonymous: own}", nil, ike.CauseAuthMethod},
		{"two anonymous ones", same, "{anonymous: both}", "{anonymous: both}", []string{"null: nobody proved anything", "null: nobody proved anything"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.keys(t)
			apply := func(d *daemon, ways string, peers ...string) {
				d.apply(t, strings.Replace(hostPolicy("", peers...), "{preshared-key: {file: psk}}", ways, 1))
			}
			apply(ds, tt.server, workstation4, workstation6)
			apply(dw, tt.workstation, server4, server6)
			out, err := dw.run("initiate", server4)
			if tt.seen == nil {
				if err == nil || !strings.Contains(string(out), fmt.Sprintf("cause       %s\n", tt.cause)) {
					t.Errorf("initiate: %v, want the cause %s\n%s", err, tt.cause, out)
				}
				if len(ds.sas(t))+len(dw.sas(t)) > 0 {
					t.Errorf("there are SAs: %+v and %+v", ds.sas(t), dw.sas(t))
				}
			} else {
				if err != nil {
					t.Fatalf("initiate: %v\n%s", err, out)
				}
				must(t, ping(within(t, 10*time.Second), w, workstation4, server4, 3000))
				onePair(t, ds, dw)
				for i, d := range []*daemon{ds, dw} {
					if list := d.ikeSAs(t); len(list) != 1 || !strings.HasPrefix(list[0].Authentication, tt.seen[i]) {
						t.Errorf("%s has the IKE SAs %+v, want one with %s", d.host.Name, list, tt.seen[i])
					}
				}
			}
			for _, d := range []*daemon{ds, dw} {
				_, err := d.run("unapply")
				must(t, err)
			}
		})
	}
}
