package nft

import (
	"fmt"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// tableName is the table of family inet that belongs to the package.
const tableName = "ipsecfw"

// Ruleset is the content of the table, as Compile makes it and Apply puts it
// in force. It is immutable, and plain data.
type Ruleset struct {
	sets   []set
	chains []chain
}

// set is a named set of the keys of tuples of one shape.
type set struct {
	name   string
	keys   []key
	tuples []filter.Tuple
}

// key is one part of a set's keys: the leading bits of a field.
type key struct {
	field field
	bits  int
}

// chain is a list of rules, of which a packet meets one after another.
type chain struct {
	name  string
	hook  *hook // nil in a chain that only other chains lead to
	rules []rule
}

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

// String writes the table in nft's syntax, with masks spelt out.
func (rs Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", tableName)
	for _, s := range rs.sets {
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n\t\telements = { %s }\n\t}\n", s.name, s.typeName(), s.elements())
	}
	for _, c := range rs.chains {
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		if c.hook != nil {
			fmt.Fprintf(&b, "\t\ttype filter hook %s priority %d; policy accept;\n", c.hook.name, c.hook.priority)
		}
		for _, r := range c.rules {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (r rule) String() string {
	words := make([]string, len(r))
	for i, s := range r {
		words[i] = s.String()
	}
	return strings.Join(words, " ")
}

func (s set) typeName() string {
	names := make([]string, len(s.keys))
	for i, k := range s.keys {
		names[i] = k.field.info().datatype.Name
	}
	return strings.Join(names, " . ")
}

func (s set) elements() string {
	elements := make([]string, len(s.tuples))
	for i := range s.tuples {
		parts := make([]string, len(s.keys))
		for j, k := range s.keys {
			parts[j] = k.field.info().format(k.field.appendValue(nil, &s.tuples[i]))
		}
		elements[i] = strings.Join(parts, " . ")
	}
	return strings.Join(elements, ", ")
}

// String writes what a packet is looked up by.
func (k key) String() string {
	info := k.field.info()
	if mask := k.mask(); mask != nil {
		return info.name + " & " + info.format(mask)
	}
	return info.name
}

// mask returns the bits of the field that count, or nil when all do.
func (k key) mask() []byte {
	width := int(k.field.info().datatype.Bytes)
	if k.bits >= 8*width {
		return nil
	}
	mask := make([]byte, width)
	for i := range k.bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}
