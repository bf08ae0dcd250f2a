package rules

import "testing"

func TestPlaces(t *testing.T) {
	f := mustParse(t, "p.yaml", []byte(`version: 1
name: places
filter-lists:
  a: [{from: any, to: me}]
rules:
  - name: a
    filter-list: a
    action: require-security
    legacy: true
    authentication:
      - certificate:
          authority: [ca.pem,
            other.pem]
          own: host.pem
          key: host.pem
          crl: a.crl
      - preshared-key:
          file: psk
    key-exchange:
      ppk:
        id: a
        file: ppk
default-response:
  action: require-security
  authentication: [{raw-key: {key: raw.key,
    peers: raw.pub}}]
key-exchange:
  lifetime: 8h
  ppk:
    - {id: a, file: a}
    - {id: b,
       file: b}
`))
	rule := f.Negotiations()["a"]
	response, _ := f.DefaultResponse()
	for _, tt := range []struct{ name, got, want string }{
		{"a key", rule.At("legacy"), "p.yaml:9:13"},
		{"one of a list", rule.At("authentication/0/certificate/authority/1"), "p.yaml:13:13"},
		{"one in place of a list", rule.At("authentication/0/certificate/crl/0"), "p.yaml:16:16"},
		{"another way", rule.At("authentication/1/preshared-key/file"), "p.yaml:18:17"},
		{"a key in place of a list", rule.At("key-exchange/" + PPKFile(0)), "p.yaml:22:15"},
		{"what is not there", rule.At("authentication/1/preshared-key/other"), "p.yaml:18:11"},
		{"what has nothing around it", rule.At("peer-id"), rule.Position},
		{"of a rule from nowhere", (&Negotiation{Position: "x:1:2"}).At("legacy"), "x:1:2"},
		{"of the default response", response.At("authentication/0/raw-key/peers/0"), "p.yaml:26:12"},
		{"of the file's key exchange", f.KeyExchangeAt(PPKFile(1)), "p.yaml:32:14"},
		{"of the key exchange at all", f.KeyExchangeAt("suite"), "p.yaml:28:3"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, tt.got, tt.want)
		}
	}
	places := map[string]string{}
	for _, x := range rule.Files() {
		places[x.Path] = x.Position
		if x.Path == "host.pem" && !x.Secret {
			t.Error("a certificate and its key in one file are no secret")
		}
	}
	for path, want := range map[string]string{"ca.pem": "p.yaml:12:23", "host.pem": "p.yaml:15:16", "a.crl": "p.yaml:16:16", "psk": "p.yaml:18:17", "ppk": "p.yaml:22:15"} {
		if places[path] != want {
			t.Errorf("%s is at %q, want %s", path, places[path], want)
		}
	}
}
