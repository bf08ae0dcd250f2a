package nft

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// How much TestKernelDecidesAsSPD compares.
const (
	comparedPolicies = 200
	comparedPackets  = 530 // under each, more or less: some the host does not take
)

// The log group of what the rules decide in the comparison.
const verdictGroup = 8

// instrumented returns the ruleset with each verdict told to the log, after
// the number of the policy, queues and refusals replaced by it, and every
// packet's connection state told when it enters a chain at a hook.
func instrumented(rs Ruleset, policy int) Ruleset {
	tell := func(what string) statement { return logTo{verdictGroup, fmt.Sprintf("%d %s", policy, what)} }
	known := uint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	state := func(bits uint32) match { return match{ctState, native(bits), expr.CmpOpNeq, native(0)} }
	states := []rule{
		{state(expr.CtStateBitNEW), tell("state new")},
		{state(known), is(ctDirection, original), tell("state original")},
		{state(known), is(ctDirection, reply), tell("state reply")},
		{state(expr.CtStateBitINVALID), tell("state invalid")},
	}
	out := Ruleset{slices.Clone(rs.tables)}
	for i := range out.tables {
		x := &out.tables[i]
		x.chains = slices.Clone(x.chains)
		for j := range x.chains {
			c := &x.chains[j]
			rules := c.rules
			c.rules = nil
			if c.hook != nil && c.name != "prerouting" {
				c.add(states...)
			}
			for _, r := range rules {
				end := r[len(r)-1]
				r = slices.Clone(r[:len(r)-1])
				switch v := end.(type) {
				case verdict:
					if v != back {
						r = append(r, tell(v.String()))
					}
					r = append(r, v)
				case queue:
					r = append(r, tell("queue"), drop)
				case refusal:
					r = append(r, tell("refuse"), drop)
				default:
					r = append(r, v)
				}
				c.add(r)
			}
			if c.hook != nil {
				c.add(rule{tell("accept"), accept})
			}
		}
	}
	return out
}

func (a *arena) side(v6, me bool) filter.Side {
	switch x := a.address(v6); a.r.IntN(5) {
	case 0:
		return filter.Any()
	case 1:
		if me {
			return filter.Me()
		}
		return filter.Any()
	case 2:
		return filter.Subnet(netip.PrefixFrom(x, x.BitLen()-2-a.r.IntN(10)))
	case 3:
		return filter.Range(x, x.Next().Next())
	default:
		return filter.Address(x)
	}
}

func (a *arena) portRange() filter.PortRange {
	if a.r.IntN(2) == 0 {
		return filter.PortRange{}
	}
	lo := a.port()
	return filter.PortRange{Lo: lo, Hi: lo + uint16(a.r.IntN(5))}
}

// entry returns a filter that an SPD accepts.
func (a *arena) entry(n int) filter.Entry {
	for {
		v6, chance := a.r.IntN(2) == 0, func(n int) bool { return a.r.IntN(n) == 0 }
		e := filter.Entry{
			Name: fmt.Sprintf("rule %d", n), Index: n, Mirrored: !chance(3), Forward: chance(3), Stateful: chance(4),
			Action: filter.Action(1 + a.r.IntN(3)),
		}
		s := filter.Selector{From: a.side(v6, !e.Forward), To: a.side(v6, !e.Forward)}
		if a.r.IntN(2) > 0 {
			s.HasProtocol, s.Protocol = true, uint8(a.one(6, 6, 17, 17, 1, 58, 132, 136, 47, 50, 51, 46))
			switch {
			case packet.HasPorts(s.Protocol):
				s.FromPort, s.ToPort = a.portRange(), a.portRange()
			case s.Protocol == 1:
				s.ICMP = filter.ICMP{HasType: !chance(3), Type: byte(a.one(8, 0, 3)), Code: byte(a.r.IntN(3))}
			case s.Protocol == 58:
				s.ICMP = filter.ICMP{HasType: !chance(3), Type: byte(a.one(128, 129, 135, 1)), Code: byte(a.r.IntN(3))}
			}
			s.ICMP.HasCode = s.ICMP.HasType && chance(2)
		}
		if chance(4) {
			s.Connection = []filter.Connection{
				{Kind: filter.ConnectionLAN}, {Kind: filter.ConnectionRemote},
				{Kind: filter.ConnectionInterface, Name: "lan0"}, {Kind: filter.ConnectionInterface, Name: "ppp1"},
			}[a.r.IntN(4)]
		}
		o := filter.Options{Log: chance(6)}
		switch e.Action {
		case filter.Block:
			o.Reject = chance(3)
		case filter.Negotiate:
			o.AcceptUnsecured, o.AllowUnsecured = chance(4), chance(3)
		case filter.Permit:
			if chance(6) {
				o.Limit = filter.Limit{Packets: 1e6, Per: filter.PerSecond, Burst: 1e6}
			}
		}
		if e.Stateful {
			e.Action, o = filter.Permit, filter.Options{Log: o.Log, Limit: o.Limit}
		}
		e.Selector, e.Options = s, o
		if _, err := filter.New([]filter.Entry{e}, filter.Settings{}); err == nil {
			return e
		}
	}
}

// tunnelOutcome is what the rules do for a decision on what came by the
// engine's device and is to be forwarded.
func tunnelOutcome(d filter.Decision) string {
	switch {
	case d.Exempt != "", d.Action == filter.Permit && d.Entry != nil:
		return "accept"
	case d.Action != filter.Negotiate:
		return "drop"
	case !d.Mirror:
		return "queue"
	case d.Entry.Options.AcceptUnsecured, d.Entry.Selector.Connection.Kind == filter.ConnectionAll:
		return "accept"
	}
	return "drop"
}

// outcome is what the rules do for a decision.
func outcome(d filter.Decision, c filter.Context, p *packet.Packet, cfg Config, local, tunnelled bool) string {
	if tunnelled && c.Direction == filter.Forward {
		return tunnelOutcome(d)
	}
	soft := func(a netip.Addr) bool {
		return slices.ContainsFunc(cfg.Soft, func(s SoftPeer) bool { return s.Addr == a })
	}
	if d.Entry == nil {
		switch {
		case p.Protocol == filter.AH && c.Direction == filter.Inbound && c.Interface.Name != "lo" && !tunnelled:
			return "queue"
		case d.Exempt != "" || !cfg.DefaultResponse:
		case c.Direction == filter.Outbound && slices.Contains(cfg.Response, p.Dst):
			return "queue"
		case c.Direction == filter.Inbound && slices.Contains(cfg.Response, p.Src):
			return "drop"
		}
		return "accept"
	}
	o := d.Entry.Options
	switch {
	case d.Action == filter.Permit:
		return "accept"
	case d.Action == filter.Block && o.Reject && (c.Direction != filter.Outbound || local):
		return "refuse"
	case d.Action == filter.Block:
		return "drop"
	case c.Direction == filter.Outbound && o.AllowUnsecured && soft(p.Dst):
		return "accept"
	case c.Direction == filter.Outbound, c.Direction == filter.Forward && !d.Mirror:
		return "queue"
	case o.AcceptUnsecured, c.Direction == filter.Inbound && o.AllowUnsecured && soft(p.Src):
		return "accept"
	}
	return "drop"
}

var hookDirections = map[uint8]filter.Direction{
	unix.NF_INET_LOCAL_IN: filter.Inbound, unix.NF_INET_FORWARD: filter.Forward,
	unix.NF_INET_LOCAL_OUT: filter.Outbound, unix.NF_INET_POST_ROUTING: filter.Outbound,
}

// tally is what the comparison has seen.
type tally struct {
	kinds    map[string]int // packets that the test sent, by direction, family, protocol
	verdicts map[string]int
	states   map[filter.State]int
	exempt   map[string]int
	tunnels  map[string]int // verdicts on what came by the engine's device and is forwarded
	filtered int            // on which a filter decided
	host     int            // packets that the host sent of itself
}

func (n *tally) packets() (sum int) {
	for _, k := range n.kinds {
		sum += k
	}
	return sum
}

// class is what does not depend on the order of filters that are equal in it.
type class struct {
	weight uint32
	action filter.Action
}

// judge compares a verdict from the log with the SPD's decision. It returns
// what was compared, or nothing when the verdict is not one to compare.
func (a *arena) judge(s *filter.SPD, cfg Config, state filter.State, l logged) (p packet.Packet, c filter.Context, d filter.Decision, ok bool) {
	t := a.t
	if err := packet.Parse(l.packet, &p); err != nil {
		t.Fatalf("%x: %v", l.packet, err)
	}
	c = filter.Context{
		Direction: hookDirections[l.hook], State: state, Own: l.mark == cfg.OutMark,
		Broadcast: a.broadcasts[p.Dst], Interface: a.links[l.out],
	}
	if c.Direction == filter.Inbound {
		c.Interface = a.links[l.in]
		c.Own = (state == filter.StateReply || state == filter.StateOriginal) && aboutIKE(&p, l.packet)
	}
	output, tunnelled := l.hook == unix.NF_INET_LOCAL_OUT, a.links[l.in].Name == cfg.Interface
	switch {
	case c.Direction == filter.Inbound && tunnelled:
		if l.prefix != "accept" {
			t.Fatalf("%+v, which the engine delivers, meets %s", p, l.prefix)
		}
		return p, c, d, true
	case c.Interface.Name == "", c.Interface.Name == cfg.Interface: // by lo, or lost
		return p, c, d, false
	case output && l.prefix == "accept": // it comes to postrouting yet
		return p, c, d, false
	case l.hook == unix.NF_INET_POST_ROUTING && l.in != 0 && !a.isLocal(p.Src): // forwarded
		if l.prefix != "accept" {
			t.Fatalf("a forwarded packet %+v meets %s at postrouting", p, l.prefix)
		}
		return p, c, d, false
	}
	if c.Direction == filter.Inbound && tellsMTU(&p, l.packet) {
		if l.prefix != "queue" {
			t.Fatalf("an ICMP error about an MTU for the engine meets %s: %x", l.prefix, l.packet)
		}
		return p, c, d, true
	}
	d = s.Decide(c, &p)
	want := []string{outcome(d, c, &p, cfg, output, tunnelled)}
	if d.Entry != nil {
		// Of filters of the same weight and action either may decide, and so
		// may their options.
		for _, m := range s.Matching(c, &p) {
			if m.Action == d.Action && m.Entry.Weight() == d.Entry.Weight() {
				want = append(want, outcome(m, c, &p, cfg, output, tunnelled))
			}
		}
	}
	if !slices.Contains(want, l.prefix) {
		t.Fatalf("%+v, hook %d: %+v\n%x\nthe kernel says %s\nthe SPD %q: %s\n%s", c, l.hook, p, l.packet, l.prefix, want, d.Why(), Compile(s, cfg))
	}
	return p, c, d, true
}

// tellsMTU reports whether an ICMP error is one about an MTU for what the engine
// has sent.
func tellsMTU(p *packet.Packet, b []byte) bool {
	var e packet.TooBig
	if !packet.ParseTooBig(b, p, &e) {
		return false
	}
	udp := e.Protocol == packet.UDP && len(e.Quoted) >= 2 && binary.BigEndian.Uint16(e.Quoted) == filter.NATPort
	return udp || e.Protocol == packet.ESP || e.Protocol == packet.AH
}

// The rules in the kernel decide about packets as the SPD does, and count them
// to the filter that decides.
func TestKernelDecidesAsSPD(t *testing.T) {
	a := newArena(t)
	n := tally{map[string]int{}, map[string]int{}, map[filter.State]int{}, map[string]int{}, map[string]int{}, 0, 0}
	chance := func(n int) bool { return a.r.IntN(n) == 0 }
	for policy := range comparedPolicies {
		entries := make([]filter.Entry, 1+policy%40)
		for i := range entries {
			entries[i] = a.entry(i)
		}
		s, err := filter.New(entries, filter.Settings{Exemptions: filter.Exemptions{Multicast: chance(2), RSVP: chance(2), Kerberos: chance(2)}})
		must(t, err)
		cfg := testConfig
		cfg.Count, cfg.DefaultResponse = true, chance(2)
		for range 8 {
			cfg.Soft = append(cfg.Soft, SoftPeer{a.address(chance(2)), time.Hour})
			cfg.Response = append(cfg.Response, a.address(chance(2)))
		}
		if policy%4 == 3 {
			cfg.Features, cfg.Broadcasts = Features{}, slices.Collect(maps.Keys(a.broadcasts))
		}
		rs := Compile(s, cfg)
		must(t, Remove())
		must(t, Apply(instrumented(rs, policy)))
		must(t, netlink.ConntrackTableFlush(netlink.ConntrackTable))
		a.recent = a.recent[:0]
		sent := map[uint32]bool{}
		for range comparedPackets {
			p := a.probe()
			a.send(p)
			sent[a.nextID] = true
			a.recent = append(a.recent, p)
		}
		// An answer that nobody has asked for, and nobody answers.
		a.send(probe{direction: filter.Inbound, src: a.end(false, false), dst: a.end(false, true), protocol: packet.ICMP, head: []byte{0, 0, 0, 7}, hops: 64})
		a.compare(s, cfg, policy, &n, sent, rs)
	}
	for _, k := range slices.Sorted(maps.Keys(n.kinds)) {
		t.Logf("%6d %s", n.kinds[k], k)
	}
	t.Logf("%d packets compared, %d of them decided by a filter; and %d that the host sent of itself; verdicts %v, from tunnels %v, states %v, exempt %v",
		n.packets(), n.filtered, n.host, n.verdicts, n.tunnels, n.states, n.exempt)
	if n.tunnels["accept"] < 500 || n.tunnels["queue"] < 500 || n.tunnels["drop"] < 500 || len(n.tunnels) > 3 {
		t.Errorf("verdicts on forwarded packets from tunnels: %v", n.tunnels)
	}
	if n.packets() < 100_000 || n.filtered < 40_000 || len(n.exempt) < 9 {
		t.Errorf("%d packets were compared, %d decided by a filter; exempt %v", n.packets(), n.filtered, n.exempt)
	}
}

// compare goes through the log of what was sent under one policy.
func (a *arena) compare(s *filter.SPD, cfg Config, policy int, n *tally, sent map[uint32]bool, rs Ruleset) {
	states := map[string]filter.State{
		"state new": filter.StateNew, "state original": filter.StateOriginal, "state reply": filter.StateReply, "state invalid": filter.StateInvalid,
	}
	pending, counted := map[string]filter.State{}, map[class]uint64{}
	for _, l := range a.log.until(a.t, a.nextID) {
		number, told, _ := strings.Cut(l.prefix, " ")
		if number != strconv.Itoa(policy) {
			continue // the host has sent it of itself, before
		}
		l.prefix = told
		k := fmt.Sprint(l.hook) + string(l.packet)
		if state, ok := states[told]; ok {
			pending[k] = state
			continue
		}
		p, c, d, ok := a.judge(s, cfg, pending[k], l)
		if !ok {
			continue
		}
		if d.Entry != nil {
			counted[class{d.Entry.Weight(), d.Action}]++
		}
		id := binary.BigEndian.Uint32(l.packet[len(l.packet)-4:])
		if !sent[id] {
			n.host++
			continue
		}
		delete(sent, id)
		family := "IPv4"
		if !p.Is4() {
			family = "IPv6"
		}
		n.kinds[fmt.Sprintf("%s %s %s", c.Direction, family, filter.ProtocolName(p.Protocol))]++
		n.verdicts[told]++
		if c.Direction == filter.Forward && a.links[l.in].Name == cfg.Interface {
			n.tunnels[told]++
		}
		n.states[c.State]++
		switch {
		case d.Entry != nil:
			n.filtered++
		case d.Exempt != "":
			n.exempt[d.Exempt]++
		}
	}
	counters, err := Counters(rs)
	must(a.t, err)
	got := map[class]uint64{}
	for e, c := range counters {
		got[class{e.Weight(), e.Action}] += c.Packets
	}
	for k, want := range counted {
		if got[k] < want || got[k] > want+2 { // what the host has sent of itself, since
			a.t.Fatalf("policy %d, filters of weight %d that %s: %d packets counted, want %d", policy, k.weight, k.action, got[k], want)
		}
	}
}
