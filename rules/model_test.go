package rules

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
)

const pskAuth = "authentication: [{preshared-key: {file: psk}}]"

// negotiationOf returns the negotiation of an action, as its mapping says.
func negotiationOf(t *testing.T, negotiate string) Negotiation {
	t.Helper()
	f := policyOf(t, "{from: me, to: 10.1.0.0/16}", "filter-actions: {x: {negotiate: "+negotiate+"}}\nrules: [{name: a, filter-list: a, action: x, "+pskAuth+"}]")
	return f.Negotiations()["a"]
}

func TestNegotiationMethods(t *testing.T) {
	hour, day := Lifetime{Time: time.Hour}, Lifetime{Time: 24 * time.Hour, Bytes: 1 << 30}
	for _, tt := range []struct {
		name, negotiate, want string
		lifetimes             []Lifetime
	}{
		{"by default", "{}", "ESP:aes256gcm16-aes128gcm16-chacha20poly1305-esn-noesn ESP:aes256-aes128-sha256-sha384-sha512-esn-noesn", []Lifetime{hour, hour}},
		{"in order", "{methods: [aes128-sha512, aes256gcm16], esn: false}", "ESP:aes128-sha512-noesn ESP:aes256gcm16-noesn", []Lifetime{hour, hour}},
		{"pfs", "{methods: [aes256gcm16, aes256-sha256], pfs: [ecp384, x25519], esn: false}",
			"ESP:aes256gcm16-ecp384-x25519-noesn ESP:aes256-sha256-ecp384-x25519-noesn", []Lifetime{hour, hour}},
		{"any pfs", "{methods: [aes256gcm16], pfs: true, esn: false}",
			"ESP:aes256gcm16-x25519-ecp256-ecp384-modp2048-ke1_mlkem768-noesn ESP:aes256gcm16-x25519-ecp256-ecp384-modp2048-noesn", []Lifetime{hour, hour}},
		{"pfs with additional key exchanges", "{methods: [aes256gcm16], pfs: [x25519-ke1_mlkem768, ecp384, ecp256-ke1_mlkem768, x25519, x25519-ke1_mlkem768-ke2_mlkem1024], esn: false}",
			"ESP:aes256gcm16-x25519-ecp256-ke1_mlkem768-noesn ESP:aes256gcm16-ecp384-x25519-noesn ESP:aes256gcm16-x25519-ke1_mlkem768-ke2_mlkem1024-noesn", []Lifetime{hour, hour, hour}},
		{"no pfs", "{methods: [aes256gcm16], pfs: false, esn: false}", "ESP:aes256gcm16-noesn", []Lifetime{hour}},
		{"lifetimes", "{esn: false, lifetime: 24h, lifetime-bytes: 1GiB, methods: [aes256gcm16, {esp: aes128gcm16, lifetime: 30s}, {esp: aes128gcm16, lifetime-bytes: 5MB}, {lifetime: 1m, esp: aes128-sha256, lifetime-bytes: 2000000}]}",
			"ESP:aes256gcm16-noesn ESP:aes128gcm16-noesn ESP:aes128gcm16-noesn ESP:aes128-sha256-noesn",
			[]Lifetime{day, {30 * time.Second, 1 << 30, 0}, {24 * time.Hour, 5_000_000, 0}, {time.Minute, 2_000_000, 0}}},
		{"packets", "{esn: false, lifetime-packets: 1000000, methods: [aes256gcm16, {esp: aes128gcm16, lifetime-packets: 1000}]}",
			"ESP:aes256gcm16-noesn ESP:aes128gcm16-noesn", []Lifetime{{time.Hour, 0, 1_000_000}, {time.Hour, 0, 1000}}},
		{"integrity alone", "{esn: false, methods: [null-sha256, aes256gmac, {ah: sha256}, {ah: aesgmac128}]}",
			"ESP:null-sha256-noesn ESP:aes256gmac-noesn AH:sha256-noesn AH:aesgmac128-noesn", []Lifetime{hour, hour, hour, hour}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := negotiationOf(t, tt.negotiate)
			var got []string
			for i, p := range n.Proposals {
				if int(p.Number) != i+1 {
					t.Errorf("proposal %d has the number %d", i+1, p.Number)
				}
				got = append(got, p.String())
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if !reflect.DeepEqual(n.Lifetimes, tt.lifetimes) {
				t.Errorf("lifetimes %v, want %v", n.Lifetimes, tt.lifetimes)
			}
		})
	}
}

func TestNegotiationUnsecured(t *testing.T) {
	for _, tt := range []struct {
		name, negotiate string
		accept, allow   bool
		after, soft     time.Duration
	}{
		{"neither", "{}", false, false, 0, 0},
		{"accept", "{accept-unsecured: true}", true, false, 0, 0},
		{"allow", "{allow-unsecured: true}", false, true, 3 * time.Second, 5 * time.Minute},
		{"allow not", "{allow-unsecured: false}", false, false, 0, 0},
		{"after", "{allow-unsecured: {after: 10s}}", false, true, 10 * time.Second, 5 * time.Minute},
		{"for", "{allow-unsecured: {for: 1h}, accept-unsecured: true}", true, true, 3 * time.Second, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := negotiationOf(t, tt.negotiate)
			if n.AcceptUnsecured != tt.accept || n.AllowUnsecured != tt.allow || n.FallbackAfter != tt.after || n.SoftLifetime != tt.soft {
				t.Errorf("negotiation %+v", n)
			}
		})
	}
}

func TestBuiltInActions(t *testing.T) {
	f := policyOf(t, "{from: me, to: 10.1.0.0/16}", "rules: [{name: q, filter-list: a, action: request-security, "+pskAuth+"}, {name: r, filter-list: a, action: require-security, "+pskAuth+"}]")
	q, r := f.Negotiations()["q"], f.Negotiations()["r"]
	if !q.AcceptUnsecured || !q.AllowUnsecured || q.FallbackAfter != 3*time.Second || q.SoftLifetime != 5*time.Minute {
		t.Errorf("request-security: %+v", q)
	}
	if r.AcceptUnsecured || r.AllowUnsecured || len(r.Proposals) != 2 {
		t.Errorf("require-security: %+v", r)
	}
}

// A rule that is not enabled negotiates nothing.
func TestDisabledNegotiation(t *testing.T) {
	f := policyOf(t, "{from: me, to: 10.1.0.0/16}", "rules: [{name: q, filter-list: a, action: request-security, enabled: false, "+pskAuth+"}]")
	if n := f.Negotiations(); len(n) != 0 {
		t.Errorf("negotiations %v", n)
	}
}

func TestDefaultResponse(t *testing.T) {
	if n, ok := policyOf(t, "{from: any, to: me}", blockAll).DefaultResponse(); ok {
		t.Errorf("without one: %+v", n)
	}
	f := policyOf(t, "{from: any, to: me}", blockAll+"\npeers: {g: {units: [U]}}\ndefault-response: {action: request-security, own-id: me.example, peer-id: you.example, peers: g, authentication: [{certificate: {authority: a, own: b, key: c}}]}")
	n, ok := f.DefaultResponse()
	if !ok || n.Rule != DefaultResponseRule || n.OwnID != "me.example" || n.PeerID != "you.example" || len(n.Auth) != 1 ||
		n.Peers == nil || n.Peers.Units[0] != "U" || !n.AcceptUnsecured || n.Position != "t.yaml:8:19" {
		t.Errorf("default response %v, %+v", ok, n)
	}
	if len(f.Entries(Addresses{})) != 1 {
		t.Error("it has filters")
	}
}

func TestBoot(t *testing.T) {
	for _, tt := range []struct {
		boot string
		mode BootMode
		want string
	}{
		{"{}", BootStateful, ""},
		{"{mode: stateful}", BootStateful, ""},
		{"{mode: permit}", BootPermit, ""},
		{"{mode: block, exempt: [{from: [10.0.0.1, 10.0.0.2], to: me, protocol: tcp, to-port: 22}, {from: me, to: {set: s}, stateful: true}]}", BootBlock,
			"from 10.0.0.1 to me protocol tcp to-port 22, from 10.0.0.2 to me protocol tcp to-port 22, from me to 10.7.0.0/16"},
	} {
		f := policyOf(t, "{from: any, to: me}", blockAll+"\naddress-sets: {s: [10.7.0.0/16]}\nboot: "+tt.boot)
		mode, entries := f.Boot()
		if got := strings.Join(selectorTexts(entries), ", "); mode != tt.mode || got != tt.want {
			t.Errorf("%s: %s %s", tt.boot, mode, got)
		}
		for _, e := range entries {
			if e.Action != filter.Permit || e.Name != "boot" || e.Forward {
				t.Errorf("entry %+v", e)
			}
		}
		if _, err := filter.New(entries, filter.Settings{}); err != nil {
			t.Error(err)
		}
	}
}

func TestAssertions(t *testing.T) {
	f := policyOf(t, "{from: any, to: me}", blockAll+`
assert:
  - {from: [10.0.0.1, {dns: a.example}], to: me, protocol: tcp, to-port: 5432, never: clear, description: the database}
  - {from: any, to: 10.0.0.9, mirrored: false, path: forward, connection: [lan, eth1], always: [blocked, secured]}
  - {from: me, to: any, always: clear}
`)
	got := f.Assertions(Addresses{})
	if len(got) != 3 {
		t.Fatalf("%d assertions", len(got))
	}
	for i, want := range []string{
		"[secured blocked] never clear: from 10.0.0.1 to me protocol tcp to-port 5432",
		"[secured blocked] always [secured, blocked]: from any to 10.0.0.9 connection lan, from any to 10.0.0.9 connection eth1",
		"[clear] always clear: from me to any",
	} {
		a := got[i]
		if text := fmt.Sprintf("%v %s: %s", a.Outcomes, a.Text, strings.Join(selectorTexts(a.Entries), ", ")); text != want {
			t.Errorf("got  %s\nwant %s", text, want)
		}
		if a.Position != fmt.Sprintf("t.yaml:%d:5", 8+i) || a.Entries[0].Index != i || a.Entries[0].Forward != (i == 1) || a.Entries[0].Mirrored != (i != 1) {
			t.Errorf("assertion %+v", a)
		}
	}
	if got[0].Description != "the database" {
		t.Errorf("description %q", got[0].Description)
	}
}

func TestExemptionsAndPersistent(t *testing.T) {
	for _, tt := range []struct {
		text string
		want filter.Exemptions
	}{
		{"", filter.Exemptions{Multicast: true}},
		{"exemptions: 0", filter.Exemptions{Multicast: true, RSVP: true, Kerberos: true}},
		{"exemptions: 1", filter.Exemptions{Multicast: true}},
		{"exemptions: 2", filter.Exemptions{RSVP: true, Kerberos: true}},
		{"exemptions: 3", filter.Exemptions{}},
	} {
		if f := policyOf(t, "{from: any, to: me}", blockAll+"\n"+tt.text); f.Exemptions != tt.want || f.Persistent {
			t.Errorf("%q: %+v, persistent %v", tt.text, f.Exemptions, f.Persistent)
		}
	}
	if f := policyOf(t, "{from: any, to: me}", blockAll+"\npersistent: true"); !f.Persistent {
		t.Error("it is not persistent")
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]uint64{
		"1048576": 1 << 20, "1MiB": 1 << 20, "100MB": 1e8, "10GB": 1e10, "3GiB": 3 << 30, "1TB": 1e12, "2TiB": 2 << 40, "2000kB": 2e6, "1024KiB": 1 << 20,
	} {
		n := negotiationOf(t, "{lifetime-bytes: "+text+"}")
		if n.LifetimeBytes != want {
			t.Errorf("%s is %d, want %d", text, n.LifetimeBytes, want)
		}
		if again := negotiationOf(t, "{lifetime-bytes: "+printSize(want)+"}"); again.LifetimeBytes != want {
			t.Errorf("%d prints as %s", want, printSize(want))
		}
	}
}

func TestKeyExchange(t *testing.T) {
	f := policyOf(t, "{from: any, to: me}", blockAll+"\nkey-exchange: {children: 5, versions: [2]}")
	if k := f.KeyExchange; k.Children != 5 || k.MasterKeyPFS || !reflect.DeepEqual(k.Versions, []int{2}) {
		t.Errorf("key exchange %+v", k)
	}
}
