package nfq

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Handle decides on a packet, of which the test is to judge the verdict.
func (o *Outbound) Handle(q Queued) (Verdict, []byte) {
	defer o.leave()
	return o.handle(q)
}

// line is a wire on which the order of ESP packets can be seen, those of
// verdicts among them.
type line struct {
	*host
	mu      sync.Mutex
	numbers []uint32
}

func (l *line) put(b []byte, size int) {
	runtime.Gosched() // let others try to be faster
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := 0; at < len(b); at += size {
		l.numbers = append(l.numbers, binary.BigEndian.Uint32(b[at+packet.IPv4HeaderLen+4:]))
	}
}

func (l *line) SendIP(_, _ netip.Addr, b []byte, size int) error { l.put(b, size); return nil }
func (l *line) Verdict(_ uint32, v Verdict, contents []byte) error {
	if v == Replace {
		l.put(contents, len(contents))
	}
	return nil
}

// However many workers seal for an SA, its packets leave in the order of their
// sequence numbers.
func TestOrder(t *testing.T) {
	h := newHost(t, client4, 0)
	l := &line{host: h}
	h.cfg.Wire = l
	sa, _ := pair(t, "staff", ipsec.Transport, false, client4, server4)
	h.Install(sa, false)
	var workers sync.WaitGroup
	for _, size := range []int{100, 100, 20000, 40000} {
		workers.Go(func() {
			o := h.NewOutbound()
			for range 200 {
				o.Work(Queued{ID: 1, Packet: clear(client4, server4, packet.TCP, 40000, 8443, 0x10, make([]byte, size)), Segments: size > 1400, ChecksumPending: true, Queue: l})
			}
		})
	}
	workers.Wait()
	for i, n := range l.numbers {
		if n != uint32(i+1) {
			t.Fatalf("packet %d on the wire has the sequence number %d", i+1, n)
		}
	}
	if want := sa.Out.Counters().Packets; uint64(len(l.numbers)) != want {
		t.Errorf("%d packets on the wire, want %d", len(l.numbers), want)
	}
}
