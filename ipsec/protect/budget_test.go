package protect

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Both directions of an SA end where their limit is, and tell once that they are
// near it and once that they are there.
func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit ipsec.Limit
		size  int
		good  int   // packets that are carried
		told  []int // after how many of them something was told
	}{
		{"packets", ipsec.Limit{Packets: 10, SoftPackets: 8}, 4, 10, []int{8, 10}},
		{"bytes", ipsec.Limit{Bytes: 100, SoftBytes: 81}, 10, 10, []int{9, 10}},
		{"the packet that is too much for the bytes", ipsec.Limit{Bytes: 99, SoftBytes: 80}, 10, 9, []int{8, 9}},
		{"whichever comes first", ipsec.Limit{Bytes: 1000, SoftBytes: 800, Packets: 5, SoftPackets: 4}, 10, 5, []int{4, 5}},
		{"soft limits alone", ipsec.Limit{SoftBytes: 30, SoftPackets: 5}, 10, 12, []int{3, 5}},
		{"empty packets", ipsec.Limit{Bytes: 1, SoftBytes: 1}, 0, 12, nil},
		{"none", ipsec.Limit{}, 10, 12, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var told []int
			at := 0
			limit := tt.limit
			limit.Reached = func() { told = append(told, at) }
			o, err := NewSender(ipsec.Params{SPI: 256, Limit: limit}, plain{})
			if err != nil {
				t.Fatal(err)
			}
			in, err := NewReceiver(ipsec.Params{SPI: 256, Limit: tt.limit}, plain{})
			if err != nil {
				t.Fatal(err)
			}
			free, err := NewSender(ipsec.Params{SPI: 256}, plain{})
			if err != nil {
				t.Fatal(err)
			}
			for n := range 12 {
				var want error
				if n >= tt.good {
					want = ipsec.ErrLifetime
				} else {
					at = n + 1
				}
				if _, err := o.Seal(nil, make([]byte, tt.size), 4); err != want {
					t.Errorf("sealing %d: %v, want %v", n, err, want)
				}
				pkt, err := free.Seal(nil, make([]byte, tt.size), 4)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := in.Open(nil, pkt); err != want {
					t.Errorf("opening %d: %v, want %v", n, err, want)
				}
			}
			for _, c := range []ipsec.Counters{o.Counters(), in.Counters()} {
				if c.Packets != uint64(tt.good) || c.Bytes != uint64(tt.good*tt.size) || c.Over != (tt.good < 12) {
					t.Errorf("%+v", c)
				}
			}
			if len(told) != len(tt.told) {
				t.Fatalf("told after %v, want %v", told, tt.told)
			}
			for i := range told {
				if told[i] != tt.told[i] {
					t.Errorf("told after %v, want %v", told, tt.told)
				}
			}
		})
	}
}

// The last sequence number is used, and never another.
func TestSequenceNumbersEnd(t *testing.T) {
	for _, esn := range []bool{false, true} {
		last, told := uint64(math.MaxUint32-1), 0
		if esn {
			last = math.MaxUint64 - 1
		}
		o, err := NewSender(ipsec.Params{SPI: 256, ESN: esn, Last: last, Limit: ipsec.Limit{Reached: func() { told++ }}}, plain{})
		if err != nil {
			t.Fatal(err)
		}
		for n, want := range []error{nil, ipsec.ErrSequenceExhausted, ipsec.ErrSequenceExhausted} {
			if _, err := o.Seal(nil, nil, 4); err != want {
				t.Errorf("esn %v, %d: %v, want %v", esn, n, err, want)
			}
		}
		if told != 1 || !o.Counters().Over {
			t.Errorf("esn %v: told %d times, %+v", esn, told, o.Counters())
		}
	}
}

// However many send at the same time, the limit is kept and told of once.
func TestLimitsUnderLoad(t *testing.T) {
	var told atomic.Int32
	o, err := NewSender(ipsec.Params{SPI: 256, Limit: ipsec.Limit{Bytes: 1 << 20, SoftBytes: 800 << 10, Reached: func() { told.Add(1) }}}, plain{})
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Uint64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			buf := make([]byte, 0, 2000)
			for range 300 {
				if _, err := o.Seal(buf, make([]byte, 1000), 4); err == nil {
					sent.Add(1000)
				}
			}
		})
	}
	all.Wait()
	if n := sent.Load(); n > 1<<20 || n < 1<<20-9000 || o.Counters().Bytes != n {
		t.Errorf("%d bytes sent, %d counted", n, o.Counters().Bytes)
	}
	if n := told.Load(); n != 2 {
		t.Errorf("told %d times", n)
	}
}
