package nfq

import (
	"bytes"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ipsock"
)

// sink takes everything and keeps nothing.
type sink struct{}

func (sink) Acquire(filter.Decision, *packet.Packet)          {}
func (sink) UnknownSPI(_, _ netip.AddrPort, _ ipsec.SPI)      {}
func (sink) Inject([]byte, int, int, int, int) error          { return nil }
func (sink) Interface(int) filter.Interface                   { return filter.Interface{} }
func (sink) Local(netip.Addr) bool                            { return true }
func (sink) Verdict(uint32, Verdict, []byte) error            { return nil }
func (sink) SendUDP(Outer, []byte, int) error                 { return nil }
func (sink) SendIP(netip.Addr, netip.Addr, []byte, int) error { return nil }
func (sink) Source(netip.Addr) (netip.Addr, bool)             { return netip.Addr{}, false }
func (sink) Moved(ipsec.SPI, netip.AddrPort, netip.AddrPort)  {}

// quiet makes an Engine with the policy of newHost whose surroundings cost
// nothing.
func quiet(t testing.TB) *Engine {
	e := NewEngine(Config{Wire: sink{}, Acquirer: sink{}, Injector: sink{}, Host: sink{}, Log: slog.New(slog.DiscardHandler)})
	spd, err := filter.New([]filter.Entry{{
		Name: "staff", Position: "bench:1:1", Mirrored: true, Action: filter.Negotiate,
		Selector: filter.Selector{From: filter.Any(), To: filter.Any()},
	}}, filter.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	e.SetSPD(spd)
	return e
}

// passage is a way for packets of one kind through an Engine.
type passage struct {
	name string
	make func(t testing.TB) (step func(), size int)
}

func outboundPath(name string, size int) passage {
	return passage{name, func(t testing.TB) (func(), int) {
		e := quiet(t)
		sa, _ := pair(t, "staff", ipsec.Transport, false, client4, server4)
		e.Install(sa, false)
		o := e.NewOutbound()
		pkt := clear(client4, server4, packet.TCP, 40000, 8443, 0x10, make([]byte, size))
		return func() {
			if v, _ := o.Handle(Queued{ID: 1, Packet: pkt, ChecksumPending: true, Queue: sink{}}); v == Held {
				t.Fatal("held")
			}
		}, size
	}}
}

func inboundPath(name string, size int) passage {
	return passage{name, func(t testing.TB) (func(), int) {
		e := quiet(t)
		peer, sa := pair(t, "staff", ipsec.Transport, false, client4, server4)
		e.Install(sa, false)
		in := e.NewInbound(false)
		pkt := clear(client4, server4, packet.TCP, 40000, 8443, 0x10, make([]byte, size))[20:]
		buf := make([]byte, ipsock.Headroom, ipsock.Headroom+len(pkt)+100)
		local, remote := netip.AddrPortFrom(server4, 0), netip.AddrPortFrom(client4, 0)
		return func() {
			sealed, err := peer.Out.Seal(buf[:ipsock.Headroom], pkt, packet.TCP)
			if err != nil {
				t.Fatal(err)
			}
			in.Receive(sealed, ipsock.Headroom, local, remote, 0, 0)
			in.Flush()
		}, size
	}}
}

var passages = []passage{
	outboundPath("out/64", 64),
	outboundPath("out/1400", 1400),
	outboundPath("out/60000", 60000),
	inboundPath("in/64", 64),
	inboundPath("in/1400", 1400),
}

func TestPathsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("under the race detector pools drop what they should keep: not measured")
		return
	}
	for _, p := range passages {
		step, _ := p.make(t)
		step()
		if n := testing.AllocsPerRun(100, step); n != 0 {
			t.Errorf("%s: %v allocations for each packet", p.name, n)
		}
	}
}

func BenchmarkPath(b *testing.B) {
	for _, p := range passages {
		b.Run(p.name, func(b *testing.B) {
			step, size := p.make(b)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}

func TestHoldCopies(t *testing.T) {
	h := hold{limit: 1}
	pkt := []byte{1, 2, 3}
	h.add(held{Queued: Queued{Packet: pkt}})
	pkt[0] = 9
	if got := h.take(func(*held) bool { return true })[0].Packet; !bytes.Equal(got, []byte{1, 2, 3}) {
		t.Errorf("the held packet became %v", got)
	}
}
