package verify

import (
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/rules"
)

const oneFilter = "filter-lists:\n  a: [{from: me, to: 10.1.0.1}]\n"

func TestRisks(t *testing.T) {
	const certificate = "certificate: {authority: ca.pem, own: host.pem, key: host.key}"
	for _, tt := range []struct {
		name     string
		sections string
		want     []string
	}{
		{"nothing", oneFilter + "rules:\n  - {name: a, filter-list: a, action: require-security, " + key + "}\n", nil},
		{"legacy without anything weak", oneFilter + "rules:\n  - {name: a, filter-list: a, action: require-security, legacy: true, " + key + "}\n",
			[]string{`f.yaml:6:65: warning: rule "a" says legacy: true, and nothing comes of it, as no algorithm that it or its action names is weak; remove it, or write those of its peers in "key-exchange" and in "methods" of the action`}},
		{"legacy for signatures alone", oneFilter + "rules:\n  - {name: a, filter-list: a, action: require-security, legacy: true, authentication: [{" + certificate + "}]}\n",
			[]string{`f.yaml:6:65: warning: rule "a" says legacy: true and has no weak algorithm: nothing comes of it but that RSA signatures with SHA-1 do; remove it unless its peers know no better ones`}},
		{"not legacy", oneFilter + "rules:\n  - {name: a, filter-list: a, action: require-security, legacy: false, " + key + "}\n", nil},
		{"a suite beside proposals, and a short lifetime", oneFilter + "key-exchange: {suite: cnsa2, proposals: [aes256-sha256-modp2048], lifetime: 1s}\nrules:\n  - {name: a, filter-list: a, action: require-security, " + key + "}\n",
			[]string{`f.yaml:5:23: warning: suite "cnsa2" beside "proposals" promises nothing for IKE, which uses the proposals alone: it gives the methods of actions that name none; remove "proposals" for the whole suite, or "suite", and write methods in the actions`,
				"f.yaml:5:77: warning: lifetime 1s is very short: IKE SAs get new keys all the time; write 1m or more, as in lifetime: 8h"}},
		{"weak IKE", oneFilter + "rules:\n  - {name: a, filter-list: a, action: require-security, legacy: true, key-exchange: {proposals: [aes256-sha256-modp1024]}, " + key + "}\n",
			[]string{`f.yaml:6:5: warning: rule "a" is legacy and has weak algorithms: modp1024 (the group has less than 112 bits of security (RFC 8247 section 2.4)); remove them as soon as its peers have better ones`}},
		{"weak ESP", oneFilter + "filter-actions: {old: {negotiate: {methods: [aes128gcm8]}}}\nrules:\n  - {name: a, filter-list: a, action: old, legacy: true, " + key + "}\n",
			[]string{`f.yaml:7:5: warning: rule "a" is legacy and has weak algorithms: aes128gcm8 (an ICV of 64 bits can be forged by trying); remove them as soon as its peers have better ones`}},
		{"integrity alone", oneFilter + "filter-actions: {open: {negotiate: {methods: [aes256gcm16, null-sha256, aes256gmac, {ah: sha256}]}}}\nrules:\n  - {name: a, filter-list: a, action: open, " + key + "}\n",
			[]string{`f.yaml:7:5: warning: rule "a" may end with methods that hide nothing: null-sha256, aes256gmac, ah sha256; what they protect can be read by everybody on the way`}},
		{"ESP inside AH", oneFilter + "filter-actions: {both: {negotiate: {methods: [{ah: sha256, esp: aes256gcm16}]}}}\nrules:\n  - {name: a, filter-list: a, action: both, " + key + "}\n", nil},
		{"a rule that is disabled", oneFilter + "rules:\n  - {name: a, filter-list: a, action: require-security, authentication: [{anonymous: both}], enabled: false}\n",
			[]string{`f.yaml:4:3: warning: no enabled rule uses the filter list "a"; remove it, or write an enabled rule that uses it`}},
		{"anonymous at both ends", oneFilter + "rules:\n  - {name: a, filter-list: a, action: require-security, authentication: [{anonymous: both}]}\n",
			[]string{`f.yaml:6:5: warning: rule "a" lets in anybody at all: neither end proves anything, and whoever sits between reads and changes everything; remove "anonymous" unless that is meant`}},
		{"anonymous peers", oneFilter + "rules:\n  - {name: a, filter-list: a, action: require-security, authentication: [{" + certificate + "}, {anonymous: peer}]}\n",
			[]string{`f.yaml:6:5: warning: rule "a" lets in anybody at all: its peers prove nothing, and whoever sits between can pretend to be one of them; remove "anonymous" unless that is meant`}},
		{"anonymous ourselves", oneFilter + "rules:\n  - {name: a, filter-list: a, action: require-security, authentication: [{certificate: {authority: ca.pem}}, {anonymous: own}]}\n",
			[]string{`f.yaml:6:5: warning: rule "a" proves nothing of this host: peers cannot tell it from anybody else`}},
		{"the default response", "default-response: {action: require-security, authentication: [{anonymous: both}]}\n",
			[]string{`f.yaml:3:19: warning: rule "default-response" lets in anybody at all: neither end proves anything, and whoever sits between reads and changes everything; remove "anonymous" unless that is meant`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines(t, strings.Join(policyOf(t, tt.sections).Warnings(), "\n"), tt.want...)
		})
	}
}

// together makes a policy of a persistent file and another.
func together(t *testing.T, persistent, applied string) *Policy {
	t.Helper()
	p := &Policy{}
	var entries []filter.Entry
	for _, x := range []struct{ name, text string }{{"p.yaml", "persistent: true\n" + persistent}, {"a.yaml", applied}} {
		f, err := rules.Parse(x.name, []byte("version: 1\nname: test\n"+x.text))
		if err != nil {
			t.Fatal(err)
		}
		p.Files = append(p.Files, f)
		entries = append(entries, f.Entries(p.Addresses)...)
	}
	var err error
	if p.SPD, err = filter.New(entries, filter.Settings{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// The key exchange of the file that is applied holds for the persistent one
// too.
func TestWeakSettingsOfAnotherFile(t *testing.T) {
	const settings = "filter-lists:\n  b: [{from: me, to: 10.2.0.1}]\nrules:\n  - {name: b, filter-list: b, action: require-security, legacy: true, " + key + "}\nkey-exchange: {proposals: [aes256-sha256-modp1024]}\n"
	for _, tt := range []struct {
		name, rule string
		want       []string
	}{
		{"it does not say legacy", "", []string{`p.yaml:7:5: rule "a" does not say legacy: true, and its peers would be offered weak algorithms by the key exchange of a.yaml: modp1024 (the group has less than 112 bits of security (RFC 8247 section 2.4)); write these in "key-exchange" of a rule with legacy: true`}},
		{"it says legacy", ", legacy: true", nil},
		{"it has a key exchange of its own", ", key-exchange: {suite: default}", nil},
		{"it is disabled", ", enabled: false", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := together(t, oneFilter+"rules:\n  - {name: a, filter-list: a, action: require-security, "+key+tt.rule+"}\n", settings)
			lines(t, text(p.Errors()), tt.want...)
		})
	}
}

// Rules for the same peers that want another key exchange are warned of.
func TestOtherExchange(t *testing.T) {
	for _, tt := range []struct{ name, general, special, want string }{
		{"the same", "", "", ""},
		{"the same in other words", "", ", key-exchange: {suite: default}", ""},
		{"another suite", "", ", key-exchange: {suite: interop}", "another key exchange"},
		{"a post-quantum key", "", ", key-exchange: {ppk: {id: a, file: f}}", "another key exchange"},
		{"reauthentication", ", key-exchange: {reauthentication: 1h}", "", "another key exchange"},
		{"other proofs too", ", peer-id: host.example", ", key-exchange: {suite: interop}", "other proofs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := policyOf(t, "filter-lists:\n  a: [{from: me, to: 10.1.0.0/16}]\n  b: [{from: me, to: 10.1.0.1}]\nrules:\n"+
				"  - {name: a, filter-list: a, action: require-security, "+key+tt.general+"}\n  - {name: b, filter-list: b, action: require-security, "+key+tt.special+"}\n")
			got := strings.Join(p.Warnings(), "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.want != "" && (strings.Count(got, "\n") != 0 || !strings.HasPrefix(got, `f.yaml:7:5: warning: rule "a" wants `+tt.want+` `)) {
				t.Errorf("got %q", got)
			}
			if strings.Contains(got, "may come of weak algorithms") {
				t.Errorf("nothing is weak, and got %q", got)
			}
		})
	}
}

// What a certificate is held against is a part of the proof that a rule wants.
func TestOtherProofs(t *testing.T) {
	auth := func(more, rule string) string {
		return "authentication: [{certificate: {authority: ca.pem, own: host.pem, key: host.key" + more + "}}]" + rule
	}
	for _, tt := range []struct {
		name, general, special string
		want                   bool
	}{
		{"the same", auth("", ""), auth("", ""), false},
		{"revocation", auth(", revocation: strict", ""), auth("", ""), true},
		{"lists of its own", auth(", crl: a.crl", ""), auth("", ""), true},
		{"signatures with SHA-1", auth("", ""), auth("", ", legacy: true"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := policyOf(t, "filter-lists:\n  a: [{from: me, to: 10.1.0.0/16}]\n  b: [{from: me, to: 10.1.0.1}]\nrules:\n"+
				"  - {name: a, filter-list: a, action: require-security, "+tt.general+"}\n  - {name: b, filter-list: b, action: require-security, "+tt.special+"}\n")
			if got := strings.Join(p.Warnings(), "\n"); strings.Contains(got, `rule "a" wants other proofs `) != tt.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

// Of a rule that is not legacy the SAs with a peer whose IKE SA may be weak are
// warned of.
func TestUnderWeakIKE(t *testing.T) {
	for _, tt := range []struct {
		name, general string
		want          bool
	}{
		{"not legacy", "", true},
		{"not legacy, with other proofs", ", peer-id: host.example", true},
		{"legacy", ", legacy: true", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := policyOf(t, "filter-lists:\n  a: [{from: me, to: 10.1.0.0/16}]\n  b: [{from: me, to: 10.1.0.1}]\nrules:\n"+
				"  - {name: a, filter-list: a, action: require-security, "+key+tt.general+"}\n"+
				"  - {name: b, filter-list: b, action: require-security, "+key+", legacy: true, key-exchange: {proposals: [aes256-sha256-modp1024]}}\n")
			got := strings.Join(p.Warnings(), "\n")
			if !strings.Contains(got, `rule "a" wants `) || strings.Contains(got, "the keys of this rule's SAs with these peers may come of weak algorithms") != tt.want {
				t.Errorf("got %q", got)
			}
		})
	}
}
