package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

const writeConnection = "connection: all, connection: lan, connection: remote, or names of interfaces, as in connection: [eth0, ppp0]"

// connectionWords are the connections that are no names of interfaces.
var connectionWords = map[string]filter.ConnectionKind{
	"all": filter.ConnectionAll, "lan": filter.ConnectionLAN, "remote": filter.ConnectionRemote,
}

// connections is a connection or a list of them.
func connections[T any](of func(*T) *[]filter.Connection) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) { *of(into) = r.readConnections(n, k) },
		describe: func(*definitions) *schema {
			return orList(either(enumOf(connectionWords), &schema{Type: "string", MinLength: 1, MaxLength: maxInterface}))
		},
	}
}

// maxInterface is the longest name of an interface, in bytes (IFNAMSIZ with
// the zero at its end).
const maxInterface = 15

// readConnections returns nil for all.
func (r *reader) readConnections(n *node, k keyed) []filter.Connection {
	all := filter.Connection{}
	if n.kind != sequence {
		c, ok := r.readConnection(n, k)
		if !ok || c == all {
			return nil
		}
		return []filter.Connection{c}
	}
	var out []filter.Connection
	r.readList(n, quoted(k.name), k.write, func(v *node) {
		c, ok := r.readConnection(v, k)
		switch {
		case !ok:
		case c == all:
			r.report(v.at, `"all" in a list of connections is every interface`, "write connection: all, or remove it from the list")
		case slices.Contains(out, c):
			r.report(v.at, fmt.Sprintf("connection %q comes twice", c), "remove one of the two")
		default:
			out = append(out, c)
		}
	})
	return out
}

func (r *reader) readConnection(n *node, k keyed) (filter.Connection, bool) {
	s, ok := r.readScalar(n, k.name, k.write)
	if !ok {
		return filter.Connection{}, false
	}
	if kind, ok := connectionWords[s]; ok {
		return filter.Connection{Kind: kind}, true
	}
	switch {
	case len(s) > maxInterface:
		r.report(n.at, fmt.Sprintf("%q is no name of an interface: it has more than %d bytes", s, maxInterface), "write the name that ip link shows")
		return filter.Connection{}, false
	case s == "." || s == ".." || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == '/' || c == ':' }):
		r.report(n.at, fmt.Sprintf("%q is no name of an interface", s), "write the name that ip link shows, without spaces, slashes and colons")
		return filter.Connection{}, false
	}
	return filter.Connection{Kind: filter.ConnectionInterface, Name: s}, true
}

// printConnections writes connections that are not all.
func printConnections(cs []filter.Connection) string {
	words := make([]string, len(cs))
	for i, c := range cs {
		words[i] = quote(c.String())
	}
	if len(words) == 1 {
		return words[0]
	}
	return "[" + strings.Join(words, ", ") + "]"
}
