package nft

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// tableName is the table that belongs to the package, in the family inet, or
// in ip and in ip6.
const tableName = "ipsecfw"

// Ruleset is the content of the tables, as Compile makes it and Apply puts it
// in force. It is immutable, and plain data.
type Ruleset struct {
	tables []table
}

// table is all that one family of nftables has of ours.
type table struct {
	family byte // NFPROTO_INET, or NFPROTO_IPV4 or NFPROTO_IPV6
	sets   []set
	chains []chain
}

// familyNames are nft's names of the families of tables.
var familyNames = map[byte]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6"}

// String names the table as nft does.
func (t *table) String() string { return familyNames[t.family] + " " + tableName }

// set is a named set. Its elements are the keys of a group's tuples, or are
// given one by one.
type set struct {
	name     string
	family   byte // of the packets that are looked up in it: NFPROTO_IPV4 or NFPROTO_IPV6, or 0 for both
	keys     []key
	tuples   []filter.Tuple  // with a group
	entries  []*filter.Entry // for each tuple, the filter to which its packets are counted; nil when they are not
	elements []element       // without a group
	dynamic  bool            // elements come and go while the ruleset is in force; those here are the first
	timeouts bool            // elements may go by themselves
}

// element is a part of a set that is no group's.
type element struct {
	key     []byte
	timeout uint64 // milliseconds after which it goes by itself; 0 for never
}

// key is one part of a set's keys: the leading bits of a field.
type key struct {
	field field
	bits  int
}

// chain is a list of rules, of which a packet meets one after another.
type chain struct {
	name   string
	hook   *hook // nil in a chain that only other chains lead to
	rules  []rule
	family byte // of the packets that come to it: NFPROTO_IPV4 or NFPROTO_IPV6, or 0 for both
}

func (c *chain) add(rules ...rule) { c.rules = append(c.rules, rules...) }

// hook is where in the packet's way a chain stands. Its policy is accept.
type hook struct {
	name     string
	priority int32 // the lower comes first
}

// rule is a list of statements. The first match that does not hold ends it.
type rule []statement

// statement is a part of a rule: a match, or something that is done.
type statement interface {
	fmt.Stringer // in nft's syntax
	lowered
}

// split returns the ruleset of a table of family inet as two tables, one of
// each family. A rule that asks for a family goes there, and asks no more.
func (t *table) split() []table {
	halves := []table{{family: unix.NFPROTO_IPV4}, {family: unix.NFPROTO_IPV6}}
	for i := range halves {
		h := &halves[i]
		for _, s := range t.sets {
			if s.family == h.family || s.family == 0 {
				h.sets = append(h.sets, s)
			}
		}
		for _, c := range t.chains {
			if c.family != h.family && c.family != 0 {
				continue
			}
			half := chain{name: c.name, hook: c.hook}
			for _, r := range c.rules {
				if f := r.family(); f == h.family || f == 0 {
					half.add(slices.DeleteFunc(slices.Clone(r), func(s statement) bool { _, ok := familyMatch(s); return ok }))
				}
			}
			h.chains = append(h.chains, half)
		}
	}
	return halves
}

// family returns the family of packets that the rule asks for, 0 when it asks
// for none.
func (r rule) family() byte {
	for _, s := range r {
		if f, ok := familyMatch(s); ok {
			return f
		}
	}
	return 0
}

// familyMatch returns the family that a statement asks for, if that is what it
// does.
func familyMatch(s statement) (family byte, ok bool) {
	if m, ok := s.(match); ok && m.field == nfproto {
		return m.value[0], true
	}
	return 0, false
}

// String writes the tables in nft's syntax, with masks spelt out.
func (rs Ruleset) String() string {
	var b strings.Builder
	for i := range rs.tables {
		rs.tables[i].write(&b)
	}
	return b.String()
}

func (t *table) write(b *strings.Builder) {
	fmt.Fprintf(b, "table %s {\n", t)
	for i := range t.sets {
		s := &t.sets[i]
		fmt.Fprintf(b, "\tset %s {\n\t\ttype %s\n", s.name, s.typeName())
		if s.timeouts {
			b.WriteString("\t\tflags timeout\n")
		}
		if s.counted() {
			b.WriteString("\t\tcounter\n")
		}
		if s.len() > 0 {
			fmt.Fprintf(b, "\t\telements = { %s }\n", s.elementNames())
		}
		b.WriteString("\t}\n")
	}
	for _, c := range t.chains {
		fmt.Fprintf(b, "\tchain %s {\n", c.name)
		if c.hook != nil {
			fmt.Fprintf(b, "\t\ttype filter hook %s priority %d; policy accept;\n", c.hook.name, c.hook.priority)
		}
		for _, r := range c.rules {
			fmt.Fprintf(b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
}

func (r rule) String() string {
	words := make([]string, len(r))
	for i, s := range r {
		words[i] = s.String()
	}
	return strings.Join(words, " ")
}
