package rules

import (
	"fmt"
	"strings"
)

var certificateKeys = table[Certificate]{
	{name: "authority", about: "file of the certificates of the authorities to believe, PEM", write: "authority: PATH, the certificates of the authorities to believe", required: true,
		value: filePath(func(c *Certificate) *string { return &c.Authority })},
	{name: "own", about: "file of our own certificate, then any intermediate ones, PEM", write: "own: PATH, our own certificate", required: true,
		value: filePath(func(c *Certificate) *string { return &c.Own })},
	{name: "key", about: "file of the private key of our own certificate, PEM", write: "key: PATH, the private key of our own certificate", required: true,
		value: filePath(func(c *Certificate) *string { return &c.Key })},
}

var presharedKeyKeys = table[PresharedKey]{
	{name: "file", about: "file that holds the key", write: "file: PATH, the file that holds the key", required: true,
		value: filePath(func(k *PresharedKey) *string { return &k.File })},
}

var authenticationKeys = table[Authentication]{
	{name: "certificate", about: "authenticate by certificate", write: "certificate: {authority: PATH, own: PATH, key: PATH}",
		value: value[Authentication]{
			read: func(r *reader, n *node, k keyed, a *Authentication) {
				a.Certificate = &Certificate{}
				certificateKeys.read(r, n, quoted(k.name), a.Certificate)
			},
			describe: func(d *definitions) *schema { return certificateKeys.describe(d) },
		}},
	{name: "preshared-key", about: "authenticate by a secret that both ends know", write: "preshared-key: {file: PATH}",
		value: value[Authentication]{
			read: func(r *reader, n *node, k keyed, a *Authentication) {
				if n.kind == scalar {
					r.report(n.at, "a preshared key is not written into the rule file", "write the key into a file of its own, and preshared-key: {file: PATH} here")
					return
				}
				a.PresharedKey = &PresharedKey{}
				presharedKeyKeys.read(r, n, quoted(k.name), a.PresharedKey)
			},
			describe: func(d *definitions) *schema { return presharedKeyKeys.describe(d) },
		}},
}

func authentications[T any](of func(*T) *[]Authentication) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) { *of(into) = r.readAuthentication(n, k) },
		describe: func(d *definitions) *schema {
			return d.of("authentication", func() *schema { return listOf(authenticationKeys.describe(d).one()) })
		},
	}
}

// readAuthentication reads the ways to authenticate, the preferred first.
func (r *reader) readAuthentication(n *node, k keyed) []Authentication {
	r.private = true
	defer func() { r.private = false }()
	var out []Authentication
	r.readList(n, quoted(k.name), writeAuth, func(v *node) {
		var a Authentication
		before := len(r.list)
		authenticationKeys.read(r, v, "an authentication method", &a)
		switch {
		case len(r.list) > before:
		case a.Certificate != nil && a.PresharedKey != nil:
			r.report(v.at, "one authentication method has both a certificate and a preshared key", "write them as two items of the list")
		case a.Certificate == nil && a.PresharedKey == nil:
			r.report(v.at, "an authentication method says nothing", "write certificate: {authority: PATH, own: PATH, key: PATH} or preshared-key: {file: PATH}")
		default:
			out = append(out, a)
		}
	})
	return out
}

// filePath is a path, kept as it is written.
func filePath[T any](of func(*T) *string) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			s, ok := r.readScalar(n, k.name, k.name+": PATH")
			switch {
			case !ok:
			case strings.ContainsAny(s, "\n\r"):
				r.report(n.at, fmt.Sprintf("%q is no path: it has more than one line", k.name), "write "+k.name+": PATH; what the file holds is not written into the rule file")
			default:
				*of(into) = s
			}
		},
		describe: func(*definitions) *schema { return anyText() },
	}
}
