package rules

import (
	"fmt"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

func describeICMPType(*definitions) *schema {
	words := enum(filter.ICMPTypeKeywords(packet.ICMP)...)
	known := map[any]bool{}
	for _, w := range words.Enum {
		known[w] = true
	}
	for _, w := range filter.ICMPTypeKeywords(packet.ICMPv6) {
		if !known[w] {
			words.Enum = append(words.Enum, w)
		}
	}
	return either(words, numbers(0, 255))
}

// checkICMP reads the type and code of ICMP messages, whose keywords depend
// on the protocol.
func (r *reader) checkICMP(n *node, f *Filter) {
	kind, code := n.get("icmp-type"), n.get("icmp-code")
	if kind == nil && code == nil {
		return
	}
	at, name := kind, "icmp-type"
	if kind == nil {
		at, name = code, "icmp-code"
	}
	switch {
	case n.get("protocol") == nil:
		r.report(at.at, fmt.Sprintf("%q needs the protocol icmp or icmpv6", name), "add protocol: icmp or protocol: icmpv6")
		return
	case !f.HasProtocol: // wrong already
		return
	case f.Protocol != packet.ICMP && f.Protocol != packet.ICMPv6:
		r.report(at.at, fmt.Sprintf("protocol %s has no %q", filter.ProtocolName(f.Protocol), name), fmt.Sprintf("remove %q, or write protocol: icmp or icmpv6", name))
		return
	case kind == nil:
		r.report(code.at, `"icmp-code" needs an "icmp-type"`, "add icmp-type: destination-unreachable, or another type that has codes")
		return
	}
	f.ICMP.Type, f.ICMP.HasType = r.readICMPType(kind, f.Protocol)
	if code != nil {
		v, ok := r.readNumber(code, "icmp-code", 0, 255)
		f.ICMP.Code, f.ICMP.HasCode = uint8(v), ok
	}
}

// readICMPType returns a type by keyword or number.
func (r *reader) readICMPType(n *node, protocol uint8) (uint8, bool) {
	text, ok := r.readScalar(n, "icmp-type", "icmp-type: echo-request, or a number from 0 to 255")
	if !ok {
		return 0, false
	}
	if kind, ok := filter.ICMPTypeNumber(protocol, text); ok {
		return kind, true
	}
	v, err := number(text)
	if err != nil || v < 0 || v > 255 {
		words := filter.ICMPTypeKeywords(protocol)
		r.report(n.at, fmt.Sprintf("unknown %s type %q", filter.ProtocolName(protocol), text), didYouMean(text, words, "write a number from 0 to 255, or "+oneOf(words)))
		return 0, false
	}
	return uint8(v), true
}
