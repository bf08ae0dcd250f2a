package nft

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Config is what the rules must know of the engine.
type Config struct {
	Interface string // the engine's TUN device, at most 15 bytes
	InMark    uint32 // set on what comes in by Interface, so that a reverse path check by mark finds Interface
	OutMark   uint32 // SO_MARK of the engine's own sockets, not 0: its ESP and IKE are recognised by it

	Queue    uint16 // the queue of everything but TCP
	TCPQueue uint16 // the queue of TCP, whose reader takes large packets (GSO) whole

	// NativeQueue says to use nft's own queue statement, which
	// NativeQueueAvailable finds in most kernels, instead of the NFQUEUE
	// target of xtables.
	NativeQueue bool
}

// IKE's ports (RFC 7296 section 2) and the types of IPv6 neighbour discovery
// (RFC 4861 section 4), router solicitation to redirect.
const (
	ikePort    = 500
	natTPort   = 4500
	ndFirst    = 133
	ndLast     = 137
	ndHopLimit = 255
)

// nameBytes is the size of an interface's name with the zeros after it
// (IFNAMSIZ).
const nameBytes = 16

// Priorities of the chains at their hooks.
const (
	beforeDefragmentation = -450 // and so before every reverse path check
	beforeFilter          = -10
	last                  = math.MaxInt32
)

// Compile returns the rules that enforce s. It is a pure function.
//
// Inbound, Permit accepts a clear packet, and Block and Negotiate drop it;
// outbound, Negotiate hands it to the engine. What no filter matches passes.
func Compile(s *filter.SPD, cfg Config) Ruleset {
	var rs Ruleset
	rs.chains = append(rs.chains, chain{"prerouting", &hook{"prerouting", beforeDefragmentation}, []rule{
		{named(iifname, cfg.Interface), setMark(cfg.InMark)},
	}})

	in := chain{"ingress", &hook{"input", beforeFilter}, nil}
	in.add(
		rule{named(iifname, "lo"), accept},
		// The engine has opened and checked it: no other interface and no
		// local user can deliver by this one.
		rule{named(iifname, cfg.Interface), accept},
		// To ask for a connection's state turns on connection tracking, and
		// with it the reassembly of fragments before any of the chains, for
		// both families. Without it an IPv6 fragment would pass the input hook
		// with no ports to match.
		rule{match{ctState, native(expr.CtStateBitINVALID), expr.CmpOpNeq, native(0)}, counter{}},
		rule{protocol(unix.IPPROTO_UDP), port(transportDst, ikePort), accept},
		rule{protocol(unix.IPPROTO_UDP), port(transportDst, natTPort), accept},
		rule{protocol(unix.IPPROTO_ESP), accept},
	)
	in.add(linkExemptions()...)
	rs.judge(&in, s.Groups(filter.Inbound), "in", map[filter.Action]statement{
		filter.Permit: accept, filter.Block: drop, filter.Negotiate: drop,
	})

	secure := chain{"secure", nil, []rule{
		{protocol(unix.IPPROTO_TCP), queue{cfg.TCPQueue, cfg.NativeQueue}},
		{queue{cfg.Queue, cfg.NativeQueue}},
		{drop},
	}}

	out := chain{"egress", &hook{"postrouting", last}, nil}
	own := is(mark, native(cfg.OutMark)...)
	out.add(
		rule{named(oifname, "lo"), accept},
		// The engine's interface only delivers: what is routed to it is lost.
		rule{named(oifname, cfg.Interface), drop},
		rule{own, protocol(unix.IPPROTO_ESP), accept},
		rule{own, protocol(unix.IPPROTO_UDP), port(transportSrc, ikePort), accept},
		rule{own, protocol(unix.IPPROTO_UDP), port(transportSrc, natTPort), accept},
	)
	out.add(linkExemptions()...)
	// What came in by an interface and goes out under an address that is not
	// the host's is forwarded. The address alone would not do: a packet of the
	// host's own may leave under a foreign one, by source NAT.
	out.add(rule{isNot(iifname, make([]byte, nameBytes)...), isNot(saddrType, native(unix.RTN_LOCAL)...), accept})
	rs.judge(&out, s.Groups(filter.Outbound), "out", map[filter.Action]statement{
		filter.Permit: accept, filter.Block: drop, filter.Negotiate: gotoChain(secure.name),
	})

	// The order counts. A chain comes after those that its rules name; and a
	// chain is hooked in before those that already stand at its priority, so
	// egress, made after a rule of ingress has called for connection tracking,
	// comes before the confirmation of connections, whoever called for it.
	rs.chains = append(rs.chains, in, secure, out)
	return rs
}

func (c *chain) add(rules ...rule) { c.rules = append(c.rules, rules...) }

// judge adds to c one rule for each group, and the sets that they need.
func (rs *Ruleset) judge(c *chain, groups []filter.Group, prefix string, do map[filter.Action]statement) {
	for i, g := range groups {
		r := rule{family(g.Shape.V6)}
		if keys := keysOf(g.Shape); len(keys) > 0 {
			s := set{setName(fmt.Sprintf("%s%d_%s", prefix, i+1, g.Action), g.Shape.V6, keys), keys, g.Tuples}
			rs.sets = append(rs.sets, s)
			r = append(r, lookup{s.name, keys})
		}
		c.add(append(r, counter{}, do[g.Action]))
	}
}

// keysOf returns the fields that a shape fixes; none when it fixes only the
// family.
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
	return keys
}

// setName makes a name such as "in2_negotiate_v4_src16_proto_dport16".
func setName(start string, v6 bool, keys []key) string {
	var b strings.Builder
	b.WriteString(start)
	if v6 {
		b.WriteString("_v6")
	} else {
		b.WriteString("_v4")
	}
	for _, k := range keys {
		switch k.field {
		case ip4Saddr, ip6Saddr:
			fmt.Fprintf(&b, "_src%d", k.bits)
		case ip4Daddr, ip6Daddr:
			fmt.Fprintf(&b, "_dst%d", k.bits)
		case l4proto:
			b.WriteString("_proto")
		case transportSrc:
			fmt.Fprintf(&b, "_sport%d", k.bits)
		case transportDst:
			fmt.Fprintf(&b, "_dport%d", k.bits)
		}
	}
	return b.String()
}

// linkExemptions returns the rules for what hosts on a link must say to each
// other before they can agree on keys.
func linkExemptions() []rule {
	v4, v6 := family(false), family(true)
	multicast4, multicast6 := []byte{0xf0, 0, 0, 0}, append([]byte{0xff}, make([]byte, 15)...)
	return []rule{
		{v4, match{ip4Daddr, multicast4, expr.CmpOpEq, []byte{224, 0, 0, 0}}, accept},
		{v4, is(daddrType, native(unix.RTN_BROADCAST)...), accept},
		{v6, match{ip6Daddr, multicast6, expr.CmpOpEq, multicast6}, accept},
		{v6, protocol(unix.IPPROTO_ICMPV6), is(ip6HopLimit, ndHopLimit),
			match{icmp6Type, nil, expr.CmpOpGte, []byte{ndFirst}},
			match{icmp6Type, nil, expr.CmpOpLte, []byte{ndLast}}, accept},
	}
}

func family(v6 bool) match {
	if v6 {
		return is(nfproto, unix.NFPROTO_IPV6)
	}
	return is(nfproto, unix.NFPROTO_IPV4)
}

func protocol(p byte) match { return is(l4proto, p) }

func port(f field, p uint16) match { return is(f, binary.BigEndian.AppendUint16(nil, p)...) }

// named compares the whole name: the zeros after it count.
func named(f field, name string) match {
	b := make([]byte, nameBytes)
	copy(b, name)
	return is(f, b...)
}

// native is a number that the kernel holds in a register as its own.
func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
