package nft

import (
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// setName makes the name of a group's set, such as
// "in131328_negotiate_v4_src16_proto_dport16". It says what the group is and
// not where it stands, so that the set keeps it while the policy changes. Names
// that nft cannot write, and which filter a limit is of, are in a hash at its end.
func setName(prefix string, g *filter.Group) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%d_%s", prefix, g.Weight, g.Action)
	flag := func(is bool, name string) {
		if is {
			b.WriteString("_" + name)
		}
	}
	o, s := g.Options, g.Shape
	flag(o.Reject, "reject")
	flag(o.AcceptUnsecured, "accept")
	flag(o.AllowUnsecured, "allow")
	flag(g.Mirror, "mirror")
	flag(s.V6, "v6")
	flag(!s.V6, "v4")
	bits := func(n uint8, name string) {
		if n > 0 {
			fmt.Fprintf(&b, "_%s%d", name, n)
		}
	}
	bits(s.SrcBits, "src")
	bits(s.DstBits, "dst")
	flag(s.Protocol, "proto")
	bits(s.SrcPortBits, "sport")
	bits(s.DstPortBits, "dport")
	flag(s.Connection.Kind == filter.ConnectionLAN, "lan")
	flag(s.Connection.Kind == filter.ConnectionRemote, "remote")
	flag(s.Connection.Kind == filter.ConnectionInterface, "interface")
	flag(s.Stage == filter.Beginnings, "beginnings")
	flag(s.Stage == filter.Answers, "answers")
	flag(o.Log, "log")
	flag(o.Limit != (filter.Limit{}), "limit")
	if o.Log || o.Limit != (filter.Limit{}) || s.Connection.Kind == filter.ConnectionInterface {
		h := fnv.New64a()
		fmt.Fprintf(h, "%q %q %v", s.Connection.Name, g.Name, o.Limit)
		if o.Limit != (filter.Limit{}) {
			e := g.Entries[0]
			fmt.Fprintf(h, " %q %q %d", e.Name, e.List, e.Index)
		}
		fmt.Fprintf(&b, "_%016x", h.Sum64())
	}
	return b.String()
}

// unique returns the name, with a number when it is not the first set of that
// name: of two filters with limits that no name tells apart.
func (c *compiler) unique(name string) string {
	c.names[name]++
	if n := c.names[name]; n > 1 {
		return fmt.Sprintf("%s_%d", name, n)
	}
	return name
}
