package nft

import (
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// exempt returns the rules that accept, of the packets of a direction, what
// filter.Exemptions.Exempt says that no filter judges. At boot there is no
// engine, and its IKE and ESP are not exempt.
func (c *compiler) exempt(x filter.Exemptions, d filter.Direction) []rule {
	v4, v6 := family(false), family(true)
	var rules []rule
	switch d {
	case filter.Inbound:
		if !c.boot {
			rules = append(rules, c.pathErrors()...) // the stack makes some itself
		}
		rules = append(rules, rule{named(iifname, loopback), accept})
	case filter.Outbound:
		rules = append(rules, rule{named(oifname, loopback), accept})
	}
	if !c.boot {
		rules = append(rules, c.engine(d)...)
	}
	if x.Multicast || d != filter.Outbound {
		multicast4, multicast6 := []byte{0xf0, 0, 0, 0}, append([]byte{0xff}, make([]byte, 15)...)
		rules = append(rules,
			rule{v4, match{ip4Daddr, multicast4, expr.CmpOpEq, []byte{224, 0, 0, 0}}, accept},
			rule{v4, c.broadcast(), accept},
			rule{v6, match{ip6Daddr, multicast6, expr.CmpOpEq, multicast6}, accept})
	}
	if d == filter.Forward {
		return rules
	}
	icmp6 := protocol(unix.IPPROTO_ICMPV6)
	rules = append(rules,
		rule{v6, icmp6, is(ip6HopLimit, filter.NDHopLimit),
			match{icmp6Type, nil, expr.CmpOpGte, []byte{filter.NDFirst}},
			match{icmp6Type, nil, expr.CmpOpLte, []byte{filter.NDLast}}, accept},
		rule{v6, icmp6, is(ip6HopLimit, filter.MLDHopLimit),
			match{icmp6Type, nil, expr.CmpOpGte, []byte{filter.MLDFirst}},
			match{icmp6Type, nil, expr.CmpOpLte, []byte{filter.MLDLast}}, accept},
		rule{v6, icmp6, is(ip6HopLimit, filter.MLDHopLimit), is(icmp6Type, filter.MLDv2Report), accept})
	if x.RSVP {
		rules = append(rules, rule{protocol(filter.RSVP), accept})
	}
	if x.Kerberos {
		for _, p := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			answer := append(rule{protocol(p), port(transportSrc, filter.KerberosPort)}, stage(filter.Answers)...)
			rules = append(rules, rule{protocol(p), port(transportDst, filter.KerberosPort), accept}, append(answer, accept))
		}
	}
	return rules
}

// loopback is the interface that leads to the host itself.
const loopback = "lo"

// engine returns the rules that accept IKE, ESP and AH: what comes for the engine,
// some of it by a queue, and what goes out from its own sockets.
func (c *compiler) engine(d filter.Direction) []rule {
	esp, ah, udp := protocol(filter.ESP), protocol(filter.AH), protocol(unix.IPPROTO_UDP)
	switch d {
	case filter.Forward:
		return nil
	case filter.Inbound:
		rules := []rule{
			{udp, port(transportDst, filter.IKEPort), accept},
			{udp, port(transportDst, filter.NATPort), accept},
			{esp, accept},
			{ah, c.arrivals()},
		}
		return append(rules, ikeErrors()...)
	}
	own := is(mark, native(c.cfg.OutMark)...)
	return []rule{
		{own, esp, accept},
		{own, ah, accept},
		{own, udp, port(transportSrc, filter.IKEPort), accept},
		{own, udp, port(transportSrc, filter.NATPort), accept},
	}
}

func (c *compiler) arrivals() statement { return queue{c.cfg.Arrivals, c.cfg.Features.NativeQueue} }

// plain is the first byte of an IPv4 header without options, as the engine sends.
const plain = 0x45

// pathErrors returns the rules that hand to the engine, and to nobody else, the
// ICMP errors that tell of an MTU for ESP and AH of this host, inside UDP or not,
// and for fragments of it. The engine knows which are about its own.
func (c *compiler) pathErrors() []rule {
	icmp4 := rule{family(false), protocol(unix.IPPROTO_ICMP), is(icmpType, filter.Unreachable4), is(icmpCode, filter.FragmentationNeeded), is(quoted4Head, plain)}
	icmp6 := rule{family(true), protocol(unix.IPPROTO_ICMPV6), is(icmp6Type, filter.PacketTooBig6)}
	fragment6 := is(quoted6Next, unix.IPPROTO_FRAGMENT)
	with := func(r rule, more ...statement) rule { return append(append(slices.Clone(r), more...), c.arrivals()) }
	var rules []rule
	for _, p := range []byte{filter.ESP, filter.AH} {
		rules = append(rules,
			with(icmp4, is(quoted4Proto, p)),
			with(icmp6, is(quoted6Next, p)),
			with(icmp6, fragment6, is(fragment6Next, p)))
	}
	return append(rules,
		with(icmp4, is(quoted4Proto, unix.IPPROTO_UDP), port(quoted4Src, filter.NATPort)),
		with(icmp6, is(quoted6Next, unix.IPPROTO_UDP), port(quoted6Src, filter.NATPort)),
		with(icmp6, fragment6, is(fragment6Next, unix.IPPROTO_UDP), port(fragment6Src, filter.NATPort)))
}

// ikeErrors returns the rules that accept ICMP errors about IKE of this host.
// Connection tracking has found the flow of what they quote.
func ikeErrors() []rule {
	related := match{ctState, native(expr.CtStateBitRELATED), expr.CmpOpNeq, native(0)}
	var rules []rule
	for _, p := range []uint16{filter.IKEPort, filter.NATPort} {
		rules = append(rules,
			rule{family(false), protocol(unix.IPPROTO_ICMP), related, is(icmpType, filter.Unreachable4), isNot(icmpCode, filter.FragmentationNeeded),
				is(quoted4Head, plain), is(quoted4Proto, unix.IPPROTO_UDP), port(quoted4Src, p), accept},
			rule{family(true), protocol(unix.IPPROTO_ICMPV6), related, is(icmp6Type, filter.Unreachable6),
				is(quoted6Next, unix.IPPROTO_UDP), port(quoted6Src, p), accept})
	}
	return rules
}

// broadcast matches the broadcast addresses of IPv4: by IP destination, never
// by how the link delivered the frame.
func (c *compiler) broadcast() statement {
	if c.cfg.Features.FIB {
		return is(daddrType, native(unix.RTN_BROADCAST)...)
	}
	c.asked[broadcasts] = true
	return lookup{name: broadcasts, keys: []key{{ip4Daddr, 32}}}
}
