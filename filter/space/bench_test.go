package space

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
)

func host(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|n)
	return netip.AddrFrom4(b)
}

func tcpTo(port uint16) filter.Selector {
	return filter.Selector{Protocol: 6, HasProtocol: true, ToPort: filter.PortRange{Lo: port, Hi: port}}
}

// plainPolicy is 100,000 hosts that may use a port, 1,000 subnets to be
// secured, and a catch-all.
func plainPolicy() []filter.Entry {
	out := make([]filter.Entry, 0, 101_001)
	add := func(s filter.Selector, a filter.Action) {
		n := len(out)
		out = append(out, filter.Entry{Name: "rule", List: "list", Index: n, Position: fmt.Sprintf("f.yaml:%d:7", n+1), Selector: s, Mirrored: true, Action: a})
	}
	for n := range uint32(100_000) {
		s := tcpTo(443)
		s.From, s.To = filter.Address(host(n*7)), filter.Me()
		add(s, filter.Permit)
	}
	for n := range uint32(1000) {
		add(filter.Selector{From: filter.Subnet(netip.PrefixFrom(host(n<<12), 20)), To: filter.Me()}, filter.Negotiate)
	}
	add(filter.Selector{From: filter.Any(), To: filter.Me()}, filter.Block)
	return out
}

// nastyPolicy is 100,000 subnets of all lengths with ranges of ports and
// actions at random, and a catch-all.
func nastyPolicy() []filter.Entry {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]filter.Entry, 0, 100_001)
	for n := range 100_000 {
		s := filter.Selector{From: filter.Subnet(netip.PrefixFrom(host(r.Uint32()&0xffffff), 12+r.IntN(21))), To: filter.Me(), Protocol: 6, HasProtocol: true}
		if r.IntN(2) == 0 {
			a, b := uint16(r.IntN(65536)), uint16(r.IntN(65536))
			s.ToPort = filter.PortRange{Lo: min(a, b), Hi: max(a, b)}
		} else {
			s = filter.Selector{From: s.From, To: s.To, Protocol: 6, HasProtocol: true, ToPort: tcpTo(uint16(1 + r.IntN(1000))).ToPort}
		}
		out = append(out, filter.Entry{Name: "rule", List: "list", Index: n, Position: fmt.Sprintf("f.yaml:%d:7", n+1), Selector: s, Mirrored: true, Action: filter.Action(1 + r.IntN(3))})
	}
	return append(out, filter.Entry{Name: "rest", Position: "f.yaml:100001:7", Selector: filter.Selector{From: filter.Any(), To: filter.Me()}, Mirrored: true, Action: filter.Block})
}

// pairsPolicy is 100,000 pairs of hosts, every other one secured, with a
// catch-all.
func pairsPolicy() []filter.Entry {
	out := make([]filter.Entry, 0, 100_001)
	for n := range uint32(100_000) {
		s := tcpTo(443)
		s.From, s.To = filter.Address(host(n%317)), filter.Address(host(1<<20+n/317))
		action := filter.Permit
		if n%2 == 0 {
			action = filter.Negotiate
		}
		out = append(out, filter.Entry{Name: "rule", List: "list", Index: int(n), Position: fmt.Sprintf("f.yaml:%d:7", n+1), Selector: s, Mirrored: true, Action: action})
	}
	return append(out, filter.Entry{Name: "rest", Position: "f.yaml:100001:7", Selector: filter.Selector{From: filter.Any(), To: filter.Me()}, Mirrored: true, Action: filter.Block})
}

var policies = []struct {
	name    string
	entries func() []filter.Entry
}{{"plain", plainPolicy}, {"pairs", pairsPolicy}, {"nasty", nastyPolicy}}

func byAction(e *filter.Entry) filter.Action { return e.Action }

func BenchmarkCheck(b *testing.B) {
	for _, p := range policies {
		s := mustNew(b, p.entries(), filter.Settings{})
		b.Run(p.name+"/compile", func(b *testing.B) {
			for b.Loop() {
				Compile(s)
			}
		})
		b.Run(p.name+"/conflicts", func(b *testing.B) {
			var n int
			for b.Loop() {
				b.StopTimer()
				c := Compile(s)
				b.StartTimer()
				list, err := Conflicts(c, byAction)
				if err != nil {
					b.Error(err)
				}
				n = len(list)
			}
			b.ReportMetric(float64(n), "conflicts")
		})
		b.Run(p.name+"/dead", func(b *testing.B) {
			var n int
			for b.Loop() {
				b.StopTimer()
				c := Compile(s)
				b.StartTimer()
				list, err := c.Dead()
				if err != nil {
					b.Error(err)
				}
				n = len(list)
			}
			b.ReportMetric(float64(n), "dead")
		})
	}
}

func BenchmarkDiff(b *testing.B) {
	for _, p := range policies {
		entries := p.entries()
		old := mustNew(b, entries, filter.Settings{})
		for _, change := range []struct {
			name string
			line int
		}{{"host", 50_000}, {"catch-all", len(entries) - 1}} {
			changed := append([]filter.Entry(nil), entries...)
			changed[change.line].Action = filter.Permit + changed[change.line].Action%3
			new := mustNew(b, changed, filter.Settings{})
			b.Run(p.name+"/"+change.name, func(b *testing.B) {
				for b.Loop() {
					if _, err := Diff(Compile(old), Compile(new), func(_ Version, d filter.Decision) filter.Action { return d.Action }); err != nil {
						b.Error(err)
					}
				}
			})
		}
	}
}

func BenchmarkViolation(b *testing.B) {
	for _, p := range policies {
		s := Compile(mustNew(b, p.entries(), filter.Settings{}))
		for _, region := range []struct {
			name string
			s    filter.Selector
		}{{"port 5432", tcpTo(5432)}, {"everything", filter.Selector{}}} {
			region.s.From, region.s.To = filter.Any(), filter.Me()
			set := Of(filter.Entry{Selector: region.s})
			b.Run(p.name+"/"+region.name, func(b *testing.B) {
				var violated bool
				for b.Loop() {
					var err error
					if _, violated, err = s.Violation(set, func(d filter.Decision) bool { return d.Action != filter.Permit }); err != nil {
						b.Error(err)
					}
				}
				b.ReportMetric(map[bool]float64{true: 1}[violated], "violated")
			})
		}
	}
}
