package rules

import "time"

// readKeyExchange reads "key-exchange".
func (r *reader) readKeyExchange(n *node, out *KeyExchange) {
	r.readMapping(n, `"key-exchange"`, []key{
		{"proposals", "proposals: [aes256gcm16-prfsha256-x25519], or remove the key for the default", false, func(v *node) {
			out.Proposals = r.readProposals(v, "aes256gcm16-prfsha256-x25519", checkIKE)
		}},
		{"lifetime", "lifetime: 8h", false, func(v *node) { r.readDuration(v, "lifetime", time.Second, 7*24*time.Hour, &out.Lifetime) }},
		{"liveness", "liveness: 30s", false, func(v *node) { r.readDuration(v, "liveness", time.Second, time.Hour, &out.Liveness) }},
	})
}
