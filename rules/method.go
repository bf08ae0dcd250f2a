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

	LifetimePackets int // 0 for that of the action
}

// Nested reports whether packets go as ESP inside AH.
func (m Method) Nested() bool { return m.ESP != "" && m.AH != "" }

// espCiphers are the keywords of ciphers that bring their own integrity, and
// of those that do not.
func espCiphers() (aead, plain []string) {
	for _, t := range ipsec.Transforms(ipsec.ProtoESP, ipsec.TypeEncr) {
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
		for _, i := range keywords(ipsec.ProtoESP, ipsec.TypeInteg) {
			words = append(words, c+"-"+i)
		}
	}
	return words
}

// espPattern is a regular expression for ESP protections.
func espPattern() string {
	aead, plain := espCiphers()
	return fmt.Sprintf("^(%s|(%s)-(%s))$", strings.Join(aead, "|"), strings.Join(plain, "|"), strings.Join(keywords(ipsec.ProtoESP, ipsec.TypeInteg), "|"))
}

var methodKeys = table[Method]{
	{name: "esp", about: "a cipher, with an integrity if it has none of its own", write: "esp: aes256gcm16, or esp: aes256-sha256",
		value: value[Method]{
			read:     func(r *reader, n *node, k keyed, m *Method) { m.ESP, _ = r.readScalar(n, k.name, k.write) },
			describe: func(*definitions) *schema { return pattern(espPattern()) },
		}},
	{name: "ah", about: "an integrity for the whole packet with its IP header; with esp too, ESP goes inside AH", write: "ah: sha256",
		value: word(keywords(ipsec.ProtoAH, ipsec.TypeInteg), func(m *Method, word string) { m.AH = word })},
	{name: "lifetime", about: "after which the keys are replaced; the action's if missing", write: "lifetime: 1h",
		value: duration(time.Second, maxLifetime, func(m *Method) *time.Duration { return &m.Lifetime })},
	{name: "lifetime-bytes", about: "after how many bytes the keys are replaced; the action's if missing", write: "lifetime-bytes: 10GB",
		value: size(func(m *Method) *uint64 { return &m.LifetimeBytes })},
	{name: "lifetime-packets", about: "after how many packets the keys are replaced; the action's if missing", write: "lifetime-packets: 1000000000",
		value: count(minPackets, maxPackets, func(m *Method) *int { return &m.LifetimePackets })},
}

// Bounds of a number of packets.
const (
	minPackets = 1000
	maxPackets = 1_000_000_000_000_000_000
)

func methods[T any](of func(*T) *[]Method) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			var out distinct[Method]
			r.readList(n, quoted(k.name), k.write, func(v *node) {
				m, ok := r.readMethod(v)
				switch {
				case !ok:
				case !out.add(m):
					r.report(v.at, fmt.Sprintf("method %s comes twice", printMethod(m)), "remove one of the two")
				case m.Nested() != out.list[0].Nested():
					r.report(v.at, fmt.Sprintf("method %s stands beside %s, and one of the two is ESP inside AH: IKE agrees on these as two SAs, and on others as one", printMethod(m), printMethod(out.list[0])),
						"write both esp and ah in all methods of the action, or in none")
				}
			})
			*of(into) = out.list
		},
		describe: func(d *definitions) *schema {
			long := methodKeys.describe(d)
			long.MinFields = 1
			return listOf(either(pattern(espPattern()), long))
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
		if _, problem, hint := parseESP(m.ESP); problem != "" {
			r.report(esp.at, problem, hint)
		}
	}
	return m, len(r.list) == before
}

// parseESP returns the transforms of an ESP protection: the keyword of a
// cipher, and behind a "-" that of an integrity. No cipher does without, inside
// AH neither: what the AH of one SA protects does not protect the ESP of another.
//
// Its hints name the common ones.
func parseESP(text string) (ts []ipsec.Transform, problem, hint string) {
	word, integ, has := strings.Cut(text, "-")
	cipher, ok := keyword(ipsec.ProtoESP, word, ipsec.TypeEncr)
	if !ok {
		return nil, fmt.Sprintf("unknown ESP method %q", text), meant(text, espWords(), "write aes256gcm16, or "+otherESP)
	}
	ts = []ipsec.Transform{cipher}
	if !has {
		if !cipher.AEAD() {
			return nil, fmt.Sprintf("ESP method %q has no integrity", text), fmt.Sprintf("write %s-sha256", text)
		}
		return ts, "", ""
	}
	t, ok := keyword(ipsec.ProtoESP, integ, ipsec.TypeInteg)
	switch {
	case !ok:
		return nil, fmt.Sprintf("unknown integrity %q in ESP method %q", integ, text), meant(integ, keywords(ipsec.ProtoESP, ipsec.TypeInteg), "write "+oneOf(keywords(ipsec.ProtoESP, ipsec.TypeInteg)))
	case cipher.AEAD():
		return nil, fmt.Sprintf("ESP method %q has integrity twice: by its cipher and by %s", text, integ), "write " + word
	}
	return append(ts, t), "", ""
}

const otherESP = `another cipher, as in chacha20poly1305, or a cipher with an integrity, as in aes256-sha256; "ipsecfw schema" has all keywords`

// transforms returns what protects packets: by ESP, or by AH where the method
// has nothing else.
func (m Method) transforms() (ipsec.ProtocolID, []ipsec.Transform) {
	if m.ESP == "" {
		return ipsec.ProtoAH, m.around()
	}
	ts, _, _ := parseESP(m.ESP) // Parse lets no other pass
	return ipsec.ProtoESP, ts
}

// around returns what AH protects by.
func (m Method) around() []ipsec.Transform {
	t, _ := keyword(ipsec.ProtoAH, m.AH, ipsec.TypeInteg)
	return []ipsec.Transform{t}
}

func printMethod(m Method) string {
	if m.AH == "" && m.Lifetime == 0 && m.LifetimeBytes == 0 && m.LifetimePackets == 0 {
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
	p.addCount("lifetime-packets", m.LifetimePackets)
	return p.String()
}
