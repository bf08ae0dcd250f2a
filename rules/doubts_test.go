package rules

import (
	"slices"
	"testing"
)

func TestDoubtful(t *testing.T) {
	const rule, beside = "rules:\n  - {name: a, filter-list: a, action: require-security, " + pskAuth, ` beside "proposals" promises nothing for IKE, which uses the proposals alone: it gives the methods of actions that name none`
	for _, tt := range []struct{ name, sections, want string }{
		{"nothing", rule + "}", ""},
		{"as long as it must be", "key-exchange: {lifetime: 1m, reauthentication: 5m}\nfilter-actions: {x: {negotiate: {lifetime: 1m}}}\n" + rule + "}", ""},
		{"never", "key-exchange: {reauthentication: never}\n" + rule + "}", ""},
		{"IKE SAs", "key-exchange: {lifetime: 59s}\n" + rule + "}", "t.yaml:6:26: lifetime 59s is very short: IKE SAs get new keys all the time; write 1m or more, as in lifetime: 8h"},
		{"reauthentication", "key-exchange: {reauthentication: 1s}\n" + rule + "}",
			"t.yaml:6:34: reauthentication 1s is very short: both ends authenticate anew all the time; write 5m or more, as in reauthentication: 24h"},
		{"of a rule", rule + ",\n    key-exchange: {reauthentication: 2m}}",
			"t.yaml:8:38: reauthentication 2m is very short: both ends authenticate anew all the time; write 5m or more, as in reauthentication: 24h"},
		{"SAs", "filter-actions: {x: {negotiate: {lifetime: 2s}}}\n" + rule + "}", "t.yaml:6:44: lifetime 2s is very short: SAs get new keys all the time; write 1m or more, as in lifetime: 1h"},
		{"SAs by a method", "filter-actions: {x: {negotiate: {methods: [aes128gcm16, {esp: aes256gcm16, lifetime: 3s}]}}}\n" + rule + "}",
			"t.yaml:6:86: lifetime 3s is very short: SAs get new keys all the time; write 1m or more, as in lifetime: 1h"},
		{"suite and proposals", "key-exchange: {suite: cnsa2, proposals: [aes256-sha256-modp2048]}\n" + rule + "}",
			`t.yaml:6:23: suite "cnsa2"` + beside + `; remove "proposals" for the whole suite, or "suite", and write methods in the actions`},
		{"suite and proposals of a rule", rule + ",\n    key-exchange: {proposals: [aes256-sha256-modp2048], suite: interop}}",
			`t.yaml:8:64: suite "interop"` + beside + `; remove "proposals" for the whole suite, or "suite", and write methods in the actions`},
		{"suite of the file and proposals of a rule", "key-exchange: {suite: cnsa2}\n" + rule + ",\n    key-exchange: {proposals: [aes256-sha256-modp2048]}}", ""},
		{"the default response", "default-response: {action: require-security, " + pskAuth + ", key-exchange: {reauthentication: 9s}}\n" + rule + "}",
			"t.yaml:6:127: reauthentication 9s is very short: both ends authenticate anew all the time; write 5m or more, as in reauthentication: 24h"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got, want []string
			for _, w := range policyOf(t, "{from: me, to: 10.1.0.0/16}", tt.sections).Doubtful() {
				got = append(got, w.Position+": "+w.Text+"; "+w.Hint)
			}
			if tt.want != "" {
				want = []string{tt.want}
			}
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}
