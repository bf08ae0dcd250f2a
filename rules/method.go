package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Method is a security method: what protects packets, and how long with the
// same keys. It is comparable.
type Method struct {
	ESP           string        // a cipher, and "-" and an integrity if the cipher has none of its own; empty for AH alone
	AH            string        // an integrity; empty for ESP alone
	Lifetime      time.Duration // 0 for that of the action
	LifetimeBytes uint64        // 0 for that of the action
}

// defaultESP are the methods of an action that names none.
var defaultESP = []string{"aes256gcm16", "chacha20poly1305", "aes128gcm16"}

func defaultMethods() []Method {
	out := make([]Method, len(defaultESP))
	for i, word := range defaultESP {
		out[i].ESP = word
	}
	return out
}

// espWords are the ESP protections that a file may name.
func espWords() []string {
	words := keywords(aeadCiphers)
	for _, c := range cbcCiphers {
		for _, i := range integs {
			words = append(words, c.String()+"-"+i.String())
		}
	}
	return words
}

var methodKeys = table[Method]{
	{name: "esp", about: "a cipher, with an integrity if it has none of its own", write: "esp: aes256gcm16, or esp: aes256-sha256",
		value: value[Method]{
			read: func(r *reader, n *node, k keyed, m *Method) { m.ESP, _ = r.readScalar(n, k.name, k.write) },
			describe: func(*definitions) *schema {
				return enum(append(espWords(), keywords(cbcCiphers)...)...)
			},
		}},
	{name: "ah", about: "an integrity for the whole packet; not carried out by this version", write: "ah: sha256",
		value: word(keywords(integs), func(m *Method, word string) { m.AH = word })},
	{name: "lifetime", about: "after which the keys are replaced; the action's if missing", write: "lifetime: 1h",
		value: duration(time.Second, maxLifetime, func(m *Method) *time.Duration { return &m.Lifetime })},
	{name: "lifetime-bytes", about: "after how many bytes the keys are replaced; the action's if missing", write: "lifetime-bytes: 10GB",
		value: size(func(m *Method) *uint64 { return &m.LifetimeBytes })},
}

func methods[T any](of func(*T) *[]Method) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			var out distinct[Method]
			r.readList(n, quoted(k.name), k.write, func(v *node) {
				if m, ok := r.readMethod(v); ok && !out.add(m) {
					r.report(v.at, fmt.Sprintf("method %s comes twice", printMethod(m)), "remove one of the two")
				}
			})
			*of(into) = out.list
		},
		describe: func(d *definitions) *schema {
			long := methodKeys.describe(d)
			long.MinFields = 1
			return listOf(either(enum(espWords()...), long))
		},
	}
}

// readMethod reads one method.
func (r *reader) readMethod(n *node) (Method, bool) {
	m, esp := Method{}, n
	before := len(r.list)
	if n.kind == mapping {
		methodKeys.read(r, n, "a method", &m)
		if len(r.list) > before {
			return m, false
		}
		if esp = n.get("esp"); esp == nil && m.AH == "" {
			r.report(n.at, "a method has no protection", "add esp: aes256gcm16, or another of "+oneOf(espWords()))
			return m, false
		}
	} else {
		m.ESP, _ = r.readText(n, "a method", writeMethods)
	}
	if m.ESP != "" {
		if _, problem, hint := parseESP(m.ESP, m.AH != ""); problem != "" {
			r.report(esp.at, problem, hint)
		}
	}
	if m.AH != "" && len(r.list) == before {
		r.report(n.get("ah").at, "this version does not carry out AH", "write "+insteadOfAH(m))
	}
	return m, len(r.list) == before
}

// insteadOfAH is a method of ESP that protects what passes between two hosts
// as much as one with AH.
func insteadOfAH(m Method) string {
	if m.ESP == "" {
		return "esp: aes128gcm16, which protects against changes too"
	}
	if _, problem, _ := parseESP(m.ESP, false); problem == "" {
		return fmt.Sprintf("esp: %s alone", m.ESP)
	}
	return fmt.Sprintf("esp: %s-%s alone", m.ESP, m.AH)
}

// parseESP returns the transforms of an ESP protection: the keyword of a
// cipher, and behind a "-" that of an integrity. Under AH a cipher may do
// without.
func parseESP(text string, underAH bool) (ts []ipsec.Transform, problem, hint string) {
	word, integ, has := strings.Cut(text, "-")
	cipher, ok := keyword(word, slices.Concat(aeadCiphers, cbcCiphers))
	known := espWords()
	if !ok {
		return nil, fmt.Sprintf("unknown ESP method %q", text), didYouMean(text, known, "write "+oneOf(known))
	}
	ts = []ipsec.Transform{cipher}
	if !has {
		if !cipher.AEAD() && !underAH {
			return nil, fmt.Sprintf("ESP method %q has no integrity", text), fmt.Sprintf("write %s-%s", text, integs[0])
		}
		return ts, "", ""
	}
	t, ok := keyword(integ, integs)
	switch {
	case !ok:
		return nil, fmt.Sprintf("unknown integrity %q in ESP method %q", integ, text), didYouMean(integ, keywords(integs), "write "+oneOf(keywords(integs)))
	case cipher.AEAD():
		return nil, fmt.Sprintf("ESP method %q has integrity twice: by its cipher and by %s", text, integ), "write " + word
	}
	return append(ts, t), "", ""
}

// proposals returns what IKE offers for the methods of an action. With ESN it
// offers extended sequence numbers first and plain ones for peers without
// them.
func (n *Negotiate) proposals() []ipsec.Proposal {
	var out []ipsec.Proposal
	for _, m := range n.Methods {
		ts, _, _ := parseESP(m.ESP, false) // Parse lets no other pass
		for _, word := range n.PFS {
			group, _ := keyword(word, groups)
			ts = append(ts, group)
		}
		if n.ESN {
			ts = append(ts, ipsec.Transform{Type: ipsec.TypeESN, ID: ipsec.ESNYes})
		}
		ts = append(ts, ipsec.Transform{Type: ipsec.TypeESN, ID: ipsec.ESNNo})
		out = append(out, ipsec.Proposal{Number: uint8(len(out) + 1), Protocol: ipsec.ProtoESP, Transforms: ts})
	}
	return out
}

func printMethod(m Method) string {
	if m.AH == "" && m.Lifetime == 0 && m.LifetimeBytes == 0 {
		return m.ESP
	}
	var p pairs
	if m.AH != "" {
		p.add("ah", m.AH)
	}
	if m.ESP != "" {
		p.add("esp", m.ESP)
	}
	if m.Lifetime != 0 {
		p.add("lifetime", printDuration(m.Lifetime))
	}
	if m.LifetimeBytes != 0 {
		p.add("lifetime-bytes", printSize(m.LifetimeBytes))
	}
	return p.String()
}
