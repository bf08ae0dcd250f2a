package filter

import (
	"maps"
	"slices"
	"strconv"
)

// protocols are the upper-layer protocols that have a keyword (IANA,
// "Assigned Internet Protocol Numbers").
var protocols = map[string]uint8{
	"icmp":    1,
	"igmp":    2,
	"ipip":    4,
	"tcp":     6,
	"udp":     17,
	"dccp":    33,
	"ipv6":    41,
	"rsvp":    46,
	"gre":     47,
	"esp":     50,
	"ah":      51,
	"icmpv6":  58,
	"ospf":    89,
	"pim":     103,
	"vrrp":    112,
	"l2tp":    115,
	"sctp":    132,
	"udplite": 136,
}

var protocolNames = func() (names [256]string) {
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	for name, n := range protocols {
		names[n] = name
	}
	return names
}()

// ProtocolName returns the keyword of an IP protocol, or its number.
func ProtocolName(protocol uint8) string { return protocolNames[protocol] }

// ProtocolNumber returns the IP protocol that a keyword stands for.
func ProtocolNumber(name string) (protocol uint8, ok bool) {
	protocol, ok = protocols[name]
	return protocol, ok
}

// ProtocolKeywords returns the keywords of all protocols, sorted.
func ProtocolKeywords() []string { return sortedKeys(protocols) }

func sortedKeys(m map[string]uint8) []string { return slices.Sorted(maps.Keys(m)) }
