package filter

import (
	"strconv"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// ICMP is the ICMP messages that a filter matches: those of a type, or of a
// type and code. The zero value is any message.
type ICMP struct {
	Type, Code       uint8
	HasType, HasCode bool // a code without a type is invalid
}

// Contains reports whether messages of a type and code are among them.
func (m ICMP) Contains(kind, code uint8) bool {
	return !m.HasType || m.Type == kind && (!m.HasCode || m.Code == code)
}

// fixedBits is the message's share of the weight: that of a port.
func (m ICMP) fixedBits() uint32 {
	switch {
	case m.HasCode:
		return 16
	case m.HasType:
		return 8
	}
	return 0
}

// prefixes returns the messages as prefixes of type and code together, which
// stand where other protocols have the source port.
func (m ICMP) prefixes() []portPrefix {
	value := uint16(m.Type)<<8 | uint16(m.Code)
	return []portPrefix{{value, uint8(m.fixedBits())}}
}

// answers pairs the types of requests with those of their answers (RFC 792,
// 950 and 1256; RFC 4443 and 4861), for ICMP and ICMPv6.
var answers = map[uint8]map[uint8]uint8{
	packet.ICMP:   {8: 0, 13: 14, 15: 16, 17: 18, 10: 9},
	packet.ICMPv6: {128: 129, 133: 134, 135: 136},
}

// mirrored returns what answers the messages, or is answered by them. Other
// messages have no answers, and are their own mirror.
func (m ICMP) mirrored(protocol uint8) ICMP {
	if !m.HasType {
		return m
	}
	for request, answer := range answers[protocol] {
		switch m.Type {
		case request:
			m.Type = answer
			return m
		case answer:
			m.Type = request
			return m
		}
	}
	return m
}

// icmpTypes are the message types that have a keyword (IANA, "ICMP Parameters"
// and "ICMPv6 Parameters").
var icmpTypes = map[uint8]map[string]uint8{
	packet.ICMP: {
		"echo-reply": 0, "destination-unreachable": 3, "redirect": 5, "echo-request": 8,
		"router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11,
		"parameter-problem": 12, "timestamp-request": 13, "timestamp-reply": 14,
	},
	packet.ICMPv6: {
		"destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
		"echo-request": 128, "echo-reply": 129, "router-solicitation": 133, "router-advertisement": 134,
		"neighbor-solicitation": 135, "neighbor-advertisement": 136, "redirect": 137,
	},
}

// ICMPTypeNumber returns the type that a keyword stands for in a protocol,
// packet.ICMP or packet.ICMPv6.
func ICMPTypeNumber(protocol uint8, name string) (kind uint8, ok bool) {
	kind, ok = icmpTypes[protocol][name]
	return kind, ok
}

// ICMPTypeName returns the keyword of a type in a protocol, or its number.
func ICMPTypeName(protocol, kind uint8) string {
	for name, k := range icmpTypes[protocol] {
		if k == kind {
			return name
		}
	}
	return strconv.Itoa(int(kind))
}

// ICMPTypeKeywords returns the keywords of a protocol's types, sorted.
func ICMPTypeKeywords(protocol uint8) []string { return sortedKeys(icmpTypes[protocol]) }

// AnswerType returns the type of the messages that answer those of a type, or
// that they answer; a type that belongs to no such pair is its own.
func AnswerType(protocol, kind uint8) uint8 {
	return ICMP{Type: kind, HasType: true}.mirrored(protocol).Type
}
