package rules

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// SideKind says how a Side names hosts. The zero value is invalid.
type SideKind uint8

// The kinds of sides.
const (
	SideFixed          SideKind = iota + 1 // any, me or addresses, in Fixed
	SideSet                                // the address set of a name
	SideName                               // the addresses of a DNS name
	SideDNSServers                         // the host's name servers
	SideDHCPServers                        // the DHCP servers that the host has its addresses from
	SideDefaultGateway                     // the routers that the host sends by where no other route leads
)

// Side is one of the things that stand at an end of a filter or in an address
// set. It is comparable.
type Side struct {
	Kind  SideKind
	Fixed filter.Side // with SideFixed
	Name  string      // with SideSet and SideName; a DNS name in lower case
}

// dynamicWords are the sides that stand for what the host's own configuration
// says.
var dynamicWords = map[string]SideKind{
	"dns-servers":     SideDNSServers,
	"dhcp-servers":    SideDHCPServers,
	"default-gateway": SideDefaultGateway,
}

// Dynamic reports whether the side stands for other addresses as time goes.
func (s Side) Dynamic() bool { return s.Kind >= SideName }

// String writes the side as the rule file does.
func (s Side) String() string {
	switch s.Kind {
	case SideFixed:
		return s.Fixed.String()
	case SideSet:
		return "{set: " + quote(s.Name) + "}"
	case SideName:
		return "{dns: " + quote(s.Name) + "}"
	}
	for word, kind := range dynamicWords {
		if s.Kind == kind {
			return word
		}
	}
	return "invalid side"
}

// sidesText writes the sides of an end for people.
func sidesText(sides []Side) string {
	if len(sides) == 1 {
		return sides[0].String()
	}
	return "[" + strings.Join(texts(sides), ", ") + "]"
}

const writeSide = "any, me, an address, a subnet, FIRST-LAST, {dns: NAME}, {set: NAME} or a list of them"

// ends is what stands for the hosts at one end of a filter.
func ends[T any](of func(*T) *[]Side) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) { *of(into) = r.readSides(n, k) },
		describe: func(d *definitions) *schema {
			return d.of("end", func() *schema { return orList(describeSide(append([]string{"any", "me"}, dynamicNames()...))) })
		},
	}
}

func dynamicNames() []string { return []string{"dns-servers", "dhcp-servers", "default-gateway"} }

// describeSide returns the schema of a side, with the words that it may be.
func describeSide(words []string) *schema {
	byKey := sideKeys.describe(nil).one()
	return either(enum(words...), pattern(`^[0-9A-Fa-f.:]+(/[0-9]+| *- *[0-9A-Fa-f.:]+)?$`), byKey)
}

// readSides reads one side of a filter, or a list of them.
func (r *reader) readSides(n *node, k keyed) []Side {
	if n.kind != sequence {
		s, ok := r.readSide(n, k)
		if !ok {
			return nil
		}
		if len(r.sides) == cap(r.sides) {
			r.sides = make([]Side, 0, 256)
		}
		r.sides = append(r.sides, s)
		at := len(r.sides)
		return r.sides[at-1 : at : at]
	}
	var out distinct[Side]
	r.readList(n, quoted(k.name), k.name+": "+writeSide, func(v *node) {
		s, ok := r.readSide(v, k)
		switch {
		case !ok:
		case s == Side{Kind: SideFixed, Fixed: filter.Any()} && len(n.items) > 1:
			r.report(v.at, `"any" stands for every address, and the others in the list add nothing`, "write any alone, or remove it")
		case !out.add(s):
			r.report(v.at, fmt.Sprintf("%s comes twice in the list", s), "remove one of the two")
		}
	})
	return out.list
}

// readSide reads one side.
func (r *reader) readSide(n *node, k keyed) (Side, bool) {
	switch n.kind {
	case scalar:
		if kind, ok := dynamicWords[n.text]; ok {
			return Side{Kind: kind}, true
		}
		if n.text == "" {
			r.report(n.at, fmt.Sprintf("%q is empty", k.name), "write "+writeSide)
			return Side{}, false
		}
		s, problem, hint := parseSide(n.text)
		if problem != "" {
			r.report(n.at, problem, hint)
			return Side{}, false
		}
		return Side{Kind: SideFixed, Fixed: s}, true
	case mapping:
		return r.readNamedSide(n)
	}
	r.report(n.at, fmt.Sprintf("an item of %q must be an address or a name, not %s", k.name, n.kind), "write "+writeSide)
	return Side{}, false
}

// namedSide is a side in the form of a mapping.
type namedSide struct{ set, dns *node }

var sideKeys = table[namedSide]{
	{name: "set", about: "the addresses of an address set", write: "set: NAME, with the name of an address set",
		value: value[namedSide]{
			read:     func(_ *reader, n *node, _ keyed, into *namedSide) { into.set = n },
			describe: func(*definitions) *schema { return nameText() },
		}},
	{name: "dns", about: "the addresses of a DNS name, kept current", write: "dns: NAME, as in dns: vpn.example.com",
		value: value[namedSide]{
			read:     func(_ *reader, n *node, _ keyed, into *namedSide) { into.dns = n },
			describe: func(*definitions) *schema { return pattern(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`) },
		}},
}

func (r *reader) readNamedSide(n *node) (Side, bool) {
	if len(n.fields) == 1 && n.fields[0].value.kind == scalar {
		// Without quotes YAML takes an IPv6 address in brackets for a mapping.
		text := n.fields[0].key + ":" + n.fields[0].value.text
		if _, problem, _ := parseSide(text); problem == "" {
			r.report(n.at, fmt.Sprintf("%q needs quotes here", text), fmt.Sprintf("write %q in quotes", text))
			return Side{}, false
		}
	}
	before := len(r.list)
	var by namedSide
	sideKeys.read(r, n, "a side", &by)
	switch {
	case len(r.list) > before:
	case by.set != nil && by.dns != nil:
		r.report(n.at, "a side has both a set and a DNS name", "write them as two items of a list")
	case by.set != nil:
		name, ok := r.readScalar(by.set, "set", "set: NAME")
		if ok {
			r.sets = append(r.sets, reference{name, by.set.at})
		}
		return Side{Kind: SideSet, Name: name}, ok
	case by.dns != nil:
		name, ok := r.readScalar(by.dns, "dns", "dns: NAME")
		if !ok {
			return Side{}, false
		}
		name, problem, hint := parseDNSName(name)
		if problem != "" {
			r.report(by.dns.at, problem, hint)
			return Side{}, false
		}
		return Side{Kind: SideName, Name: name}, true
	default:
		r.report(n.at, "a side says nothing", "write {dns: NAME} or {set: NAME}")
	}
	return Side{}, false
}

// parseDNSName returns a name that can be looked up, in lower case and without
// a dot at its end.
func parseDNSName(text string) (name, problem, hint string) {
	if _, err := netip.ParseAddr(text); err == nil {
		return "", fmt.Sprintf("%q is an address, and no DNS name", text), "write it without dns:"
	}
	name = strings.ToLower(strings.TrimSuffix(text, "."))
	hint = "write a name of letters, digits, hyphens and dots, as in vpn.example.com"
	if strings.Contains(name, "*") {
		return "", fmt.Sprintf("%q stands for many names, and cannot be looked up", text), "write each name"
	}
	if strings.ContainsFunc(name, func(c rune) bool { return c > 127 }) {
		return "", fmt.Sprintf("%q has characters that DNS has not", text), "write it as DNS has it, with labels that begin with xn--"
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' ||
			strings.ContainsFunc(l, func(c rune) bool { return !isLetter(c) && !isDigit(c) && c != '-' && c != '_' }) {
			return "", fmt.Sprintf("%q is no DNS name", text), hint
		}
	}
	if len(name) > 253 || !strings.ContainsFunc(labels[len(labels)-1], isLetter) {
		return "", fmt.Sprintf("%q is no DNS name", text), hint
	}
	return name, "", ""
}

func isLetter(c rune) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func isDigit(c rune) bool { return '0' <= c && c <= '9' }
