package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// exchangeOf returns the negotiation of a rule with more keys, in a file with
// more keys.
func exchangeOf(t *testing.T, rule, file string) Negotiation {
	t.Helper()
	if rule != "" {
		rule = ", " + rule
	}
	f := policyOf(t, "{from: me, to: 10.1.0.1}", "rules: [{name: a, filter-list: a, action: require-security, "+pskAuth+rule+"}]\n"+file)
	return f.Negotiations()["a"]
}

func proposalTexts(ps []ipsec.Proposal) string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.String()
	}
	return strings.Join(texts, " ")
}

func suiteTexts(t *testing.T, name string) (forIKE, forESP string) {
	t.Helper()
	a, b, ok := ike.Suite(name)
	if !ok {
		t.Fatalf("there is no suite %q", name)
	}
	return proposalTexts(a), proposalTexts(b)
}

// What a rule says of the algorithms takes the place of what the file says.
func TestExchangeAlgorithms(t *testing.T) {
	const one, two = "aes256gcm16-prfsha256-x25519", "aes128-sha256-modp2048"
	const oneText, twoText = "IKE:aes256gcm16-prfsha256-x25519", "IKE:aes128-prfsha256-sha256-modp2048"
	for _, tt := range []struct {
		name, rule, file string
		ike              string // proposals, or the name of a suite
		esp              string // the name of a suite
	}{
		{"nothing said", "", "", "default", "default"},
		{"a suite of the file", "", "suite: cnsa2", "cnsa2", "cnsa2"},
		{"proposals of the file", "", "proposals: [" + one + "]", oneText, "default"},
		{"both of the file", "", "suite: interop, proposals: [" + one + "]", oneText, "interop"},
		{"a suite of the rule", "suite: cnsa2", "suite: interop", "cnsa2", "cnsa2"},
		{"a suite of the rule, proposals of the file", "suite: cnsa2", "proposals: [" + one + "]", "cnsa2", "cnsa2"},
		{"proposals of the rule", "proposals: [" + two + "]", "suite: cnsa2, proposals: [" + one + "]", twoText, "cnsa2"},
		{"both of the rule", "suite: default, proposals: [" + two + "]", "suite: cnsa2", twoText, "default"},
		{"something else of the rule", "childless: true", "proposals: [" + one + "]", oneText, "default"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rule, file := "", ""
			if tt.rule != "" {
				rule = "key-exchange: {" + tt.rule + "}"
			}
			if tt.file != "" {
				file = "key-exchange: {" + tt.file + "}"
			}
			n := exchangeOf(t, rule, file)
			wantIKE := tt.ike
			if !strings.HasPrefix(wantIKE, "IKE:") {
				wantIKE, _ = suiteTexts(t, tt.ike)
			}
			if got := proposalTexts(n.IKE); got != wantIKE {
				t.Errorf("IKE proposals\n%s\nwant\n%s", got, wantIKE)
			}
			if _, want := suiteTexts(t, tt.esp); proposalTexts(n.Proposals) != want {
				t.Errorf("ESP proposals\n%s\nwant\n%s", proposalTexts(n.Proposals), want)
			}
			for i, p := range n.IKE {
				if int(p.Number) != i+1 || p.Protocol != ipsec.ProtoIKE {
					t.Errorf("proposal %d: %+v", i+1, p)
				}
			}
		})
	}
}

func TestExchangeOfRules(t *testing.T) {
	for _, tt := range []struct{ name, rule, file, want string }{
		{"by default", "", "", "reauthentication 0s, childless false, ppk []"},
		{"of the file", "", "key-exchange: {reauthentication: 24h, childless: true, ppk: {id: a, file: f, required: true}}", "reauthentication 24h0m0s, childless true, ppk [{a f true}]"},
		{"of the rule", "key-exchange: {reauthentication: 4s, childless: true, ppk: [{id: a, file: f}, {id: b, file: g}]}", "", "reauthentication 4s, childless true, ppk [{a f false} {b g false}]"},
		{"of the rule, in place of the file's", "key-exchange: {reauthentication: never, childless: false, ppk: {id: c, file: h}}",
			"key-exchange: {reauthentication: 24h, childless: true, ppk: {id: a, file: f, required: true}}", "reauthentication 0s, childless false, ppk [{c h false}]"},
		{"a part of it", "key-exchange: {childless: false}", "key-exchange: {reauthentication: 24h, childless: true}", "reauthentication 24h0m0s, childless false, ppk []"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := exchangeOf(t, tt.rule, tt.file)
			if got := fmt.Sprintf("reauthentication %v, childless %v, ppk %v", n.Reauth, n.Childless, n.PPKs); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestKeyExchangeValues(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       KeyExchange
	}{
		{"by default", "", KeyExchange{Lifetime: 8 * time.Hour, Liveness: 30 * time.Second, Fragmentation: 1280, Window: 8}},
		{"fragments of a size", "{fragmentation: 576, window: 1}", KeyExchange{Lifetime: 8 * time.Hour, Liveness: 30 * time.Second, Fragmentation: 576, Window: 1}},
		{"no fragments", "{fragmentation: false, window: 64}", KeyExchange{Lifetime: 8 * time.Hour, Liveness: 30 * time.Second, Window: 64}},
		{"fragments", "{fragmentation: true, lifetime: 1h, liveness: 5s, children: 3}", KeyExchange{Lifetime: time.Hour, Liveness: 5 * time.Second, Fragmentation: 1280, Window: 8, Children: 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			more := ""
			if tt.text != "" {
				more = "\nkey-exchange: " + tt.text
			}
			k := policyOf(t, "{from: any, to: me}", blockAll+more).KeyExchange
			if k.Lifetime != tt.want.Lifetime || k.Liveness != tt.want.Liveness || k.Fragmentation != tt.want.Fragmentation || k.Window != tt.want.Window || k.Children != tt.want.Children {
				t.Errorf("got %+v, want %+v", k, tt.want)
			}
		})
	}
}

// Weak algorithms need a rule that says so, wherever they stand.
func TestLegacy(t *testing.T) {
	const weakIKE = "key-exchange: {proposals: [3des-sha1-modp1024]}"
	for _, tt := range []struct {
		name, rule, file string
		want             string // the weak ones; empty for a file that is refused
	}{
		{"in the rule", weakIKE + ", legacy: true", "", "3des prfsha1 sha1 modp1024"},
		{"in the rule, which does not say so", weakIKE, "", ""},
		{"in the file", "legacy: true", weakIKE, "3des prfsha1 sha1 modp1024"},
		{"in the file, and the rule does not say so", "", weakIKE, ""},
		{"in the file, and the rule says something else", "key-exchange: {suite: default}", weakIKE, "none"},
		{"in the file, and the default response does not say so", "legacy: true", weakIKE + "\ndefault-response: {action: require-security, " + pskAuth + "}", ""},
		{"nothing weak", "legacy: true", "", "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rule := tt.rule
			if rule != "" {
				rule = ", " + rule
			}
			f, err := Parse("t.yaml", []byte("version: 1\nname: t\nfilter-lists: {a: [{from: me, to: 10.1.0.1}]}\nrules: [{name: a, filter-list: a, action: require-security, "+pskAuth+rule+"}]\n"+tt.file))
			if tt.want == "" {
				if err == nil || !strings.Contains(err.Error(), "legacy: true") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			n := f.Negotiations()["a"]
			words := strings.Fields(strings.Trim(fmt.Sprint(n.Weak()), "[]"))
			if len(words) == 0 {
				words = []string{"none"}
			}
			if got := strings.Join(words, " "); got != tt.want {
				t.Errorf("weak: %s, want %s", got, tt.want)
			}
		})
	}
}

// There are numbers for 255 proposals.
func TestTooManyProposals(t *testing.T) {
	var ike, methods []string
	for i := range 256 {
		methods = append(methods, fmt.Sprintf("{esp: aes256gcm16, lifetime: %ds}", 60+i))
		ike = append(ike, fmt.Sprintf("aes256gcm16-prfsha256-x25519-ke%d_mlkem768-ke%d_x448", 1+i%7, 1+i/7%7)+strings.Repeat("-ke7_ecp256", i/49%2)+strings.Repeat("-ke6_ecp384", i/98%2)+strings.Repeat("-ke5_ecp521", i/196))
	}
	for _, tt := range []struct{ name, negotiate, exchange, want string }{
		{"255 methods", "methods: [" + strings.Join(methods[:255], ", ") + "]", "", ""},
		{"256 methods", "methods: [" + strings.Join(methods, ", ") + "]", "", `the action "x" makes 256 proposals`},
		{"128 methods with two key exchanges", "pfs: true, methods: [" + strings.Join(methods[:128], ", ") + "]", "", `the action "x" makes 256 proposals`},
		{"256 for IKE", "", "proposals: [" + strings.Join(ike, ", ") + "]", `"proposals" has 256 proposals`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("t.yaml", []byte("version: 1\nname: t\nfilter-lists: {a: [{from: me, to: 10.1.0.1}]}\nfilter-actions: {x: {negotiate: {"+tt.negotiate+"}}}\n"+
				"rules: [{name: a, filter-list: a, action: x, "+pskAuth+"}]\nkey-exchange: {"+tt.exchange+"}"))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// Under the settings of another file a rule that says nothing else has that
// file's key exchange.
func TestWith(t *testing.T) {
	f := policyOf(t, "{from: me, to: 10.1.0.1}", "rules: [{name: a, filter-list: a, action: require-security, "+pskAuth+"}]\nkey-exchange: {suite: cnsa2}")
	g := policyOf(t, "{from: me, to: 10.1.0.1}", blockAll+"\nkey-exchange: {suite: interop, reauthentication: 1h}")
	n := f.With(g.KeyExchange).Negotiations()["a"]
	wantIKE, wantESP := suiteTexts(t, "interop")
	if proposalTexts(n.IKE) != wantIKE || proposalTexts(n.Proposals) != wantESP || n.Reauth != time.Hour {
		t.Errorf("negotiation %+v", n)
	}
	if n := f.Negotiations()["a"]; n.Reauth != 0 {
		t.Error("the file itself has changed")
	}
}

func TestFiles(t *testing.T) {
	n := exchangeOf(t, "key-exchange: {ppk: {id: a, file: psk}}", "")
	n.Auth = append(n.Auth, Authentication{Certificate: &Certificate{
		Authorities: []string{"ca", "ca2"}, Intermediates: []string{"mid"}, PKCS12: "p12", PasswordFile: "password", CRLs: []string{"crl"},
	}}, Authentication{Certificate: &Certificate{Authorities: []string{"ca"}, Own: "own", Key: "key"}},
		Authentication{RawKey: &RawKey{Key: "raw", Peers: []string{"pub"}}}, Authentication{Anonymous: AnonymousPeer})
	var got []string
	for _, f := range n.Files() {
		text := f.Path
		if f.Secret {
			text += "!"
		}
		got = append(got, text)
	}
	if got, want := strings.Join(got, " "), "psk! ca ca2 mid p12! password! crl own key! raw! pub"; got != want {
		t.Errorf("files %s, want %s", got, want)
	}
}
