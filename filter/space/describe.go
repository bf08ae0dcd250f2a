package space

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// maxNamed bounds the exceptions that a description names.
const maxNamed = 4

// Describe returns the set in the words of the rule file, as in "inbound from
// 10.1.0.0/16 to me protocol tcp to-port 8443", at most limit lines; a last
// one says how many were left out. It is as short as Simplify makes it, and
// says nothing of what is not in the universe: any is every address there.
func (s Set) Describe(limit int) []string {
	lines := s.lines()
	var out []string
	for i := range lines {
		if i == limit {
			return append(out, fmt.Sprintf("and %d more", len(lines)-limit))
		}
		out = append(out, lines[i].String())
	}
	return out
}

// lines returns the set as it is to be described.
func (s Set) lines() []line {
	terms := s.judged().Simplify().terms
	for i := range terms {
		t := &terms[i]
		t.exclude()
		if t.direction == filter.Outbound && !s.unicast {
			continue
		}
		t.narrow()
		for j, x := range t.except {
			c := *x
			c.narrow()
			t.except[j] = &c
		}
	}
	return pair(terms)
}

// narrow takes multicast addresses off the end of the destinations, which
// unicastOnly put there, unless all is one subnet.
func (b *box) narrow() {
	if !isRange(b.dst, b.v6) {
		return
	}
	switch {
	case b.v6 && b.dst.hi == all6.hi:
		b.dst.hi = multicast6.previous()
	case !b.v6 && b.dst.hi.lo == multicast4End-1:
		b.dst.hi.lo = multicast4 - 1
	}
}

// judged returns the set without regard to whether it has multicast and
// broadcast that no filter judges.
func (s Set) judged() (out Set) {
	for _, t := range s.terms {
		if t.direction == filter.Outbound && !s.unicast {
			out.terms = append(out.terms, t)
			continue
		}
		if !t.unicastOnly() {
			continue
		}
		except := t.except
		t.except = make([]*box, 0, len(except))
		for _, x := range except {
			if c := *x; c.unicastOnly() {
				t.except = append(t.except, &c)
			}
		}
		out.terms = append(out.terms, t)
	}
	return out
}

// line is a term, and the same packets of the other family.
type line struct {
	term         // what is left out of only this family is an exception
	twin  *term  // of IPv6, nil for none
	pairs []line // what is left out of both
}

// pair puts terms of both families in one line, where they are alike.
func pair(terms []term) []line {
	var out []line
	places := map[box][]int{}
	for i := range terms {
		t := &terms[i]
		if k, ok := t.bothFamilies(); ok {
			list := places[k]
			at := slices.IndexFunc(list, func(n int) bool { return out[n].take(t) })
			if at >= 0 {
				continue
			}
			places[k] = append(list, len(out))
		}
		out = append(out, line{term: *t})
	}
	return out
}

// bothFamilies returns a box that is the same for the same packets of the
// other family; ok is false when there are none, since the addresses or the
// messages tell the family.
func (b *box) bothFamilies() (k box, ok bool) {
	if b.src != allOf(b.v6) || b.dst != allOf(b.v6) || b.shows == showMessage && b.srcPorts != allPorts {
		return k, false
	}
	k = *b
	k.v6, k.src, k.dst = false, addresses{}, addresses{}
	k.protocols = b.protocols.minus(messages(false)).minus(messages(true))
	k.shows = b.missing(false)
	return k, true
}

// take takes in a term of IPv6 if it is the same packets, as far as exceptions
// do not tell their family.
func (l *line) take(t *term) bool {
	if l.v6 == t.v6 || l.twin != nil {
		return false
	}
	var own []*box
	var pairs []line
	rest := slices.Clone(t.except)
	for _, x := range l.except {
		k, both := x.bothFamilies()
		if both {
			n := slices.IndexFunc(rest, func(y *box) bool { c, ok := y.bothFamilies(); return ok && c == k })
			if n >= 0 {
				pairs = append(pairs, line{term: term{box: *x}, twin: &term{box: *rest[n]}})
				rest = slices.Delete(rest, n, n+1)
				continue
			}
		}
		if !x.tellsFamily() {
			return false
		}
		own = append(own, x)
	}
	for _, y := range rest {
		if !y.tellsFamily() {
			return false
		}
	}
	l.except, l.pairs, l.twin = own, pairs, &term{t.box, rest}
	return true
}

// tellsFamily reports whether a description of the box says of which family
// its packets are.
func (b *box) tellsFamily() bool {
	full := allOf(b.v6)
	return b.src != full || b.dst != full || b.protocols == messages(b.v6)
}

// exclude writes a side that is all but one subnet at an end of all addresses
// as an exception.
func (t *term) exclude() {
	for _, of := range []func(b *box) *addresses{
		func(b *box) *addresses { return &b.src },
		func(b *box) *addresses { return &b.dst },
	} {
		full, side := allOf(t.v6), of(&t.box)
		missing := full
		switch {
		case side.lo == full.lo && side.hi != full.hi:
			missing.lo = side.hi.next()
		case side.hi == full.hi && side.lo != full.lo:
			missing.hi = side.lo.previous()
		default:
			continue
		}
		if isRange(*side, t.v6) && !isRange(missing, t.v6) {
			*side = full
			x := t.box
			*of(&x) = missing
			t.except = append(t.except, &x)
		}
	}
}

// isRange reports whether addresses are written by their first and last, and
// not as a subnet.
func isRange(a addresses, v6 bool) bool { return strings.Contains(describeAddresses(a, v6), "-") }

func describeAddresses(a addresses, v6 bool) string {
	return filter.Range(a.lo.addr(v6), a.hi.addr(v6)).String()
}

func (t *term) String() string { return (&line{term: *t}).String() }

func (l *line) String() string {
	var except []string
	of := l.both()
	for i := range l.pairs {
		x := l.pairs[i].both()
		except = append(except, x.describe(&of, true))
	}
	for _, t := range []*term{&l.term, l.twin} {
		if t == nil {
			continue
		}
		for _, x := range t.except[:min(len(t.except), maxNamed+1)] {
			except = append(except, x.describe(&t.box, false))
		}
	}
	out := l.direction.String() + of.describe(nil, l.twin != nil)
	if len(except) == 0 {
		return out
	}
	named := min(len(except), maxNamed)
	out += " except" + strings.Join(except[:named], ",")
	others := len(l.pairs) + len(l.except) - named
	if l.twin != nil {
		others += len(l.twin.except)
	}
	if others > 0 {
		out += fmt.Sprintf(" and %d more", others)
	}
	return out
}

// both returns the box of the line, which stands for that of the twin too:
// each family has an ICMP of its own.
func (l *line) both() box {
	b := l.box
	if l.twin != nil {
		b.protocols, b.shows = b.protocols.or(l.twin.protocols), b.shows|l.twin.shows
	}
	return b
}

// describe writes the box without its direction, each word after a space. Of
// a part of another box it writes what makes it one. With both it stands for
// the other family too.
func (b *box) describe(of *box, both bool) string {
	told := both || b.tellsFamily()
	var out string
	if of == nil || of.src != b.src {
		out += " from " + describeSide(b.src, b.v6, told, b.direction == filter.Outbound)
	}
	if of == nil || of.dst != b.dst {
		out += " to " + describeSide(b.dst, b.v6, told, b.direction == filter.Inbound)
	}
	out += b.describeProtocol(of, both)
	if (b.names != allNames || b.links != linkAll) && (of == nil || of.names != b.names || of.links != b.links) {
		out += " connection " + b.describeConnection()
	}
	if b.stages != stageAll && (of == nil || of.stages != b.stages) {
		out += " state " + words(uint8(b.stages), "new", "reply", "invalid")
	}
	return out
}

func describeSide(a addresses, v6, told, local bool) string {
	switch {
	case a != allOf(v6):
		return describeAddresses(a, v6)
	case local:
		return "me"
	case told:
		return "any"
	}
	return describeAddresses(a, v6)
}

func (b *box) describeProtocol(of *box, both bool) string {
	var out string
	rest := possible[planeOf(b.direction, b.v6)]
	if both {
		rest = rest.or(possible[planeOf(b.direction, !b.v6)])
	}
	rest = rest.minus(b.protocols)
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
	switch missing := b.missing(both); {
	case missing == 0:
	case missing&showNothing != 0:
		out += " with " + strings.ReplaceAll(words(uint8(b.shows), "ports", "a message type"), ",", " or ")
	default:
		out += " without " + strings.ReplaceAll(words(uint8(missing), "ports", "a message type"), ",", " or ")
	}
	return out
}

// missing returns what packets of the box's protocols, with both of either
// family, could show and do not.
func (b *box) missing(both bool) shows {
	could := showNothing
	if !b.protocols.and(portProtocols).empty() {
		could |= showPorts
	}
	icmp := messages(b.v6)
	if both {
		icmp = icmp.or(messages(!b.v6))
	}
	if !b.protocols.and(icmp).empty() {
		could |= showMessage
	}
	return could &^ b.shows
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
