package esp

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Every packet has its own number, and of several copies that arrive at once
// exactly one is taken.
func TestConcurrent(t *testing.T) {
	const workers, each = 4, 200
	for _, s := range suites[:4] {
		t.Run(s.name, func(t *testing.T) {
			o, in := pair(t, s.encr, s.integ, true)
			pkts := make([][]byte, workers*each)
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					for i := range each {
						pkt, err := o.Seal(nil, []byte("payload"), 17)
						if err != nil {
							t.Error(err)
							return
						}
						pkts[w*each+i] = pkt
					}
				})
			}
			wg.Wait()
			var taken atomic.Uint64
			for range workers {
				wg.Go(func() {
					for _, pkt := range pkts {
						switch _, _, err := in.Open(nil, bytes.Clone(pkt)); err {
						case nil:
							taken.Add(1)
						case ipsec.ErrReplay:
						default:
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if taken.Load() != workers*each {
				t.Errorf("%d packets taken, want %d", taken.Load(), workers*each)
			}
			want := ipsec.Counters{Packets: workers * each, Bytes: 7 * workers * each, Replayed: (workers - 1) * workers * each}
			if got := in.Counters(); got != want {
				t.Errorf("counters %+v, want %+v", got, want)
			}
		})
	}
}

func TestConcurrentWipe(t *testing.T) {
	o, in := pair(t, gcm128, ipsec.Transform{}, false)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				pkt, err := o.Seal(nil, []byte("payload"), 17)
				if err == ipsec.ErrClosed {
					return
				}
				// A goroutine that is held up finds its packet too old.
				if _, _, err := in.Open(nil, pkt); err != nil && err != ipsec.ErrClosed && err != ipsec.ErrReplay {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		in.Wipe()
		o.Wipe()
	})
	wg.Wait()
}
