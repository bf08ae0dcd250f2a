package nft

import (
	"encoding/binary"
	"math"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Config is what the rules must know of the engine and of the host.
type Config struct {
	Interface string // the engine's TUN device, at most 15 bytes
	InMark    uint32 // set on what comes in by Interface, so that a reverse path check by mark finds Interface
	OutMark   uint32 // SO_MARK of the engine's own sockets, not 0: its ESP and IKE are recognised by it

	Queue    uint16 // the queue of everything but TCP
	TCPQueue uint16 // the queue of TCP, whose reader takes large packets (GSO) whole
	Arrivals uint16 // the queue of what comes for the engine with its IP header: AH, and ICMP errors that tell of an MTU
	LogGroup uint16 // the NFLOG group of filters that log

	// Count says to count the packets of each filter, for Counters. It takes
	// the kernel 16 bytes for each element and CPU, and twice the time to make
	// the elements.
	Count bool

	Features Features // what the kernel has, as Probe finds it

	// Broadcasts are the broadcast addresses of the host's networks. They are
	// needed where the kernel does not know them itself: without Features.FIB.
	// 255.255.255.255 is always one.
	Broadcasts []netip.Addr

	// DefaultResponse says to secure what no filter decides on between the
	// host and the peers of AddResponse.
	DefaultResponse bool

	// Soft and Response are what the sets of AddSoft and AddResponse have when
	// Apply makes them, to carry it over from the ruleset before.
	Soft     []SoftPeer
	Response []netip.Addr
}

// Priorities of the chains at their hooks.
const (
	beforeDefragmentation = -450 // and so before every reverse path check
	beforeFilter          = -10
	last                  = math.MaxInt32
)

// Names of the chains that other chains lead to.
const (
	secure       = gotoChain("secure")
	refuse       = gotoChain("refuse")
	tunnelled    = gotoChain("tunnelled")
	softInbound  = gotoChain("soft_in")
	softOutbound = gotoChain("soft_out")
)

// Directions of a packet in its connection (enum ip_conntrack_dir).
const (
	original = 0
	reply    = 1
)

// nameBytes is the size of an interface's name with the zeros after it
// (IFNAMSIZ).
const nameBytes = 16

// compiler builds a ruleset as one table of family inet.
type compiler struct {
	cfg      Config
	table    table
	names    map[string]int  // how many sets have asked for a name
	asked    map[string]bool // the common chains and sets that rules name
	outbound []judged        // the groups that egress asks
	boot     bool            // there is no engine
}

// Compile returns the rules that enforce s. It is a pure function.
//
// Inbound, Permit accepts a clear packet, and Block and Negotiate drop it;
// outbound, Negotiate hands it to the engine. What no filter matches passes.
func Compile(s *filter.SPD, cfg Config) Ruleset {
	c := newCompiler(cfg, false)
	exemptions := s.Settings().Exemptions
	in, forwarded := s.Groups(filter.Inbound), s.Groups(filter.Forward)

	prerouting := chain{name: "prerouting", hook: &hook{"prerouting", beforeDefragmentation}}
	prerouting.add(rule{named(iifname, cfg.Interface), setMark(cfg.InMark)})
	c.chain(prerouting)

	ingress := chain{name: "ingress", hook: &hook{"input", beforeFilter}}
	// The engine has opened and checked it: no other interface and no local
	// user can deliver by this one.
	ingress.add(rule{named(iifname, cfg.Interface), accept}, track())
	ingress.add(c.exempt(exemptions, filter.Inbound)...)
	c.judge(&ingress, filter.Inbound, "in", in)
	if cfg.DefaultResponse {
		ingress.add(peers(responseSets, ip4Saddr, ip6Saddr, drop)...)
	}
	c.chain(ingress)

	if len(forwarded) > 0 {
		forward := chain{name: "forward", hook: &hook{"forward", last}}
		forward.add(c.exempt(exemptions, filter.Forward)...)
		c.judge(&forward, filter.Forward, "forward", forwarded)
		// The engine knew a filter that wants it out of a tunnel.
		forward.add(rule{named(iifname, cfg.Interface), drop})
		c.chain(forward)
	}

	exempt := c.exempt(exemptions, filter.Outbound)
	if refuses(in) || refuses(forwarded) {
		exempt = append(exempt, ownRefusals()...)
	}
	egress := chain{name: "egress", hook: &hook{"postrouting", last}}
	// The engine's interface only delivers: what is routed to it is lost.
	egress.add(rule{named(oifname, cfg.Interface), drop})
	egress.add(exempt...)
	egress.add(c.passedOn())
	c.judge(&egress, filter.Outbound, "out", s.Groups(filter.Outbound))
	if cfg.DefaultResponse {
		egress.add(peers(responseSets, ip4Daddr, ip6Daddr, secure)...)
	}
	c.refuseOutput(exempt)

	c.chain(chain{name: string(secure), rules: []rule{
		{protocol(unix.IPPROTO_TCP), queue{cfg.TCPQueue, cfg.Features.NativeQueue}},
		{queue{cfg.Queue, cfg.Features.NativeQueue}},
		{drop},
	}})
	return c.finish(egress)
}

func newCompiler(cfg Config, boot bool) *compiler {
	return &compiler{
		cfg: cfg, boot: boot, table: table{family: unix.NFPROTO_INET},
		names: map[string]int{}, asked: map[string]bool{},
	}
}

func (c *compiler) chain(ch chain) { c.table.chains = append(c.table.chains, ch) }

// ask returns the name of a chain or set, and sees to it that it is there.
func (c *compiler) ask(name gotoChain) gotoChain {
	c.asked[string(name)] = true
	return name
}

// finish adds the chain egress, the last, and what the rules have asked for.
//
// The order counts: a chain is hooked in before those that already stand at
// its priority. So egress, made after a rule of ingress has called for
// connection tracking, comes before the confirmation of connections, whoever
// called for it.
func (c *compiler) finish(egress chain) Ruleset {
	for _, name := range []gotoChain{refuse, tunnelled, softInbound, softOutbound} {
		if c.asked[string(name)] {
			c.chain(c.common(name))
		}
	}
	c.chain(egress)
	c.commonSets()
	if c.cfg.Features.Inet {
		return Ruleset{[]table{c.table}}
	}
	return Ruleset{c.table.split()}
}

// common returns a chain in which packets of several groups end.
func (c *compiler) common(name gotoChain) chain {
	ch := chain{name: string(name)}
	switch name {
	case refuse:
		if !c.boot {
			// The refusal would go out in clear, and quote what came protected.
			ch.add(rule{named(iifname, c.cfg.Interface), drop})
		}
		ch.add(refusals()...)
	case tunnelled:
		ch.add(rule{named(iifname, c.cfg.Interface), accept}, rule{drop})
	case softInbound:
		ch.add(peers(softSets, ip4Saddr, ip6Saddr, accept)...)
		ch.add(rule{drop})
	case softOutbound:
		ch.add(peers(softSets, ip4Daddr, ip6Daddr, accept)...)
		ch.add(rule{secure})
	}
	return ch
}

// track turns on connection tracking, and with it the reassembly of fragments
// before any of the chains, for both families. Without it an IPv6 fragment
// would pass the input hook with no ports to match.
func track() rule {
	return rule{match{ctState, native(expr.CtStateBitINVALID), expr.CmpOpNeq, native(0)}, counter{}}
}

// passedOn accepts at postrouting what the host forwards: what came in by an
// interface and goes out under an address that is not the host's. The address
// alone would not do: a packet of the host's own may leave under a foreign
// one, by source NAT. Nor would the interface: the outer packets of the host's
// own VXLAN have come in by that, in the kernel's eyes. Without Features.FIB
// they pass unseen.
func (c *compiler) passedOn() rule {
	r := rule{isNot(iif, native(0)...)}
	if c.cfg.Features.FIB {
		r = append(r, isNot(saddrType, native(unix.RTN_LOCAL)...))
	}
	return append(r, accept)
}

func family(v6 bool) match { return is(nfproto, familyOf(v6)) }

func familyOf(v6 bool) byte {
	if v6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
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
