package nfq

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ipsock"
)

// numbered returns datagrams to the echo, each sealed, with its number at the
// end of what it carries.
func numbered(t *testing.T, sa *SA, from, to netip.Addr, n, size int) [][]byte {
	t.Helper()
	out := make([][]byte, n)
	for i := range out {
		data := binary.BigEndian.AppendUint32(make([]byte, size), uint32(i))
		c := clear(from, to, packet.UDP, 40000, 7, 0, data)
		next := uint8(packet.UDP)
		if sa.Mode == ipsec.Tunnel {
			if next = ipv6InESP; from.Is4() {
				next = ipv4InESP
			}
		} else {
			c = c[headerLen(from):]
		}
		b, err := sa.Out.Seal(nil, c, next)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = b
	}
	return out
}

func numbers(packets [][]byte) []uint32 {
	var out []uint32
	for _, p := range packets {
		out = append(out, binary.BigEndian.Uint32(p[len(p)-4:]))
	}
	return out
}

func (h *host) arrive(in *Inbound, from netip.Addr, sealed []byte) {
	in.Receive(append(make([]byte, ipsock.Headroom), sealed...), ipsock.Headroom, netip.AddrPortFrom(h.addr, 0), netip.AddrPortFrom(from, 0), 0, 0)
}

// The peer sends under an SA as soon as it has answered, which is before this
// host has the SA.
func TestEarlyPackets(t *testing.T) {
	all := []uint32{0, 1, 2}
	tests := []struct {
		name           string
		mode           ipsec.Mode
		encap          bool
		client, server netip.Addr
		expected       bool
		givenBefore    time.Duration // the first packet
		after          time.Duration // is the SA installed
		apart          time.Duration // the packets
		want           []uint32
		unknown        int
		dropped        uint64
	}{
		{"transport", ipsec.Transport, false, client4, server4, true, 0, 0, 0, all, 0, 0},
		{"transport, IPv6", ipsec.Transport, false, client6, server6, true, 0, 0, 0, all, 0, 0},
		{"UDP encapsulation", ipsec.Transport, true, client6, server6, true, 0, 0, 0, all, 0, 0},
		{"tunnel", ipsec.Tunnel, true, client4, server4, true, 0, 0, 0, all, 0, 0},
		{"just in time", ipsec.Transport, false, client4, server4, true, 30 * time.Second, earlyFor - 1, 0, all, 0, 0},
		{"too late", ipsec.Transport, false, client4, server4, true, 0, earlyFor, 0, nil, 0, 3},
		{"too late for the first two", ipsec.Transport, false, client4, server4, true, 0, 1, earlyFor / 2, []uint32{2}, 0, 2},
		{"an SPI that nobody was told", ipsec.Transport, false, client4, server4, false, 0, 0, 0, nil, 3, 0},
		{"an SPI that was not needed", ipsec.Transport, false, client4, server4, true, expectFor, 0, 0, nil, 3, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newHost(t, tt.server, 0)
			now := time.Unix(1000, 0)
			s.cfg.Now = func() time.Time { return now }
			a, b := pair(t, "echo", tt.mode, tt.encap, tt.client, tt.server)
			if tt.expected && !s.Expect(b.InSPI) {
				t.Fatal("a fresh SPI is taken")
			}
			now = now.Add(tt.givenBefore)
			in := s.NewInbound(tt.encap)
			for _, p := range numbered(t, a, tt.client, tt.server, 3, 100) {
				s.arrive(in, tt.client, p)
				now = now.Add(tt.apart)
			}
			in.Flush()
			if len(s.injected) > 0 {
				t.Fatal("packets reached the stack before their SA was there")
			}
			now = now.Add(tt.after)
			s.Install(b, false)
			if got := numbers(s.injected); !slices.Equal(got, tt.want) {
				t.Errorf("the packets %v reached the stack, want %v (counters %v)", got, tt.want, s.Counters.Map())
			}
			if len(s.unknown) != tt.unknown || s.Counters.InEarlyDropped.Load() != tt.dropped {
				t.Errorf("%d packets told to be for an unknown SPI, %d dropped; want %d and %d", len(s.unknown), s.Counters.InEarlyDropped.Load(), tt.unknown, tt.dropped)
			}
			if len(s.early.packets) != 0 || s.early.bytes != 0 || len(s.early.expected) > 1 {
				t.Errorf("%d packets are left, %d bytes, %d SPIs", len(s.early.packets), s.early.bytes, len(s.early.expected))
			}
			if s.Expect(b.InSPI) {
				t.Error("the SPI of an SA is free")
			}
			s.SAD().Remove(b.InSPI)
			s.arrive(in, tt.client, make([]byte, 60))
			if len(s.unknown) != tt.unknown+1 {
				t.Error("a packet for an SPI of nobody was kept")
			}
		})
	}
}

// What waits is bounded, and packets for one SA take no others with them.
func TestEarlyPacketsAreBounded(t *testing.T) {
	for _, tt := range []struct {
		name       string
		size, want int
	}{{"in number", 10, maxEarly}, {"in bytes", 9000, maxEarlyBytes / (9000 + 40)}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newHost(t, server4, 0)
			now := time.Unix(1000, 0)
			s.cfg.Now = func() time.Time { return now }
			a, b := pair(t, "echo", ipsec.Transport, false, client4, server4)
			s.Expect(b.InSPI)
			in := s.NewInbound(false)
			for _, p := range numbered(t, a, client4, server4, 300, tt.size) {
				s.arrive(in, client4, p)
			}
			if len(s.unknown) > 0 || s.early.bytes > maxEarlyBytes {
				t.Errorf("%d packets told to be for an unknown SPI, %d bytes kept", len(s.unknown), s.early.bytes)
			}
			s.Expect(0x7777)
			if got := s.early.take(0x7777, now); got != nil {
				t.Errorf("%d packets for another SA", len(got))
			}
			s.Install(b, false)
			got := numbers(s.injected)
			if len(got) != tt.want || !slices.IsSorted(got) || int(got[len(got)-1]) != tt.want-1 {
				t.Errorf("the packets %v reached the stack, want the first %d in their order", got, tt.want)
			}
			if n := s.Counters.InEarlyDropped.Load(); n != uint64(300-tt.want) {
				t.Errorf("%d dropped, want %d", n, 300-tt.want)
			}
		})
	}
}

func TestExpectedSPIsAreBounded(t *testing.T) {
	s := newHost(t, server4, 0)
	now := time.Unix(1000, 0)
	s.cfg.Now = func() time.Time { return now }
	const first, n = 0x1000, maxExpected + 100
	for i := range ipsec.SPI(n) {
		if !s.Expect(first+i) || s.Expect(first+i) {
			t.Fatal("an SPI is given out twice, or not at all")
		}
		now = now.Add(time.Millisecond)
	}
	if len(s.early.expected) != maxExpected || s.early.expects(first+99, now) || !s.early.expects(first+100, now) {
		t.Errorf("%d SPIs are expected; want the last %d", len(s.early.expected), maxExpected)
	}
	now = now.Add(expectFor)
	if !s.Expect(first + n - 1) {
		t.Error("an SPI that was not needed stays reserved")
	}
}

// A packet that arrives while its SA is installed is received, by whatever way
// and once.
func TestEarlyPacketsMeetTheirSA(t *testing.T) {
	for range 20 {
		s := newHost(t, server4, 0)
		got := &tray{host: s, seen: map[uint32]int{}}
		s.cfg.Injector = got
		a, b := pair(t, "echo", ipsec.Transport, false, client4, server4)
		s.Expect(b.InSPI)
		const n = 200
		packets := numbered(t, a, client4, server4, n, 100)
		var readers sync.WaitGroup
		begin := make(chan struct{})
		for r := range 2 {
			readers.Go(func() {
				in := s.NewInbound(false)
				for i := r; i < n; i += 2 {
					if i == 20 {
						close(begin)
					}
					s.arrive(in, client4, packets[i])
				}
				in.Flush()
			})
		}
		<-begin
		s.Install(b, false)
		readers.Wait()
		if len(got.seen) != n || len(s.unknown) > 0 {
			t.Fatalf("%d of %d packets reached the stack (counters %v)", len(got.seen), n, s.Counters.Map())
		}
		for i, times := range got.seen {
			if times != 1 {
				t.Errorf("packet %d reached the stack %d times", i, times)
			}
		}
	}
}

// tray is an Injector for several goroutines.
type tray struct {
	*host
	mu   sync.Mutex
	seen map[uint32]int
}

func (x *tray) Inject(pkt []byte, _, _, _, _ int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen[binary.BigEndian.Uint32(pkt[len(pkt)-4:])]++
	return nil
}
