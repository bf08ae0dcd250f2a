package nft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

var testConfig = Config{Interface: "ipsecfw0", InMark: 0x49500000, OutMark: 0x49500001, Queue: 4950, TCPQueue: 4951, Arrivals: 4952,
	Features: Features{Inet: true, FIB: true}}

func mustSPD(t testing.TB, entries ...filter.Entry) *filter.SPD {
	t.Helper()
	s, err := filter.New(entries, filter.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func subnet(s string) filter.Side { return filter.Subnet(netip.MustParsePrefix(s)) }

func address(s string) filter.Side { return filter.Address(netip.MustParseAddr(s)) }

// The policy of the payroll server.
func payroll(t testing.TB) *filter.SPD {
	return mustSPD(t,
		filter.Entry{Name: "dns", Mirrored: true, Action: filter.Permit, Selector: filter.Selector{
			From: filter.Me(), To: address("10.9.0.53"), Protocol: 17, HasProtocol: true, ToPort: filter.PortRange{Lo: 53, Hi: 53}}},
		filter.Entry{Name: "staff", Mirrored: true, Action: filter.Negotiate, Selector: filter.Selector{
			From: subnet("10.1.0.0/16"), To: filter.Me(), Protocol: 6, HasProtocol: true, ToPort: filter.PortRange{Lo: 8443, Hi: 8443}}},
		filter.Entry{Name: "rest", Mirrored: true, Action: filter.Block, Selector: filter.Selector{
			From: filter.Any(), To: filter.Me()}},
	)
}

func TestCompileShapes(t *testing.T) {
	port := func(lo, hi uint16) filter.PortRange { return filter.PortRange{Lo: lo, Hi: hi} }
	for _, tt := range []struct {
		name string
		s    filter.Selector
		set  string // the lines of the one set, its weight as W
		rule string // the last of ingress
	}{
		{"family only", filter.Selector{From: subnet("0.0.0.0/0"), To: filter.Me()},
			"set inW_block_v4 type nf_proto elements = { ipv4 }",
			"meta nfproto ipv4 meta nfproto @inW_block_v4 drop"},
		{"protocol of one family", filter.Selector{From: subnet("::/0"), To: filter.Me(), Protocol: 47, HasProtocol: true},
			"set inW_block_v6_proto type inet_proto elements = { gre }",
			"meta nfproto ipv6 meta l4proto @inW_block_v6_proto drop"},
		{"all of IPv4", filter.Selector{From: address("192.0.2.1"), To: address("192.0.2.2"), Protocol: 6, HasProtocol: true, FromPort: port(22, 22), ToPort: port(1024, 2047)},
			"set inW_block_v4_src32_dst32_proto_sport16_dport6 type ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service elements = { 192.0.2.1 . 192.0.2.2 . tcp . 22 . 1024 }",
			"meta nfproto ipv4 ip saddr . ip daddr . meta l4proto . th sport . th dport & 64512 @inW_block_v4_src32_dst32_proto_sport16_dport6 drop"},
		{"subnets of IPv6", filter.Selector{From: subnet("2001:db8:f000::/36"), To: address("2001:db8::1")},
			"set inW_block_v6_src36_dst128 type ipv6_addr . ipv6_addr elements = { 2001:db8:f000:: . 2001:db8::1 }",
			"meta nfproto ipv6 ip6 saddr & ffff:ffff:f000:: . ip6 daddr @inW_block_v6_src36_dst128 drop"},
		{"elements in order", filter.Selector{From: filter.Range(netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.4")), To: filter.Me()},
			"set inW_block_v4_src32 type ipv4_addr elements = { 192.0.2.3, 192.0.2.4 }",
			"meta nfproto ipv4 ip saddr @inW_block_v4_src32 drop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spd := mustSPD(t, filter.Entry{Name: "r", Selector: tt.s, Action: filter.Block})
			rs := Compile(spd, testConfig)
			named := strings.NewReplacer("inW", fmt.Sprintf("in%d", spd.Entries()[0].Weight()))
			set := ""
			for _, s := range rs.tables[0].sets {
				if strings.HasPrefix(s.name, "in") {
					set += "set " + s.name + " type " + s.typeName() + " elements = { " + s.elementNames() + " }"
				}
			}
			if want := named.Replace(tt.set); set != want {
				t.Errorf("got  %s\nwant %s", set, want)
			}
			rules := chainOf(t, rs, "ingress").rules
			if got := rules[len(rules)-1].String(); got != named.Replace(tt.rule) {
				t.Errorf("got  %s\nwant %s", got, named.Replace(tt.rule))
			}
		})
	}
}

func TestCompileQueues(t *testing.T) {
	for _, tt := range []struct {
		native bool
		want   string
	}{
		{true, `meta l4proto tcp queue to 4951, queue to 4950, drop`},
		{false, `meta l4proto tcp xt target "NFQUEUE" queue-num 4951, xt target "NFQUEUE" queue-num 4950, drop`},
	} {
		cfg := testConfig
		cfg.Features.NativeQueue = tt.native
		var rules []string
		for _, r := range chainOf(t, Compile(mustSPD(t), cfg), "secure").rules {
			rules = append(rules, r.String())
		}
		if got := strings.Join(rules, ", "); got != tt.want {
			t.Errorf("native %v: got %s\nwant %s", tt.native, got, tt.want)
		}
	}
}

func chainOf(t testing.TB, rs Ruleset, name string) chain {
	t.Helper()
	for _, c := range rs.tables[0].chains {
		if c.name == name {
			return c
		}
	}
	t.Fatalf("no chain %s", name)
	return chain{}
}

// evaluate goes through a chain as the kernel does, for a packet that no rule
// but those of groups is about.
func evaluate(t testing.TB, rs Ruleset, c chain, p *packet.Packet) statement {
	t.Helper()
rules:
	for _, r := range c.rules {
		for _, s := range r {
			switch s := s.(type) {
			case match:
				value, ok := valueOf(s.field, p)
				if !ok {
					continue rules
				}
				for i := range s.mask {
					value[i] &= s.mask[i]
				}
				order := bytes.Compare(value, s.value)
				if s.op == expr.CmpOpEq && order != 0 || s.op == expr.CmpOpNeq && order == 0 ||
					s.op == expr.CmpOpGte && order < 0 || s.op == expr.CmpOpLte && order > 0 {
					continue rules
				}
			case lookup:
				if !holds(rs, s, p) {
					continue rules
				}
			case verdict, gotoChain:
				return s
			}
		}
	}
	return accept
}

// holds does a lookup on the bytes that the kernel is given.
func holds(rs Ruleset, l lookup, p *packet.Packet) bool {
	var k []byte
	for _, part := range l.keys {
		value, ok := valueOf(part.field, p)
		if !ok {
			return false
		}
		for i, m := range part.mask() {
			value[i] &= m
		}
		k = append(k, value...)
		if len(l.keys) > 1 {
			k = append(k, make([]byte, -len(k)&3)...)
		}
	}
	for _, s := range rs.tables[0].sets {
		for i := range s.len() {
			if s.name == l.name && bytes.Equal(s.appendKey(nil, i), k) {
				return true
			}
		}
	}
	return false
}

// valueOf is what a load finds in a packet; ok is false where it ends the
// rule.
func valueOf(f field, p *packet.Packet) (b []byte, ok bool) {
	switch f {
	case nfproto:
		if p.Is4() {
			return []byte{unix.NFPROTO_IPV4}, true
		}
		return []byte{unix.NFPROTO_IPV6}, true
	case l4proto:
		return []byte{p.Protocol}, true
	case iifname, oifname:
		return make([]byte, nameBytes), true
	case ip4Saddr, ip6Saddr:
		return p.Src.AsSlice(), p.Is4() == (f == ip4Saddr)
	case ip4Daddr, ip6Daddr:
		return p.Dst.AsSlice(), p.Is4() == (f == ip4Daddr)
	case transportSrc:
		return binary.BigEndian.AppendUint16(nil, p.SrcPort), p.HasPorts
	case transportDst:
		return binary.BigEndian.AppendUint16(nil, p.DstPort), p.HasPorts
	}
	return make([]byte, 4), true // a mark, type or state of 0
}

// The rules say of every packet what the SPD says.
func TestCompileDecidesAsSPD(t *testing.T) {
	r := rand.New(rand.NewPCG(20, 26))
	addr := func(v6 bool) netip.Addr {
		if v6 {
			return netip.AddrFrom16([16]byte{0xfd, 14: byte(r.IntN(2)), 15: byte(r.IntN(16))})
		}
		return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(16))})
	}
	side := func(v6 bool) filter.Side {
		switch a := addr(v6); r.IntN(4) {
		case 0:
			return filter.Any()
		case 1:
			return filter.Me()
		case 2:
			return filter.Subnet(netip.PrefixFrom(a, a.BitLen()-r.IntN(10)))
		default:
			return filter.Range(a, a.Next().Next())
		}
	}
	ports := func() filter.PortRange {
		lo := uint16(r.IntN(20))
		return filter.PortRange{Lo: lo, Hi: lo + uint16(r.IntN(5))}
	}
	verdicts := map[filter.Direction]map[filter.Action]statement{
		filter.Inbound:  {filter.Permit: accept, filter.Block: drop, filter.Negotiate: drop},
		filter.Outbound: {filter.Permit: accept, filter.Block: drop, filter.Negotiate: gotoChain("secure")},
	}
	names := map[filter.Direction]string{filter.Inbound: "ingress", filter.Outbound: "egress"}
	decided := 0
	for n := range 100 {
		entries := make([]filter.Entry, 1+n%15)
		for i := range entries {
			v6 := r.IntN(2) == 0
			s := filter.Selector{From: side(v6), To: side(v6)}
			if r.IntN(3) > 0 {
				s.HasProtocol, s.Protocol = true, []uint8{1, 6, 17}[r.IntN(3)]
				if packet.HasPorts(s.Protocol) {
					s.FromPort, s.ToPort = ports(), ports()
				}
			}
			entries[i] = filter.Entry{Name: "r", Selector: s, Mirrored: r.IntN(2) == 0, Action: filter.Action(1 + r.IntN(3))}
		}
		spd := mustSPD(t, entries...)
		rs := Compile(spd, testConfig)
		for range 100 {
			v6, d := r.IntN(2) == 0, filter.Direction(1+r.IntN(2))
			p := packet.Packet{Src: addr(v6), Dst: addr(v6), Protocol: []uint8{1, 6, 17, 89}[r.IntN(4)]}
			if packet.HasPorts(p.Protocol) && r.IntN(8) > 0 {
				p.HasPorts, p.SrcPort, p.DstPort = true, uint16(r.IntN(24)), uint16(r.IntN(24))
			}
			want := spd.Lookup(filter.Context{Direction: d}, &p)
			if got := evaluate(t, rs, chainOf(t, rs, names[d]), &p); got != verdicts[d][want.Action] {
				t.Fatalf("%s %+v: the rules say %s, the SPD %s\n%s", d, p, got, want.Why(), rs)
			}
			if want.Entry != nil {
				decided++
			}
		}
	}
	if decided < 2000 {
		t.Errorf("only %d packets met a filter", decided)
	}
}

// Keys are read from a row of registers: each field must begin where the one
// before ends, and all must fit.
func TestLookupRegisters(t *testing.T) {
	keys := []key{{ip6Saddr, 128}, {ip6Daddr, 60}, {l4proto, 8}, {transportSrc, 16}, {transportDst, 9}}
	var got []string
	for _, e := range (lookup{name: "s", keys: keys}).lower() {
		switch e := e.(type) {
		case *expr.Payload:
			got = append(got, fmt.Sprintf("load %d to %d", e.Len, e.DestRegister))
		case *expr.Meta:
			got = append(got, fmt.Sprintf("meta to %d", e.Register))
		case *expr.Bitwise:
			got = append(got, fmt.Sprintf("%d & %x to %d", e.SourceRegister, e.Mask, e.DestRegister))
		case *expr.Lookup:
			got = append(got, fmt.Sprintf("lookup %s from %d", e.SetName, e.SourceRegister))
		}
	}
	want := []string{"load 16 to 8", "load 16 to 12", "12 & fffffffffffffff00000000000000000 to 12", "meta to 16",
		"load 2 to 17", "load 2 to 18", "18 & ff80 to 18", "lookup s from 8"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
