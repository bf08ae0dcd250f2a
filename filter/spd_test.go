package filter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

func mustNew(t testing.TB, entries ...Entry) *SPD {
	t.Helper()
	s, err := New(entries, Settings{Generation: 7})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// flow makes a packet from "10.0.0.1:1024" to "10.0.0.2:80".
func flow(protocol uint8, from, to string) *packet.Packet {
	src, dst := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	return &packet.Packet{
		Src: src.Addr(), Dst: dst.Addr(), Protocol: protocol,
		HasPorts: packet.HasPorts(protocol), SrcPort: src.Port(), DstPort: dst.Port(),
	}
}

// The policy of the payroll server.
func payroll(t testing.TB) *SPD {
	return mustNew(t,
		Entry{Name: "dns", List: "lookups", Position: "payroll.yaml:9:7", Mirrored: true, Action: Permit,
			Selector: Selector{From: Me(), To: Address(addr("10.9.0.53")), Protocol: 17, HasProtocol: true, ToPort: PortRange{53, 53}}},
		Entry{Name: "staff", List: "staff", Position: "payroll.yaml:7:7", Mirrored: true, Action: Negotiate,
			Selector: tcp(subnet("10.1.0.0/16"), Me(), PortRange{}, PortRange{8443, 8443})},
		Entry{Name: "rest", List: "everything", Position: "payroll.yaml:11:7", Mirrored: true, Action: Block,
			Selector: Selector{From: Any(), To: Me()}},
	)
}

func TestLookup(t *testing.T) {
	s := payroll(t)
	echo := Selector{From: Me(), To: Any(), Protocol: 1, HasProtocol: true, ICMP: ICMP{Type: 8, HasType: true}}
	ping := mustNew(t,
		Entry{Name: "ping", Action: Permit, Mirrored: true, Selector: echo},
		Entry{Name: "rest", Action: Block, Mirrored: true, Selector: Selector{From: Any(), To: Me()}},
	)
	message := func(kind uint8, from, to string) *packet.Packet {
		p := flow(1, from, to)
		p.HasICMP, p.ICMPType = true, kind
		return p
	}
	oneWay := mustNew(t,
		Entry{Name: "in", Action: Block, Selector: Selector{From: Any(), To: Me()}},
		Entry{Name: "routed", Action: Negotiate, Selector: Selector{From: subnet("10.1.0.0/16"), To: subnet("10.2.0.0/16")}},
		Entry{Name: "self", Action: Negotiate, Mirrored: true, Selector: Selector{From: Me(), To: Me()}},
	)
	fragment := flow(6, "10.1.0.5:0", "10.1.0.1:0")
	fragment.HasPorts, fragment.Fragment, fragment.FragmentOffset = false, true, 1480
	for _, tt := range []struct {
		name   string
		spd    *SPD
		d      Direction
		p      *packet.Packet
		action Action
		entry  string
		mirror bool
	}{
		{"staff in", s, Inbound, flow(6, "10.1.3.4:40000", "10.1.0.1:8443"), Negotiate, "staff", false},
		{"answer to staff", s, Outbound, flow(6, "10.1.0.1:8443", "10.1.3.4:40000"), Negotiate, "staff", true},
		{"staff on another port", s, Inbound, flow(6, "10.1.3.4:40000", "10.1.0.1:8444"), Block, "rest", false},
		{"staff's port with another protocol", s, Inbound, flow(17, "10.1.3.4:40000", "10.1.0.1:8443"), Block, "rest", false},
		{"ports are not exchanged in the straight half", s, Inbound, flow(6, "10.1.3.4:8443", "10.1.0.1:40000"), Block, "rest", false},
		{"lookup", s, Outbound, flow(17, "10.1.0.1:5353", "10.9.0.53:53"), Permit, "dns", false},
		{"answer to a lookup", s, Inbound, flow(17, "10.9.0.53:53", "10.1.0.1:5353"), Permit, "dns", true},
		{"lookup elsewhere", s, Outbound, flow(17, "10.1.0.1:5353", "10.9.0.54:53"), Block, "rest", true},
		{"IPv6", s, Inbound, flow(6, "[2001:db8::1]:1", "[2001:db8::2]:8443"), Block, "rest", false},
		{"a fragment shows no port", s, Inbound, fragment, Block, "rest", false},
		{"echo request", ping, Outbound, message(8, "10.0.0.1:0", "10.0.0.2:0"), Permit, "ping", false},
		{"its answer", ping, Inbound, message(0, "10.0.0.2:0", "10.0.0.1:0"), Permit, "ping", true},
		{"an echo request of another", ping, Inbound, message(8, "10.0.0.2:0", "10.0.0.1:0"), Block, "rest", false},
		{"a UDP port is no ICMP type", ping, Outbound, flow(17, "10.0.0.1:2048", "10.0.0.2:9"), Block, "rest", true},
		{"not mirrored, in", oneWay, Inbound, flow(6, "10.3.0.1:1", "10.4.0.1:2"), Block, "in", false},
		{"not mirrored, out", oneWay, Outbound, flow(6, "10.4.0.1:2", "10.3.0.1:1"), Permit, "", false},
		{"subnets, out", oneWay, Outbound, flow(1, "10.1.0.1:0", "10.2.0.1:0"), Negotiate, "routed", false},
		{"subnets, in", oneWay, Inbound, flow(1, "10.1.0.1:0", "10.2.0.1:0"), Negotiate, "routed", false},
		{"subnets, against the filter's direction", oneWay, Outbound, flow(1, "10.2.0.1:0", "10.1.0.1:0"), Permit, "", false},
		{"empty policy", mustNew(t), Inbound, flow(6, "10.1.0.1:1", "10.2.0.1:2"), Permit, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.spd.Lookup(Context{Direction: tt.d}, tt.p)
			name := ""
			if got.Entry != nil {
				name = got.Entry.Name
			}
			if got.Action != tt.action || name != tt.entry || got.Mirror != tt.mirror {
				t.Errorf("%s", got.Why())
				t.Errorf("got %v by %q, mirrored %v; want %v by %q, mirrored %v", got.Action, name, got.Mirror, tt.action, tt.entry, tt.mirror)
			}
		})
	}
}

func TestSameWeight(t *testing.T) {
	sel := Selector{From: Any(), To: Me()}
	entry := func(name string, a Action) Entry { return Entry{Name: name, Selector: sel, Action: a, Mirrored: true} }
	for _, tt := range []struct {
		name    string
		entries []Entry
		want    string
	}{
		{"block before permit", []Entry{entry("p", Permit), entry("b", Block)}, "b"},
		{"block before negotiate", []Entry{entry("n", Negotiate), entry("b", Block)}, "b"},
		{"negotiate before permit", []Entry{entry("p", Permit), entry("n", Negotiate)}, "n"},
		{"the first of two", []Entry{entry("n1", Negotiate), entry("n2", Negotiate)}, "n1"},
		{"the first of two of different shapes", []Entry{
			{Name: "narrow to", Action: Negotiate, Selector: Selector{From: subnet("10.0.0.0/8"), To: subnet("10.1.0.0/24")}},
			{Name: "narrow from", Action: Negotiate, Selector: Selector{From: subnet("10.3.0.0/24"), To: subnet("10.0.0.0/8")}},
		}, "narrow to"},
		{"the other order", []Entry{
			{Name: "narrow from", Action: Negotiate, Selector: Selector{From: subnet("10.3.0.0/24"), To: subnet("10.0.0.0/8")}},
			{Name: "narrow to", Action: Negotiate, Selector: Selector{From: subnet("10.0.0.0/8"), To: subnet("10.1.0.0/24")}},
		}, "narrow from"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := mustNew(t, tt.entries...).Lookup(Context{Direction: Inbound}, flow(6, "10.3.0.1:1", "10.1.0.1:2"))
			if d.Entry == nil || d.Entry.Name != tt.want {
				t.Errorf("%s; want %q", d.Why(), tt.want)
			}
		})
	}
}

func TestWhy(t *testing.T) {
	s := payroll(t)
	for _, tt := range []struct {
		d    Decision
		want string
	}{
		{s.Lookup(Context{Direction: Outbound}, flow(6, "10.1.0.1:8443", "10.1.3.4:40000")),
			`negotiate: payroll.yaml:7:7: rule "staff", filter 1 of list "staff" (from 10.1.0.0/16 to me protocol tcp to-port 8443), mirrored is the most specific filter that matches, of weight 246400`},
		{mustNew(t).Lookup(Context{Direction: Inbound}, flow(6, "10.1.0.1:1", "10.2.0.1:2")), "permit: no filter matches"},
	} {
		if got := tt.d.Why(); got != tt.want {
			t.Errorf("Why() = %q\nwant      %q", got, tt.want)
		}
	}
}

func TestNewRefusesInvalidAction(t *testing.T) {
	for _, a := range []Action{0, Negotiate + 1} {
		if _, err := New([]Entry{{Name: "r", Selector: Selector{From: Any(), To: Me()}, Action: a}}, Settings{}); err == nil || !strings.Contains(err.Error(), "invalid action") {
			t.Errorf("action %d: error %v", a, err)
		}
	}
}

func TestNewRefusesTooManyTuples(t *testing.T) {
	wide := Range(addr("::1"), addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"))
	_, err := New([]Entry{{Name: "r", Selector: tcp(wide, wide, PortRange{1, 65534}, PortRange{1, 65534}), Action: Block}}, Settings{})
	if err == nil || !strings.Contains(err.Error(), "use subnets") {
		t.Errorf("error %v", err)
	}
}

func TestNewCopies(t *testing.T) {
	entries := []Entry{{Name: "light", Selector: Selector{From: Any(), To: Me()}, Action: Permit},
		{Name: "heavy", Selector: Selector{From: Address(addr("10.0.0.1")), To: Me()}, Action: Block}}
	s := mustNew(t, entries...)
	if entries[0].Name != "light" || s.Entries()[0].Name != "heavy" || s.Settings().Generation != 7 {
		t.Errorf("entries %v, SPD's %v, generation %d", entries, s.Entries(), s.Settings().Generation)
	}
	entries[1].Action = Permit
	if d := s.Lookup(Context{Direction: Inbound}, flow(6, "10.0.0.1:1", "10.0.0.2:2")); d.Action != Block {
		t.Errorf("the SPD changed with the caller's slice: %s", d.Why())
	}
}

// A small world, in which random filters and packets meet often.
type world struct{ *rand.Rand }

func (w world) addr(v6 bool) netip.Addr {
	if v6 {
		return netip.AddrFrom16([16]byte{0xfd, 14: uint8(w.IntN(2)), 15: uint8(w.IntN(16))})
	}
	return netip.AddrFrom4([4]byte{10, 0, uint8(w.IntN(2)), uint8(w.IntN(16))})
}

func (w world) side(v6 bool) Side {
	switch w.IntN(6) {
	case 0:
		return Any()
	case 1:
		return Me()
	case 2:
		return Address(w.addr(v6))
	case 3:
		a, b := w.addr(v6), w.addr(v6)
		if b.Less(a) {
			a, b = b, a
		}
		return Range(a, b)
	}
	a := w.addr(v6)
	bits := a.BitLen() - w.IntN(10)
	if w.IntN(4) == 0 {
		bits = w.IntN(9)
	}
	return Subnet(netip.PrefixFrom(a, bits))
}

func (w world) port() uint16 { return uint16(w.IntN(24)) }

func (w world) ports() PortRange {
	switch w.IntN(3) {
	case 0:
		p := 1 + w.port()
		return PortRange{p, p}
	case 1:
		a, b := w.port(), w.port()
		return PortRange{min(a, b), max(a, b)}
	}
	return PortRange{}
}

func (w world) entries(n int) []Entry {
	out := make([]Entry, n)
	for i := range out {
		v6 := w.IntN(2) == 0
		s := Selector{From: w.side(v6), To: w.side(v6)}
		if w.IntN(3) > 0 {
			s.HasProtocol = true
			s.Protocol = []uint8{1, 6, 17}[w.IntN(3)]
			if s.Protocol != 1 {
				s.FromPort, s.ToPort = w.ports(), w.ports()
			}
		}
		if s.Protocol == 1 {
			s.ICMP = []ICMP{{}, {}, {Type: 8, HasType: true}, {HasType: true}, {Type: 3, HasType: true, Code: 1, HasCode: true}}[w.IntN(5)]
		}
		s.Connection = []Connection{{}, {}, {}, {Kind: ConnectionLAN}, {Kind: ConnectionRemote}, {ConnectionInterface, "eth1"}}[w.IntN(6)]
		e := Entry{Name: fmt.Sprint(i), Selector: s, Mirrored: w.IntN(2) == 0, Action: Action(1 + w.IntN(3))}
		e.Forward = w.IntN(3) == 0 && s.From.Kind() != SideMe && s.To.Kind() != SideMe
		e.Stateful = e.Action == Permit && w.IntN(2) == 0
		out[i] = e
	}
	return out
}

func (w world) packet() packet.Packet {
	v6 := w.IntN(2) == 0
	p := packet.Packet{Src: w.addr(v6), Dst: w.addr(v6), Protocol: []uint8{1, 6, 17, 50}[w.IntN(4)]}
	if packet.HasPorts(p.Protocol) && w.IntN(8) > 0 {
		p.HasPorts, p.SrcPort, p.DstPort = true, w.port(), w.port()
	}
	if p.Protocol == packet.ICMP && !v6 && w.IntN(8) > 0 {
		p.HasICMP, p.ICMPType, p.ICMPCode = true, []uint8{0, 3, 8}[w.IntN(3)], uint8(w.IntN(2))
	}
	return p
}

func (w world) context() Context {
	interfaces := []Interface{{}, {Name: "eth0"}, {Name: "eth1"}, {Name: "ppp0", Remote: true}}
	return Context{Direction: Directions[w.IntN(3)], Interface: interfaces[w.IntN(4)], State: State(w.IntN(5))}
}

// matches says from the definition, without any prefix, whether a packet
// belongs to one half of a filter.
func matches(e *Entry, c Context, mirror bool, p *packet.Packet) bool {
	from, to, fromPort, toPort := p.Src, p.Dst, p.SrcPort, p.DstPort
	fromLocal, toLocal := c.Direction == Outbound, c.Direction == Inbound
	kind := p.ICMPType
	if mirror {
		from, to, fromPort, toPort, fromLocal, toLocal = to, from, toPort, fromPort, toLocal, fromLocal
		if kind == 0 || kind == 8 {
			kind = 8 - kind
		}
	}
	side := func(s Side, a netip.Addr, local bool) bool { return s.Kind() == SideMe && local || s.Contains(a) }
	ports := func(r PortRange, port uint16) bool { return r.Any() || p.HasPorts && r.Contains(port) }
	s := &e.Selector
	on := map[ConnectionKind]bool{
		ConnectionAll: true, ConnectionLAN: c.Interface.Name != "" && !c.Interface.Remote,
		ConnectionRemote: c.Interface.Remote, ConnectionInterface: c.Interface.Name == "eth1",
	}[s.Connection.Kind]
	state := !e.Stateful || c.State == StateReply && mirror || (c.State == StateNew || c.State == StateOriginal) && !mirror
	return side(s.From, from, fromLocal) && side(s.To, to, toLocal) && e.Forward == (c.Direction == Forward) && on && state &&
		(!s.HasProtocol || s.Protocol == p.Protocol && (s.Protocol != 1 || p.Is4())) && ports(s.FromPort, fromPort) && ports(s.ToPort, toPort) &&
		(!s.ICMP.HasType || p.HasICMP && s.ICMP.Contains(kind, p.ICMPCode))
}

// bruteForce decides from the definition: the heaviest filter, block before
// negotiate before permit, the first in the file, the straight half.
func bruteForce(entries []Entry, c Context, p *packet.Packet) (best *Entry, mirror bool) {
	for i := range entries {
		e := &entries[i]
		for _, m := range []bool{false, true} {
			if m && !e.Mirrored || !matches(e, c, m, p) {
				continue
			}
			if best == nil || e.Weight() > best.Weight() ||
				e.Weight() == best.Weight() && e.Action.precedence() < best.Action.precedence() {
				best, mirror = e, m
			}
		}
	}
	return best, mirror
}

// byGroups decides as a reader of Groups does.
func byGroups(s *SPD, c Context, p *packet.Packet) Action {
	k := tupleOf(p)
	for _, g := range s.Groups(c.Direction) {
		if g.Shape.V6 == p.Is4() || g.Shape.Ports() && !p.HasPorts && !p.HasICMP || !g.Shape.Connection.Contains(c.Interface) || !g.Shape.Stage.Contains(c.State) {
			continue
		}
		mask := g.Shape.mask()
		for _, t := range g.Tuples {
			if k.and(&mask) == t {
				return g.Action
			}
		}
	}
	return Permit
}

func TestAgainstBruteForce(t *testing.T) {
	w := world{rand.New(rand.NewPCG(20, 26))}
	decided := 0
	for n := range 250 {
		entries := w.entries(1 + n%25)
		s := mustNew(t, entries...)
		for range 200 {
			p, c := w.packet(), w.context()
			got := s.Lookup(c, &p)
			want, mirror := bruteForce(entries, c, &p)
			switch {
			case (got.Entry == nil) != (want == nil),
				want != nil && (got.Entry.Name != want.Name || got.Mirror != mirror || got.Action != want.Action):
				t.Fatalf("policy %d, %+v %+v:\n got %s\nwant %v, mirrored %v", n, c, p, got.Why(), want, mirror)
			}
			if want != nil {
				decided++
			}
			for i := range entries {
				for j := range entries[:i] {
					_, one := entries[i].Match(c, &p)
					if _, both := entries[j].Match(c, &p); one && both && (!entries[i].Overlaps(&entries[j]) || !entries[j].Overlaps(&entries[i])) {
						t.Fatalf("policy %d, %+v %+v: %v and %v do not overlap", n, c, p, &entries[i], &entries[j])
					}
				}
			}
			matching := append(s.Matching(c, &p), Decision{Action: Permit})
			if matching[0] != got {
				t.Fatalf("policy %d, %+v %+v: the first that matches is %s, Lookup says %s", n, c, p, matching[0].Why(), got.Why())
			}
			if a := byGroups(s, c, &p); a != got.Action {
				t.Fatalf("policy %d, %+v %+v: groups say %v, Lookup %s", n, c, p, a, got.Why())
			}
		}
	}
	if decided < 10000 {
		t.Errorf("only %d packets met a filter: the world is too large", decided)
	}
}

// What Groups promises to those who build sets from it.
func TestGroupsShape(t *testing.T) {
	w := world{rand.New(rand.NewPCG(5, 6))}
	for range 100 {
		s := mustNew(t, w.entries(20)...)
		for _, d := range Directions {
			seen := map[shaped]bool{}
			groups := s.Groups(d)
			for i, g := range groups {
				if len(g.Tuples) == 0 || len(g.Entries) != len(g.Tuples) || len(g.Mirrors) != len(g.Tuples) {
					t.Fatalf("group %d has %d tuples, %d entries, %d mirrors", i, len(g.Tuples), len(g.Entries), len(g.Mirrors))
				}
				if i > 0 {
					a, b := groups[i-1], g
					if a.Weight < b.Weight || a.Weight == b.Weight && a.Action.precedence() > b.Action.precedence() ||
						a.Weight == b.Weight && a.Action == b.Action && a.Shape.compare(b.Shape) > 0 {
						t.Fatalf("groups %d and %d are out of order", i-1, i)
					}
				}
				mask := g.Shape.mask()
				for j, tuple := range g.Tuples {
					e := g.Entries[j]
					if e.Action != g.Action || e.Weight() != g.Weight || g.Mirrors[j] && !e.Mirrored {
						t.Fatalf("group %d: tuple %+v does not belong", i, tuple)
					}
					if seen[shaped{g.Shape, tuple}] {
						t.Fatalf("group %d: tuple %+v comes twice", i, tuple)
					}
					seen[shaped{g.Shape, tuple}] = true
					if tuple.and(&mask) != tuple || tuple.V6() != g.Shape.V6 || tuple.Src().Is6() != g.Shape.V6 {
						t.Fatalf("group %d: tuple %+v is not masked", i, tuple)
					}
				}
			}
		}
	}
}

func TestGroups(t *testing.T) {
	s := payroll(t)
	in := s.Groups(Inbound)
	if len(in) != 4 { // dns mirrored, staff, rest in both families
		t.Fatalf("%d groups, want 4", len(in))
	}
	dns, staff := in[0], in[1]
	if want := (Shape{SrcBits: 32, Protocol: true, SrcPortBits: 16}); dns.Shape != want || !dns.Mirrors[0] {
		t.Errorf("the group of dns has shape %+v, mirrored %v", dns.Shape, dns.Mirrors)
	}
	if want := (Shape{SrcBits: 16, Protocol: true, DstPortBits: 16}); staff.Shape != want {
		t.Errorf("the group of staff has shape %+v", staff.Shape)
	}
	if x := &staff.Tuples[0]; x.Src() != addr("10.1.0.0") || x.Dst() != addr("0.0.0.0") || x.Protocol() != 6 || x.SrcPort() != 0 || x.DstPort() != 8443 || x.V6() {
		t.Errorf("the tuple of staff is from %s to %s, protocol %d, ports %d and %d", x.Src(), x.Dst(), x.Protocol(), x.SrcPort(), x.DstPort())
	}
	if in[2].Shape.V6 || !in[3].Shape.V6 || in[2].Action != Block {
		t.Errorf("the last groups are %+v and %+v", in[2].Shape, in[3].Shape)
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	s := mustNew(t, world{rand.New(rand.NewPCG(9, 9))}.entries(100)...)
	p4, p6 := flow(6, "10.0.0.1:4", "10.0.1.2:5"), flow(17, "[fd00::1]:4", "[fd00::102]:5")
	if n := testing.AllocsPerRun(100, func() {
		sink = s.Lookup(Context{Direction: Inbound}, p4)
		sink = s.Lookup(Context{Direction: Outbound}, p6)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

var sink Decision

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 10000, 100000} {
		entries := make([]Entry, n)
		for i := range entries {
			entries[i] = Entry{Name: "r", Mirrored: true, Action: Negotiate,
				Selector: tcp(Address(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), Me(), PortRange{}, PortRange{443, 443})}
		}
		s := mustNew(b, entries...)
		p := flow(6, "10.0.0.5:40000", "10.9.9.9:443")
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sink = s.Lookup(Context{Direction: Inbound}, p)
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	entries := make([]Entry, 100000)
	for i := range entries {
		entries[i] = Entry{Name: "r", Mirrored: true, Action: Negotiate,
			Selector: tcp(Address(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), Me(), PortRange{}, PortRange{443, 443})}
	}
	for b.Loop() {
		mustNew(b, entries...)
	}
}
