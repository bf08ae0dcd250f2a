package rules

import (
	"fmt"
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

// espCiphers are the keywords of ciphers that bring their own integrity, and
// of those that do not.
func espCiphers() (aead, plain []string) {
	for _, t := range ipsec.Transforms(ipsec.TypeEncr) {
		if t.AEAD() {
			aead = append(aead, t.String())
		} else {
			plain = append(plain, t.String())
		}
	}
	return aead, plain
}

// espWords are the ESP protections that a file may name.
func espWords() []string {
	words, plain := espCiphers()
	for _, c := range plain {
		for _, i := range keywords(ipsec.TypeInteg) {
			words = append(words, c+"-"+i)
		}
	}
	return words
}

// espPattern is a regular expression for ESP protections. Under AH a cipher
// may do without integrity.
func espPattern(underAH bool) string {
	aead, plain := espCiphers()
	may := ""
	if underAH {
		may = "?"
	}
	return fmt.Sprintf("^(%s|(%s)(-(%s))%s)$", strings.Join(aead, "|"), strings.Join(plain, "|"), strings.Join(keywords(ipsec.TypeInteg), "|"), may)
}

var methodKeys = table[Method]{
	{name: "esp", about: "a cipher, with an integrity if it has none of its own", write: "esp: aes256gcm16, or esp: aes256-sha256",
		value: value[Method]{
			read:     func(r *reader, n *node, k keyed, m *Method) { m.ESP, _ = r.readScalar(n, k.name, k.write) },
			describe: func(*definitions) *schema { return pattern(espPattern(true)) },
		}},
	{name: "ah", about: "an integrity for the whole packet; not carried out by this version", write: "ah: sha256",
		value: word(keywords(ipsec.TypeInteg), func(m *Method, word string) { m.AH = word })},
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
			return listOf(either(pattern(espPattern(false)), long))
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
			r.report(n.at, "a method has no protection", "add esp: aes256gcm16, or "+otherESP)
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
//
// Its hints name the common ones.
func parseESP(text string, underAH bool) (ts []ipsec.Transform, problem, hint string) {
	word, integ, has := strings.Cut(text, "-")
	cipher, ok := keyword(word, ipsec.TypeEncr)
	if !ok {
		return nil, fmt.Sprintf("unknown ESP method %q", text), meant(text, espWords(), "write aes256gcm16, or "+otherESP)
	}
	ts = []ipsec.Transform{cipher}
	if !has {
		if !cipher.AEAD() && !underAH {
			return nil, fmt.Sprintf("ESP method %q has no integrity", text), fmt.Sprintf("write %s-sha256", text)
		}
		return ts, "", ""
	}
	t, ok := keyword(integ, ipsec.TypeInteg)
	switch {
	case !ok:
		return nil, fmt.Sprintf("unknown integrity %q in ESP method %q", integ, text), meant(integ, keywords(ipsec.TypeInteg), "write "+oneOf(keywords(ipsec.TypeInteg)))
	case cipher.AEAD():
		return nil, fmt.Sprintf("ESP method %q has integrity twice: by its cipher and by %s", text, integ), "write " + word
	}
	return append(ts, t), "", ""
}

const otherESP = `another cipher, as in chacha20poly1305, or a cipher with an integrity, as in aes256-sha256; "ipsecfw schema" has all keywords`

// transforms returns what protects packets.
func (m Method) transforms() []ipsec.Transform {
	ts, _, _ := parseESP(m.ESP, false) // Parse lets no other pass
	return ts
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
