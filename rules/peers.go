package rules

import (
	"fmt"
	"strings"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// PeerGroup is peers that share a name: those that are among some members and
// not among others.
type PeerGroup struct {
	Name string
	Members
	Except   Members
	Position Position
}

// Members are peers, by what their certificates say, their raw keys, or the
// identities that go with preshared keys. A peer is among them that has
// anything of it.
type Members struct {
	Names        []string // DNS names and e-mail addresses in lower case; "*" may stand for the first label of a name
	Units        []string // organisational units of the subject
	Subjects     []string // distinguished names of the subject, in which "*" stands for any value
	Fingerprints []string // SHA-256 hashes of certificates or public keys: "sha256:" and hexadecimal digits in lower case
}

// None reports whether nobody is among them.
func (m *Members) None() bool {
	return m.Names == nil && m.Units == nil && m.Subjects == nil && m.Fingerprints == nil
}

const writePeers = `peers: {NAME: {names: ["*.example.com"]}}`

var memberKeys = table[Members]{
	{name: "names", about: "DNS names and e-mail addresses that certificates bear; *. stands for one label",
		write: `names: ["*.staff.example.com", alice@example.com]`,
		value: value[Members]{
			read: func(r *reader, n *node, k keyed, m *Members) { m.Names = r.readTexts(n, k, parsePeerName) },
			describe: func(*definitions) *schema {
				return listOf(pattern(`^(\*\.|[^@*\s]+@)?[A-Za-z0-9_.-]+$`))
			},
		}},
	{name: "units", about: "organisational units of certificates' subjects", write: "units: [Payroll]",
		value: value[Members]{
			read: func(r *reader, n *node, k keyed, m *Members) {
				m.Units = r.readTexts(n, k, func(s string) (string, string, string) { return s, "", "" })
			},
			describe: func(*definitions) *schema { return listOf(anyText()) },
		}},
	{name: "subjects", about: "distinguished names of certificates' subjects; * stands for any value", write: `subjects: ["CN=*,OU=Payroll,O=Example"]`,
		value: value[Members]{
			read:     func(r *reader, n *node, k keyed, m *Members) { m.Subjects = r.readTexts(n, k, parseSubject) },
			describe: func(*definitions) *schema { return listOf(pattern(`^[^=]+=.`)) },
		}},
	{name: "fingerprints", about: "SHA-256 fingerprints of certificates, or of public keys", write: `fingerprints: ["sha256:DIGITS"], with 64 hexadecimal digits`,
		value: value[Members]{
			read: func(r *reader, n *node, k keyed, m *Members) { m.Fingerprints = r.readTexts(n, k, parseFingerprint) },
			describe: func(*definitions) *schema {
				return listOf(pattern(`^([Ss][Hh][Aa]256:)?([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$`))
			},
		}},
}

var peerKeys = append(part(memberKeys, func(g *PeerGroup) *Members { return &g.Members }), key[PeerGroup]{
	name: "except", about: "those that are not of the group all the same", write: `except: {names: [guest.example.com]}`,
	value: value[PeerGroup]{
		read: func(r *reader, n *node, k keyed, g *PeerGroup) {
			before := len(r.list)
			memberKeys.read(r, n, quoted(k.name), &g.Except)
			if len(r.list) == before && g.Except.None() {
				r.report(n.at, quoted(k.name)+" says nothing", "write "+k.write)
			}
		},
		describe: func(d *definitions) *schema {
			s := memberKeys.describe(d)
			s.MinFields = 1
			return s
		},
	},
})

const writeMembers = `{names: ["*.example.com"]} or {units: [UNIT]}`

func peerGroups[T any](of func(*T) *[]PeerGroup) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			r.readDefinitions(n, k, "peer group", "says nothing", "write "+writeMembers+" after it", func(f field) {
				g := PeerGroup{Name: f.key, Position: f.at}
				before := len(r.list)
				peerKeys.read(r, f.value, fmt.Sprintf("peer group %q", f.key), &g)
				switch {
				case len(r.list) > before || !g.Members.None():
				case !g.Except.None():
					r.report(f.value.at, fmt.Sprintf("nobody is of the peer group %q: it says only who is not", f.key), "add "+writeMembers)
				default:
					r.report(f.value.at, fmt.Sprintf("peer group %q says nothing", f.key), "write "+writeMembers)
				}
				*of(into) = append(*of(into), g)
			})
		},
		describe: func(d *definitions) *schema {
			s := peerKeys.describe(d)
			s.MinFields = 1
			return mapOf(s)
		},
	}
}

// readTexts reads a list of texts, each as parse returns it.
func (r *reader) readTexts(n *node, k keyed, parse func(text string) (as, problem, hint string)) []string {
	var out distinct[string]
	r.readList(n, quoted(k.name), k.write, func(v *node) {
		text, ok := r.readText(v, fmt.Sprintf("an item of %q", k.name), k.write)
		if !ok {
			return
		}
		as, problem, hint := parse(text)
		switch {
		case problem != "":
			r.report(v.at, problem, hint)
		case !out.add(as):
			r.report(v.at, fmt.Sprintf("%q comes twice in %q", as, k.name), "remove one of the two")
		}
	})
	return out.list
}

// parsePeerName returns a name of a peer group in lower case.
func parsePeerName(text string) (name, problem, hint string) {
	domain := text
	if user, after, ok := strings.Cut(text, "@"); ok {
		if user == "" || strings.ContainsFunc(user, func(c rune) bool { return c <= ' ' || c == '*' }) {
			return "", fmt.Sprintf("%q is no e-mail address", text), "write it as in alice@example.com, or leave it to units: [UNIT]"
		}
		domain = after
	} else {
		domain = strings.TrimPrefix(text, "*.")
	}
	if strings.Contains(domain, "*") {
		return "", fmt.Sprintf("the wildcard of %q is not its first label", text), `write it as in "*.staff.example.com"`
	}
	canonical, problem, _ := parseDNSName(domain)
	if problem != "" {
		return "", fmt.Sprintf("%q is neither a DNS name nor an e-mail address", text), `write it as in payroll.example.com, "*.staff.example.com" or alice@example.com`
	}
	return strings.ToLower(text[:len(text)-len(domain)]) + canonical, "", ""
}

// parseSubject checks the form of a distinguished name with wildcards.
func parseSubject(text string) (subject, problem, hint string) {
	if _, err := ike.ParseDNPattern(text); err != nil {
		return "", err.Error(), `write it as in "CN=*,OU=Payroll,O=Example"`
	}
	return text, "", ""
}

// parseFingerprint returns a fingerprint in its canonical form.
func parseFingerprint(text string) (fingerprint, problem, hint string) {
	f, err := ike.ParseFingerprint(text)
	if err != nil {
		return "", fmt.Sprintf("%q is no SHA-256 fingerprint", text), `write "sha256:" and 64 hexadecimal digits, in quotes`
	}
	return f.String(), "", ""
}
