package space

import (
	"math/bits"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// protocols is a set of upper-layer protocols.
type protocols [4]uint64

var (
	allProtocols  = protocols{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
	portProtocols = func() (p protocols) {
		for n := range 256 {
			if packet.HasPorts(uint8(n)) {
				p = p.or(one(uint8(n)))
			}
		}
		return p
	}()
)

// one returns the set of a single protocol.
func one(protocol uint8) (p protocols) {
	p[protocol>>6] = 1 << (protocol & 63)
	return p
}

// messages returns the protocol whose packets of a family show an ICMP type.
func messages(v6 bool) protocols {
	if v6 {
		return one(packet.ICMPv6)
	}
	return one(packet.ICMP)
}

func (p protocols) and(q protocols) protocols {
	return protocols{p[0] & q[0], p[1] & q[1], p[2] & q[2], p[3] & q[3]}
}

func (p protocols) or(q protocols) protocols {
	return protocols{p[0] | q[0], p[1] | q[1], p[2] | q[2], p[3] | q[3]}
}

func (p protocols) minus(q protocols) protocols {
	return protocols{p[0] &^ q[0], p[1] &^ q[1], p[2] &^ q[2], p[3] &^ q[3]}
}

func (p protocols) empty() bool { return p[0]|p[1]|p[2]|p[3] == 0 }

func (p protocols) has(protocol uint8) bool { return p[protocol>>6]>>(protocol&63)&1 != 0 }

func (p protocols) len() int {
	return bits.OnesCount64(p[0]) + bits.OnesCount64(p[1]) + bits.OnesCount64(p[2]) + bits.OnesCount64(p[3])
}

// list returns the protocols in ascending order.
func (p protocols) list() (out []uint8) {
	for n := range 256 {
		if p.has(uint8(n)) {
			out = append(out, uint8(n))
		}
	}
	return out
}

// shows is a set of what packets show beside their protocol.
type shows uint8

const (
	showPorts   shows = 1 << iota // source and destination port
	showMessage                   // ICMP type and code
	showNothing                   // a protocol that has neither, or a fragment
	showAll     = showPorts | showMessage | showNothing
)

// links is a set of kinds of interfaces.
type links uint8

const (
	linkLAN links = 1 << iota
	linkRemote
	linkAll = linkLAN | linkRemote
)

// stages is a set of places in a connection.
type stages uint8

const (
	stageBeginning stages = 1 << iota // filter.Beginnings
	stageAnswer                       // filter.Answers
	stageNeither
	stageAll = stageBeginning | stageAnswer | stageNeither
)

func stageOf(s filter.State) stages {
	switch {
	case filter.Beginnings.Contains(s):
		return stageBeginning
	case filter.Answers.Contains(s):
		return stageAnswer
	}
	return stageNeither
}

// names is a set of interfaces by name: those of the list, or with others all
// but those. It is comparable, since equal sets are written alike: the list is
// sorted and parted by slashes, which no interface has in its name.
type names struct {
	list   string
	others bool
}

var allNames = names{others: true}

func oneName(name string) names { return names{list: name} }

func (n names) empty() bool { return n == names{} }

func (n names) split() []string {
	if n.list == "" {
		return nil
	}
	return strings.Split(n.list, "/")
}

func (n names) not() names { return names{n.list, !n.others} }

func (n names) and(m names) names {
	switch {
	case n == m || m == allNames:
		return n
	case n == allNames:
		return m
	}
	a, b := n.split(), m.split()
	switch {
	case n.others && m.others:
		a = append(a, b...)
		slices.Sort(a)
		return names{strings.Join(slices.Compact(a), "/"), true}
	case n.others:
		a, b = b, a
	}
	// Of a list, keep what the other set has.
	keep := !n.others && !m.others
	a = slices.DeleteFunc(a, func(s string) bool { return slices.Contains(b, s) != keep })
	return names{strings.Join(a, "/"), false}
}

func (n names) or(m names) names { return n.not().and(m.not()).not() }

func (n names) minus(m names) names { return n.and(m.not()) }

func (n names) meets(m names) bool { return n == allNames || m == allNames || !n.and(m).empty() }

func (n names) contains(m names) bool { return n == allNames || n == m || m.minus(n).empty() }
