package foreign

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// The expressions of rules, in short.
var (
	accept    = verdict{code: verdictAccept}
	drop      = verdict{code: verdictDrop}
	back      = verdict{code: verdictReturn}
	skuid     = []any{&expr.Meta{Key: expr.MetaKeySKUID, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 0, 0, 0}}}
	mystery   = opaque{"mystery"}
	mysterion = opaque{"socket"} // reads, and has no verdict
)

func jump(to string) verdict { return verdict{verdictJump, to} }
func goTo(to string) verdict { return verdict{verdictGoto, to} }
func rules(all ...[]any) []rule {
	var out []rule
	for i, x := range all {
		out = append(out, rule{uint64(i + 1), x})
	}
	return out
}
func on(x ...any) []any      { return x }
func perhaps(x ...any) []any { return append(append([]any{}, skuid...), x...) }
func port(n uint16) []any {
	return []any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, n)}}
}
func setMark(n uint32) []any {
	return []any{&expr.Immediate{Register: 1, Data: binary.NativeEndian.AppendUint32(nil, n)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}}
}
func ifMark(n uint32, x ...any) []any {
	return append([]any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, n)}}, x...)
}
func lookupPort(set string, verdicts bool) []any {
	l := &expr.Lookup{SourceRegister: 1, SetName: set, IsDestRegSet: verdicts}
	return []any{port(0)[0], l}
}

// hooked makes tables of one chain at the input hook, and chains that it may
// jump to. Their names are c0, c1 and so on.
func hooked(policyDrop bool, base []rule, more ...[]rule) Tables {
	t := &table{family: unix.NFPROTO_INET, name: "t", chains: map[string]*chain{}, sets: map[string]*set{}}
	t.chains["input"] = &chain{name: "input", hook: &hook{number: unix.NF_INET_LOCAL_IN, drop: policyDrop}, rules: base}
	for i, r := range more {
		name := fmt.Sprintf("c%d", i)
		t.chains[name] = &chain{name: name, rules: r}
	}
	ports := func(n ...uint16) []element {
		var out []element
		for _, p := range n {
			out = append(out, element{key: binary.BigEndian.AppendUint16(nil, p)})
		}
		return out
	}
	t.sets["web"] = &set{keyLen: 2, elements: ports(80, 443)}
	t.sets["large"] = &set{keyLen: 2, unread: true}
	verdicts := &set{keyLen: 2, elements: ports(80, 81)}
	verdicts.elements[0].verdict, verdicts.elements[1].verdict = &accept, &drop
	t.sets["verdicts"] = verdicts
	caught := &set{keyLen: 2, elements: ports(80), catchall: &element{verdict: &drop}}
	caught.elements[0].verdict = &accept
	t.sets["caught"] = caught
	limited := &set{keyLen: 2, elements: ports(80)}
	limited.elements[0].uncertain = true
	t.sets["limited"] = limited
	for _, s := range t.sets {
		s.finish()
	}
	return hang([]*table{t})
}

func concat(parts ...[]any) []any {
	var out []any
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func TestJudge(t *testing.T) {
	deep := func(n int) [][]rule {
		var out [][]rule
		for i := range n {
			out = append(out, rules(on(jump(fmt.Sprintf("c%d", i+1)))))
		}
		return append(out, rules(on(drop)))
	}
	tests := []struct {
		name  string
		t     Tables
		want  Verdict
		where string // chain and rule, or policy
	}{
		{"nothing", Tables{}, Passes, ""},
		{"an empty chain", hooked(false, nil), Passes, ""},
		{"the policy", hooked(true, nil), Drops, "input policy"},
		{"drop", hooked(false, rules(on(drop))), Drops, "input 1"},
		{"accept before drop", hooked(true, rules(on(accept), on(drop))), Passes, ""},
		{"a rule that does not match", hooked(false, rules(concat(port(81), on(drop)))), Passes, ""},
		{"a rule that matches", hooked(false, rules(concat(port(80), on(drop)))), Drops, "input 1"},
		{"return to the policy", hooked(true, rules(on(back), on(accept))), Drops, "input policy"},
		{"continue", hooked(true, rules(on(verdict{code: verdictContinue}), on(accept))), Passes, ""},
		{"jump and back", hooked(true, rules(on(jump("c0")), on(accept)), rules(on(back), on(drop))), Passes, ""},
		{"jump and drop", hooked(false, rules(on(jump("c0"))), rules(on(drop))), Drops, "c0 1"},
		{"goto does not come back", hooked(true, rules(on(goTo("c0")), on(accept)), nil), Drops, "input policy"},
		{"goto comes back to the caller's caller", hooked(true, rules(on(jump("c0")), on(accept)), rules(on(goTo("c1")), on(drop)), nil), Passes, ""},
		{"jump to nowhere", hooked(false, rules(on(jump("c7")))), Unknown, "input 1"},
		{"16 jumps", hooked(false, rules(on(jump("c0"))), deep(15)...), Drops, "c15 1"},
		{"17 jumps", hooked(false, rules(on(jump("c0"))), deep(16)...), Unknown, "c15 1"},
		{"a loop", hooked(false, rules(on(jump("c0"))), rules(on(jump("c0")))), Unknown, "c0 1"},

		{"perhaps drop", hooked(false, rules(perhaps(drop))), Unknown, "input 1"},
		{"perhaps accept", hooked(true, rules(perhaps(accept))), Unknown, "input 1"},
		{"perhaps drop, else drop", hooked(true, rules(perhaps(drop))), Drops, "input policy"},
		{"perhaps accept, else accept", hooked(false, rules(perhaps(accept))), Passes, ""},
		{"perhaps a counter", hooked(false, rules(perhaps(&expr.Counter{}))), Passes, ""},
		{"perhaps, and surely not", hooked(false, rules(perhaps(concat(port(81), on(drop))...))), Passes, ""},
		{"perhaps jump, drop there", hooked(false, rules(perhaps(jump("c0"))), rules(on(drop))), Unknown, "input 1"},
		{"perhaps jump, drop anyhow", hooked(false, rules(perhaps(jump("c0")), on(drop)), rules(on(drop))), Drops, "input 2"},
		{"a queue", hooked(false, rules(on(&expr.Queue{}))), Unknown, "input 1"},
		{"what may have a verdict", hooked(false, rules(on(mystery))), Unknown, "input 1"},
		{"what has none", hooked(false, rules(on(mysterion))), Passes, ""},
		{"what has none before a drop", hooked(false, rules(on(mysterion, drop))), Unknown, "input 1"},
		{"a copy elsewhere", hooked(false, rules(on(opaque{"dup"}, drop))), Drops, "input 1"},

		{"a mark that is set", hooked(false, rules(setMark(5), ifMark(5, drop))), Drops, "input 2"},
		{"a mark that is another", hooked(false, rules(setMark(5), ifMark(6, drop))), Passes, ""},
		{"a mark that is perhaps set", hooked(false, rules(perhaps(setMark(5)...), ifMark(5, drop))), Unknown, "input 2"},
		{"a mark after what perhaps left", hooked(false, rules(perhaps(back), setMark(5), ifMark(5, drop))), Unknown, "input 3"},
		{"a mark in the bits that are known", hooked(false, rules(perhaps(setMark(5)...), ifMark(2, drop))), Passes, ""},

		{"a set that holds it", hooked(false, rules(concat(lookupPort("web", false), on(drop)))), Drops, "input 1"},
		{"a set that is too large", hooked(false, rules(concat(lookupPort("large", false), on(drop)))), Unknown, "input 1"},
		{"a set that is gone", hooked(false, rules(concat(lookupPort("gone", false), on(drop)))), Unknown, "input 1"},
		{"a set that limits", hooked(false, rules(concat(lookupPort("limited", false), on(drop)))), Unknown, "input 1"},
		{"a verdict map", hooked(true, rules(lookupPort("verdicts", true))), Passes, ""},
		{"a verdict map that is too large", hooked(false, rules(lookupPort("large", true))), Unknown, "input 1"},
		{"a verdict map for everything", hooked(false, rules(lookupPort("caught", true))), Passes, ""},
		{"a verdict map with an unknown key", hooked(false, rules(on(skuid[0], &expr.Lookup{SourceRegister: 1, SetName: "verdicts", IsDestRegSet: true}))), Unknown, "input 1"},
		{"an unknown key, and every way drops", hooked(true, rules(concat(port(81), lookupPort("verdicts", true)), on(drop))), Drops, "input 2"},

		{"reject", hooked(false, rules(on(&expr.Reject{}))), Drops, "input 1"},
		{"under the limit", hooked(false, rules(on(&expr.Limit{}, drop))), Drops, "input 1"},
		{"over the limit", hooked(false, rules(on(&expr.Limit{Over: true}, drop))), Passes, ""},
		{"a limit by address", hooked(false, rules(on(dynset{[]any{&expr.Limit{Over: true}}}, drop))), Passes, ""},
		{"a named limit", hooked(false, rules(on(&expr.Objref{Type: unix.NFT_OBJECT_LIMIT}, drop))), Unknown, "input 1"},
		{"a named counter", hooked(false, rules(on(&expr.Objref{Type: unix.NFT_OBJECT_COUNTER}, drop))), Drops, "input 1"},
		{"another destination", hooked(true, rules(on(&expr.NAT{Type: expr.NATTypeDestNAT}))), Unknown, "input 1"},
		{"another source", hooked(true, rules(on(&expr.NAT{Type: expr.NATTypeSourceNAT}))), Passes, ""},
		{"the port of a connection", hooked(false, rules(on(ct{key: expr.CtKeyPROTODST, register: 1}, port(80)[1], drop))), Drops, "input 1"},
		{"a register that is none", hooked(false, rules(on(&expr.Cmp{Register: 40, Data: []byte{1}}, drop))), Unknown, "input 1"},
		{"a port in host order", hooked(false, rules(concat(port(0)[:1], on(byteorder{1, 1, 2, 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint16(nil, 80)}, drop)))), Drops, "input 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tcp("192.0.2.1", "10.0.0.1", 80)
			got, where := tt.t.Judge(in, p)
			place := ""
			switch {
			case where.Policy:
				place = where.Chain + " policy"
			case where != Where{}:
				place = fmt.Sprintf("%s %d", where.Chain, where.Handle)
			}
			if got != tt.want || place != tt.where {
				t.Errorf("it %s, in %q; want it %s, in %q", got, place, tt.want, tt.where)
			}
			if v, _ := tt.t.Judge(out, p); v != Passes {
				t.Errorf("at hooks where there is no chain it %s", v)
			}
		})
	}
}

// A chain that calls itself by many ways must end soon.
func TestJudgeIsBounded(t *testing.T) {
	var all [][]any
	for range 100 {
		all = append(all, on(jump("c0")))
	}
	v, _ := hooked(false, rules(all...), rules(all...)).Judge(in, tcp("192.0.2.1", "10.0.0.1", 80))
	if v != Unknown {
		t.Errorf("it %s", v)
	}
}

func TestXtables(t *testing.T) {
	host16 := func(n ...uint16) []byte {
		var b []byte
		for _, x := range n {
			b = binary.NativeEndian.AppendUint16(b, x)
		}
		return b
	}
	raw := func(b ...byte) *xt.Unknown { u := xt.Unknown(b); return &u }
	mark := func(mark, mask uint32, not byte) *xt.Unknown {
		b := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, mark), mask)
		return raw(append(b, not, 0, 0, 0)...)
	}
	multiport := func(flags, count byte, ranges [15]byte, not byte, ports ...uint16) *xt.Unknown {
		b := append([]byte{flags, count}, host16(append(ports, make([]uint16, 15-len(ports))...)...)...)
		return raw(append(append(b, ranges[:]...), not)...)
	}
	state := func(flags xt.ConntrackFlags, mask, inverted uint16) *xt.ConntrackMtinfo3 {
		m := &xt.ConntrackMtinfo3{}
		m.MatchFlags, m.InvertFlags, m.StateMask = uint16(flags), inverted, mask
		return m
	}
	comment := xt.Comment("shell")
	web, ping := tcp("192.0.2.1", "10.0.0.1", 80), icmp("192.0.2.1", "10.0.0.1", 8)
	any16 := [2]uint16{0, 65535}
	tests := []struct {
		name string
		p    Probe
		m    expr.Match
		want truth
	}{
		{"comment", web, expr.Match{Info: &comment}, yes},
		{"tcp port", web, expr.Match{Info: &xt.Tcp{SrcPorts: any16, DstPorts: [2]uint16{80, 90}}}, yes},
		{"tcp port, not", web, expr.Match{Info: &xt.Tcp{SrcPorts: any16, DstPorts: [2]uint16{80, 90}, InvFlags: xt.TcpInvDestPorts}}, no},
		{"tcp of another protocol", ping, expr.Match{Info: &xt.Tcp{SrcPorts: any16, DstPorts: any16}}, no},
		{"tcp flags", web, expr.Match{Info: &xt.Tcp{SrcPorts: any16, DstPorts: any16, FlagsMask: 0x17, FlagsCmp: 2}}, yes},
		{"tcp option", web, expr.Match{Info: &xt.Tcp{SrcPorts: any16, DstPorts: any16, Option: 2}}, maybe},
		{"udp", udp("192.0.2.1", "10.0.0.1", 53), expr.Match{Info: &xt.Udp{SrcPorts: any16, DstPorts: [2]uint16{53, 53}}}, yes},
		{"udp of another protocol", web, expr.Match{Info: &xt.Udp{SrcPorts: any16, DstPorts: any16}}, no},
		{"to the host", web, expr.Match{Info: &xt.AddrTypeV1{Dest: 1 << unix.RTN_LOCAL}}, yes},
		{"not to the host", web, expr.Match{Info: &xt.AddrTypeV1{Dest: 1 << unix.RTN_LOCAL, Flags: 2}}, no},
		{"from the host", web, expr.Match{Info: &xt.AddrType{Source: 1 << unix.RTN_LOCAL}}, no},
		{"new", web, expr.Match{Info: state(xt.ConntrackState, 8, 0)}, yes},
		{"not new", web, expr.Match{Info: state(xt.ConntrackState, 8, 1)}, no},
		{"related or established", web, expr.Match{Info: state(xt.ConntrackState, 6, 0)}, no},
		{"translated", web, expr.Match{Info: state(xt.ConntrackState|xt.ConntrackStateAlias, 1<<7, 0)}, no},
		{"new, and more", web, expr.Match{Info: state(xt.ConntrackState|xt.ConntrackStatus, 8, 0)}, maybe},
		{"state", web, expr.Match{Name: "state", Info: raw(binary.NativeEndian.AppendUint32(nil, 8)...)}, yes},
		{"limit", web, expr.Match{Name: "limit", Info: raw(0)}, yes},
		{"a rate for each address", web, expr.Match{Name: "hashlimit", Rev: 3, Info: raw(0)}, maybe},
		{"mark", web, expr.Match{Name: "mark", Rev: 1, Info: mark(0, 0xff, 0)}, yes},
		{"not the mark", web, expr.Match{Name: "mark", Rev: 1, Info: mark(0, 0xff, 1)}, no},
		{"another mark", web, expr.Match{Name: "mark", Rev: 1, Info: mark(1, 0xff, 0)}, no},
		{"ports", web, expr.Match{Name: "multiport", Rev: 1, Info: multiport(1, 2, [15]byte{}, 0, 22, 80)}, yes},
		{"not the ports", web, expr.Match{Name: "multiport", Rev: 1, Info: multiport(1, 2, [15]byte{}, 1, 22, 80)}, no},
		{"ports beyond the count", web, expr.Match{Name: "multiport", Rev: 1, Info: multiport(1, 1, [15]byte{}, 0, 22, 80)}, no},
		{"a range of ports", web, expr.Match{Name: "multiport", Rev: 1, Info: multiport(2, 2, [15]byte{1}, 0, 70, 90)}, yes},
		{"source ports", web, expr.Match{Name: "multiport", Rev: 1, Info: multiport(0, 1, [15]byte{}, 0, 80)}, no},
		{"ports of what has none", ping, expr.Match{Name: "multiport", Rev: 1, Info: multiport(1, 1, [15]byte{}, 1, 80)}, no},
		{"ping", ping, expr.Match{Name: "icmp", Info: raw(8, 0, 255, 0)}, yes},
		{"any icmp", ping, expr.Match{Name: "icmp", Info: raw(255, 0, 255, 0)}, yes},
		{"ping with a code", ping, expr.Match{Name: "icmp", Info: raw(8, 1, 1, 0)}, no},
		{"anything but ping", ping, expr.Match{Name: "icmp", Info: raw(8, 0, 255, 1)}, no},
		{"ping of IPv6", icmp6("2001:db8::1", "fd00::1", 128), expr.Match{Name: "icmp6", Info: raw(128, 0, 255, 0)}, yes},
		{"a routing header", web, expr.Match{Name: "rt", Info: raw(0)}, no},
		{"what is not known", web, expr.Match{Name: "recent", Info: raw(0)}, maybe},
		{"cut off", web, expr.Match{Name: "multiport", Rev: 1, Info: raw(1, 1)}, maybe},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for condition, when := range map[Verdict]bool{Drops: tt.want == yes, Unknown: tt.want == maybe, Passes: tt.want == no} {
				v, _ := hooked(false, rules(on(&tt.m, drop))).Judge(in, tt.p)
				if (v == condition) != when {
					t.Errorf("with a drop it %s", v)
				}
			}
		})
	}
	for target, want := range map[string]Verdict{"DROP": Drops, "REJECT": Drops, "ACCEPT": Passes, "LOG": Passes, "NFQUEUE": Unknown, "MASQUERADE": Passes, "DNAT": Unknown, "NOBODY": Unknown, "CT": Passes, "MARK": Passes} {
		if v, _ := hooked(false, rules(on(&expr.Target{Name: target}))).Judge(in, web); v != want {
			t.Errorf("target %s: it %s", target, v)
		}
	}
}

// The order of hooks and priorities, families, and connection tracking.
func TestBaseChains(t *testing.T) {
	at := func(number uint32, priority int32, family byte, nat bool, r ...[]any) *table {
		c := &chain{name: fmt.Sprint(priority), hook: &hook{number: number, priority: priority, nat: nat}, rules: rules(r...)}
		return &table{family: family, name: "t", chains: map[string]*chain{c.name: c}}
	}
	input, before, after := uint32(unix.NF_INET_LOCAL_IN), uint32(unix.NF_INET_PRE_ROUTING), uint32(unix.NF_INET_POST_ROUTING)
	const inet, ip4, ip6 = unix.NFPROTO_INET, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6
	isNew := []any{ct{key: expr.CtKeySTATE, register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, 8)}, drop}
	tests := []struct {
		name   string
		tables []*table
		d      filter.Direction
		state  filter.State
		want   Verdict
		chain  string
	}{
		{"accept is not final", []*table{at(input, 0, inet, false, on(accept)), at(input, 5, ip4, false, on(drop))}, in, filter.StateNew, Drops, "5"},
		{"the lower priority first", []*table{at(input, 5, inet, false, on(drop)), at(input, -5, inet, false, on(drop))}, in, filter.StateNew, Drops, "-5"},
		{"the earlier hook first", []*table{at(input, -5, inet, false, on(drop)), at(before, 5, inet, false, on(drop))}, in, filter.StateNew, Drops, "5"},
		{"another family", []*table{at(input, 0, ip6, false, on(drop))}, in, filter.StateNew, Passes, ""},
		{"another hook", []*table{at(after, 0, inet, false, on(drop))}, in, filter.StateNew, Passes, ""},
		{"postrouting, forwarded", []*table{at(after, 0, inet, false, on(drop))}, forward, filter.StateNew, Drops, "0"},
		{"nat, new", []*table{at(input, 0, inet, true, on(drop))}, in, filter.StateNew, Drops, "0"},
		{"nat, known", []*table{at(input, 0, inet, true, on(drop))}, in, filter.StateReply, Passes, ""},
		{"new", []*table{at(before, -199, inet, false, isNew)}, in, filter.StateNew, Drops, "-199"},
		{"known", []*table{at(before, -199, inet, false, isNew)}, in, filter.StateReply, Passes, ""},
		{"before connection tracking", []*table{at(before, -300, inet, false, isNew)}, in, filter.StateNew, Passes, ""},
		{"not tracked", []*table{at(before, -300, inet, false, on(&expr.Notrack{})), at(input, 0, inet, false, isNew)}, in, filter.StateNew, Passes, ""},
		{"perhaps not tracked", []*table{at(before, -300, inet, false, perhaps(&expr.Notrack{})), at(input, 0, inet, false, isNew)}, in, filter.StateNew, Unknown, "0"},
		{"unsure, then sure", []*table{at(before, 0, inet, false, perhaps(drop)), at(input, 1, inet, false, on(drop))}, in, filter.StateNew, Drops, "1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tcp("192.0.2.1", "10.0.0.1", 80)
			p.State = tt.state
			if v, where := hang(tt.tables).Judge(tt.d, p); v != tt.want || where.Chain != tt.chain {
				t.Errorf("it %s in %q, want it %s in %q", v, where.Chain, tt.want, tt.chain)
			}
		})
	}
}
