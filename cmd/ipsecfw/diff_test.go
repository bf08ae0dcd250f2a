package main

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/rules"
)

const diffBase = `version: 1
name: base
filter-lists:
  sql: [{from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 5432, mirrored: false}]
  rest: [{from: 10.4.0.0/16, to: me, mirrored: false}]
filter-actions:
  protect: {negotiate: {methods: [aes256gcm16]}}
rules:
  - {name: sql, filter-list: sql, action: protect, authentication: [{preshared-key: {file: psk}}]}
  - {name: rest, filter-list: rest, action: block}
`

// changes returns diffBase with parts of it replaced, in pairs.
func changes(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(diffBase) }

func TestDiff(t *testing.T) {
	for _, tt := range []struct {
		name string
		next string
		want string
	}{
		{"the same", diffBase, ""},
		{"other names, a log, a comment", changes("name: sql,", "name: sequel,", "name: base", "# a comment\nname: other", "sql: [{", "sql: [{log: true, "), ""},
		{"two halves", changes("[{from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 5432, mirrored: false}]",
			"[{from: 10.1.0.0/17, to: me, protocol: tcp, to-port: 5432, mirrored: false}, {from: 10.1.128.0/17, to: me, protocol: tcp, to-port: 5432, mirrored: false}]"), ""},
		{"a filter never asked", changes("rest: [", "rest: [{from: 10.4.2.3, to: me, mirrored: false, protocol: udp}, "), ""},
		{"an action", changes("action: block", "action: permit"), `inbound: block → permit
  from 10.4.0.0/16 to me
  for example inbound on eth0, new: tcp from 10.4.0.1:40000 to 198.51.100.1:443
`},
		{"reject", changes("action: block", "action: refuse", "protect:", "refuse: {block: {reject: true}}\n  protect:", "to-port: 5432", "to-port: 5432, log: true"), `inbound: block → block with reject
  from 10.4.0.0/16 to me
  for example inbound on eth0, new: tcp from 10.4.0.1:40000 to 198.51.100.1:443
`},
		{"less of it", changes("10.1.0.0/16", "10.1.0.0/17"), `inbound: negotiate (mode transport; methods ESP aes256gcm16-esn-noesn for 1h0m0s; authentication preshared key in psk) → permit
  from 10.1.128.0/17 to me protocol tcp to-port 5432
  for example inbound on eth0, new: tcp from 10.1.128.1:40000 to 198.51.100.1:5432
`},
		{"what is negotiated", changes("[aes256gcm16]", "[chacha20poly1305]", "file: psk", "file: other", "action: protect,", "action: protect, peer-id: db.example,"), `inbound: negotiate → negotiate
  methods: ESP aes256gcm16-esn-noesn for 1h0m0s → ESP chacha20poly1305-esn-noesn for 1h0m0s
  authentication: preshared key in psk → preshared key in other
  peer-id: none → db.example
  from 10.1.0.0/16 to me protocol tcp to-port 5432
  for example inbound on eth0, new: tcp from 10.1.0.1:40000 to 198.51.100.1:5432
`},
		{"a limit", changes("action: block", "action: permit", "rest: [{", "rest: [{limit: {rate: 5/second, burst: 9}, "), `inbound: block → permit at most 5/second, 9 at once
  from 10.4.0.0/16 to me
  for example inbound on eth0, new: tcp from 10.4.0.1:40000 to 198.51.100.1:443
`},
		{"boot and key exchange", diffBase + "boot: {mode: block}\nkey-exchange: {master-key-pfs: true}\n", `boot mode: stateful → block
key-exchange master-key-pfs: none → yes
`},
		{"more of the key exchange", diffBase + "key-exchange: {suite: cnsa2, reauthentication: 24h, fragmentation: 1400, window: 1, childless: true, ppk: {id: a, file: ppk, required: true}}\n",
			`key-exchange suite: default → cnsa2
key-exchange fragmentation: 1280 → 1400
key-exchange window: 8 → 1
key-exchange reauthentication: none → 24h0m0s
key-exchange ppk: none → a in ppk, required
key-exchange childless: none → true
`},
		{"a rule's own key exchange", changes("action: protect,", "action: protect, legacy: true, key-exchange: {proposals: [aes128-sha1-modp1024], reauthentication: never},"), `inbound: negotiate → negotiate
  key-exchange proposals: none → aes128-sha1-modp1024
  key-exchange reauthentication: none → never
  legacy: none → yes
  from 10.1.0.0/16 to me protocol tcp to-port 5432
  for example inbound on eth0, new: tcp from 10.1.0.1:40000 to 198.51.100.1:5432
`},
		{"other ways to authenticate", changes("[{preshared-key: {file: psk}}]", "[{certificate: {authority: [a, b], pkcs12: p, password-file: w, revocation: strict, crl: c, accept-urls: true}}, {raw-key: {key: k, peers: [x, y]}}, {anonymous: both}]"), `inbound: negotiate → negotiate
  authentication: preshared key in psk → certificate of a or b with p revocation strict crl c accept-urls yes, raw key in x or y with k, nothing on either side
  from 10.1.0.0/16 to me protocol tcp to-port 5432
  for example inbound on eth0, new: tcp from 10.1.0.1:40000 to 198.51.100.1:5432
`},
		{"a default response", diffBase + "default-response: {action: protect, authentication: [{preshared-key: {file: psk}}]}\n",
			"default-response: none → mode transport; methods ESP aes256gcm16-esn-noesn for 1h0m0s; authentication preshared key in psk\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			a, b := filepath.Join(dir, "old.yaml"), filepath.Join(dir, "new.yaml")
			write(t, a, diffBase)
			write(t, b, tt.next)
			code, stdout, stderr := ipsecfw(t, "diff", a, b)
			if code != exitGood || stdout != tt.want || stderr != "" {
				t.Errorf("exit code %d, errors %q, got\n%s\nwant\n%s", code, stderr, stdout, tt.want)
			}
			want := exitGood
			if tt.want != "" {
				want = exitFailed
			}
			if code, again, stderr := ipsecfw(t, "diff", a, b, "--exit-code"); code != want || again != stdout || stderr != "" {
				t.Errorf("--exit-code: exit code %d, output %q, errors %q", code, again, stderr)
			}
			var d difference
			code, stdout, _ = ipsecfw(t, "diff", "-o", "json", a, b)
			if err := json.Unmarshal([]byte(stdout), &d); err != nil || code != exitGood || d.none() != (tt.want == "") {
				t.Errorf("-o json: exit code %d, %+v, %v", code, d, err)
			}
		})
	}
}

func TestDiffOfBadFiles(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "old.yaml"), filepath.Join(dir, "new.yaml")
	write(t, a, changes("action: block", "action: blok"))
	write(t, b, changes("protocol: tcp", "protocol: tpc"))
	code, stdout, stderr := ipsecfw(t, "diff", a, b)
	lines := strings.Split(stderr, "\n")
	if code != exitFailed || stdout != "" || len(lines) != 3 || !strings.HasPrefix(lines[0], a+":10:") || !strings.HasPrefix(lines[1], b+":4:") {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
}

// The persistent policy stays, and the one that was applied goes.
func TestDiffActive(t *testing.T) {
	persistent := strings.Replace(diffBase, "name: base", "name: persistent\npersistent: true", 1)
	applied := `version: 1
name: applied
filter-lists:
  db: [{from: {dns: db.example}, to: me, protocol: udp, mirrored: false}]
rules:
  - {name: db, filter-list: db, action: permit}
`
	e := &fakeEngine{inForce: api.InForce{
		Files:     []api.File{{Name: "p.yaml", Source: persistent, Persistent: true}, {Name: "a.yaml", Source: applied}},
		Addresses: rules.Addresses{Names: map[string][]netip.Addr{"db.example": {netip.MustParseAddr("10.4.3.1")}}},
	}}
	socket, file := serveEngine(t, e), filepath.Join(t.TempDir(), "new.yaml")
	for _, tt := range []struct{ name, next, want string }{
		{"the same", applied, ""},
		{"another address for a name", strings.Replace(applied, "{dns: db.example}", "10.4.3.1", 1), ""},
		{"another port", strings.Replace(applied, "protocol: udp", "protocol: tcp", 1), `inbound: permit → block
  from 10.4.3.1 to me protocol udp
  for example inbound on eth0, new: udp from 10.4.3.1:40000 to 198.51.100.1:443
inbound: block → permit
  from 10.4.3.1 to me protocol tcp
  for example inbound on eth0, new: tcp from 10.4.3.1:40000 to 198.51.100.1:443
`},
		{"another persistent one", strings.Replace(persistent, "to-port: 5432", "to-port: 5433", 1), `inbound: negotiate (mode transport; methods ESP aes256gcm16-esn-noesn for 1h0m0s; authentication preshared key in psk) → permit
  from 10.1.0.0/16 to me protocol tcp to-port 5432
  for example inbound on eth0, new: tcp from 10.1.0.1:40000 to 198.51.100.1:5432
inbound: permit → negotiate (mode transport; methods ESP aes256gcm16-esn-noesn for 1h0m0s; authentication preshared key in psk)
  from 10.1.0.0/16 to me protocol tcp to-port 5433
  for example inbound on eth0, new: tcp from 10.1.0.1:40000 to 198.51.100.1:5433
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			write(t, file, tt.next)
			code, stdout, stderr := ipsecfw(t, "--socket", socket, "diff", "--active", file)
			if code != exitGood || stdout != tt.want || stderr != "" {
				t.Errorf("exit code %d, errors %q, got\n%s\nwant\n%s", code, stderr, stdout, tt.want)
			}
		})
	}
}
