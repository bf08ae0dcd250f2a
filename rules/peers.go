package rules

import (
	"fmt"
	"slices"
	"strings"
)

// PeerGroup is peers that share a name, by what their certificates say. A
// peer is of the group if its certificate bears one of the names, or one of
// the organisational units.
type PeerGroup struct {
	Name     string
	Names    []string // DNS names and e-mail addresses in lower case; "*" may stand for the first label of a name
	Units    []string // organisational units of the subject
	Position Position
}

// Contains reports whether a peer is of the group, by the alternative names
// (DNS names and e-mail addresses) and the organisational units of the
// subject that stand in its certificate. Names are compared without regard to
// case. A wildcard stands for exactly one label (RFC 6125 section 6.4.3), and
// one in a certificate is no name.
func (g *PeerGroup) Contains(names, units []string) bool {
	if slices.ContainsFunc(units, func(u string) bool { return slices.Contains(g.Units, u) }) {
		return true
	}
	for _, n := range names {
		n = strings.ToLower(strings.TrimSuffix(n, "."))
		if strings.Contains(n, "*") {
			continue
		}
		_, parent, _ := strings.Cut(n, ".")
		if slices.Contains(g.Names, n) || parent != "" && !strings.Contains(n, "@") && slices.Contains(g.Names, "*."+parent) {
			return true
		}
	}
	return false
}

const writePeers = `peers: {NAME: {names: ["*.example.com"]}}`

var peerKeys = table[PeerGroup]{
	{name: "names", about: "DNS names and e-mail addresses that certificates bear; *. stands for one label",
		write: `names: ["*.staff.example.com", alice@example.com]`,
		value: value[PeerGroup]{
			read: func(r *reader, n *node, k keyed, g *PeerGroup) { g.Names = r.readTexts(n, k, parsePeerName) },
			describe: func(*definitions) *schema {
				return listOf(pattern(`^(\*\.|[^@*\s]+@)?[A-Za-z0-9_.-]+$`))
			},
		}},
	{name: "units", about: "organisational units of certificates' subjects", write: "units: [Payroll]",
		value: value[PeerGroup]{
			read: func(r *reader, n *node, k keyed, g *PeerGroup) {
				g.Units = r.readTexts(n, k, func(s string) (string, string, string) { return s, "", "" })
			},
			describe: func(*definitions) *schema { return listOf(anyText()) },
		}},
}

func peerGroups[T any](of func(*T) *[]PeerGroup) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			r.readDefinitions(n, k, "peer group", "says nothing", `write {names: ["*.example.com"]} or {units: [UNIT]} after it`, func(f field) {
				g := PeerGroup{Name: f.key, Position: f.at}
				before := len(r.list)
				peerKeys.read(r, f.value, fmt.Sprintf("peer group %q", f.key), &g)
				if len(r.list) == before && g.Names == nil && g.Units == nil {
					r.report(f.value.at, fmt.Sprintf("peer group %q says nothing", f.key), `write {names: ["*.example.com"]} or {units: [UNIT]}`)
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
