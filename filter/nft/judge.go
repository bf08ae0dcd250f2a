package nft

import (
	"slices"

	"github.com/google/nftables/expr"

	"github.com/ipsecfw/ipsecfw/filter"
)

// judge adds to ch one rule for each group, and the sets and chains that they
// need. The prefix begins the names of the sets.
func (c *compiler) judge(ch *chain, d filter.Direction, prefix string, groups []filter.Group) {
	if d == filter.Forward {
		groups = straightFirst(groups)
	}
	for i := range groups {
		g := &groups[i]
		s := set{
			name: c.unique(setName(prefix, g)), family: familyOf(g.Shape.V6),
			keys: keysOf(g.Shape), tuples: g.Tuples,
		}
		if c.cfg.Count {
			s.entries = g.Entries
		}
		c.table.sets = append(c.table.sets, s)
		if g.Options.AllowUnsecured {
			c.asked[softSets[0]] = true
		}
		if d == filter.Outbound {
			c.outbound = append(c.outbound, judged{g, lookup{name: s.name, keys: s.keys}})
		}
		r := append(c.context(d, g.Shape), lookup{name: s.name, keys: s.keys})
		ch.add(append(r, c.treat(s.name, g, c.final(d, g))))
	}
}

// straightFirst returns the groups with the mirrored after the others among
// those of the same weight and action, where the order is free: when both
// halves of a filter match a forwarded packet, it is on its way into the tunnel.
func straightFirst(groups []filter.Group) []filter.Group {
	out := make([]filter.Group, 0, len(groups))
	for len(groups) > 0 {
		n := 1
		for n < len(groups) && groups[n].Weight == groups[0].Weight && groups[n].Action == groups[0].Action {
			n++
		}
		for _, mirror := range []bool{false, true} {
			for _, g := range groups[:n] {
				if g.Mirror == mirror {
					out = append(out, g)
				}
			}
		}
		groups = groups[n:]
	}
	return out
}

// judged is a group with the lookup in its set.
type judged struct {
	group *filter.Group
	in    lookup
}

// context returns the matches of what a shape asks for besides the keys: the
// family, the interface, and the stage of the connection.
func (c *compiler) context(d filter.Direction, s filter.Shape) rule {
	r := rule{family(s.V6)}
	name, kind := oifname, oiftype
	if d == filter.Inbound {
		name, kind = iifname, iiftype
	}
	switch s.Connection.Kind {
	case filter.ConnectionInterface:
		r = append(r, named(name, s.Connection.Name))
	case filter.ConnectionLAN, filter.ConnectionRemote:
		c.asked[remoteLinks] = true
		r = append(r, lookup{remoteLinks, []key{{kind, 16}}, s.Connection.Kind == filter.ConnectionLAN})
	}
	return append(r, stage(s.Stage)...)
}

// stage returns the matches of a stage of connections.
func stage(s filter.Stage) []statement {
	known := uint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	switch s {
	case filter.Beginnings:
		return []statement{match{ctState, native(known | expr.CtStateBitNEW), expr.CmpOpNeq, native(0)}, is(ctDirection, original)}
	case filter.Answers:
		return []statement{match{ctState, native(known), expr.CmpOpNeq, native(0)}, is(ctDirection, reply)}
	}
	return nil
}

// final returns what becomes of a group's packets.
func (c *compiler) final(d filter.Direction, g *filter.Group) statement {
	o := g.Options
	switch {
	case g.Action == filter.Permit:
		return accept
	case g.Action == filter.Block && o.Reject && d != filter.Outbound:
		return c.ask(refuse)
	case g.Action == filter.Block:
		return drop
	case d == filter.Outbound && o.AllowUnsecured:
		return c.ask(softOutbound)
	case d == filter.Outbound, d == filter.Forward && !g.Mirror:
		return secure
	case o.AcceptUnsecured:
		return accept
	case o.AllowUnsecured && d == filter.Inbound:
		return c.ask(softInbound)
	case d == filter.Forward && !c.boot && g.Shape.Connection.Kind == filter.ConnectionAll:
		return c.ask(tunnelled)
	}
	// It came in clear, or out of a tunnel of another filter: the engine does
	// not know yet by which interface a forwarded packet is to go.
	return drop
}

// treat returns the statement that does to a group's packets what its options
// say, and then what final says. What takes more than one rule has a chain of
// its own, in which each packet is counted and limited once.
func (c *compiler) treat(name string, g *filter.Group, final statement) statement {
	own := chain{name: name, family: familyOf(g.Shape.V6)}
	if g.Options.Log {
		own.add(rule{logLimit, logTo{c.cfg.LogGroup, g.Name}})
	}
	if g.Options.Limit != (filter.Limit{}) {
		own.add(rule{limit{g.Options.Limit, true}, drop})
	}
	if len(own.rules) == 0 {
		return final
	}
	own.add(rule{final})
	c.chain(own)
	return gotoChain(name)
}

// keysOf returns the fields that a shape fixes: the family, when it fixes only
// that, so that every filter has an element that counts.
func keysOf(s filter.Shape) []key {
	src, dst := ip4Saddr, ip4Daddr
	if s.V6 {
		src, dst = ip6Saddr, ip6Daddr
	}
	all := []key{{src, int(s.SrcBits)}, {dst, int(s.DstBits)}, {l4proto, 0}, {transportSrc, int(s.SrcPortBits)}, {transportDst, int(s.DstPortBits)}}
	if s.Protocol {
		all[2].bits = 8
	}
	keys := all[:0]
	for _, k := range all {
		if k.bits > 0 {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return []key{{nfproto, 8}}
	}
	return keys
}

// refuses reports whether a group of groups tells senders that it blocks them.
func refuses(groups []filter.Group) bool {
	return slices.ContainsFunc(groups, func(g filter.Group) bool { return g.Options.Reject })
}

// refuseOutput adds the chain that refuses what the host's own programs send.
// No packet can be refused at postrouting, where it is dropped. Therefore the
// groups are asked at the output hook too, as far as the last that refuses; but
// those that do not refuse must not count their packets twice. A lookup that
// ends the rule when it finds the key does not count, so each of them has a
// chain, which all its packets and others enter, and the others leave.
func (c *compiler) refuseOutput(exempt []rule) {
	n := 0
	for i, j := range c.outbound {
		if j.group.Options.Reject {
			n = i + 1
		}
	}
	if n == 0 {
		return
	}
	output := chain{name: "output", hook: &hook{"output", last}}
	output.add(exempt...)
	for _, j := range c.outbound[:n] {
		r := c.context(filter.Outbound, j.group.Shape)
		if j.group.Options.Reject {
			output.add(append(r, j.in, c.treat("output_"+j.in.name, j.group, c.ask(refuse))))
			continue
		}
		pass := chain{name: "output_" + j.in.name, family: familyOf(j.group.Shape.V6)}
		others := j.in
		others.not = true
		pass.add(rule{others, back}, rule{accept})
		c.chain(pass)
		for _, k := range j.in.keys {
			if k.field == transportSrc || k.field == transportDst {
				r = append(r, shows(k.field)) // or the lookup would end the rule, and not the packet leave
			}
		}
		output.add(append(r, jumpChain(pass.name)))
	}
	c.chain(output)
}

// shows holds when the packet has a port.
func shows(port field) match {
	return match{port, []byte{0, 0}, expr.CmpOpEq, []byte{0, 0}}
}
