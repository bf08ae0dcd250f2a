package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxChildren is the most Child SAs that "children" may allow an IKE SA.
const maxChildren = 1_000_000

var keyExchangeKeys = table[KeyExchange]{
	{name: "proposals", about: "IKE proposals, each of keywords joined by -, the preferred first", write: "proposals: [aes256gcm16-prfsha256-x25519], or remove the key for the default",
		value: value[KeyExchange]{
			read: func(r *reader, n *node, k keyed, x *KeyExchange) {
				x.Proposals = r.readTexts(n, k, func(text string) (string, string, string) {
					_, problem, hint := parseIKE(text)
					return text, problem, hint
				})
			},
			describe: func(*definitions) *schema {
				word := "(" + strings.Join(keywords(ikeTransforms()), "|") + ")"
				return listOf(pattern("^" + word + "(-" + word + ")*$"))
			},
		}},
	{name: "lifetime", about: "after which an IKE SA is replaced; 8h if missing", write: "lifetime: 8h",
		value: duration(time.Second, maxLifetime, func(x *KeyExchange) *time.Duration { return &x.Lifetime })},
	{name: "liveness", about: "how long a peer may be silent before it is asked whether it lives; 30s if missing", write: "liveness: 30s",
		value: duration(time.Second, time.Hour, func(x *KeyExchange) *time.Duration { return &x.Liveness })},
	{name: "children", about: "how many SAs an IKE SA has at most, 0 for any number; 0 if missing", write: "children: 0",
		value: value[KeyExchange]{
			read: func(r *reader, n *node, k keyed, x *KeyExchange) {
				x.Children, _ = r.readNumber(n, k.name, 0, maxChildren)
			},
			describe: func(*definitions) *schema { return numbers(0, maxChildren) },
		}},
	{name: "master-key-pfs", about: "whether each SA has an IKE SA of its own; false if missing", write: "master-key-pfs: true, or remove the key",
		value: boolean(func(x *KeyExchange) *bool { return &x.MasterKeyPFS })},
	{name: "versions", about: "the versions of IKE to speak; [2] if missing", write: "versions: [2]",
		value: value[KeyExchange]{
			read:     func(r *reader, n *node, k keyed, x *KeyExchange) { x.Versions = r.readVersions(n, k) },
			describe: func(*definitions) *schema { return listOf(integers(1, 2)) },
		}},
}

// keyExchange is what holds for IKE with every peer.
func keyExchange[T any](of func(*T) *KeyExchange) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			x := of(into)
			keyExchangeKeys.read(r, n, quoted(k.name), x)
			if x.MasterKeyPFS && x.Children > 1 {
				r.report(n.get("children").at, fmt.Sprintf("%q allows an IKE SA one SA, and %q allows %d", "master-key-pfs", "children", x.Children), "remove one of the two")
			}
		},
		describe: func(d *definitions) *schema { return keyExchangeKeys.describe(d) },
	}
}

// readVersions reads the versions of IKE.
func (r *reader) readVersions(n *node, k keyed) []int {
	var out []int
	r.readList(n, quoted(k.name), k.write, func(v *node) {
		version, ok := r.readNumber(v, "versions", 1, 2)
		switch {
		case !ok:
		case version == 1:
			r.report(v.at, "this version does not speak IKE version 1", "write "+k.write)
		case slices.Contains(out, version):
			r.report(v.at, fmt.Sprintf("IKE version %d comes twice", version), "remove one of the two")
		default:
			out = append(out, version)
		}
	})
	return out
}
