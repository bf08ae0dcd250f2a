package space

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// maxNamed bounds the exceptions that a description names.
const maxNamed = 4

// Describe returns the set in the words of the rule file, as in "inbound from
// 10.1.0.0/16 to me protocol tcp to-port 8443", at most limit lines; a last
// one says how many were left out. It is as short as Simplify makes it.
func (s Set) Describe(limit int) []string {
	terms := s.Simplify().terms
	var out []string
	for len(terms) > 0 {
		t := terms[0]
		terms = terms[1:]
		if len(out) == limit {
			return append(out, fmt.Sprintf("and %d more", 1+len(terms)))
		}
		// Both families in one line, where they are alike.
		twin := slices.IndexFunc(terms, func(u term) bool { return t.twin(&u) })
		if twin >= 0 {
			terms = slices.Delete(slices.Clone(terms), twin, twin+1)
		}
		line := t.direction.String() + t.box.describe(nil, twin >= 0)
		for n, x := range t.except {
			if n == maxNamed {
				line += fmt.Sprintf(" and %d others", len(t.except)-n)
				break
			}
			line += []string{" except", ","}[min(n, 1)] + x.describe(&t.box, twin >= 0)
		}
		out = append(out, line)
	}
	return out
}

// twin reports whether two terms are the same packets of either family.
func (t *term) twin(u *term) bool {
	if !t.box.twin(&u.box) || len(t.except) != len(u.except) {
		return false
	}
	for i, x := range t.except {
		if !x.twin(u.except[i]) {
			return false
		}
	}
	return true
}

func (b *box) twin(c *box) bool {
	if b.v6 == c.v6 || b.src != allOf(b.v6) || b.dst != allOf(b.v6) {
		return false
	}
	d := *c
	d.v6, d.src, d.dst = b.v6, b.src, b.dst
	return d == *b && c.src == allOf(c.v6) && c.dst == allOf(c.v6)
}

// describe writes the box without its direction, each word after a space. Of
// a part of another box it writes what makes it one. With both it stands for
// the other family too.
func (b *box) describe(of *box, both bool) string {
	full := allOf(b.v6)
	// A side that is not everything tells the family of the other one, and so
	// does a type of message.
	told := both || b.src != full || b.dst != full || b.shows == showMessage
	var out string
	if of == nil || of.src != b.src {
		out += " from " + describeSide(b.src, b.v6, told, b.direction == filter.Outbound)
	}
	if of == nil || of.dst != b.dst {
		out += " to " + describeSide(b.dst, b.v6, told, b.direction == filter.Inbound)
	}
	out += b.describeProtocol(of)
	if (b.names != allNames || b.links != linkAll) && (of == nil || of.names != b.names || of.links != b.links) {
		out += " connection " + b.describeConnection()
	}
	if b.stages != stageAll && (of == nil || of.stages != b.stages) {
		out += " state " + words(uint8(b.stages), "new", "reply", "invalid")
	}
	return out
}

func describeSide(a addresses, v6, told, local bool) string {
	if a == allOf(v6) {
		switch {
		case local:
			return "me"
		case told:
			return "any"
		case v6:
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0).String()
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0).String()
	}
	return filter.Range(a.lo.addr(v6), a.hi.addr(v6)).String()
}

func (b *box) describeProtocol(of *box) string {
	var out string
	rest := allProtocols.minus(b.protocols)
	if b.direction == filter.Inbound {
		rest = rest.minus(one(filter.ESP)) // there is none
	}
	switch {
	case rest.empty() || of != nil && of.protocols == b.protocols:
	case rest.len() < b.protocols.len():
		out = " protocol other than " + rest.String()
	default:
		out = " protocol " + b.protocols.String()
	}
	switch {
	case of != nil && of.shows == b.shows && of.srcPorts == b.srcPorts && of.dstPorts == b.dstPorts:
		return out
	case b.shows == showMessage && b.srcPorts != allPorts:
		return out + b.describeMessages()
	case b.shows == showPorts && (b.srcPorts != allPorts || b.dstPorts != allPorts):
		if b.srcPorts != allPorts && (of == nil || of.srcPorts != b.srcPorts) {
			out += " from-port " + span(b.srcPorts.lo, b.srcPorts.hi)
		}
		if b.dstPorts != allPorts && (of == nil || of.dstPorts != b.dstPorts) {
			out += " to-port " + span(b.dstPorts.lo, b.dstPorts.hi)
		}
		return out
	}
	possible := showNothing
	if !b.protocols.and(portProtocols).empty() {
		possible |= showPorts
	}
	if !b.protocols.and(messages(b.v6)).empty() {
		possible |= showMessage
	}
	missing := possible &^ b.shows
	switch {
	case missing == 0:
	case missing&showNothing != 0:
		out += " with " + strings.ReplaceAll(words(uint8(b.shows), "ports", "a message type"), ",", " or ")
	default:
		out += " without " + strings.ReplaceAll(words(uint8(missing), "ports", "a message type"), ",", " or ")
	}
	return out
}

// describeMessages writes a part of the ICMP messages, which stand in place
// of source ports.
func (b *box) describeMessages() string {
	protocol := b.protocols.list()[0]
	lo, hi := uint8(b.srcPorts.lo>>8), uint8(b.srcPorts.hi>>8)
	loCode, hiCode := uint8(b.srcPorts.lo), uint8(b.srcPorts.hi)
	switch {
	case lo == hi && loCode == 0 && hiCode == 255:
		return " icmp-type " + filter.ICMPTypeName(protocol, lo)
	case lo == hi:
		return " icmp-type " + filter.ICMPTypeName(protocol, lo) + " icmp-code " + span(loCode, hiCode)
	case loCode == 0 && hiCode == 255:
		return " icmp-type " + span(lo, hi)
	}
	return fmt.Sprintf(" icmp-type %d code %d to type %d code %d", lo, loCode, hi, hiCode)
}

func (b *box) describeConnection() string {
	kind := words(uint8(b.links), "lan", "remote")
	if b.names == allNames {
		return kind
	}
	out := strings.ReplaceAll(b.names.list, "/", ",")
	if b.names.others {
		out = "other than " + out
	}
	if b.links != linkAll {
		out += " (" + kind + ")"
	}
	return out
}

// String writes the protocols as their keywords and numbers, and runs of them
// as ranges.
func (p protocols) String() string {
	var out []string
	list := p.list()
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n] == list[0]+uint8(n) {
			n++
		}
		if n < 3 {
			n = 1
			out = append(out, filter.ProtocolName(list[0]))
		} else {
			out = append(out, span(list[0], list[n-1]))
		}
		list = list[n:]
	}
	return strings.Join(out, ",")
}

func span[N uint8 | uint16](lo, hi N) string {
	if lo == hi {
		return strconv.Itoa(int(lo))
	}
	return fmt.Sprintf("%d-%d", lo, hi)
}

// words joins the words of the bits that are set.
func words(bits uint8, of ...string) string {
	var out []string
	for i, w := range of {
		if bits>>i&1 != 0 {
			out = append(out, w)
		}
	}
	return strings.Join(out, ",")
}
