package test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The matrix of tests against strongSwan with its ESP in user space: any two
// values of different dimensions meet. Algorithms are spelled alike in both
// programs' files.
var matrix = []dimension{
	{"network", []string{"IPv4", "IPv6", "NAT before ipsecfw", "NAT before strongSwan"}},
	{"auth", []string{"psk", "ecdsa256", "ecdsa384", "rsa", "ed25519"}},
	{"algorithms", []string{
		"aes256gcm16-prfsha384-ecp384 aes256gcm16",
		"aes128-sha256-modp2048 aes128-sha256",
		"chacha20poly1305-prfsha256-x25519 chacha20poly1305",
		"aes256-sha512-modp4096 aes256-sha512",
		"aes128ccm16-prfaescmac-ecp256 aes128ccm16",
		"aes256ctr-sha384-ecp521 aes256ctr-sha384",
		"aes128-aesxcbc-prfaesxcbc-modp3072 aes128-aesxcbc",
		"aes128gcm12-prfsha512-x448 aes128gcm12",
		"aes256-sha256-ecp256bp aes256-aescmac",
		"3des-sha1-modp1024 3des-sha1",
	}},
	{"fragmentation", []string{"true", "false"}},
	{"initiator", []string{"ipsecfw", "strongSwan"}},
	{"event", []string{
		"ipsecfw rekeys Child SA", "strongSwan rekeys Child SA",
		"ipsecfw rekeys IKE SA", "strongSwan rekeys IKE SA",
		"ipsecfw reauthenticates", "strongSwan reauthenticates",
	}},
}

// possible leaves out what a NAT prevents: nobody can begin with a host behind
// one, and only who began can reauthenticate through it.
func possible(c matrixCase) bool {
	switch c["network"] {
	case "NAT before ipsecfw":
		return c["initiator"] == "ipsecfw" && c["event"] != "strongSwan reauthenticates"
	case "NAT before strongSwan":
		return c["initiator"] == "strongSwan" && c["event"] != "ipsecfw reauthenticates"
	}
	return true
}

// TestStrongSwanMatrix crosses authentication, algorithms, fragmentation, NAT,
// address family and role with what happens to SAs in the midst of traffic, of
// which no datagram may be lost.
func TestStrongSwanMatrix(t *testing.T) {
	need(t, "/usr/lib/ipsec/plugins/libstrongswan-ccm.so", "nft")
	cases := allPairs(t, matrix, possible)
	for _, network := range matrix[0].values {
		t.Run(network, func(t *testing.T) {
			m := newMatrixSite(t, network)
			for _, c := range cases {
				if c["network"] != network {
					continue
				}
				name := strings.Join([]string{c["auth"], c["algorithms"], "fragmentation " + c["fragmentation"], c["initiator"] + " begins", c["event"]}, ", ")
				t.Run(name, func(t *testing.T) { m.run(t, c) })
			}
		})
	}
}

// matrixSite is a tunnelPeer with the keys of all kinds and, perhaps, a NAT.
type matrixSite struct {
	*tunnelPeer
	ours, theirs string // addresses as each sees its own
	us, them     string // and as the other end sees it
}

func newMatrixSite(t *testing.T, network string) *matrixSite {
	t.Helper()
	m := &matrixSite{tunnelPeer: newTunnelPeer(t), ours: server4, theirs: workstation4, us: server4, them: workstation4}
	nat := `table ip nat { chain post { type nat hook postrouting priority srcnat; ip saddr %s oifname %q masquerade; }; }`
	switch network {
	case "IPv6":
		m.ours, m.theirs, m.us, m.them = server6, workstation6, server6, workstation6
	case "NAT before ipsecfw":
		m.us = "10.1.1.1"
		loadRuleset(t, m.gateway, fmt.Sprintf(nat, server4, "wks0"))
	case "NAT before strongSwan":
		m.them = "10.9.0.1"
		loadRuleset(t, m.gateway, fmt.Sprintf(nat, workstation4, "srv0"))
	}
	for _, kind := range matrix[1].values[1:] {
		ca := newAuthorityWith(t, privateKey(t, kind))
		cert, key := ca.issueFor(t, privateKey(t, kind), "server.test", server4)
		m.d.write(t, kind+"-ca.pem", ca.pem)
		m.d.write(t, kind+".pem", cert)
		m.d.write(t, kind+".key", key)
		cert, key = ca.issueFor(t, privateKey(t, kind), "workstation.test", workstation4)
		m.c.write(t, "x509ca/"+kind+".pem", ca.pem)
		m.c.write(t, "x509/"+kind+".pem", cert)
		m.c.write(t, "private/"+kind+".pem", key)
	}
	return m
}

// privateKey makes a key of a kind of the matrix.
func privateKey(t *testing.T, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "ecdsa256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("no key of the kind %q", kind)
	}
	must(t, err)
	return key
}

func (m *matrixSite) run(t *testing.T, c matrixCase) {
	ike, esp, _ := strings.Cut(c["algorithms"], " ")
	conn := connection{
		Name: "inner", Local: m.theirs, Remote: m.us, Mode: "tunnel", Proposals: ike, ESP: esp,
		LocalID: m.theirs, RemoteID: m.ours,
		LocalTS: workstationInner + "/32", RemoteTS: serverInner + "/32",
		More: []string{"fragmentation = " + map[string]string{"true": "yes", "false": "no"}[c["fragmentation"]]},
	}
	auth := withPSK
	if kind := c["auth"]; kind != "psk" {
		auth = fmt.Sprintf("{certificate: {authority: %[1]s-ca.pem, own: %[1]s.pem, key: %[1]s.key}}", kind)
		conn.Certificate, conn.LocalID, conn.RemoteID = kind+".pem", "workstation.test", "server.test"
	}
	childLifetime, ikeLifetime, reauth := "1h", "8h", "24h"
	switch c["event"] {
	case "ipsecfw rekeys Child SA":
		childLifetime = "4s"
	case "ipsecfw rekeys IKE SA":
		ikeLifetime = "4s"
	case "ipsecfw reauthenticates": // or tells who began to do so
		reauth = "4s"
		conn.More = append(conn.More, "over_time = 1s")
	case "strongSwan reauthenticates":
		conn.More = append(conn.More, "reauth_time = 3s", "rand_time = 0s")
	}
	m.c.connect(t, conn)
	m.d.apply(t, fmt.Sprintf(`version: 1
name: matrix
key-exchange:
  proposals: [%s]
  lifetime: %s
  reauthentication: %s
  fragmentation: %s
filter-lists:
  inner:
    - {from: %s, to: %s}
filter-actions:
  secure:
    negotiate:
      mode: tunnel
      tunnel: {local: %s, remote: %s}
      methods: [%s]
      lifetime: %s
rules:
  - {name: inner, filter-list: inner, action: secure, legacy: true, authentication: [%s]}
`, ike, ikeLifetime, reauth, c["fragmentation"], serverInner, workstationInner, m.ours, m.them, esp, childLifetime, auth))
	defer m.end(t)
	if c["initiator"] == "strongSwan" {
		m.c.initiate(t, "inner")
	}
	must(t, ping(within(t, 10*time.Second), m.server, serverInner, workstationInner, 100))
	agree(t, m.d, m.c, func() uint64 { return 1 })
	s := startTraffic(t, m.server, serverInner, workstationInner+":7")
	m.happen(t, c["event"])
	sent, lost := s.end(t)
	// strongSwan deletes the SAs before it authenticates anew.
	breaks := strings.HasSuffix(c["event"], "reauthenticates") && (c["initiator"] == "strongSwan" || c["event"] == "strongSwan reauthenticates")
	if lost > 0 && !breaks {
		t.Errorf("%d of %d datagrams were lost", lost, sent)
	}
	must(t, ping(within(t, 10*time.Second), m.server, serverInner, workstationInner, 3000))
	m.d.untroubled(t)
}

// happen brings an event about, and waits until it is over.
func (m *matrixSite) happen(t *testing.T, event string) {
	t.Helper()
	children, ikes := m.children(t), m.ikes(t)
	who, what, _ := strings.Cut(event, " ")
	if who == "strongSwan" {
		switch what {
		case "rekeys Child SA":
			must(t, second(m.c.swanctl("--rekey", "--child", "inner")))
		case "rekeys IKE SA":
			must(t, second(m.c.swanctl("--rekey", "--ike", "inner")))
		}
	}
	before, list := ikes, m.ikes
	if what == "rekeys Child SA" {
		before, list = children, m.children
	}
	eventually(t, 15*time.Second, event, func() bool {
		now := list(t)
		return len(now) == 1 && !slices.Equal(now, before)
	})
	if what == "rekeys IKE SA" && !slices.Equal(children, m.children(t)) {
		t.Error("the Child SA changed with the IKE SA")
	}
}

func second(_ string, err error) error { return err }

// children returns the inbound SPIs of ipsecfw's Child SAs.
func (m *matrixSite) children(t *testing.T) (spis []string) {
	t.Helper()
	for _, sa := range m.d.sas(t) {
		spis = append(spis, sa.InSPI)
	}
	return spis
}

// ikes returns the SPIs of ipsecfw's IKE SAs.
func (m *matrixSite) ikes(t *testing.T) (spis []string) {
	t.Helper()
	for _, sa := range m.d.ikeSAs(t) {
		spis = append(spis, sa.SPIi+sa.SPIr)
	}
	return spis
}

// ikeSA is an IKE SA as "list peers -o json" shows it.
type ikeSA struct {
	SPIi           string `json:"spi-i"`
	SPIr           string `json:"spi-r"`
	Remote         string `json:"remote"`
	Initiator      bool   `json:"initiator"`
	Authentication string `json:"authentication"`
	Proposal       string `json:"proposal"`
	NATLocal       bool   `json:"nat-local"`
	NATRemote      bool   `json:"nat-remote"`
	PPK            string `json:"ppk"`
	Fragmentation  bool   `json:"fragmentation"`
	AgeSeconds     int64  `json:"age-seconds"`
}

// ikeSAs lists the daemon's IKE SAs.
func (d *daemon) ikeSAs(t *testing.T) []ikeSA {
	t.Helper()
	out, err := d.run("list", "peers", "-o", "json")
	must(t, err)
	var list []ikeSA
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("list peers: %v\n%s", err, out)
	}
	return list
}
